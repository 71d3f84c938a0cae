"""Precision at every recall, and AP at every IoU, from the arrays that pycocotools has made already."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from pycocotools.cocoeval import COCOeval

from cascade_lab.evaluation.matches import EVERY_SIZE

MOST_DETECTIONS = -1  # the last of pycocotools' limits of detections for a picture and class: 100


@dataclass(frozen=True, kw_only=True)
class Curves:
    """Precision over recall, for every IoU and class.

    Shapes, for T IoUs, 101 recalls and K classes:
        ious: (T,); recalls: (101,) 0, .01 ... 1.
        precision: (T, 101, K) the best precision at this recall or a higher one, NaN for a class without
            objects, 0 where the recall is never reached.
        scores: (T, 101, K) score of the detection that reaches the recall; NaN and 0 likewise.

    Source: pycocotools/cocoeval.py, COCOeval.accumulate, of github.com/cocodataset/cocoapi.
    """

    classes: tuple[str, ...]
    ious: np.ndarray
    recalls: np.ndarray
    precision: np.ndarray
    scores: np.ndarray

    def precision_at(self, iou: int, label: int | None = None) -> np.ndarray:
        """Return precision (101,) at IoU number ``iou``, of one class or the mean over those with objects."""
        known = self._columns(label)
        return self.precision[iou][:, known].mean(1) if known.any() else np.full(len(self.recalls), np.nan)

    def ap(self, label: int | None = None) -> np.ndarray:
        """Return AP (T,) in percent, of one class or the mean over those with objects."""
        return np.array([100 * self.precision_at(t, label).mean() for t in range(len(self.ious))])

    def _columns(self, label: int | None) -> np.ndarray:
        known = ~np.isnan(self.precision[0, 0])
        return known if label is None else known & (np.arange(len(known)) == label)


def precision_recall(evaluation: COCOeval) -> Curves:
    """Collect the curves of an evaluation (``run_cocoeval``), over objects of every size."""
    precision = evaluation.eval["precision"][..., EVERY_SIZE, MOST_DETECTIONS]  # (T, 101, K), -1: no object
    scores = evaluation.eval["scores"][..., EVERY_SIZE, MOST_DETECTIONS]
    return Curves(
        classes=tuple(row["name"] for row in evaluation.cocoGt.loadCats(evaluation.params.catIds)),
        ious=np.asarray(evaluation.params.iouThrs),
        recalls=np.asarray(evaluation.params.recThrs),
        precision=np.where(precision < 0, np.nan, precision),
        scores=np.where(precision < 0, np.nan, scores),
    )
