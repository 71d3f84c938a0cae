"""The cascade: detectors in a row, each trained on the boxes that the one before has improved.

    f(x, b) = f_T o f_{T-1} o ... o f_1 (x, b)                               (Cascade R-CNN, eq. 7)

Every stage asks for a stricter match than the last, so that it learns to refine boxes that are already
good; and since its input really is better, there are still enough positives (Cascade R-CNN, figure 4).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import torch
from torch import Tensor, nn

from cascade_lab.heads.box_head import BoxHead, BoxHeadConfig
from cascade_lab.heads.mask_head import MaskHead, MaskHeadConfig
from cascade_lab.heads.postprocess import (
    PostprocessConfig,
    decode_classwise,
    ensemble_scores,
    pick_detections,
)
from cascade_lab.heads.stage_losses import box_losses, mask_losses
from cascade_lab.heads.stage_targets import StageTargets, stage_targets
from cascade_lab.layers.roi_pooler import boxes_to_rois, pool_rois
from cascade_lab.losses import Divisor, global_mean
from cascade_lab.ops.box_coder import decode_deltas
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.assigner import Assigner
from cascade_lab.targets.sampler import Choose, Sampler
from cascade_lab.trace import DetectionTrace, StageTrace


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One refinement step.

    Args:
        iou: a proposal that overlaps an object at least this much is a positive.
        delta_std: what the deltas are divided by; smaller for later stages, whose corrections are.
        loss_weight: of this stage's losses.
        match_low_quality: give every object its best box even below ``iou`` (Mask R-CNN as published).
    """

    iou: float
    delta_std: tuple[float, float, float, float]
    loss_weight: float = 1.0
    match_low_quality: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.iou <= 1.0:
            raise ValueError(f"iou must be in (0, 1], got {self.iou}")
        if min(self.delta_std) <= 0:
            raise ValueError(f"delta_std must be positive, got {self.delta_std}")


THREE_STAGES = (  # each stage: stricter match, finer deltas, smaller weight
    Stage(iou=0.5, delta_std=(0.1, 0.1, 0.2, 0.2), loss_weight=1.0),
    Stage(iou=0.6, delta_std=(0.05, 0.05, 0.1, 0.1), loss_weight=0.5),
    Stage(iou=0.7, delta_std=(0.033, 0.033, 0.067, 0.067), loss_weight=0.25),
)


@dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """The defaults are those of InternImage-L and -XL; the switches are where public code bases differ.

    Args:
        stages: one or more; one stage is Faster or Mask R-CNN.
        loss_weights: ``"plain"`` multiplies the losses of a stage (published InternImage models);
            ``"shared_features"`` lets the heads learn at full speed and scales only what reaches the
            pyramid (the paper's code, by learning rates of 1, 2, 4).
        later_sampling: ``"resample"`` draws again in every stage (published InternImage models);
            ``"all"`` trains later stages on all boxes of the stage before (the paper).
        mask_stages: stages with a mask head: all, the first, the last, or any subset.
        ignore_ioa: boxes covered more than this by an ignored region are not trained on; -1 treats
            such regions as background (published InternImage models on COCO).
        canonical_size: a box of this side reads the finest level, of twice the side the next, ...
        sampling_ratio: RoIAlign samples per bin and axis; 0 adapts to the size of the box.
    """

    stages: tuple[Stage, ...] = THREE_STAGES
    box_head: BoxHeadConfig = BoxHeadConfig()
    mask_head: MaskHeadConfig = MaskHeadConfig()
    mask_stages: tuple[int, ...] = (0, 1, 2)
    sampler: Sampler = Sampler(num=512, positive_fraction=0.25)
    loss_weights: Literal["plain", "shared_features"] = "plain"
    later_sampling: Literal["resample", "all"] = "resample"
    ignore_ioa: float = -1.0
    canonical_size: float = 56.0
    sampling_ratio: int = 0
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a cascade needs at least one stage")
        beyond = [k for k in self.mask_stages if not 0 <= k < len(self.stages)]
        if beyond:
            raise ValueError(f"mask_stages {beyond} do not exist: there are {len(self.stages)} stages")

    def assigner(self, k: int) -> Assigner:
        stage = self.stages[k]
        return Assigner(
            positive_iou=stage.iou,
            negative_iou=stage.iou,
            min_positive_iou=stage.iou,
            match_low_quality=stage.match_low_quality,
            ignore_ioa=self.ignore_ioa,
        )


