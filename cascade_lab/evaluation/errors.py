"""Why a detection is wrong, and how much AP every kind of mistake costs.

Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2,
and the authors' program, github.com/dbolya/tide, tidecv/quantify.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from pycocotools import mask as coco_mask

from cascade_lab.evaluation.matches import Matches, average_precision

BACKGROUND_IOU = 0.1  # up to here a box touches nothing worth mentioning


class Kind(IntEnum):
    """What became of a detection, or of an object that no detection found."""

    RIGHT = 0
    CLASSIFICATION = 1  # on an object, with the wrong class
    LOCALISATION = 2  # the right class, but too loose
    BOTH = 3  # too loose, and no object of its class there
    DUPLICATE = 4  # right, if the object had not been found already
    BACKGROUND = 5  # no object there at all
    MISSED = 6  # an object that neither a right detection nor one of the first two mistakes is about
    IGNORED = 7  # in a crowd: neither right nor wrong


ERRORS = (
    Kind.CLASSIFICATION, Kind.LOCALISATION, Kind.BOTH, Kind.DUPLICATE, Kind.BACKGROUND, Kind.MISSED,
)  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class Errors:
    """The kind of every detection, and what each repair would bring.

    Shapes, for D detections, M objects and K classes, in the order of ``matches``:
        kinds: (D,) of Kind.
        objects: (D,) row of the object that a detection is about, -1 for none; ious: (D,) IoU with it.
        repaired: (D,) bool: the best of the mistakes of its kind about an object that nobody has found; a
            repair makes it right. The others of its kind go.
        ap: (K,) percent; repaired_ap: (6, K), one row for each of ERRORS. NaN: the class has no object.
    """

    matches: Matches
    kinds: np.ndarray
    objects: np.ndarray
    ious: np.ndarray
    repaired: np.ndarray
    ap: np.ndarray
    repaired_ap: np.ndarray

    def gain(self, kind: Kind) -> float:
        """Return by how many points AP, the mean over the classes, would rise without this kind."""
        return mean_ap(self.repaired_ap[ERRORS.index(kind)]) - mean_ap(self.ap)

    def rows(self, kind: Kind, least_score: float = 0.0) -> np.ndarray:
        """Return the rows of the detections of a kind, or of the objects for Kind.MISSED.

        A detection keeps its kind when those that score less are dropped; the missed objects become more.
        """
        if kind is Kind.MISSED:
            return np.flatnonzero(missed_objects(self.matches, self.kinds, self.objects, least_score))
        return np.flatnonzero((self.kinds == kind) & (self.matches.scores >= least_score))


def find_errors(matches: Matches, iou: int = 0) -> Errors:
    """Sort every wrong detection into one of five kinds, list the missed objects, and repair each kind alone.

    The kinds are asked in the order of the authors' program: localisation, classification, duplicate,
    background, both. The repairs: a classification error gets the class of its object, a localisation error
    the object's box; where the object is found already, or a better mistake is about it too, the detection
    goes. All detections of the other kinds go. A missed object is no longer asked for.

    ``iou`` is the number of the IoU that is asked of a right box and of which AP is meant: 0 is .50, as in
    the paper, and 5 is .75, where more boxes are too loose.

    Where we differ: matching is pycocotools', so an IoU of exactly the threshold is right, and a class whose
    objects were all missed leaves the mean when they are repaired.
    """
    right = matches.right[iou]
    kinds = np.where(right, Kind.RIGHT, Kind.IGNORED)
    objects = np.where(right, matches.matched[iou], -1)
    ious = np.zeros(len(matches))
    for picture in range(len(matches.pictures)):
        rows = np.flatnonzero(matches.picture == picture)
        real = np.flatnonzero((matches.object_picture == picture) & ~matches.object_ignored)
        overlaps = box_overlaps(matches.boxes[rows], matches.object_boxes[real])
        for row, overlap in zip(rows, overlaps, strict=True):
            if not right[row] and not matches.ignored[iou, row]:
                same = matches.object_labels[real] == matches.labels[row]
                kinds[row], which = kind_of(overlap, same, float(matches.ious[iou]))
                objects[row] = -1 if which is None else real[which]
            if objects[row] >= 0:
                ious[row] = overlap[np.searchsorted(real, objects[row])]
    repaired = _best_about_free_objects(matches, kinds, objects)
    return Errors(
        matches=matches,
        kinds=kinds,
        objects=objects,
        ious=ious,
        repaired=repaired,
        ap=_repaired_ap(matches, kinds, objects, repaired, None),
        repaired_ap=np.stack([_repaired_ap(matches, kinds, objects, repaired, kind) for kind in ERRORS]),
    )


def missed_objects(
    matches: Matches, kinds: np.ndarray, objects: np.ndarray, least_score: float = 0.0
) -> np.ndarray:
    """Return (M,) bool: objects that neither a right detection nor a repairable mistake is about."""
    finding = np.isin(kinds, (Kind.RIGHT, Kind.CLASSIFICATION, Kind.LOCALISATION))
    missed = ~matches.object_ignored
    missed[objects[finding & (matches.scores >= least_score)]] = False
    return missed


def mean_ap(per_class: np.ndarray) -> float:
    """Return the mean over the classes that have objects; NaN if none has."""
    known = per_class[~np.isnan(per_class)]
    return float(known.mean()) if known.size else float("nan")


def kind_of(overlap: np.ndarray, same: np.ndarray, found_iou: float = 0.5) -> tuple[Kind, int | None]:
    """Return the kind of a wrong detection, and which object it is about.

    Args:
        overlap: (M,) its IoU with every object of the picture; same: (M,) bool, objects of its class.
        found_iou: what is asked of a right box.
    """
    if not overlap.size:
        return Kind.BACKGROUND, None
    own, other = np.where(same, overlap, 0.0), np.where(same, 0.0, overlap)
    if BACKGROUND_IOU <= own.max() < found_iou:
        return Kind.LOCALISATION, int(own.argmax())
    if other.max() >= found_iou:
        return Kind.CLASSIFICATION, int(other.argmax())
    if own.max() >= found_iou:  # it did not get its best object, so a surer one has it
        return Kind.DUPLICATE, int(own.argmax())
    if overlap.max() <= BACKGROUND_IOU:
        return Kind.BACKGROUND, None
    return Kind.BOTH, int(overlap.argmax())


def _best_about_free_objects(matches: Matches, kinds: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Return (D,) bool: of the mistakes of one kind about an object that nobody has found, the surest."""
    best = np.zeros(len(kinds), bool)
    taken = np.zeros(len(matches.object_labels), bool)
    taken[objects[kinds == Kind.RIGHT]] = True
    for kind in (Kind.CLASSIFICATION, Kind.LOCALISATION):
        claimed = taken.copy()
        mistakes = np.flatnonzero(kinds == kind)
        for row in mistakes[np.argsort(-matches.scores[mistakes], kind="stable")]:
            best[row] = not claimed[objects[row]]
            claimed[objects[row]] = True
    return best


