"""Why a detection is wrong, and how much AP50 every kind of mistake costs.

Source: Bolya et al., "TIDE: A General Toolbox for Identifying Object Detection Errors", ECCV 2020, section 2,
and the authors' program, github.com/dbolya/tide, tidecv/quantify.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from pycocotools import mask as coco_mask

from cascade_lab.evaluation.matches import Matches, average_precision

FOUND_IOU, BACKGROUND_IOU = 0.5, 0.1  # where a box is right; below which it touches nothing worth mentioning


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
    """The kind of every detection, the missed objects, and what each repair would bring.

    Shapes, for D detections, M objects and K classes, in the order of the ``Matches``:
        kinds: (D,) of Kind.
        objects: (D,) row of the object that a detection is about, -1 for none; ious: (D,) IoU with it.
        repaired: (D,) bool: the best of the mistakes about an object that is still free; a repair makes it
            right. The others of its kind go.
        missed: (M,) bool.
        ap50: (K,) percent; repaired_ap50: (6, K), one row for each of ERRORS. NaN: the class has no object.
    """

    kinds: np.ndarray
    objects: np.ndarray
    ious: np.ndarray
    repaired: np.ndarray
    missed: np.ndarray
    ap50: np.ndarray
    repaired_ap50: np.ndarray

    def gain(self, kind: Kind) -> float:
        """Return by how many points AP50, the mean over the classes, would rise without this kind."""
        return mean_ap(self.repaired_ap50[ERRORS.index(kind)]) - mean_ap(self.ap50)

    def count(self, kind: Kind) -> int:
        return int(self.missed.sum() if kind is Kind.MISSED else (self.kinds == kind).sum())


def find_errors(matches: Matches) -> Errors:
    """Sort every wrong detection into one of five kinds, list the missed objects, and repair each kind alone.

    The kinds are asked in the order of the authors' program: localisation, classification, duplicate,
    background, both. The repairs: a classification error gets the class of its object, a localisation error
    the object's box; where the object is found already, or a better mistake is about it too, the detection
    goes. All detections of the other kinds go. A missed object is no longer asked for.

    Where we differ: matching is pycocotools', so an IoU of exactly .5 is right, and a class whose objects
    were all missed leaves the mean when they are repaired.
    """
    count, right = len(matches), matches.right[0]
    kinds = np.where(right, Kind.RIGHT, Kind.IGNORED)
    objects = np.where(right, matches.matched[0], -1)
    ious = np.zeros(count)
    for picture in range(len(matches.pictures)):
        rows = np.flatnonzero(matches.picture == picture)
        real = np.flatnonzero((matches.object_picture == picture) & ~matches.object_ignored)
        overlaps = box_overlaps(matches.boxes[rows], matches.object_boxes[real])
        for row, overlap in zip(rows, overlaps, strict=True):
            if not right[row] and not matches.ignored[0, row]:
                same = matches.object_labels[real] == matches.labels[row]
                kinds[row], which = _kind(overlap, same)
                objects[row] = -1 if which is None else real[which]
            if objects[row] >= 0:
                ious[row] = overlap[np.searchsorted(real, objects[row])]
    taken = np.zeros(len(matches.object_labels), bool)
    taken[objects[right]] = True
    repaired = _best_about_free_objects(kinds, objects, matches.scores, taken)
    missed = ~taken & ~matches.object_ignored
    missed[objects[repaired]] = False
    return Errors(
        kinds=kinds,
        objects=objects,
        ious=ious,
        repaired=repaired,
        missed=missed,
        ap50=_ap50(matches, kinds, objects, repaired, missed, None),
        repaired_ap50=np.stack([_ap50(matches, kinds, objects, repaired, missed, kind) for kind in ERRORS]),
    )


def mean_ap(per_class: np.ndarray) -> float:
    """Return the mean over the classes that have objects; NaN if none has."""
    known = per_class[~np.isnan(per_class)]
    return float(known.mean()) if known.size else float("nan")


def _kind(overlap: np.ndarray, same: np.ndarray) -> tuple[Kind, int | None]:
    """Return the kind of a wrong detection, and which object it is about.

    Shapes: overlap: (M,) its IoU with every object of the picture; same: (M,) bool, objects of its class.
    """
    if not overlap.size:
        return Kind.BACKGROUND, None
    own, other, every = (
        int(np.argmax(np.where(mask, overlap, -1.0))) for mask in (same, ~same, same | ~same)
    )
    own_iou, other_iou = overlap[own] * same[own], overlap[other] * ~same[other]
    if BACKGROUND_IOU <= own_iou < FOUND_IOU:
        return Kind.LOCALISATION, own
    if other_iou >= FOUND_IOU:
        return Kind.CLASSIFICATION, other
    if own_iou >= FOUND_IOU:
        return Kind.DUPLICATE, own
    if overlap[every] <= BACKGROUND_IOU:
        return Kind.BACKGROUND, None
    return Kind.BOTH, every


def _best_about_free_objects(
    kinds: np.ndarray, objects: np.ndarray, scores: np.ndarray, taken: np.ndarray
) -> np.ndarray:
    best = np.zeros(len(kinds), bool)
    for kind in (Kind.CLASSIFICATION, Kind.LOCALISATION):
        claimed = taken.copy()
        mistakes = np.flatnonzero(kinds == kind)
        for row in mistakes[np.argsort(-scores[mistakes], kind="stable")]:
            best[row] = not claimed[objects[row]]
            claimed[objects[row]] = True
    return best


def _ap50(
    matches: Matches,
    kinds: np.ndarray,
    objects: np.ndarray,
    repaired: np.ndarray,
    missed: np.ndarray,
    kind: Kind | None,
) -> np.ndarray:
    """Return AP50 of every class (K,) after all mistakes of one kind are repaired; None repairs none."""
    wrong = kinds == (-1 if kind is None else kind)
    made_right = wrong & repaired
    labels = matches.labels.copy()
    labels[made_right] = matches.object_labels[objects[made_right]]
    there = np.flatnonzero((kinds != Kind.IGNORED) & (~wrong | made_right))
    order = there[np.lexsort((there, -matches.scores[there], matches.picture[there]))]
    asked = ~matches.object_ignored & ~(missed & (kind is Kind.MISSED))
    return average_precision(
        len(matches.classes),
        order,
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
