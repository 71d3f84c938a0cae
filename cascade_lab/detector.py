"""The whole detector: backbone, neck, RPN, cascade."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from cascade_lab.backbones.internimage import InternImage, InternImageConfig
from cascade_lab.errors import InputError
from cascade_lab.heads.cascade import Cascade
from cascade_lab.heads.cascade_config import CascadeConfig
from cascade_lab.heads.rpn import RPN, RPNConfig
from cascade_lab.losses import Divisor, global_mean
from cascade_lab.necks.fpn import FPN
from cascade_lab.ops.boxes import scale
from cascade_lab.ops.masks import paste_masks
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.sampler import Choose
from cascade_lab.trace import DetectionTrace, Trace


@dataclass(frozen=True, kw_only=True)
class DetectorConfig:
    """Everything that decides what the detector computes."""

    backbone: InternImageConfig
    num_classes: int = 80
    pyramid_channels: int = 256
    rpn: RPNConfig = field(default_factory=RPNConfig)
    cascade: CascadeConfig = field(default_factory=CascadeConfig)

    def __post_init__(self) -> None:
        if self.num_classes < 1:
            raise ValueError(f"num_classes must be at least 1, got {self.num_classes}")


@dataclass(frozen=True)
class TrainOutput:
    """Losses, already weighted, and what happened on the way. ``total`` adds up all but accuracies."""

    losses: dict[str, Tensor]
    trace: Trace

    @property
    def total(self) -> Tensor:
        return torch.stack([value for name, value in self.losses.items() if "loss" in name]).sum()


@dataclass(frozen=True)
class Prediction:
    """Detections in pixels of the original pictures, and what happened on the way to them."""

    instances: list[Instances]
    trace: Trace


class Detector(nn.Module):
    """Cascade Mask R-CNN on an InternImage backbone.

    Call it to train, ``predict`` to infer. Source: Cascade R-CNN, figure 3 d; with masks, its journal
    version; the defaults follow the InternImage-L and -XL models.
    """

    def __init__(self, config: DetectorConfig) -> None:
        super().__init__()
        self.config = config
        strides = config.backbone.strides
        self.backbone = InternImage(config.backbone)
        self.neck = FPN(config.backbone.out_channels, config.pyramid_channels)
        self.rpn = RPN(config.rpn, config.pyramid_channels, (*strides, 2 * strides[-1]))
        self.cascade = Cascade(config.cascade, config.pyramid_channels, strides, config.num_classes)

    def forward(
        self,
        images: ImageBatch,
        targets: Sequence[Instances],
        choose: Choose,
        divisor: Divisor = global_mean,
    ) -> TrainOutput:
        """Return the losses of a batch.

        ``choose`` draws the samples of RPN and stages, and ``divisor`` says what their sums are divided by.
        """
        pyramid = self.neck(self.backbone(images.pixels))
        seen = self.rpn(pyramid)
        losses = self.rpn.losses(seen, self.rpn.targets(seen, images, targets, choose), divisor)
        proposals = self.rpn.propose(seen, images)
        stage_losses, stages = self.cascade(pyramid, images, proposals.boxes, targets, choose, divisor)
        trace = Trace(images.sizes, images.original_sizes, proposals, stages)
        return TrainOutput(losses | stage_losses, trace)

    @torch.no_grad()
    def predict(self, images: ImageBatch, keep_features: bool = False) -> Prediction:
        """Return the detections of a batch. ``keep_features`` leaves the pyramid in the trace.

        Raises InputError in training mode.
        """
        self.require_eval()
        pyramid = self.neck(self.backbone(images.pixels))
        proposals = self.rpn.propose(self.rpn(pyramid), images)
        stages = self.cascade.run(pyramid, images, proposals.boxes)
        detections = self.cascade.read_out(pyramid, images, stages, range(len(stages)))
        trace = Trace(images.sizes, images.original_sizes, proposals, stages, detections)
        if keep_features:
            trace = replace(trace, features=pyramid)
        return Prediction(on_original(detections, images.sizes, images.original_sizes), trace)

    def read_out(self, trace: Trace, stages: Sequence[int]) -> list[Instances]:
        """Return what the detections would be if only these stages (0-based) voted.

        Needs a trace of ``predict(..., keep_features=True)``; raises ValueError without features.
        """
        if trace.features is None:
            raise ValueError("this trace holds no features; predict with keep_features=True")
        images = ImageBatch(trace.features[0], trace.sizes, trace.original_sizes, trace.sizes)
        detections = self.cascade.read_out(trace.features, images, trace.stages, stages)
        return on_original(detections, trace.sizes, trace.original_sizes)

    def require_eval(self) -> None:
        """Raise InputError in training mode.

        There, drop path leaves out branches at random, and batch norms depend on the other pictures and learn
        from them.
        """
        if self.training:
            raise InputError("detector: is in training mode; call detector.eval() first")

    @property
    def num_layers(self) -> int:
        return self.backbone.num_layers

    def layer_of(self, parameter_name: str) -> int:
        """Return the depth of a parameter, for layer-wise learning rates; the heads come last."""
        part, _, rest = parameter_name.partition(".")
        return self.backbone.layer_of(rest) if part == "backbone" else self.num_layers + 1


def on_original(
    found: DetectionTrace, sizes: Sequence[tuple[int, int]], original_sizes: Sequence[tuple[int, int]]
) -> list[Instances]:
    """Move detections from pictures of ``sizes`` to the original ones and paste their masks there."""
    instances = []
    for i, ((h, w), original) in enumerate(zip(sizes, original_sizes, strict=True)):
        boxes = scale(found.boxes[i], (original[0] / h, original[1] / w))
        masks = None
        if found.mask_logits:
            votes = [logits[i].sigmoid() for logits in found.mask_logits.values()]
            masks = paste_masks(torch.stack(votes).mean(0), boxes, original)
        instances.append(Instances(original, boxes, found.labels[i], found.scores[i], masks))
    return instances