def _repaired_ap(
    matches: Matches, kinds: np.ndarray, objects: np.ndarray, repaired: np.ndarray, kind: Kind | None
) -> np.ndarray:
    """Return AP of every class (K,) after all mistakes of one kind are repaired; None repairs none."""
    wrong = np.zeros(len(kinds), bool) if kind is None else kinds == kind
    made_right = wrong & repaired
    labels = matches.labels.copy()
    labels[made_right] = matches.object_labels[objects[made_right]]
    there = np.flatnonzero((kinds != Kind.IGNORED) & (~wrong | made_right))
    asked = ~matches.object_ignored
    if kind is Kind.MISSED:
        asked &= ~missed_objects(matches, kinds, objects)
    return average_precision(
        len(matches.classes),
        there[np.argsort(matches.picture[there], kind="stable")],
        labels,
        matches.scores,
        (kinds == Kind.RIGHT) | made_right,
        matches.object_labels[asked],
    )


def box_overlaps(boxes: np.ndarray, objects: np.ndarray) -> np.ndarray:
    """Return IoUs (D, M) with pycocotools' own arithmetic, so that no box changes sides at the threshold."""
    if not len(boxes) or not len(objects):
        return np.zeros((len(boxes), len(objects)))
    found, real = (np.concatenate([b[:, :2], b[:, 2:] - b[:, :2]], axis=1) for b in (boxes, objects))
    return np.asarray(coco_mask.iou(found, real, [0] * len(objects)))
