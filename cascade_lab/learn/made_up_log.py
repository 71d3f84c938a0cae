"""Training logs to practise on: made up by a formula, in the format of the published ones, each with a story.

No training has produced them. The shape is that of a 1x run: 12 epochs, a warm-up, the rate falls after 8 and
11 epochs, the loss and the AP answer to it.
"""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from cascade_lab.engine.schedule import ScheduleConfig, lr_factor
from cascade_lab.errors import InputError

EPOCHS, STEPS, EVERY = 12, 7330, 50
LR = 1e-4
HEALTHY, NO_DROPS, DIVERGED, NO_WEIGHTS = range(4)
PATIENTS = (HEALTHY, NO_DROPS, DIVERGED, NO_WEIGHTS)


def write_made_up_log(path: Path, patient: int) -> Path:
    """Write the log of a patient: 0 is healthy, 1 to 3 each have something else. Returns the path.

    Raises:
        InputError: there is no such patient.
    """
    if patient not in PATIENTS:
        raise InputError(f"patient: {patient!r} does not exist; there are 0 to {len(PATIENTS) - 1}")
    random = np.random.default_rng(patient)
    schedule = ScheduleConfig(epochs=EPOCHS, decay="none" if patient == NO_DROPS else "step")
    rows: list[dict[str, object]] = [{"exp_name": f"made_up_{patient}.py", "seed": patient}]
    learned = 0.0  # the sum of all learning rates so far, in epochs at the full rate
    for epoch in range(1, EPOCHS + 1):
        for step in range(EVERY, STEPS + 1, EVERY):
            done = (epoch - 1) * STEPS + step
            factor = lr_factor(done - 1, EPOCHS * STEPS, schedule)
            learned += factor * EVERY / STEPS
            loss = _loss(learned, factor, done, patient) * float(random.lognormal(0, 0.05))
            rows.append({"mode": "train", "epoch": epoch, "iter": step, "lr": LR * factor, "loss": loss})
        rows.append({"mode": "val", "epoch": epoch, "iter": 625, "bbox_mAP": _ap(learned, factor, patient)})
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def _loss(learned: float, factor: float, done: int, patient: int) -> float:
    """Return a loss that falls with what was learned, and that the noise of a high rate holds up."""
    if patient == DIVERGED and done > 1500:
        return float("nan")
    if patient == DIVERGED and done > 400:
        return 1.5 * float(np.exp((done - 400) / 300))
    slow = 0.25 if patient == NO_WEIGHTS else 1.0
    return 0.75 + 0.16 * factor + 1.4 * float(np.exp(-2.5 * slow * learned))


def _ap(learned: float, factor: float, patient: int) -> float:
    if patient == DIVERGED:
        return 0.0
    slow = 0.25 if patient == NO_WEIGHTS else 1.0
    return 0.52 * (1 - float(np.exp(-0.6 * slow * learned))) * (1 - 0.12 * factor)
