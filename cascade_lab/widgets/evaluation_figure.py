"""The still pictures of the evaluation viewer: a picture with its boxes in question, the kinds of error."""

from __future__ import annotations

import io
from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from cascade_lab.evaluation.errors import ERRORS
from cascade_lab.viz.evaluation import draw_error_kinds, draw_in_question
from cascade_lab.widgets.evaluation_cases import ERROR_WORDS, Case
from cascade_lab.widgets.stored_evaluation import EvaluationView


def draw_case(view: EvaluationView, mode: str, case: Case) -> Figure:
    """Draw one picture with its boxes in question: right at IoU .5 solid, wrong dashed, missed dotted."""
    matches, detections = view.readings[mode].matches, list(case.detections)
    picture = np.asarray(Image.open(io.BytesIO(view.pictures[case.picture])).convert("RGB"))  # (H, W, 3)
    height, width = view.sizes[case.picture]
    scale = np.tile([picture.shape[1] / width, picture.shape[0] / height], 2)
    there = np.flatnonzero(matches.object_picture == case.picture)
    others = [row for row in there if row not in case.objects]
    return draw_in_question(
        picture,
        (matches.boxes[detections] * scale).tolist(),
        [f"{view.classes[matches.labels[row]]} {matches.scores[row]:.2f}" for row in detections],
        matches.right[0, detections].tolist(),
        missed=(matches.object_boxes[list(case.objects)] * scale).tolist(),
        others=(matches.object_boxes[others] * scale).tolist(),
    )


def draw_kinds(view: EvaluationView, modes: Sequence[str] = (), iou: int = 0) -> Figure:
    """Draw by how much AP rises when one kind of error is repaired, for some readings, or for all.

    ``iou`` is the number of the IoU: 0 is .50.
    """
    modes = modes or list(view.readings)
    errors = [view.readings[mode].errors[iou] for mode in modes]
    gains = {ERROR_WORDS[kind][0]: [one.gain(kind) for one in errors] for kind in ERRORS}
    return draw_error_kinds(gains, modes, f"AP{50 + 5 * iou}")
