"""Which boxes in which pictures stand behind a bar, a cell or a point of the evaluation viewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cascade_lab.evaluation.errors import ERRORS, Kind
from cascade_lab.evaluation.ranking import picture_scores, worst_first
from cascade_lab.widgets.stored_evaluation import EvaluationView, Reading

Chart = Literal["errors", "confusion", "precision", "iou", "pictures"]
CHARTS: tuple[str, ...] = get_args(Chart)
NEIGHBOURS = 6  # detections of a class that a point of a precision-recall curve shows


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the reader has chosen.

    Attributes:
        item: number of the bar, the cell (row times K + 1 plus column), the recall in percent, the IoU, or
            the rank of the picture, the worst first.
        label: of one class, or None for all; not asked by the charts of confusion and of pictures.
        iou: number of the IoU, 0 for .50; asked by the charts of errors, precision and pictures.
        least_score: of detections that count; not asked by the two charts of curves, where all count.
    """

    chart: Chart
    item: int
    label: int | None = None
    iou: int = 0
    least_score: float = 0.3


@dataclass(frozen=True, kw_only=True)
class Case:
    """One picture, and the rows of the detections and of the objects in question."""

    picture: int
    detections: tuple[int, ...]
    objects: tuple[int, ...]


def count_items(view: EvaluationView, chart: Chart) -> int:
    """Return how many bars, cells or points a chart has."""
    cells = (len(view.classes) + 1) ** 2
    return {
        "errors": len(ERRORS),
        "confusion": cells,
        "precision": 101,
        "iou": 10,
        "pictures": len(view.pictures),
    }[chart]


def cases(view: EvaluationView, mode: str, choice: Choice) -> list[Case]:
    """Return the pictures to show, those with the most boxes in question first."""
    reading = view.readings[mode]
    detections, objects = _in_question(reading, choice)
    if choice.chart == "pictures":
        picture = int(
            worst_first(picture_scores(reading.matches, choice.least_score, choice.iou))[choice.item]
        )
        return [Case(picture=picture, detections=tuple(detections.tolist()), objects=tuple(objects.tolist()))]
    of_detections = reading.matches.picture[detections]
    of_objects = reading.matches.object_picture[objects]
    counts = np.bincount(of_detections, minlength=len(view.pictures)) + np.bincount(
        of_objects, minlength=len(view.pictures)
    )
    order = np.argsort(-counts, kind="stable")
    return [
        Case(
            picture=int(picture),
            detections=tuple(detections[of_detections == picture].tolist()),
            objects=tuple(objects[of_objects == picture].tolist()),
        )
        for picture in order[counts[order] > 0]
    ]


def _in_question(reading: Reading, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of detections, and of objects that are shown because no detection is on them."""
    matches, nothing = reading.matches, np.zeros(0, np.int64)
    item, least = choice.item, choice.least_score
    of_class = np.ones(len(matches), bool) if choice.label is None else matches.labels == choice.label
    objects_of_class = ~matches.object_ignored
    if choice.label is not None:
        objects_of_class = objects_of_class & (matches.object_labels == choice.label)
    if choice.chart == "errors":
        rows = reading.errors[choice.iou].rows(ERRORS[item], least)
        if ERRORS[item] is Kind.MISSED:
            return nothing, rows[objects_of_class[rows]]
        return rows[of_class[rows]], nothing
    if choice.chart == "confusion":
        true, said = divmod(item, len(matches.classes) + 1)
        rows, objects = reading.confusion.cell(true, said, least)
        return rows, objects if said == len(matches.classes) else nothing
    if choice.chart == "precision":
        return _around_a_point(reading, choice, objects_of_class)
    if choice.chart == "iou":
        right = matches.right
        stricter = right[item + 1] if item + 1 < len(right) else np.zeros(len(matches), bool)
        return np.flatnonzero(right[item] & ~stricter & of_class), nothing
    scores = picture_scores(matches, least, choice.iou)
    picture = worst_first(scores)[item]
    seen = (matches.scores >= least) & ~matches.ignored[choice.iou]
    met = np.zeros(len(matches.object_labels), bool)
    met[matches.matched[choice.iou][seen & matches.right[choice.iou]]] = True
    there = (matches.object_picture == picture) & ~matches.object_ignored
    return np.flatnonzero(seen & (matches.picture == picture)), np.flatnonzero(there & ~met)


def _around_a_point(
    reading: Reading, choice: Choice, objects_of_class: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every class, the last few detections down to the one that reaches the recall.

    Where a class never reaches it, return the objects instead that nothing has found at this IoU.
    """
    matches, curves, iou = reading.matches, reading.curves, choice.iou
    met = np.zeros(len(matches.object_labels), bool)
    met[matches.matched[iou][matches.right[iou]]] = True
    detections, objects = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    for label in range(len(matches.classes)) if choice.label is None else [choice.label]:
        if curves.precision[iou, choice.item, label] > 0:
            least = curves.scores[iou, choice.item, label]
            counted = (matches.labels == label) & ~matches.ignored[iou] & (matches.scores >= least)
            rows = np.flatnonzero(counted)
            detections.append(rows[np.argsort(-matches.scores[rows], kind="stable")][-NEIGHBOURS:])
        else:
            objects.append(np.flatnonzero(objects_of_class & (matches.object_labels == label) & ~met))
    return np.sort(np.concatenate(detections)), np.sort(np.concatenate(objects))
