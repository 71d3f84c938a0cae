"""What pycocotools decided about every detection and every object of a data set, in flat arrays."""

from __future__ import annotations

import contextlib
import copy
import io
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from pycocotools.cocoeval import COCOeval

EVERY_SIZE = 0  # the first of pycocotools' size ranges: objects of all sizes


@dataclass(frozen=True, kw_only=True)
class Matches:
    """Detections, objects, and who took whom. The rows of one picture need not stand together.

    Shapes, for D detections, M objects, T IoUs, K classes and I pictures:
        ious: (T,) what was asked of a match: .50, .55 ... .95.
        pictures: (I,) ids of the pictures. ``picture`` and ``object_picture`` are rows of it.
        boxes (D, 4) xyxy, labels (D,), scores (D,), picture (D,): in the order of the list of detections,
            without classes that were not scored and what is beyond the first 100 of a class and picture.
        matched: (T, D) row of the object that a detection takes at each IoU, -1 for none.
        ignored: (T, D) bool, neither right nor wrong, for instance inside a crowd.
        object_boxes (M, 4), object_labels (M,), object_picture (M,): as the annotation file lists them.
        object_ignored: (M,) bool, a crowd: nothing that has to be found.
    """

    ious: np.ndarray
    classes: tuple[str, ...]
    pictures: np.ndarray
    boxes: np.ndarray
    labels: np.ndarray
    scores: np.ndarray
    picture: np.ndarray
    matched: np.ndarray
    ignored: np.ndarray
    object_boxes: np.ndarray
    object_labels: np.ndarray
    object_picture: np.ndarray
    object_ignored: np.ndarray

    @property
    def right(self) -> np.ndarray:
        """Return (T, D) bool: the detection found an object of its class."""
        return (self.matched >= 0) & ~self.ignored

    def __len__(self) -> int:
        return len(self.scores)


def flat_matches(evaluation: COCOeval) -> Matches:
    """Lay out what ``run_cocoeval`` matched, over all sizes of objects.

    Source: pycocotools/cocoeval.py, COCOeval.evaluateImg, of github.com/cocodataset/cocoapi.
    """
    params = evaluation.params
    category = {id: k for k, id in enumerate(params.catIds)}
    place = {id: n for n, id in enumerate(params.imgIds)}
    objects = [row for row in evaluation.cocoGt.dataset["annotations"] if row["category_id"] in category]
    row_of = {row["id"]: m for m, row in enumerate(objects)} | {0: -1}
    ours = [entry for entry in evaluation.evalImgs if entry and entry["aRng"] == params.areaRng[EVERY_SIZE]]
    ids = np.array([id for entry in ours for id in entry["dtIds"]], np.int64)
    order = np.argsort(ids)
    empty = np.zeros((len(params.iouThrs), 0))
    matched = np.concatenate([empty, *(entry["dtMatches"] for entry in ours)], axis=1)[:, order]
    ignored = np.concatenate([empty, *(entry["dtIgnore"] for entry in ours)], axis=1)[:, order]
    found: Any = evaluation.cocoDt.loadAnns(ids[order].tolist())
    return Matches(
        ious=params.iouThrs,
        classes=tuple(row["name"] for row in evaluation.cocoGt.loadCats(params.catIds)),
        pictures=np.array(params.imgIds),
        boxes=_corners(found),
        labels=np.array([category[row["category_id"]] for row in found], np.int64),
        scores=np.array([row["score"] for row in found], np.float64),
        picture=np.array([place[row["image_id"]] for row in found], np.int64),
        matched=np.vectorize(row_of.__getitem__, otypes=[np.int64])(matched.astype(np.int64)),
        ignored=ignored.astype(bool),
        object_boxes=_corners(objects),
        object_labels=np.array([category[row["category_id"]] for row in objects], np.int64),
        object_picture=np.array([place[row["image_id"]] for row in objects], np.int64),
        object_ignored=np.array([bool(row["iscrowd"]) for row in objects], bool),
    )


def average_precision(
    classes: int,
    order: np.ndarray,
    labels: np.ndarray,
    scores: np.ndarray,
    right: np.ndarray,
    object_labels: np.ndarray,
) -> np.ndarray:
    """Return AP in percent of every class (K,), NaN where it has no object, for matches that are given.

    This is pycocotools' second half alone: it sorts, takes precision at 101 recalls, and averages. The first
    half, which decides who is right, is left to the caller, who may have changed his mind about some.

    Shapes:
        order: (D',) rows that take part, by picture: of equal scores the first one counts first.
        labels, scores, right: (D,); object_labels: (M',) of the objects that have to be found.
    """
    again: Any = COCOeval(iouType="bbox")
    again.params.catIds, again.params.imgIds = list(range(classes)), [0]
    again.params.iouThrs = np.array([0.5])
    again.params.areaRng, again.params.areaRngLbl = again.params.areaRng[:1], ["all"]
    again.params.maxDets = [max(1, len(order))]
    again._paramsEval = copy.deepcopy(again.params)
    again.evalImgs = [
        {
            "dtScores": scores[mine],
            "dtMatches": right[mine][None].astype(np.int64),
            "dtIgnore": np.zeros((1, len(mine)), bool),
            "gtIgnore": np.zeros(int((object_labels == k).sum())),
        }
        for k in range(classes)
        for mine in [order[labels[order] == k]]
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        again.accumulate()
    precision = again.eval["precision"][0, :, :, 0, 0]  # (101, K), -1 where a class has no object
    return np.where(precision[0] < 0, np.nan, 100 * precision.mean(0))


def _corners(rows: Sequence[Any]) -> np.ndarray:
    xywh = np.array([row["bbox"] for row in rows], np.float64).reshape(-1, 4)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
