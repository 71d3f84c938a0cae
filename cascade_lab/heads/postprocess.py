"""From what the stages said to detections: who votes, where the box is, and NMS."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cascade_lab.errors import check_word
from cascade_lab.ops.box_coder import decode_deltas
from cascade_lab.ops.boxes import scale
from cascade_lab.ops.nms import batched_nms
from cascade_lab.ops.soft_nms import soft_nms
from cascade_lab.structures import ImageBatch
from cascade_lab.trace import StageTrace

Ensemble = Literal["own_rois_logits", "own_rois_probabilities", "last_rois_probabilities"]
Suppression = Literal["hard", "soft_linear", "soft_gaussian"]


@dataclass(frozen=True, kw_only=True)
class PostprocessConfig:
    """How scores become detections.

    Args:
        ensemble: whose scores are averaged. ``"own_rois_logits"``: each stage on its own boxes, mean
            of logits (the published InternImage models). ``"own_rois_probabilities"``: mean after the
            softmax (detectron2). ``"last_rois_probabilities"``: all heads look again at the last
            stage's boxes (Cascade R-CNN, table 2).
        score_threshold: detections must score above it.
        nms: ``"hard"`` drops the worse of two boxes of a class that overlap too much (the published models);
            ``"soft_linear"`` and ``"soft_gaussian"`` lower its score instead (`ops/soft_nms.py`).
        nms_iou: of two boxes of a class that overlap more than this, the lower score goes. With
            ``"soft_linear"`` it is lowered from here on (in the paper 0.3); ``"soft_gaussian"`` needs none.
        soft_sigma: width of ``"soft_gaussian"`` (the paper takes 0.5); smaller is harder.
        soft_min_score: lowered scores must be above it. ``score_threshold`` is asked before, not again.
        max_detections: kept per picture.
    """

    ensemble: Ensemble = "own_rois_logits"
    score_threshold: float = 0.05
    nms: Suppression = "hard"
    nms_iou: float = 0.5
    soft_sigma: float = 0.5
    soft_min_score: float = 0.001
    max_detections: int = 100

    def __post_init__(self) -> None:
        check_word("ensemble", self.ensemble, Ensemble)
        check_word("nms", self.nms, Suppression)
        if not 0 <= self.score_threshold <= 1:
            raise ValueError(f"score_threshold must lie in [0, 1], got {self.score_threshold}")
        if not 0 <= self.nms_iou <= 1:
            raise ValueError(f"nms_iou must lie in [0, 1], got {self.nms_iou}")
        if self.max_detections < 1:
            raise ValueError(f"max_detections must be at least 1, got {self.max_detections}")
        if not self.soft_sigma > 0:
            raise ValueError(f"soft_sigma must be above 0, got {self.soft_sigma}")
        if not 0 <= self.soft_min_score < 1:
            raise ValueError(f"soft_min_score must lie in [0, 1), got {self.soft_min_score}")


def detect(
    stages: Sequence[StageTrace], voters: Sequence[int], images: ImageBatch, config: PostprocessConfig
) -> tuple[list[Tensor], list[Tensor], list[Tensor], list[Tensor]]:
    """Return what ``pick_detections`` picks from the votes, picture by picture: rows, boxes, labels, scores.

    The boxes are those of the last voter.
    """
    picked = []
    for i, size in enumerate(images.sizes):
        scores = ensemble_scores(stages, voters, i, config.ensemble)
        boxes = decode_classwise(stages[voters[-1]], i, size)
        picked.append(pick_detections(boxes, scores, config, images.scale(i)))
    rows, boxes, labels, scores = (list(column) for column in zip(*picked, strict=True))
    return rows, boxes, labels, scores


def ensemble_scores(
    stages: Sequence[StageTrace], voters: Sequence[int], image: int, ensemble: Ensemble
) -> Tensor:
    """Return the class probabilities (R, K + 1) that the stages ``voters`` give together.

    Raises ValueError where the voters are no stages (from 0) in their order, or where the trace does not hold
    what the rule needs.
    """
    if not voters or [k for k in range(len(stages)) if k in voters] != list(voters):
        raise ValueError(f"voters {list(voters)}: must be some of the {len(stages)} stages, from 0, in order")
    last = stages[voters[-1]]
    if ensemble == "own_rois_logits":
        return torch.stack([stages[k].logits[image] for k in voters]).mean(0).softmax(-1)
    if ensemble == "own_rois_probabilities":
        return torch.stack([stages[k].logits[image].softmax(-1) for k in voters]).mean(0)
    if last.earlier_logits is None:
        raise ValueError("the trace holds no earlier heads on the last boxes; predict with that ensemble")
    said = [last.earlier_logits[k][image] for k in voters[:-1]] + [last.logits[image]]
    return torch.stack([logits.softmax(-1) for logits in said]).mean(0)


def decode_classwise(stage: StageTrace, image: int, size: tuple[int, int]) -> Tensor:
    """Return the box that each class would get, (R, K, 4), or (R, 1, 4) for class-agnostic deltas."""
    proposals, deltas = stage.proposals[image], stage.deltas[image]
    return decode_deltas(deltas.unflatten(1, (-1, 4)), proposals[:, None], stage.delta_std, size)


def pick_detections(
    boxes: Tensor, scores: Tensor, config: PostprocessConfig, factors: tuple[float, float]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the best (box, class) pairs: rows (D,), boxes (D, 4), labels (D,), scores (D,).

    Shapes:
        boxes: (R, K, 4) or (R, 1, 4), pixels of the network input.
        scores: (R, K + 1) probabilities, background last.
        factors: (y, x) from original to network pixels. NMS runs on original pixels, as published.

    NMS is class by class: boxes of different classes never suppress each other.
    """
    classes = scores.shape[1] - 1
    row, label = (scores[:, :classes] > config.score_threshold).nonzero(as_tuple=True)
    box = boxes[row, label if boxes.shape[1] > 1 else torch.zeros_like(label)]
    score = scores[row, label]
    original = scale(box, (1 / factors[0], 1 / factors[1]))
    keep, score = thin_out(original, score, label, config)
    return row[keep], box[keep], label[keep], score


def thin_out(
    boxes: Tensor, scores: Tensor, labels: Tensor, config: PostprocessConfig
) -> tuple[Tensor, Tensor]:
    """Do the NMS of ``config``: indices (D,) of the boxes that stay and their scores (D,), best first."""
    if config.nms == "hard":
        keep = batched_nms(boxes, scores, labels, config.nms_iou)[: config.max_detections]
        return keep, scores[keep]
    return soft_nms(
        boxes,
        scores,
        labels,
        "linear" if config.nms == "soft_linear" else "gaussian",
        iou=config.nms_iou,
        sigma=config.soft_sigma,
        min_score=config.soft_min_score,
        most=config.max_detections,
    )
