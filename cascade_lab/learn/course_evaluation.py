"""The course's model on the course's pictures, as an evaluation wants it: annotations and detections."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from cascade_lab.augmented import AugmentedTest
from cascade_lab.evaluate import read_modes
from cascade_lab.evaluation.coco import detections_to_coco
from cascade_lab.evaluation.per_stage import stage_modes
from cascade_lab.evaluation.truth import truth_to_coco
from cascade_lab.predict import resize_for_test
from cascade_lab.runs import Run
from cascade_lab.structures import ImageBatch, Instances

BATCH = 8  # pictures at once


@dataclass(frozen=True, kw_only=True)
class CourseDetections:
    """What a model found in pictures whose answer is known.

    Attributes:
        pictures: (3, H, W) uint8; picture n has the image id n + 1.
        annotations: the ground truth as the content of a COCO file.
        stages: COCO detections of every way to read the cascade: "1", "2", "3", "1~2", "1~3".
    """

    pictures: tuple[Tensor, ...]
    annotations: dict[str, Any]
    stages: dict[str, list[dict[str, Any]]]


def course_detections(run: Run, samples: Sequence[tuple[Tensor, Instances]]) -> CourseDetections:
    """Run a detector over pictures with ground truth, such as ``course_pictures`` returns, boxes only."""
    modes = stage_modes(len(run.detector.config.cascade.stages))
    stages: dict[str, list[dict[str, Any]]] = {mode: [] for mode in modes}
    with torch.no_grad():
        for start in range(0, len(samples), BATCH):
            pictures = [picture for picture, _ in samples[start : start + BATCH]]
            resized = [resize_for_test(picture, run.recipe.data.augment) for picture in pictures]
            sizes = [(int(picture.shape[1]), int(picture.shape[2])) for picture in pictures]
            batch = ImageBatch.collate(resized, sizes)
            for mode, found in read_modes(run.detector, [batch], AugmentedTest(), modes):
                for number, instances in enumerate(found, start=start):
                    rows = detections_to_coco(number + 1, instances, run.category_ids)
                    stages[mode] += [{k: v for k, v in row.items() if k != "segmentation"} for row in rows]
    return CourseDetections(
        pictures=tuple(picture for picture, _ in samples),
        annotations=truth_to_coco([truth for _, truth in samples], run.classes, run.category_ids),
        stages=stages,
    )