class Cascade(nn.Module):
    """Box and mask heads, one of each per stage, and the loop over the stages."""

    def __init__(
        self, config: CascadeConfig, channels: int, strides: Sequence[int], num_classes: int
    ) -> None:
        super().__init__()
        self.config, self.strides, self.num_classes = config, tuple(strides), num_classes
        self.box_heads = nn.ModuleList(BoxHead(config.box_head, channels, num_classes) for _ in config.stages)
        self.mask_heads = nn.ModuleDict(
            {str(k): MaskHead(config.mask_head, channels, num_classes) for k in config.mask_stages}
        )

    def forward(
        self,
        pyramid: Sequence[Tensor],
        images: ImageBatch,
        proposals: list[Tensor],
        targets: Sequence[Instances],
        choose: Choose,
        divisor: Divisor = global_mean,
    ) -> tuple[dict[str, Tensor], tuple[StageTrace, ...]]:
        """Train: losses of every stage (Cascade R-CNN, eq. 8), on boxes that the last one refined."""
        losses, traces, boxes = {}, [], proposals
        for k in range(len(self.config.stages)):
            wanted = self.assign_and_sample(k, boxes, images, targets, choose)
            logits, deltas = self.look(k, pyramid, wanted.boxes)
            losses |= self.losses(k, logits, deltas, wanted, divisor=divisor)
            losses |= self.mask_loss(k, pyramid, wanted, targets, divisor=divisor)
            refined = self.refine(k, wanted.boxes, logits, deltas, images, wanted.labels)
            traces.append(self._trace(k, wanted.boxes, refined, logits, deltas, wanted))
            boxes = [b[~is_target] for b, is_target in zip(refined, wanted.is_target, strict=True)]
        return losses, tuple(traces)

    @torch.no_grad()
    def run(
        self, pyramid: Sequence[Tensor], images: ImageBatch, proposals: list[Tensor]
    ) -> tuple[StageTrace, ...]:
        """Infer: the same cascade, on the same boxes from proposal to the last stage."""
        traces, boxes = [], proposals
        for k in range(len(self.config.stages)):
            logits, deltas = self.look(k, pyramid, boxes)
            refined = self.refine(k, boxes, logits, deltas, images)
            earlier = None
            if self.config.postprocess.ensemble == "last_rois_probabilities":
                earlier = [self._per_image(self.look(j, pyramid, boxes)[0], boxes) for j in range(k)]
            traces.append(self._trace(k, boxes, refined, logits, deltas, earlier=earlier))
            boxes = refined
        return tuple(traces)

    def assign_and_sample(
        self,
        k: int,
        boxes: list[Tensor],
        images: ImageBatch,
        targets: Sequence[Instances],
        choose: Choose,
    ) -> StageTargets:
        """Match the boxes that enter stage k with the objects, at the threshold of stage k."""
        keep_all = k > 0 and self.config.later_sampling == "all"
        sampler = None if keep_all else self.config.sampler
        return stage_targets(
            boxes, images.sizes, targets, self.config.assigner(k), sampler, choose, self.num_classes
        )

    def look(self, k: int, pyramid: Sequence[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Apply the box head of stage k: logits (R, K + 1) and deltas (R, 4 K), float32 or wider."""
        roi_features = self._pool(pyramid, boxes, self.config.box_head.pool_size)
        if self.config.loss_weights == "shared_features":
            roi_features = scale_gradient(roi_features, self.config.stages[k].loss_weight)
        logits, deltas = self.box_heads[k](roi_features)
        wide = torch.promote_types(logits.dtype, torch.float32)
        return logits.to(wide), deltas.to(wide)

    @torch.no_grad()
    def refine(
        self,
        k: int,
        boxes: list[Tensor],
        logits: Tensor,
        deltas: Tensor,
        images: ImageBatch,
        labels: Tensor | None = None,
    ) -> list[Tensor]:
        """Move every box by its deltas and clip it to the picture: the input of the next stage.

        With class-aware deltas the class is the true one for positives in training, and otherwise the
        likeliest object class, for background boxes too.
        """
        likeliest = logits[:, :-1].argmax(dim=1)
        if labels is not None:
            likeliest = torch.where(labels < self.num_classes, labels, likeliest)
        deltas = deltas.detach().unflatten(1, (-1, 4))  # (R, K, 4)
        chosen = deltas[torch.arange(len(deltas)), likeliest if deltas.shape[1] > 1 else 0]  # (R, 4)
        rows = zip(boxes, self._per_image(chosen, boxes), images.sizes, strict=True)
        std = self.config.stages[k].delta_std
        return [decode_deltas(delta, box, std, size) for box, delta, size in rows]

    def losses(
        self,
        k: int,
        logits: Tensor,
        deltas: Tensor,
        wanted: StageTargets,
        weighted: bool = True,
        divisor: Divisor = global_mean,
    ) -> dict[str, Tensor]:
        """Return classification and box loss of stage k, times its weight, and the accuracy in percent."""
        stage = self.config.stages[k]
        head, classes = self.config.box_head, self.num_classes
        found = box_losses(logits, deltas, wanted, head, stage.delta_std, classes, divisor)
        return self._named(k, found, weighted)

    def mask_loss(
        self,
        k: int,
        pyramid: Sequence[Tensor],
        wanted: StageTargets,
        targets: Sequence[Instances],
        weighted: bool = True,
        divisor: Divisor = global_mean,
    ) -> dict[str, Tensor]:
        """Return the mask loss of stage k on its positives, times its weight; nothing without a mask head."""
        if k not in self.config.mask_stages:
            return {}
        boxes, labels, goal = wanted.for_masks(targets, self.config.mask_head.mask_size)
        roi_features = self._pool(pyramid, boxes, self.config.mask_head.pool_size)
        if self.config.loss_weights == "shared_features":
            roi_features = scale_gradient(roi_features, self.config.stages[k].loss_weight)
        logits = self.mask_heads[str(k)](roi_features)
        return self._named(k, mask_losses(logits, labels, goal, divisor), weighted)

    @torch.no_grad()
    def read_out(
        self,
        pyramid: Sequence[Tensor],
        images: ImageBatch,
        stages: Sequence[StageTrace],
        voters: Sequence[int],
    ) -> DetectionTrace:
        """Return the detections if only the stages ``voters`` voted; boxes come from the last of them.

        Masks come from the mask heads among the voters; where none has one, from all there are.
        """
        picked = []
        for i, size in enumerate(images.sizes):
            scores = ensemble_scores(stages, voters, i, self.config.postprocess.ensemble)
            boxes = decode_classwise(stages[voters[-1]], i, size)
            picked.append(pick_detections(boxes, scores, self.config.postprocess, images.scale(i)))
        rows, boxes, labels, scores = (list(column) for column in zip(*picked, strict=True))
        return DetectionTrace(rows, boxes, labels, scores, self.masks_of(pyramid, boxes, labels, voters))

    @torch.no_grad()
    def masks_of(
        self,
        pyramid: Sequence[Tensor],
        boxes: list[Tensor],
        labels: list[Tensor],
        voters: Sequence[int],
    ) -> dict[int, list[Tensor]]:
        """Return by stage the mask logits (D, 28, 28) of each box for its label; empty without mask heads."""
        mask_logits = {}
        with_masks = [k for k in voters if k in self.config.mask_stages] or self.config.mask_stages
        if with_masks:
            roi_features = self._pool(pyramid, boxes, self.config.mask_head.pool_size)
            label = torch.cat(labels)
            for k in with_masks:
                logits = self.mask_heads[str(k)](roi_features)  # (D, K, 28, 28)
                own = logits[torch.arange(len(label)), label].float()
                mask_logits[k] = self._per_image(own, boxes)
        return mask_logits

    def _pool(self, pyramid: Sequence[Tensor], boxes: list[Tensor], size: int) -> Tensor:
        return pool_rois(
            pyramid[: len(self.strides)],
            self.strides,
            boxes_to_rois(boxes),
            size,
            canonical_size=self.config.canonical_size,
            sampling_ratio=self.config.sampling_ratio,
        )

    def _named(self, k: int, found: dict[str, Tensor], weighted: bool) -> dict[str, Tensor]:
        plain = not weighted or self.config.loss_weights == "shared_features"
        weight = 1.0 if plain else self.config.stages[k].loss_weight
        return {f"s{k}.{n}": v * weight if n.startswith("loss") else v for n, v in found.items()}

    def _trace(self, k, boxes, refined, logits, deltas, wanted=None, earlier=None) -> StageTrace:
        stage = self.config.stages[k]
        return StageTrace(
            iou_threshold=stage.iou,
            delta_std=stage.delta_std,
            proposals=boxes,
            boxes=refined,
            logits=self._per_image(logits.detach(), boxes),
            deltas=self._per_image(deltas.detach(), boxes),
            is_target=wanted.is_target if wanted else [torch.zeros(len(b), dtype=torch.bool) for b in boxes],
            matched_iou=wanted.iou if wanted else None,
            sampled=wanted.sampled if wanted else None,
            earlier_logits=earlier,
        )

    @staticmethod
    def _per_image(rows: Tensor, boxes: list[Tensor]) -> list[Tensor]:
        return list(rows.split([len(b) for b in boxes]))


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x`` unchanged, and let only ``factor`` of the gradient through."""
    return x.detach() + factor * (x - x.detach())
