"""What a forward pass did, stage by stage: plain tensors, detached, cheap enough to be always there.

About 4 MiB for a picture with 1000 proposals and 80 classes, 0.1 MiB for the small models.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Tensor


@dataclass(frozen=True)
class ProposalTrace:
    """What the RPN proposed, per picture."""

    boxes: list[Tensor]  # (R, 4) xyxy
    scores: list[Tensor]  # (R,) objectness after the sigmoid
    levels: list[Tensor]  # (R,) int64, the pyramid level each came from


@dataclass(frozen=True)
class StageTrace:
    """One cascade stage, per picture. Row r of every field speaks of the same box.

    In inference row r is also the same object in every stage, since no box is dropped between stages.
    In training the rows are the sampled boxes: positives first, then negatives.
    """

    iou_threshold: float
    delta_std: tuple[float, float, float, float]
    proposals: list[Tensor]  # (R, 4) xyxy, entering the stage
    boxes: list[Tensor]  # (R, 4), leaving it
    logits: list[Tensor]  # (R, K + 1), background last
    deltas: list[Tensor]  # (R, 4) or (R, 4 * K), normalised
    is_target: list[Tensor]  # (R,) bool: a ground truth that was added to the proposals
    matched_iou: list[Tensor] | None = None  # (R,), where ground truth is known
    sampled: list[tuple[Tensor, Tensor]] | None = None  # indices into [targets; proposals]; training only
    earlier_logits: list[list[Tensor]] | None = None  # per earlier head, its logits on these proposals


@dataclass(frozen=True)
class DetectionTrace:
    """Where each detection came from, and the mask every stage gave it."""

    rows: list[Tensor]  # (D,) row of the stage traces that a detection came from
    boxes: list[Tensor]  # (D, 4)
    labels: list[Tensor]  # (D,)
    scores: list[Tensor]  # (D,)
    mask_logits: dict[int, list[Tensor]]  # stage -> (D, 28, 28), the channel of each label


@dataclass(frozen=True)
class Trace:
    """All of one forward pass. Boxes are in the frame of the network input until ``to_original``."""

    sizes: list[tuple[int, int]]  # (H, W) of the frame that the boxes are in
    original_sizes: list[tuple[int, int]]
    proposals: ProposalTrace
    stages: tuple[StageTrace, ...]
    detections: DetectionTrace | None = None  # inference only
    features: tuple[Tensor, ...] | None = None  # pyramid maps, with keep_features=True

    def to_original(self) -> Trace:
        """Return the same trace with every box in pixels of the original pictures.

        Features are left out: they stay in the frame of the network input.
        """
        factors = [
            torch.tensor([ow / w, oh / h, ow / w, oh / h])
            for (h, w), (oh, ow) in zip(self.sizes, self.original_sizes, strict=True)
        ]

        def move(boxes: list[Tensor]) -> list[Tensor]:
            return [b * f.to(b) for b, f in zip(boxes, factors, strict=True)]

        detections = self.detections and replace(self.detections, boxes=move(self.detections.boxes))
        return replace(
            self,
            sizes=self.original_sizes,
            proposals=replace(self.proposals, boxes=move(self.proposals.boxes)),
            stages=tuple(
                replace(stage, proposals=move(stage.proposals), boxes=move(stage.boxes))
                for stage in self.stages
            ),
            detections=detections,
            features=None,
        )
