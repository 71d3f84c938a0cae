"""The answers of a detector to a set of pictures, scored and explained, for the evaluation viewer.

Boxes only. The kinds of error, the confusion and the pictures ask which *box* overlaps which, and the
detections of the course are stored without masks. The mask AP of every stage, at every IoU, is what
``cascade-lab evaluate`` writes into ``results.json``; see `evaluation/per_stage.py`.
"""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from PIL import Image
from torch import Tensor

from cascade_lab.errors import InputError
from cascade_lab.evaluation.coco import load_ground_truth, run_cocoeval
from cascade_lab.evaluation.confusion import Confusion, pair_all_classes
from cascade_lab.evaluation.curves import Curves, precision_recall
from cascade_lab.evaluation.errors import Errors, find_errors
from cascade_lab.evaluation.matches import Matches, flat_matches

LONG_SIDE = 320  # pixels; larger pictures are stored smaller, their boxes stay in pixels of the original


@dataclass(frozen=True, kw_only=True)
class Reading:
    """One way to read the cascade, "1" or "1~3", and what came of it; ``errors`` at each of the ten IoUs."""

    matches: Matches
    curves: Curves
    errors: tuple[Errors, ...]
    confusion: Confusion


@dataclass(frozen=True, kw_only=True)
class EvaluationView:
    """Everything that the viewer shows.

    Attributes:
        classes: the name of every class, in the order of the labels.
        names, sizes (H, W) in pixels, pictures (JPEG bytes, perhaps smaller than their size): one for each
            picture, in the order of ``Matches.pictures``.
        readings: by the name of the stages that vote; the last is what the detector predicts.
        source: a line for the reader: model, step, data set.

    Raises:
        InputError: there is nothing to show, or the parts are of different pictures or classes.
    """

    classes: tuple[str, ...]
    names: tuple[str, ...]
    sizes: tuple[tuple[int, int], ...]
    pictures: tuple[bytes, ...] = field(repr=False)
    readings: dict[str, Reading] = field(repr=False)
    source: str = ""

    def __post_init__(self) -> None:
        if not self.readings or not self.pictures:
            raise InputError(
                "evaluation: nothing to show; give at least one picture and one set of detections"
            )
        if not len(self.names) == len(self.sizes) == len(self.pictures):
            raise InputError(
                "evaluation: names, sizes and pictures differ in number; give one of each a picture"
            )
        for mode, reading in self.readings.items():
            if len(reading.matches.pictures) != len(self.pictures) or reading.matches.classes != self.classes:
                raise InputError(
                    f"evaluation: stages {mode!r} are of other pictures or classes; score them again"
                )


def evaluation_view(
    annotations: dict[str, Any],
    detections: Mapping[str, Sequence[dict[str, Any]]],
    pictures: Sequence[Tensor],
    *,
    category_ids: Sequence[int] | None = None,
    source: str = "",
) -> EvaluationView:
    """Score the boxes of every reading by the rules of COCO, and keep what explains the scores.

    Args:
        annotations: content of a COCO file that names the pictures to be shown and no others.
        detections: COCO results of every reading, such as ``{"1": [...], "1~3": [...]}``; masks in them are
            left aside.
        pictures: uint8 (3, H, W), in the order of ascending image ids.
        category_ids: score these classes only; None scores all.
        source: see `EvaluationView`.

    Raises:
        InputError: the number of pictures is not that of the annotations, or there is nothing to show.
    """
    truth = load_ground_truth(annotations)
    rows = sorted(truth.dataset["images"], key=lambda row: row["id"])
    if len(rows) != len(pictures):
        raise InputError(
            f"pictures: {len(pictures)} given, the annotations name {len(rows)}; give the same ones"
        )
    readings = {}
    for mode, found in detections.items():
        evaluation = run_cocoeval(truth, found, "bbox", category_ids)
        matches = flat_matches(evaluation)
        readings[mode] = Reading(
            matches=matches,
            curves=precision_recall(evaluation),
            errors=tuple(find_errors(matches, iou) for iou in range(len(matches.ious))),
            confusion=pair_all_classes(matches),
        )
    classes = next(iter(readings.values())).matches.classes if readings else ()
    return EvaluationView(
        classes=classes,
        names=tuple(row.get("file_name", f"picture {row['id']}") for row in rows),
        sizes=tuple((int(picture.shape[1]), int(picture.shape[2])) for picture in pictures),
        pictures=tuple(_small_jpeg(picture) for picture in pictures),
        readings=readings,
        source=source,
    )


def _small_jpeg(picture: Tensor) -> bytes:
    image = Image.fromarray(np.ascontiguousarray(picture.permute(1, 2, 0).cpu().numpy()))  # (H, W, 3)
    image.thumbnail((LONG_SIDE, LONG_SIDE))
    content = io.BytesIO()
    image.save(content, "JPEG", quality=88, optimize=True)
    return content.getvalue()
