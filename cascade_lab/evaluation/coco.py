"""Box and mask AP by the rules of COCO, computed by pycocotools.

Three things that pycocotools leaves to its caller are settled here: an empty list of detections, ground truth
without masks, and the area of a detection (of its mask when masks are scored, of its box otherwise).
"""

from __future__ import annotations

import contextlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cascade_lab.errors import InputError
from cascade_lab.ops.boxes import xyxy_to_xywh
from cascade_lab.ops.masks import encode_rle
from cascade_lab.structures import Instances

IouType = Literal["bbox", "segm"]
Summary = dict[str, float | None]
IOU_PERCENT = tuple(range(50, 100, 5))
SUMMARY_KEYS = ("AP", *(f"AP{t}" for t in IOU_PERCENT), "APs", "APm", "APl", "AR100")


@dataclass(frozen=True, kw_only=True)
class ClassScore:
    """One class: how many objects were to be found, and how well they were."""

    objects: int
    summary: Summary


@dataclass(frozen=True, kw_only=True)
class CocoScores:
    """The mean over classes and every class by itself, in percent.

    A value is None where nothing was to be found, for instance APs of a set without small objects.
    """

    summary: Summary
    per_class: dict[str, ClassScore]


def detections_to_coco(
    image_id: int, instances: Instances, category_ids: Sequence[int]
) -> list[dict[str, Any]]:
    """List the detections of one picture as COCO results.

    Shapes:
        instances: boxes xyxy in pixels of the original picture, scores, labels, masks (D, H, W) or None.
        category_ids: the id that the annotation file gives to label 0, 1, ...

    Raises:
        InputError: a box or a score is not finite, which pycocotools would score as a perfect match.
    """
    assert instances.labels is not None and instances.scores is not None
    if not (torch.isfinite(instances.boxes).all() and torch.isfinite(instances.scores).all()):
        raise InputError(
            f"detections of image id {image_id}: a box or score is not finite; "
            "the training has diverged, take an earlier checkpoint or a lower learning rate"
        )
    boxes = xyxy_to_xywh(instances.boxes.double()).tolist()
    columns = zip(boxes, instances.scores.tolist(), instances.labels.tolist(), strict=True)
    found = [
        {"image_id": image_id, "category_id": int(category_ids[label]), "bbox": box, "score": score}
        for box, score, label in columns
    ]
    if instances.masks is not None:
        for detection, mask in zip(found, instances.masks, strict=True):
            detection["segmentation"] = encode_rle(mask)
    return found


def coco_summary(
    annotation: Path | dict[str, Any] | COCO, detections: Sequence[dict[str, Any]], iou_type: IouType
) -> Summary | None:
    """Return AP, AP50 ... AP95, APs, APm, APl and AR100 in percent; see ``coco_scores``."""
    scores = coco_scores(annotation, detections, iou_type)
    return scores and scores.summary


def coco_scores(
    annotation: Path | dict[str, Any] | COCO,
    detections: Sequence[dict[str, Any]],
    iou_type: IouType,
    category_ids: Sequence[int] | None = None,
) -> CocoScores | None:
    """Score detections against a COCO annotation file, over all classes and for each.

    All pictures of the file count, those without a detection too. Masks are scored only where the ground
    truth has some: the result is None when no annotation carries a mask, and an object without one among
    others with masks becomes a region in which mask detections are neither right nor wrong.

    Args:
        category_ids: score these classes only, those that a model knows; None scores all of the file.

    Source: cocodataset/cocoapi, PythonAPI/pycocotools/cocoeval.py.
    """
    truth = annotation if isinstance(annotation, COCO) else load_ground_truth(annotation)
    if iou_type == "segm":
        if not any(has_mask(a) for a in truth.dataset["annotations"]):
            return None
        truth = _with_masks_for_all(truth)
    evaluation = run_cocoeval(truth, detections, iou_type, category_ids)
    precision = evaluation.eval["precision"]  # (T, recall, K, area, max detections), -1 where undefined
    recall = evaluation.eval["recall"]  # (T, K, area, max detections)
    classes = truth.loadCats(evaluation.params.catIds)
    objects = [len(truth.getAnnIds(catIds=[c["id"]], iscrowd=False)) for c in classes]
    return CocoScores(
        summary=_summary(precision, recall),
        per_class={
            c["name"]: ClassScore(
                objects=count, summary=_summary(precision[:, :, k : k + 1], recall[:, k : k + 1])
            )
            for k, (c, count) in enumerate(zip(classes, objects, strict=True))
        },
    )


