"""Which boxes in which pictures stand behind a bar, a cell or a point of the evaluation viewer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np

from cascade_lab.evaluation.errors import ERRORS, Kind
from cascade_lab.evaluation.matches import Matches
from cascade_lab.evaluation.ranking import picture_scores, worst_first
from cascade_lab.widgets.stored_evaluation import EvaluationView, Reading

Chart = Literal["errors", "confusion", "precision", "iou", "pictures"]
CHARTS: tuple[Chart, ...] = get_args(Chart)
NEIGHBOURS = 6  # detections of a class that a point of a precision-recall curve shows
ERROR_WORDS: dict[Kind, tuple[str, str]] = {  # what the reader calls a kind, and what it is about
    Kind.CLASSIFICATION: ("wrong class", "on an object of another class"),
    Kind.LOCALISATION: ("too loose", "the class is right, the place is not"),
    Kind.BOTH: ("both", "too loose, and not of that class"),
    Kind.DUPLICATE: ("duplicate", "a second box of a found object"),
    Kind.BACKGROUND: ("background", "on no object"),
    Kind.MISSED: ("missed", "found by no box, not even nearly"),
}
_NOTHING = np.zeros(0, np.int64)


@dataclass(frozen=True, kw_only=True)
class Choice:
    """What the reader has chosen, for K classes.

    Attributes:
        item: the bar, in the order of ``ERRORS``; the cell, row times K + 1 plus column; the recall in
            percent; the number of the IoU; or the rank of the picture, the worst first. All from 0.
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
    """Return the pictures to show, those with the most boxes in question first.

    The chart of pictures shows the one that was chosen, even if nothing in it is in question.
    """
    reading = view.readings[mode]
    detections, objects = _in_question(reading, choice)
    of_detections = reading.matches.picture[detections]
    of_objects = reading.matches.object_picture[objects]
    counts = np.bincount(np.concatenate([of_detections, of_objects]), minlength=len(view.pictures))
    order = np.argsort(-counts, kind="stable")
    chosen = [_ranked(reading, choice)] if choice.chart == "pictures" else order[counts[order] > 0]
    return [
        Case(
            picture=int(picture),
            detections=tuple(detections[of_detections == picture].tolist()),
            objects=tuple(objects[of_objects == picture].tolist()),
        )
        for picture in chosen
    ]


def _in_question(reading: Reading, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Return rows of detections, and of objects that are shown because no detection is on them."""
    ask = {
        "errors": _of_a_kind,
        "confusion": _in_a_cell,
        "precision": _around_a_point,
        "iou": _lost_at_the_next_iou,
        "pictures": _in_a_picture,
    }
    return ask[choice.chart](reading, choice)


def _of_a_kind(reading: Reading, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    matches, kind = reading.matches, ERRORS[choice.item]
    rows = reading.errors[choice.iou].rows(kind, choice.least_score)
    labels = (matches.object_labels if kind is Kind.MISSED else matches.labels)[rows]
    rows = rows if choice.label is None else rows[labels == choice.label]
    return (_NOTHING, rows) if kind is Kind.MISSED else (rows, _NOTHING)


def _in_a_cell(reading: Reading, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    true, said = divmod(choice.item, len(reading.matches.classes) + 1)
    rows, objects = reading.confusion.cell(true, said, choice.least_score)
    return rows, objects if said == len(reading.matches.classes) else _NOTHING


def _lost_at_the_next_iou(reading: Reading, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Return what is right at the IoU and not at the next one; at the last IoU all that is right."""
    matches, number = reading.matches, choice.item
    lost = matches.right[number].copy()
    if number + 1 < len(matches.ious):
        lost &= ~matches.right[number + 1]
    if choice.label is not None:
        lost &= matches.labels == choice.label
    return np.flatnonzero(lost), _NOTHING


def _in_a_picture(reading: Reading, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    matches, picture = reading.matches, _ranked(reading, choice)
    counted = (matches.scores >= choice.least_score) & ~matches.ignored[choice.iou]
    missed = ~_met(matches, choice.iou, counted) & (matches.object_picture == picture)
    return np.flatnonzero(counted & (matches.picture == picture)), np.flatnonzero(missed)


def _ranked(reading: Reading, choice: Choice) -> int:
    """Return the picture of the chosen rank."""
    return int(worst_first(picture_scores(reading.matches, choice.least_score, choice.iou))[choice.item])


def _met(matches: Matches, iou: int, counted: np.ndarray) -> np.ndarray:
    """Return (M,) bool: objects that one of the counted detections (D,) has found, and crowds."""
    met = matches.object_ignored.copy()
    met[matches.matched[iou][matches.right[iou] & counted]] = True
    return met


def _around_a_point(reading: Reading, choice: Choice) -> tuple[np.ndarray, np.ndarray]:
    """Return, for every class, the last few detections down to the one that reaches the recall.

    Where a class never reaches it, return the objects instead that nothing has found at this IoU.
    """
    matches, curves, iou = reading.matches, reading.curves, choice.iou
    missed = ~_met(matches, iou, np.ones(len(matches), bool))
    detections, objects = [_NOTHING], [_NOTHING]
    for label in range(len(matches.classes)) if choice.label is None else [choice.label]:
        if curves.precision[iou, choice.item, label] > 0:
            least = curves.scores[iou, choice.item, label]
            counted = (matches.labels == label) & ~matches.ignored[iou] & (matches.scores >= least)
            rows = np.flatnonzero(counted)
            detections.append(rows[np.argsort(-matches.scores[rows], kind="stable")][-NEIGHBOURS:])
        else:
            objects.append(np.flatnonzero(missed & (matches.object_labels == label)))
    return np.sort(np.concatenate(detections)), np.sort(np.concatenate(objects))
