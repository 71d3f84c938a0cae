"""Draw a run over a published training log: ``cascade-lab weights curves RUN LOG --output FILE``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from cascade_lab.commands.figure_file import check_figure_name, write_figure
from cascade_lab.engine.logger import read_metrics
from cascade_lab.engine.published_log import PublishedLog, read_published_log
from cascade_lab.errors import InputError
from cascade_lab.overrides import override, split_named
from cascade_lab.viz.published_curves import curves_over_published

USAGE = """usage: cascade-lab weights curves RUN LOG --output FILE

  RUN            folder that `cascade-lab train` wrote; its AP is drawn too, once it was evaluated
  LOG            published training log: cascade-lab weights get NAME.log.json
  --output FILE  the picture, PNG or SVG"""

AP_NAMES = {"boxes": "bbox", "masks": "segm"}


@dataclass(frozen=True, kw_only=True)
class CurvesOptions:
    output: str = ""

    def __post_init__(self) -> None:
        check_figure_name("--output", self.output)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    named, rest = split_named(arguments)
    (options,) = override((CurvesOptions(),), rest)
    if len(named) != 2:
        raise InputError("arguments: name a run folder and a training log, before the options")
    if not options.output:
        raise InputError("option --output: missing; name the picture, such as curves.png")
    figure = run_over_log(Path(named[0]), read_published_log(Path(named[1])))
    write_figure(figure, Path(options.output))
    print(f"curves -> {options.output}")
    return 0


def run_over_log(run: Path, log: PublishedLog) -> Figure:
    """Draw a run folder over a log.

    Raises:
        InputError: the folder has no losses, or does not say how many steps make an epoch.
    """
    rows = [row for row in read_metrics(run) if row.get("loss") is not None]
    if not rows:
        raise InputError(
            f"{run}/metrics.jsonl: holds no losses; name a folder that `cascade-lab train` wrote"
        )
    facts, results = _json(run / "recipe.json"), _json(run / "results.json")
    try:
        steps = facts["training_images"] / facts["recipe"]["data"]["images_per_batch"]
    except (KeyError, TypeError, ZeroDivisionError):
        raise InputError(
            f"{run}/recipe.json: does not say how many steps make an epoch; restore it"
        ) from None
    percent = {
        name: 100 * log.val[f"{kind}_mAP"] for name, kind in AP_NAMES.items() if f"{kind}_mAP" in log.val
    }
    return curves_over_published(
        np.array([row["step"] / steps for row in rows]),
        np.array([row["loss"] for row in rows], float),
        log.epochs,
        log.train["loss"],
        {
            n: results[kind]["AP"]
            for n, kind in AP_NAMES.items()
            if (results.get(kind) or {}).get("AP") is not None
        },
        {name: (log.val_epochs, values) for name, values in percent.items()},
    )


def _json(path: Path) -> dict[str, Any]:
    """Return a JSON file, empty where it is absent or broken: what is missing then is said by its name."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
