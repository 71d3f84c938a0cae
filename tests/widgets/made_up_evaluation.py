"""An evaluation with every kind of mistake, for the tests of the viewer."""

from __future__ import annotations

import numpy as np
import torch

from cascade_lab.widgets.stored_evaluation import EvaluationView, evaluation_view
from tests.evaluation.scenes import random_scene


def made_up_evaluation(seed: int = 0, images: int = 6) -> EvaluationView:
    """Return two readings: "1" with all detections of a made-up scene, "1~2" with a part of them, surer."""
    annotations, detections = random_scene(seed, images)
    random = np.random.default_rng(seed)
    surer = [d | {"score": min(1.0, d["score"] + 0.2)} for d in detections if random.random() < 0.7]
    pictures = [torch.from_numpy(random.integers(0, 255, (3, 100, 100), np.uint8)) for _ in range(images)]
    return evaluation_view(annotations, {"1": detections, "1~2": surer}, pictures, source="made up")
