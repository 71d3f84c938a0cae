"""The pictures that a detector handles best and worst."""

from __future__ import annotations

import numpy as np

from cascade_lab.evaluation.matches import Matches


def picture_scores(matches: Matches, least_score: float = 0.3, iou: int = 0) -> np.ndarray:
    """Return (I,) in [0, 1]: right / (right + half of the wrong + half of the missed), known as F1.

    Counted are detections of at least ``least_score``; right is what took an object at IoU number ``iou``.
    A picture without objects and without such detections scores 1.
    """
    seen = matches.scores >= least_score
    right = seen & matches.right[iou]
    wrong = seen & ~matches.right[iou] & ~matches.ignored[iou]
    pictures = len(matches.pictures)
    hits, errors = (np.bincount(matches.picture[rows], minlength=pictures) for rows in (right, wrong))
    objects = np.bincount(matches.object_picture[~matches.object_ignored], minlength=pictures)
    total = hits + (errors + objects - hits) / 2
    return np.where(total > 0, hits / np.maximum(total, 0.5), 1.0)  # nothing lies between 0 and 0.5


def worst_first(scores: np.ndarray) -> np.ndarray:
    """Return the pictures from the worst to the best; equal ones in their order."""
    return np.argsort(scores, kind="stable")
