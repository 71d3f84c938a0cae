"""What a run folder tells of its training: losses over the steps, AP at the checkpoints, a few pictures."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cascade_lab.datasets.catalog import load_dataset
from cascade_lab.engine.logger import read_metrics
from cascade_lab.errors import InputError
from cascade_lab.recipes import from_dict
from cascade_lab.viz.curves import running_mean
from cascade_lab.viz.palette import BLUE, INK, LineLook, stage_look
from cascade_lab.widgets.moments import Moment, read_moments
from cascade_lab.widgets.stored_trace import encode_picture

PARTS = ("total", "proposals", "classification", "boxes", "masks", "learning rate", "gradient norm")
_STAGE_PARTS = {"loss_cls": "classification", "loss_bbox": "boxes", "loss_mask": "masks"}
_OTHERS = {
    "loss": ("total", "total"),
    "loss_rpn_cls": ("proposals", "objectness"),
    "loss_rpn_bbox": ("proposals", "boxes"),
    "lr": ("learning rate", "learning rate"),
    "gradient_norm": ("gradient norm", "gradient norm"),
}
MOST_POINTS = 2000  # of a line; a longer log is thinned out


@dataclass(frozen=True, kw_only=True)
class Line:
    """One quantity over the steps; ``part`` says beside which others it is drawn."""

    part: str
    name: str
    look: LineLook
    values: np.ndarray = field(repr=False)  # (T,) float, NaN where the log has none

    @property
    def smooth(self) -> np.ndarray:
        """Return the running mean of the values that are there, NaN elsewhere; the learning rate as it is."""
        if self.part == "learning rate":
            return self.values
        known = np.isfinite(self.values)
        smooth = np.full(len(self.values), np.nan)
        smooth[known] = running_mean(self.values[known]) if known.any() else []
        return smooth


@dataclass(frozen=True, kw_only=True)
class Shown:
    """A validation picture to scrub through: JPEG bytes, (H, W), and its objects."""

    name: str
    size: tuple[int, int]
    picture: bytes = field(repr=False)
    targets: np.ndarray = field(repr=False)  # (M, 4) xyxy


@dataclass(frozen=True, kw_only=True)
class Story:
    """All that the training viewer shows. ``total`` are the steps of the whole run, 0 where unknown."""

    total: int
    classes: tuple[str, ...]
    steps: np.ndarray = field(repr=False)  # (T,) finished steps
    lines: tuple[Line, ...] = field(repr=False)
    seconds: float = 0.0
    moments: tuple[Moment, ...] = ()
    pictures: tuple[Shown, ...] = ()

    def loss_at(self, name: str, part: str, step: int) -> float:
        """Return the running mean of a line at the last logged step up to ``step``; NaN before the first."""
        for line in self.lines:
            if (line.part, line.name) == (part, name):
                at = int(np.searchsorted(self.steps, step, side="right")) - 1
                return float(line.smooth[at]) if at >= 0 else float("nan")
        return float("nan")


def read_story(run: str | Path, pictures: Sequence[Shown] | None = None) -> Story:
    """Read a run, finished or not.

    ``pictures`` are those of an earlier call, which spares reading them again.

    Raises:
        InputError: there is no run in the folder, or its data is gone.
    """
    run = Path(run)
    if not (run / "recipe.json").is_file():
        raise InputError(
            f"{run}/recipe.json: missing; this is not a run folder, or its training has not begun"
        )
    facts = json.loads((run / "recipe.json").read_text(encoding="utf-8"))
    recipe = from_dict(facts["recipe"])
    rows = read_metrics(run)
    rows = rows[:: max(1, -(-len(rows) // MOST_POINTS))]
    moments = tuple(read_moments(run))
    wanted = len(moments[0].found) if moments else 0
    if pictures is None or len(pictures) < wanted:
        pictures = _pictures(recipe, facts["classes"], wanted)
    total = recipe.schedule.total_steps(facts["training_images"], recipe.data.images_per_batch)
    return Story(
        total=total,
        classes=tuple(facts["classes"]),
        steps=np.array([row["step"] for row in rows], np.int64),
        lines=tuple(_lines(rows)),
        seconds=rows[-1]["seconds"] if rows else 0.0,
        moments=moments,
        pictures=tuple(pictures),
    )


def moment_table(story: Story) -> str:
    """Return a table with a line for each checkpoint: the AP of every stage and of all together."""
    if not story.moments:
        return "no checkpoint was looked at yet"
    modes = [
        one for one in story.moments[0].scores if "~" not in one.mode or one is story.moments[0].scores[-1]
    ]
    names = [f"stage {one.mode}" if "~" not in one.mode else one.mode for one in modes]
    lines = [f"{'step':>6}" + "".join(f"{name:>10}" for name in names) + f"{'masks':>10}"]
    for moment in story.moments:
        by_mode = {one.mode: one for one in moment.scores}
        values = [by_mode[one.mode].ap for one in modes] + [moment.scores[-1].mask_ap]
        lines.append(f"{moment.step:6d}" + "".join(f"{'-' if v is None else f'{v:.1f}':>10}" for v in values))
    return "\n".join(lines)


def _lines(rows: Sequence[dict[str, Any]]) -> list[Line]:
    names = sorted({name for row in rows for name in row})
    lines = []
    for name in names:
        values = np.array([row.get(name) if row.get(name) is not None else np.nan for row in rows], float)
        stage = re.fullmatch(r"s(\d+)\.(\w+)", name)
        if stage and stage[2] in _STAGE_PARTS:
            k = int(stage[1])
            lines.append(
                Line(part=_STAGE_PARTS[stage[2]], name=f"stage {k + 1}", look=stage_look(k), values=values)
            )
        elif name in _OTHERS:
            part, words = _OTHERS[name]
            look = (
                LineLook(colour=BLUE, style=(0, (4, 1.6)))
                if words == "boxes"
                else LineLook(colour=INK, style="solid")
            )
            lines.append(Line(part=part, name=words, look=look, values=values))
    return lines


def _pictures(recipe: Any, classes: Sequence[str], count: int) -> list[Shown]:
    if not count:
        return []
    dataset = load_dataset(recipe.data, recipe.data.val_split, training=False, classes=tuple(classes))
    shown = []
    for index in range(count):
        picture, truth = dataset[index]
        boxes = truth.objects().boxes.to(torch.float32).numpy()
        size = (int(picture.shape[1]), int(picture.shape[2]))
        shown.append(
            Shown(name=f"picture {index + 1}", size=size, picture=encode_picture(picture), targets=boxes)
        )
    return shown
