"""A run folder that looks like a finished training: the course's model, and worse copies of it before."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import torch

from cascade_lab.datasets.catalog import load_dataset
from cascade_lab.datasets.shapes import LEVELS, write_shapes
from cascade_lab.engine import checkpoint
from cascade_lab.learn.course import course_run
from cascade_lab.settle import facts_of

STEPS = {10: 0.5, 20: 0.02, 30: 0.0}  # step -> how much of the weights' spread is noise


def write_metrics(run: Path, steps: int = 30, stages: int = 3) -> list[dict]:
    """Write a log with a line a step, whose numbers follow from the step by plain rules."""
    rows = []
    for step in range(1, steps + 1):
        row = {"step": step, "lr": step / 1000, "loss": 6 / step, "loss_rpn_cls": 0.6 / step}
        for k in range(stages):
            row |= {f"s{k}.loss_cls": 2 / step / (k + 1), f"s{k}.loss_bbox": 0.1 * (k + 1) + step / 100}
        rows.append(row | {"gradient_norm": 4.0 if step != 7 else None, "seconds": 0.5 * step})
    (run / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return rows


def write_run(folder: Path, pictures: int = 6) -> Path:
    """Write data and run; return the folder of the run."""
    write_shapes(folder / "shapes", LEVELS["easy"], seed=0, train=2, val=pictures)
    course, run = course_run(), folder / "run"
    data = replace(course.recipe.data, root=str(folder / "shapes"))
    schedule = replace(course.recipe.schedule, steps=max(STEPS))
    recipe = replace(course.recipe, data=data, schedule=schedule)
    facts = facts_of(recipe, load_dataset(data, data.train_split, training=True))
    run.mkdir()
    (run / "recipe.json").write_text(json.dumps(facts))
    write_metrics(run)
    random = torch.Generator().manual_seed(0)
    for step, share in STEPS.items():
        state = {name: noisy(value, share, random) for name, value in course.detector.state_dict().items()}
        checkpoint.save(run / "checkpoints", {"step": step, "detector": state, "ema": None, **facts}, keep=9)
    return run


def noisy(value: torch.Tensor, share: float, random: torch.Generator) -> torch.Tensor:
    """Return a weight with noise of ``share`` of its own spread; biases and norms as they are."""
    if not share or value.ndim < 2:
        return value
    return value + share * value.std() * torch.randn(value.shape, generator=random)
