"""The recipe: everything that decides a training run, as one value."""

from __future__ import annotations

from dataclasses import dataclass

from cascade_lab.datasets.catalog import DataConfig
from cascade_lab.detector import DetectorConfig
from cascade_lab.engine.optim import OptimConfig
from cascade_lab.engine.schedule import ScheduleConfig


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run.

    Args:
        seed: of the initial weights, the order of pictures, augmentation and sampling.
        fit_to_data: derive anchors, scale, crop and steps from the training annotations (``fit.py``).
    """

    name: str
    detector: DetectorConfig
    data: DataConfig
    optim: OptimConfig
    schedule: ScheduleConfig
    seed: int = 0
    fit_to_data: bool = False
