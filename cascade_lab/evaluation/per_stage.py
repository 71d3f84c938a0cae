"""The stages of one cascade, each by itself and averaged, from one checkpoint (Cascade R-CNN, table 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pycocotools.coco import COCO

from cascade_lab.evaluation.coco import CocoScores, coco_scores


def stage_modes(stages: int) -> dict[str, tuple[int, ...]]:
    """Name the ways to read a cascade, and the 0-based stages that vote in each.

    Three stages give "1", "2", "3", "1~2" and "1~3"; the last is what the detector predicts.
    """
    if stages < 1:
        raise ValueError(f"a cascade has at least 1 stage, got {stages}")
    single = {str(k + 1): (k,) for k in range(stages)}
    return single | {f"1~{k}": tuple(range(k)) for k in range(2, stages + 1)}


def score_modes(
    truth: COCO,
    detections: Mapping[str, Sequence[dict[str, Any]]],
    category_ids: Sequence[int] | None = None,
) -> dict[str, Any]:
    """Score the detections of every mode, boxes and masks, and lay them out as ``results.json``.

    Masks are None where either side has none: the ground truth, or a detector without mask heads.
    The top of the result repeats the last mode, which is what the detector predicts.
    """
    boxes = {
        mode: _scored(coco_scores(truth, found, "bbox", category_ids)) for mode, found in detections.items()
    }
    has_masks = all("segmentation" in detection for found in detections.values() for detection in found)
    masks = {
        mode: coco_scores(truth, found, "segm", category_ids) if has_masks else None
        for mode, found in detections.items()
    }
    return assemble_results(boxes, masks)


def assemble_results(
    boxes: Mapping[str, CocoScores], masks: Mapping[str, CocoScores | None]
) -> dict[str, Any]:
    """Return ``{"bbox": B, "segm": B, "stages": {mode: {"bbox": B, "segm": B}}, "per_class": {...}}``.

    ``per_class`` maps a class to its number of objects and to B for boxes and masks.
    """
    last = list(boxes)[-1]
    best_boxes, best_masks = boxes[last], masks[last]
    return {
        "bbox": best_boxes.summary,
        "segm": best_masks and best_masks.summary,
        "stages": {
            mode: {"bbox": scores.summary, "segm": (m := masks[mode]) and m.summary}
            for mode, scores in boxes.items()
        },
        "per_class": {
            name: {
                "objects": score.objects,
                "bbox": score.summary,
                "segm": best_masks and best_masks.per_class[name].summary,
            }
            for name, score in best_boxes.per_class.items()
        },
    }


def _scored(scores: CocoScores | None) -> CocoScores:
    assert scores is not None  # only masks can be missing
    return scores
