"""The cascade: detectors in a row, each trained on the boxes that the one before has improved.

    f(x, b) = f_T o f_{T-1} o ... o f_1 (x, b)                               (Cascade R-CNN, eq. 7)

Every stage asks for a stricter match than the last, so that it learns to refine boxes that are already
good; and since its input really is better, there are still enough positives (Cascade R-CNN, figure 4).
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from cascade_lab.heads.box_head import BoxHead
from cascade_lab.heads.cascade_config import CascadeConfig
from cascade_lab.heads.mask_head import MaskHead
from cascade_lab.heads.postprocess import detect
from cascade_lab.heads.stage_losses import box_losses, mask_losses
from cascade_lab.heads.stage_targets import StageTargets, stage_targets
from cascade_lab.layers.roi_pooler import boxes_to_rois, pool_rois
from cascade_lab.losses import Divisor, global_mean
from cascade_lab.ops.box_coder import decode_deltas
from cascade_lab.ops.boxes import at_least_float32
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.sampler import Choose
from cascade_lab.trace import DetectionTrace, StageTrace


class Cascade(nn.Module):
    """Box and mask heads, one of each per stage, and the loop over the stages (Cascade R-CNN, figure 3 d).

    Shapes: ``pyramid`` is L maps (N, C, H_l, W_l), of which the heads read those of ``strides``; boxes are N
    times (R, 4), xyxy pixels of the network input. A stage answers for all boxes at once, (sum R, ...).
    """

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
            losses |= self.losses(k, logits, deltas, wanted, divisor)
            losses |= self.mask_loss(k, pyramid, wanted, targets, divisor)
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
                earlier = [_per_image(self.look(j, pyramid, boxes)[0], boxes) for j in range(k)]
            traces.append(self._trace(k, boxes, refined, logits, deltas, earlier=earlier))
            boxes = refined
        return tuple(traces)

    def assign_and_sample(
        self, k: int, boxes: list[Tensor], images: ImageBatch, targets: Sequence[Instances], choose: Choose
    ) -> StageTargets:
        """Match the boxes that enter stage k with the objects, at the threshold of stage k."""
        keep_all = k > 0 and self.config.later_sampling == "all"
        sampler = None if keep_all else self.config.sampler
        return stage_targets(
            boxes, images.sizes, targets, self.config.assigner(k), sampler, choose, self.num_classes
        )

    def look(self, k: int, pyramid: Sequence[Tensor], boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        """Apply the box head of stage k: logits (R, K + 1), deltas (R, 4 K) or (R, 4), at least float32."""
        roi_features = self._features(k, pyramid, boxes, self.config.box_head.pool_size)  # (R, C, 7, 7)
        logits, deltas = self.box_heads[k](roi_features)
        return at_least_float32(logits), at_least_float32(deltas)

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
        deltas = deltas.unflatten(1, (-1, 4))  # (R, K, 4)
        row = torch.arange(len(deltas), device=deltas.device)
        chosen = deltas[row, likeliest if deltas.shape[1] > 1 else 0]  # (R, 4)
        rows = zip(boxes, _per_image(chosen, boxes), images.sizes, strict=True)
        std = self.config.stages[k].delta_std
        return [decode_deltas(delta, box, std, size) for box, delta, size in rows]

    def losses(
        self, k: int, logits: Tensor, deltas: Tensor, wanted: StageTargets, divisor: Divisor = global_mean
    ) -> dict[str, Tensor]:
        """Return classification and box loss of stage k, weighted, and the accuracy in percent."""
        head, std = self.config.box_head, self.config.stages[k].delta_std
        return self._weighted(k, box_losses(logits, deltas, wanted, head, std, divisor))

    def mask_loss(
        self,
        k: int,
        pyramid: Sequence[Tensor],
        wanted: StageTargets,
        targets: Sequence[Instances],
        divisor: Divisor = global_mean,
    ) -> dict[str, Tensor]:
        """Return the mask loss of stage k on its positives, weighted; nothing without a mask head."""
        if k not in self.config.mask_stages:
            return {}
        boxes, labels, goal = wanted.for_masks(targets, self.config.mask_head.mask_size)
        roi_features = self._features(k, pyramid, boxes, self.config.mask_head.pool_size)  # (P, C, 14, 14)
        logits = self.mask_heads[str(k)](roi_features)  # (P, K, 28, 28)
        return self._weighted(k, mask_losses(logits, labels, goal, divisor))

    @torch.no_grad()
    def ask(
        self,
        k: int,
        pyramid: Sequence[Tensor],
        images: ImageBatch,
        boxes: list[Tensor],
        labels: Tensor | None = None,
    ) -> StageTrace:
        """Return what the head of stage k says of any boxes, and where ``refine`` then moves them."""
        logits, deltas = self.look(k, pyramid, boxes)
        refined = self.refine(k, boxes, logits, deltas, images, labels)
        return self._trace(k, boxes, refined, logits, deltas)

    @torch.no_grad()
    def read_out(
        self,
        pyramid: Sequence[Tensor],
        images: ImageBatch,
        stages: Sequence[StageTrace],
        voters: Sequence[int],
    ) -> DetectionTrace:
        """Return the detections if only the stages ``voters`` voted; boxes come from the last of them.

        Masks come from the voters' mask heads; where none has one, from all there are.
        Raises ValueError where the voters are no stages in their order.
        """
        rows, boxes, labels, scores = detect(stages, voters, images, self.config.postprocess)
        return DetectionTrace(rows, boxes, labels, scores, self.masks_of(pyramid, boxes, labels, voters))

    @torch.no_grad()
    def masks_of(
        self, pyramid: Sequence[Tensor], boxes: list[Tensor], labels: list[Tensor], voters: Sequence[int]
    ) -> dict[int, list[Tensor]]:
        """Return by stage the mask logits (D, 28, 28) of each box for its label; empty without mask heads."""
        with_masks = [k for k in voters if k in self.config.mask_stages] or self.config.mask_stages
        if not with_masks:
            return {}
        roi_features = self.pool(pyramid, boxes, self.config.mask_head.pool_size)  # (D, C, 14, 14)
        label, mask_logits = torch.cat(labels), {}
        row = torch.arange(len(label), device=label.device)
        for k in with_masks:
            logits = self.mask_heads[str(k)](roi_features)  # (D, K, 28, 28)
            mask_logits[k] = _per_image(at_least_float32(logits[row, label]), boxes)
        return mask_logits

    def pool(self, pyramid: Sequence[Tensor], boxes: list[Tensor], size: int) -> Tensor:
        """Read every box from its level of the pyramid: (R, C, size, size)."""
        return pool_rois(
            pyramid[: len(self.strides)],
            self.strides,
            boxes_to_rois(boxes),
            size,
            canonical_size=self.config.canonical_size,
            sampling_ratio=self.config.sampling_ratio,
        )

    def _features(self, k: int, pyramid: Sequence[Tensor], boxes: list[Tensor], size: int) -> Tensor:
        """Pool for stage k; with ``"shared_features"`` its weight acts here, and not on the losses."""
        roi_features = self.pool(pyramid, boxes, size)
        if self.config.loss_weights == "plain":
            return roi_features
        return scale_gradient(roi_features, self.config.stages[k].loss_weight)

    def _weighted(self, k: int, found: dict[str, Tensor]) -> dict[str, Tensor]:
        """Name what belongs to stage k after it, and with ``"plain"`` weights multiply its losses."""
        weight = self.config.stages[k].loss_weight if self.config.loss_weights == "plain" else 1.0
        return {f"s{k}.{n}": v * weight if n.startswith("loss") else v for n, v in found.items()}

    def _trace(
        self,
        k: int,
        boxes: list[Tensor],
        refined: list[Tensor],
        logits: Tensor,
        deltas: Tensor,
        wanted: StageTargets | None = None,
        earlier: list[list[Tensor]] | None = None,
    ) -> StageTrace:
        stage = self.config.stages[k]
        return StageTrace(
            iou_threshold=stage.iou,
            delta_std=stage.delta_std,
            proposals=boxes,
            boxes=refined,
            logits=_per_image(logits.detach(), boxes),
            deltas=_per_image(deltas.detach(), boxes),
            is_target=wanted.is_target if wanted else [b.new_zeros(len(b), dtype=torch.bool) for b in boxes],
            matched_iou=wanted.iou if wanted else None,
            sampled=wanted.sampled if wanted else None,
            earlier_logits=earlier,
        )


def scale_gradient(x: Tensor, factor: float) -> Tensor:
    """Return ``x`` unchanged, and let only ``factor`` of the gradient through."""
    return x.detach() + factor * (x - x.detach())


def _per_image(rows: Tensor, boxes: list[Tensor]) -> list[Tensor]:
    """Split rows (sum R, ...) of all boxes into those of each picture."""
    return list(rows.split([len(b) for b in boxes]))
