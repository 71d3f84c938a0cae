"""Region proposal network: at every place of the pyramid, which anchors hold an object, and where exactly."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from cascade_lab.errors import check_word
from cascade_lab.layers.init import initialise
from cascade_lab.losses import Divisor, global_mean, l1_loss, objectness_loss, smooth_l1_loss
from cascade_lab.ops.anchors import base_anchors, grid_anchors, inside, on_picture
from cascade_lab.ops.box_coder import decode_deltas, encode_deltas
from cascade_lab.ops.boxes import at_least_float32
from cascade_lab.ops.nms import batched_nms
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.assigner import Assigner, Assignment
from cascade_lab.targets.sampler import Choose, Sampler
from cascade_lab.trace import ProposalTrace

Distance = Literal["smooth_l1", "l1"]


@dataclass(frozen=True, kw_only=True)
class ProposalLimits:
    """How many boxes survive: the best of each level before NMS, the best of all after it."""

    before_nms: int = 1000
    after_nms: int = 1000
    nms_iou: float = 0.7

    def __post_init__(self) -> None:
        for name in ("before_nms", "after_nms"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 <= self.nms_iou <= 1:
            raise ValueError(f"nms_iou must lie in [0, 1], got {self.nms_iou}")


@dataclass(frozen=True, kw_only=True)
class RPNConfig:
    """The defaults are those of the published cascade models.

    Args:
        anchor_scales, anchor_ratios: anchor side = stride * scale; ratio is height over width.
        allowed_border: how far an anchor may stick out of the picture and still be trained; -1 is
            no limit (the published Mask R-CNN models).
        box_loss: ``"smooth_l1"`` with beta 1/9, or ``"l1"`` (the published Mask R-CNN models).
    """

    anchor_scales: tuple[float, ...] = (8.0,)
    anchor_ratios: tuple[float, ...] = (0.5, 1.0, 2.0)
    allowed_border: int = 0
    assigner: Assigner = Assigner(
        positive_iou=0.7, negative_iou=0.3, min_positive_iou=0.3, match_low_quality=True
    )
    sampler: Sampler = Sampler(num=256, positive_fraction=0.5)
    box_loss: Distance = "smooth_l1"
    training: ProposalLimits = ProposalLimits(before_nms=2000, after_nms=2000)
    inference: ProposalLimits = ProposalLimits()

    def __post_init__(self) -> None:
        check_word("box_loss", self.box_loss, Distance)


@dataclass(frozen=True)
class RPNOutput:
    """Predictions of all levels, flattened in the order of the anchors: level, row, column, shape."""

    grids: list[tuple[int, int]]  # per level, rows and columns of the map
    anchors: list[Tensor]  # per level (A_l, 4)
    logits: list[Tensor]  # per level (N, A_l)
    deltas: list[Tensor]  # per level (N, A_l, 4)


@dataclass(frozen=True)
class RPNTargets:
    """What the RPN should have answered, per picture, over all levels concatenated."""

    positive: list[Tensor]  # indices of anchors that hold an object
    negative: list[Tensor]  # indices of anchors that hold none
    deltas: list[Tensor]  # (positives, 4), encoded


class RPN(nn.Module):
    """A 3x3 convolution and two 1x1 convolutions, shared by all levels.

    Source: Ren et al. 2015, "Faster R-CNN", section 3.1; on a pyramid as in FPN, section 4.1.
    """

    delta_std = (1.0, 1.0, 1.0, 1.0)

    def __init__(self, config: RPNConfig, channels: int, strides: Sequence[int]) -> None:
        super().__init__()
        self.config, self.strides = config, tuple(strides)
        shapes = len(config.anchor_scales) * len(config.anchor_ratios)
        self.conv = nn.Conv2d(channels, channels, 3, padding=1)
        self.objectness = nn.Conv2d(channels, shapes, 1)
        self.regressor = nn.Conv2d(channels, shapes * 4, 1)
        initialise([self.conv, self.objectness, self.regressor], partial(nn.init.normal_, std=0.01))

    def forward(self, pyramid: Sequence[Tensor]) -> RPNOutput:
        """Say of every anchor of every level (N, C, h, w) whether it holds an object, and how to move it."""
        grids, anchors, logits, deltas = [], [], [], []
        for features, stride in zip(pyramid, self.strides, strict=True):
            x = self.conv(features).relu()  # (N, C, h, w)
            n, _, h, w = x.shape
            logits.append(self.objectness(x).permute(0, 2, 3, 1).reshape(n, -1))  # (N, A_l)
            deltas.append(self.regressor(x).permute(0, 2, 3, 1).reshape(n, -1, 4))  # (N, A_l, 4)
            base = base_anchors(stride, self.config.anchor_scales, self.config.anchor_ratios)
            grids.append((h, w))
            anchors.append(grid_anchors(base, (h, w), stride).to(x.device))
        return RPNOutput(grids, anchors, logits, deltas)

    @torch.no_grad()
    def propose(self, output: RPNOutput, images: ImageBatch) -> ProposalTrace:
        """Return the best boxes of each picture: decoded, clipped, and thinned by NMS level by level."""
        limits = self.config.training if self.training else self.config.inference
        per_image = [self._propose_one(output, i, images.sizes[i], limits) for i in range(len(images))]
        boxes, scores, levels = (list(column) for column in zip(*per_image, strict=True))
        return ProposalTrace(boxes, scores, levels)

    def targets(
        self, output: RPNOutput, images: ImageBatch, targets: Sequence[Instances], choose: Choose
    ) -> RPNTargets:
        """Assign every anchor, and sample the ones that the loss will look at."""
        anchors = torch.cat(output.anchors)
        positives, negatives, deltas = [], [], []
        for i, target in enumerate(targets):
            assignment = self.assign(output, images, i, target)
            positive, negative = self.config.sampler.sample(assignment, choose, i)
            matched = target.objects().boxes[assignment.target_index[positive]]
            positives.append(positive)
            negatives.append(negative)
            deltas.append(encode_deltas(anchors[positive], matched, self.delta_std))
        return RPNTargets(positives, negatives, deltas)

    def assign(self, output: RPNOutput, images: ImageBatch, i: int, target: Instances) -> Assignment:
        """Match every anchor with the objects of picture i. Anchors beyond the picture are unused."""
        anchors = torch.cat(output.anchors)
        allowed = inside(anchors, images.sizes[i], self.config.allowed_border)
        allowed &= self._on_picture(output, images.padded_sizes[i]).to(allowed.device)
        return self.config.assigner.assign(anchors, target, allowed)

    def losses(
        self, output: RPNOutput, targets: RPNTargets, divisor: Divisor = global_mean
    ) -> dict[str, Tensor]:
        """Return the objectness and the box loss, each a sum over samples divided by their number."""
        logits = at_least_float32(torch.cat(output.logits, dim=1))  # (N, A)
        deltas = at_least_float32(torch.cat(output.deltas, dim=1))  # (N, A, 4)
        # An image without positives or negatives counts one of them, as in the official code.
        counted = sum(max(1, len(p)) for p in targets.positive) + sum(
            max(1, len(n)) for n in targets.negative
        )
        normaliser = divisor(logits.new_tensor(float(counted)))

        class_loss, box_loss = logits.sum() * 0, deltas.sum() * 0
        distance = smooth_l1_loss if self.config.box_loss == "smooth_l1" else l1_loss
        rows = zip(logits, deltas, targets.positive, targets.negative, targets.deltas, strict=True)
        for row_logits, row_deltas, positive, negative, wanted in rows:
            class_loss = class_loss + objectness_loss(row_logits[positive], True)
            class_loss = class_loss + objectness_loss(row_logits[negative], False)
            box_loss = box_loss + distance(row_deltas[positive], wanted)
        return {"loss_rpn_cls": class_loss / normaliser, "loss_rpn_bbox": box_loss / normaliser}

    def candidates(
        self, output: RPNOutput, i: int, size: tuple[int, int], limits: ProposalLimits
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Return what enters the NMS of picture i: boxes (R, 4), scores (R,) and levels (R,).

        Level by level, each from the best score down, decoded and clipped to ``size`` (H, W).
        """
        boxes, scores, levels = [], [], []
        for level, anchors in enumerate(output.anchors):
            score = at_least_float32(output.logits[level][i].detach()).sigmoid()
            top, index = score.sort(descending=True, stable=True)  # a saturated sigmoid makes ties
            top, index = top[: limits.before_nms], index[: limits.before_nms]
            deltas = at_least_float32(output.deltas[level][i].detach()[index])
            boxes.append(decode_deltas(deltas, anchors[index], self.delta_std, size))
            scores.append(top)
            levels.append(torch.full_like(index, level))
        box, score, level = torch.cat(boxes), torch.cat(scores), torch.cat(levels)
        sound = (box[:, 2] > box[:, 0]) & (box[:, 3] > box[:, 1])
        return box[sound], score[sound], level[sound]

    def _propose_one(self, output: RPNOutput, i: int, size: tuple[int, int], limits: ProposalLimits):
        box, score, level = self.candidates(output, i, size, limits)
        keep = batched_nms(box, score, level, limits.nms_iou)[: limits.after_nms]
        return box[keep], score[keep], level[keep]

    def _on_picture(self, output: RPNOutput, padded: tuple[int, int]) -> Tensor:
        """Return which anchors (A,) sit on a cell that this picture, padded alone, would have."""
        shapes = self.objectness.out_channels
        grids = zip(output.grids, self.strides, strict=True)
        return torch.cat([on_picture(grid, padded, stride, shapes) for grid, stride in grids])
