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
from cascade_lab.recipes import Recipe, from_dict
from cascade_lab.viz.curves import running_mean
from cascade_lab.viz.palette import BLUE, INK, LineLook, stage_look
from cascade_lab.widgets.moments import Moment, StageScores, read_moments
from cascade_lab.widgets.stored_trace import encode_picture

LOSSES = ("total", "proposals", "classification", "boxes", "masks")
PARTS = (*LOSSES, "learning rate", "gradient norm")
_SOLID, _DASHED = LineLook(colour=INK, style="solid"), LineLook(colour=BLUE, style=(0, (4, 1.6)))
_STAGE_PARTS = {"loss_cls": "classification", "loss_bbox": "boxes", "loss_mask": "masks"}
_OTHERS = {  # name in the log -> part, name and look of the line
    "loss": ("total", "total", _SOLID),
    "loss_rpn_cls": ("proposals", "objectness", _SOLID),
    "loss_rpn_bbox": ("proposals", "boxes", _DASHED),
    "lr": ("learning rate", "learning rate", _SOLID),
    "gradient_norm": ("gradient norm", "gradient norm", _SOLID),
}
NO_MOMENTS = "no checkpoint was looked at yet"
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
        if known.any():
            smooth[known] = running_mean(self.values[known])
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
    """All that the training viewer shows.

    ``total`` counts the steps of the whole run; ``seconds`` have passed until the last that is logged.
    """

    total: int
    classes: tuple[str, ...]
    steps: np.ndarray = field(repr=False)  # (T,) finished steps
    lines: tuple[Line, ...] = field(repr=False)
    seconds: float = 0.0
    moments: tuple[Moment, ...] = ()
    pictures: tuple[Shown, ...] = ()


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


def shown_scores(moment: Moment) -> tuple[StageScores, ...]:
    """Return the scores that are shown of a moment: each stage alone, and last all of them together."""
    *some, all_together = moment.scores
    return (*(scores for scores in some if "~" not in scores.mode), all_together)


def mode_name(mode: str) -> str:
    """Return what is written beside a line: "stage 2", or "stages 1~3" for all three together."""
    return f"stages {mode}" if "~" in mode else f"stage {mode}"


def moment_table(story: Story) -> str:
    """Return a table with a line for each checkpoint: box AP of every stage, then box and mask AP of all."""
    if not story.moments:
        return NO_MOMENTS
    names = [mode_name(scores.mode) for scores in shown_scores(story.moments[0])]
    lines = [f"{'step':>6}" + "".join(f"{name:>12}" for name in (*names, "masks"))]
    for moment in story.moments:
        values = [scores.ap for scores in shown_scores(moment)] + [moment.scores[-1].mask_ap]
        lines.append(f"{moment.step:6d}" + "".join(f"{'-' if v is None else f'{v:.1f}':>12}" for v in values))
    return "\n".join(lines)


def _lines(rows: Sequence[dict[str, Any]]) -> list[Line]:
    lines = []
    for logged in sorted({name for row in rows for name in row}):
        values = np.array([np.nan if row.get(logged) is None else row[logged] for row in rows], float)
        stage = re.fullmatch(r"s(\d+)\.(\w+)", logged)
        if stage and stage[2] in _STAGE_PARTS:
            k = int(stage[1])
            part, name, look = _STAGE_PARTS[stage[2]], mode_name(str(k + 1)), stage_look(k)
        elif logged in _OTHERS:
            part, name, look = _OTHERS[logged]
        else:
            continue
        lines.append(Line(part=part, name=name, look=look, values=values))
    return lines


def _pictures(recipe: Recipe, classes: Sequence[str], count: int) -> list[Shown]:
    if not count:
        return []
    dataset = load_dataset(recipe.data, recipe.data.val_split, training=False, classes=tuple(classes))
    shown = []
    for index in range(count):
        picture, truth = dataset[index]
        boxes = truth.objects().boxes.to(torch.float32).numpy()
        height, width = picture.shape[1:]
        shown.append(
            Shown(
                name=f"picture {index + 1}",
                size=(height, width),
                picture=encode_picture(picture),
                targets=boxes,
            )
        )
    return shown