def run_cocoeval(
    truth: COCO,
    detections: Sequence[dict[str, Any]],
    iou_type: IouType = "bbox",
    category_ids: Sequence[int] | None = None,
) -> COCOeval:
    """Return pycocotools' own evaluation, matched and accumulated, with all its arrays.

    Its detection ids and, where ``load_ground_truth`` made ``truth``, its annotation ids count from 1 in the
    order of the lists, so that id - 1 is the row.
    """
    found = _detection_index(truth, detections, iou_type)
    with contextlib.redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, found, iou_type)
        if category_ids is not None:
            evaluation.params.catIds = sorted(category_ids)
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation


def load_ground_truth(annotation: Path | dict[str, Any]) -> COCO:
    """Index an annotation file for scoring; do this once when several sets of detections are scored.

    Missing "iscrowd" is 0 and missing "area" is that of the box, as in files that have boxes only.
    Annotations are numbered anew from 1, since pycocotools takes the id 0 for "not matched".
    """
    data = json.loads(annotation.read_text("utf-8")) if isinstance(annotation, Path) else annotation
    rows = [
        {**row, "id": number, "iscrowd": row.get("iscrowd", 0), "area": row.get("area", _box_area(row))}
        for number, row in enumerate(data.get("annotations", []), start=1)
    ]
    return _index({**data, "annotations": rows})


def has_mask(annotation: Mapping[str, Any]) -> bool:
    """Say whether an annotation carries a mask; an empty list of polygons is none."""
    return bool(annotation.get("segmentation"))


def _index(data: Any) -> COCO:
    coco = COCO()
    coco.dataset = data
    with contextlib.redirect_stdout(io.StringIO()):
        coco.createIndex()
    return coco


def _box_area(row: Mapping[str, Any]) -> float:
    return float(row["bbox"][2] * row["bbox"][3])


def _with_masks_for_all(truth: COCO) -> COCO:
    rows = truth.dataset["annotations"]
    if all(has_mask(row) for row in rows):
        # Copied, because COCOeval replaces the polygons of what it is given by RLE.
        return _index({**truth.dataset, "annotations": [dict(row) for row in rows]})
    filled = [dict(row) if has_mask(row) else _box_as_crowd(row) for row in rows]
    return _index({**truth.dataset, "annotations": filled})


def _box_as_crowd(row: Mapping[str, Any]) -> dict[str, Any]:
    x, y, w, h = row["bbox"]
    return {**row, "iscrowd": 1, "segmentation": [[x, y, x + w, y, x + w, y + h, x, y + h]]}


def _detection_index(truth: COCO, detections: Sequence[dict[str, Any]], iou_type: IouType) -> COCO:
    """Index detections as ``COCO.loadRes`` does, but also when there are none, and with the right area."""
    unknown = {d["image_id"] for d in detections} - set(truth.getImgIds())
    if unknown:
        raise ValueError(f"detections name images that the ground truth lacks: {sorted(unknown)[:5]}")
    rows = []
    for number, detection in enumerate(detections, start=1):
        area = (
            _box_area(detection) if iou_type == "bbox" else float(coco_mask.area(detection["segmentation"]))
        )
        rows.append({**detection, "id": number, "area": area, "iscrowd": 0})
    about = {key: truth.dataset[key] for key in ("images", "categories")}
    return _index({**about, "annotations": rows})


def _summary(precision: np.ndarray, recall: np.ndarray) -> Summary:
    every, small, medium, large = range(4)  # the order of COCOeval.params.areaRngLbl
    values = [
        _percent(precision[..., every, -1]),
        *(_percent(precision[t, ..., every, -1]) for t in range(len(IOU_PERCENT))),
        *(_percent(precision[..., size, -1]) for size in (small, medium, large)),
        _percent(recall[..., every, -1]),
    ]
    return dict(zip(SUMMARY_KEYS, values, strict=True))


def _percent(values: np.ndarray) -> float | None:
    defined = values[values > -1]
    return 100.0 * float(defined.mean()) if defined.size else None
