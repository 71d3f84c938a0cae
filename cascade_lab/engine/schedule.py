"""How long a run is, and the learning rate at each of its steps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

from cascade_lab.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ScheduleConfig:
    """Length of a run and everything that depends on the number of a step.

    Exactly one of ``steps``, ``epochs`` and ``minutes`` is given. ``minutes`` is a wish that has to be
    turned into steps before training, because a run is a pure function of the number of its steps.

    ``decay_at`` holds fractions of the run, so that a shorter run keeps its shape: the official
    "epochs 8 and 11 of 12" is ``(8 / 12, 11 / 12)``.

    ``ema`` is the momentum m in "average = (1 - m) average + m weights" (official: 0.0001); it starts near
    1 and falls to m with time constant ``ema_warmup`` in steps (0: constant from the first step).
    """

    steps: int | None = None
    epochs: int | None = None
    minutes: float | None = None
    warmup_steps: int = 500
    warmup_ratio: float = 0.001
    decay: Literal["step", "cosine", "none"] = "step"
    decay_at: tuple[float, ...] = (8 / 12, 11 / 12)
    gamma: float = 0.1
    ema: float | None = None
    ema_warmup: int = 2000
    checkpoint_every: int | None = None  # steps; None: ten times in a run
    log_every: int = 10  # steps

    def __post_init__(self) -> None:
        lengths = {"steps": self.steps, "epochs": self.epochs, "minutes": self.minutes}
        given = {name: value for name, value in lengths.items() if value is not None}
        if len(given) != 1:
            raise InputError(f"schedule: give one of steps, epochs and minutes, not {given or 'none'}")
        name, value = next(iter(given.items()))
        _check(value > 0, name, value, "must be above 0")
        _check(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "must be 0 or more")
        _check(0 <= self.warmup_ratio <= 1, "warmup_ratio", self.warmup_ratio, "must lie in [0, 1]")
        _check(
            all(0 < at <= 1 for at in self.decay_at) and list(self.decay_at) == sorted(self.decay_at),
            "decay_at",
            self.decay_at,
            "must be rising fractions of the run, such as (0.7, 0.9)",
        )
        _check(0 < self.gamma <= 1, "gamma", self.gamma, "must lie in (0, 1]")
        _check(
            self.ema is None or 0 < self.ema < 0.5,
            "ema",
            self.ema,
            "is the small share of the new weights, such as 0.0001, not the share that is kept",
        )
        _check(self.ema_warmup >= 0, "ema_warmup", self.ema_warmup, "must be 0 or more")
        _check(
            self.checkpoint_every is None or self.checkpoint_every > 0,
            "checkpoint_every",
            self.checkpoint_every,
            "must be above 0",
        )
        _check(self.log_every > 0, "log_every", self.log_every, "must be above 0")

    def total_steps(self, num_images: int, images_per_batch: int) -> int:
        """Return the steps of the whole run, of which an epoch shows ``num_images``.

        Batches are always full: the tail of an epoch is filled up with the head of the next, so only the last
        batch of the run can see a picture once too often.

        Raises:
            InputError: the length is still a wish in minutes.
        """
        if self.steps is not None:
            return self.steps
        if self.epochs is not None:
            return math.ceil(self.epochs * num_images / images_per_batch)
        raise InputError(f"schedule.minutes: {self.minutes:g} minutes were not turned into steps; give steps")


def lr_factor(step: int, total_steps: int, config: ScheduleConfig) -> float:
    """Return the learning rate of step ``step`` (from 0) as a multiple of the base rate.

    Linear warm-up times decay. A drop holds from the step it falls on.

    Source: mmcv's linear warm-up and step policy, as in the official InternImage configs.
    """
    factor = 1.0
    if step < config.warmup_steps:
        factor = 1 - (1 - step / config.warmup_steps) * (1 - config.warmup_ratio)
    if config.decay == "step":
        factor *= config.gamma ** sum(step >= round(at * total_steps) for at in config.decay_at)
    elif config.decay == "cosine":
        factor *= (1 + math.cos(math.pi * min(step / total_steps, 1))) / 2
    return factor


def _check(fine: bool, name: str, value: object, remedy: str) -> None:
    if not fine:
        raise InputError(f"schedule.{name}: {value} {remedy}")
