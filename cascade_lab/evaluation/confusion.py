"""Which class is taken for which: a confusion matrix with a row and a column for the background."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from cascade_lab.evaluation.errors import box_overlaps
from cascade_lab.evaluation.matches import Matches

FOUND_IOU = 0.5  # overlap from which a detection is on an object
NOBODY, LEFT_OUT = -1, -2  # instead of the row of an object


@dataclass(frozen=True, kw_only=True)
class Confusion:
    """Detections and objects in pairs, whatever their classes.

    Row K of the matrix is the background: detections on no object. Column K is for objects that no detection
    is on. The matrix for a least score needs no new pairing, since each detection chooses before all that
    score less.

    Shapes:
        objects: (D,) row of the object that a detection is on, or NOBODY; LEFT_OUT in a crowd, and on an
            object that a surer detection has taken.
    """

    matches: Matches
    objects: np.ndarray

    def matrix(self, least_score: float = 0.0) -> np.ndarray:
        """Return counts (K + 1, K + 1): true class in rows, detected class in columns."""
        classes = len(self.matches.classes)
        counts = np.zeros((classes + 1, classes + 1), np.int64)
        for true in range(classes + 1):
            for said in range(classes + 1):
                detections, objects = self.cell(true, said, least_score)
                counts[true, said] = len(objects) if said == classes else len(detections)
        return counts

    def cell(self, true: int, said: int, least_score: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows of the detections and of the objects that one cell of the matrix counts.

        ``true`` is its row and ``said`` its column; in both, K stands for nobody.
        """
        classes = len(self.matches.classes)
        counted = (self.matches.scores >= least_score) & (self.objects != LEFT_OUT)
        if said == classes:
            met = np.zeros(len(self.matches.object_labels), bool)
            met[self.objects[counted & (self.objects >= 0)]] = True
            alone = ~met & ~self.matches.object_ignored & (self.matches.object_labels == true)
            return np.zeros(0, np.int64), np.flatnonzero(alone)
        on_true = self.objects == NOBODY
        if true < classes:
            on_true = np.zeros(len(self.objects), bool)
            paired = self.objects >= 0
            on_true[paired] = self.matches.object_labels[self.objects[paired]] == true
        detections = np.flatnonzero(counted & on_true & (self.matches.labels == said))
        return detections, self.objects[detections][self.objects[detections] >= 0]


def pair_all_classes(matches: Matches) -> Confusion:
    """Let each detection, the surest first, take the free object that it overlaps best, of whatever class.

    The overlap has to be .5 or more. A detection whose objects are all taken counts nowhere: it is a second
    opinion, and not on the background. This is not the pairing of AP, which never looks at other classes: an
    object that a wrong name has taken first is confused here, even if the right name comes later.
    """
    objects = np.where(matches.ignored[0], LEFT_OUT, NOBODY)
    for picture in range(len(matches.pictures)):
        rows = np.flatnonzero(matches.picture == picture)
        rows = rows[np.argsort(-matches.scores[rows], kind="stable")]
        real = np.flatnonzero((matches.object_picture == picture) & ~matches.object_ignored)
        free = np.ones(len(real), bool)
        for row, overlap in zip(
            rows, box_overlaps(matches.boxes[rows], matches.object_boxes[real]), strict=True
        ):
            able = overlap >= FOUND_IOU
            if (able & free).any():
                best = int(np.where(free, overlap, 0).argmax())
                objects[row], free[best] = real[best], False
            elif able.any():
                objects[row] = LEFT_OUT
    return Confusion(matches=matches, objects=objects)
