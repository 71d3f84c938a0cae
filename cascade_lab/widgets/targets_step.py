"""One training step on one picture without learning: what is asked of every part of the detector.

Every number comes from the library's own anchors, assigner, sampler, RoI pooler and NMS.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor

from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.heads.rpn import RPNOutput
from cascade_lab.layers.roi_pooler import boxes_to_rois, level_of, pool_rois
from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.ops.nms import nms
from cascade_lab.ops.roi_align_reference import axis_samples
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.assigner import NEGATIVE, Assignment
from cascade_lab.targets.sampler import Sampler, random_choice
from cascade_lab.trace import StageTrace
from cascade_lab.widgets.targets_view import (
    AnchorsView,
    ReadingView,
    SampleView,
    SuppressionView,
    TargetsView,
)


@torch.no_grad()
def targets_view(
    detector: Detector,
    picture: Tensor,
    truth: Instances,
    classes: Sequence[str],
    *,
    name: str = "",
    seed: int = 0,
    most_boxes: int = 20,
    most_candidates: int = 60,
) -> TargetsView:
    """Run one training step on one picture without learning, and keep what it asks of each part.

    Args:
        picture: uint8 (3, H, W) RGB at the size that the network sees, which is the frame of ``truth``.
        seed: of the samplers. most_boxes: proposals to read, beside the objects. most_candidates: boxes of a
            level that NMS is shown on; what becomes of the best is the same with any number behind them.

    The detector stays in eval mode, so its batch norms keep their statistics, and the RPN makes as many
    proposals as in inference.

    Raises:
        InputError: the detector is in training mode, or picture and truth do not belong together.
    """
    if detector.training:
        raise InputError("detector: is in training mode, which would move its norms; call detector.eval()")
    if tuple(picture.shape) != (3, *truth.image_size):
        raise InputError(
            f"picture has shape {tuple(picture.shape)}, truth is of (3, H, W) = {(3, *truth.image_size)}; "
            "pass the picture that the boxes belong to"
        )
    truth, images, choose = truth.objects(), ImageBatch.collate([picture.float()]), random_choice([seed])
    pyramid = detector.neck(detector.backbone(images.pixels))
    seen = detector.rpn(pyramid)
    assignment = detector.rpn.assign(seen, images, 0, truth)
    wanted = detector.rpn.targets(seen, images, [truth], choose)
    proposals = detector.rpn.propose(seen, images)
    _, stages = detector.cascade(pyramid, images, proposals.boxes, [truth], choose)
    rows = torch.cat([wanted.positive[0], wanted.negative[0]])
    rpn = SampleView(
        name="RPN",
        rule=_rule(detector.config.rpn.sampler),
        positive_iou=detector.config.rpn.assigner.positive_iou,
        negative_iou=detector.config.rpn.assigner.negative_iou,
        positives=len(wanted.positive[0]),
        available=_counts(assignment, 0),
        boxes=torch.cat(seen.anchors)[rows].numpy(),
        iou=assignment.iou[rows].numpy(),
        is_target=np.zeros(len(rows), bool),
        entering_iou=assignment.iou.numpy(),
    )
    read = [*(f"object {m + 1}" for m in range(len(truth)))]
    read += [f"proposal {r + 1}" for r in range(len(proposals.boxes[0]))][:most_boxes]
    boxes = torch.cat([truth.boxes, proposals.boxes[0][:most_boxes]])
    labels = torch.zeros(len(truth), dtype=torch.int64) if truth.labels is None else truth.labels
    return TargetsView(
        name=name,
        classes=tuple(classes),
        picture=picture.permute(1, 2, 0).contiguous().numpy(),
        targets=truth.boxes.numpy(),
        target_labels=labels.numpy(),
        anchors=_anchors(detector, seen, assignment),
        samples=(rpn, *_stage_samples(detector, stages, proposals.boxes[0], truth)),
        reading=_reading(detector, pyramid, boxes, tuple(read)),
        suppression=_suppression(detector, seen, images, most_candidates),
    )


def _anchors(detector: Detector, seen: RPNOutput, assignment: Assignment) -> AnchorsView:
    config = detector.config.rpn
    return AnchorsView(
        strides=detector.rpn.strides,
        grids=tuple(seen.grids),
        shapes=len(config.anchor_scales) * len(config.anchor_ratios),
        positive_iou=config.assigner.positive_iou,
        negative_iou=config.assigner.negative_iou,
        boxes=torch.cat(seen.anchors).numpy(),
        iou=assignment.iou.numpy(),
        target_index=assignment.target_index.numpy(),
    )


def _stage_samples(
    detector: Detector, stages: Sequence[StageTrace], proposals: Tensor, truth: Instances
) -> list[SampleView]:
    config, entering, samples = detector.config.cascade, proposals, []
    for k, stage in enumerate(stages):
        assert stage.sampled is not None and stage.matched_iou is not None
        assigner, keep_all = config.assigner(k), k > 0 and config.later_sampling == "all"
        assignment = assigner.assign(entering, truth)
        samples.append(
            SampleView(
                name=f"stage {k + 1}",
                rule="all boxes" if keep_all else _rule(config.sampler),
                positive_iou=assigner.positive_iou,
                negative_iou=assigner.negative_iou,
                positives=len(stage.sampled[0][0]),
                available=_counts(assignment, len(truth)),
                boxes=stage.proposals[0].numpy(),
                iou=stage.matched_iou[0].numpy(),
                is_target=stage.is_target[0].numpy(),
                entering_iou=assignment.iou.numpy(),
            )
        )
        entering = stage.boxes[0][~stage.is_target[0]]
    return samples


def _reading(
    detector: Detector, pyramid: Sequence[Tensor], boxes: Tensor, names: tuple[str, ...]
) -> ReadingView:
    config, strides = detector.config.cascade, detector.cascade.strides
    bins, ratio = config.box_head.pool_size, config.sampling_ratio
    maps = [level.mean(1, keepdim=True) for level in pyramid[: len(strides)]]  # L times (1, 1, H, W)
    levels = level_of(boxes, len(strides), config.canonical_size)
    rows, columns = [], []
    for box, level in zip(boxes, levels.tolist(), strict=True):
        x1, y1, x2, y2 = (box[None] / strides[level] - 0.5).unbind(1)
        height, width = maps[level].shape[2:]
        for found, sides, length in ((rows, (y1, y2), height), (columns, (x1, x2), width)):
            position, counts = axis_samples(*sides, bins, length, ratio)
            found.append(torch.where(counts, position, torch.nan)[0])  # (S, P)
    pooled = pool_rois(
        maps,
        strides,
        boxes_to_rois([boxes]),
        bins,
        canonical_size=config.canonical_size,
        sampling_ratio=ratio,
    )
    return ReadingView(
        names=names,
        strides=strides,
        canonical_size=config.canonical_size,
        boxes=boxes.numpy(),
        levels=levels.numpy(),
        maps=tuple(level[0, 0].numpy() for level in maps),
        rows=_padded(rows, bins),
        columns=_padded(columns, bins),
        pooled=pooled[:, 0].numpy(),
    )


def _suppression(
    detector: Detector, seen: RPNOutput, images: ImageBatch, most: int
) -> tuple[SuppressionView, ...]:
    limits = detector.config.rpn.inference
    box, score, level = detector.rpn.candidates(seen, 0, images.sizes[0], limits)
    views = []
    for number in range(len(seen.anchors)):
        boxes, scores = box[level == number][:most], score[level == number][:most]
        keep = nms(boxes, scores, limits.nms_iou)
        falls = pairwise_iou(boxes[keep], boxes) > limits.nms_iou  # (D, C), best survivor first
        by = keep[falls.int().argmax(0)] if len(keep) else keep
        by[keep] = -1
        views.append(
            SuppressionView(
                threshold=limits.nms_iou, boxes=boxes.numpy(), scores=scores.numpy(), by=by.numpy()
            )
        )
    return tuple(views)


def _counts(assignment: Assignment, targets: int) -> tuple[int, int, int]:
    """Count positives, negatives and unused; ``targets`` true boxes stand for themselves."""
    index = assignment.target_index
    positive, negative = int((index >= 0).sum()), int((index == NEGATIVE).sum())
    return positive + targets, negative, len(index) - positive - negative


def _rule(sampler: Sampler) -> str:
    return f"at most {sampler.num} boxes, at most {100 * sampler.positive_fraction:g} % of them positive"


def _padded(rows: Sequence[Tensor], bins: int) -> np.ndarray:
    """Stack (S, P_i) to (B, S, P), NaN where a box has fewer samples than another."""
    stacked = np.full((len(rows), bins, max((row.shape[1] for row in rows), default=0)), np.nan, np.float32)
    for to, row in zip(stacked, rows, strict=True):
        to[:, : row.shape[1]] = row.numpy()
    return stacked
