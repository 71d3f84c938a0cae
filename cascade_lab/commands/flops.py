"""Tell what a detector costs, part by part and stage by stage: ``cascade-lab flops RECIPE``."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from tqdm import tqdm

from cascade_lab.commands.figure_file import check_figure_name, write_figure
from cascade_lab.commands.flops_text import as_plain, as_text
from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.errors import InputError
from cascade_lab.ledger.clock import multiply_accumulates_per_second, seconds_by_part
from cascade_lab.ledger.costs import Ledger, ledger
from cascade_lab.overrides import override
from cascade_lab.recipes.asked import recipe_or_help
from cascade_lab.viz.ledger import Bars, cost_bars

USAGE = """usage: cascade-lab flops RECIPE [options]

  RECIPE         cascade_internimage_l_fpn_1x_coco, mask_rcnn_internimage_t_fpn_1x_coco, nano, ...
  --size HxW     pixels of the picture, multiples of 32 (default: 800x1280, as published)
  --time         measure the share of time too: one picture, one CPU thread, with fresh weights
  --json         all figures as JSON, with every module and layer type of the official count
  --figure FILE  draw the parts, as PNG or SVG
  --detector.num_classes N, ...   any field of the recipe, to see what a change costs

Counts need neither weights nor memory. An operation is a multiply-accumulate, counted once. "official"
follows the published figures, which leave some out; "full" has every operation of the real cascade."""

MULTIPLE, SMALLEST, LARGEST = 32, 64, 8192
SLOWER = 1.2  # than a plain matrix product, about, is the whole pass
WORKING_TENSORS, PYTORCH_BYTES = 8, 2**29  # what a pass holds at once, in largest tensors, and the program


@dataclass(frozen=True, kw_only=True)
class FlopsOptions:
    """What the command line says beside the recipe."""

    size: str = "800x1280"
    time: bool = False
    json: bool = False
    figure: str = ""

    def __post_init__(self) -> None:
        sides = re.fullmatch(r"(\d+)x(\d+)", self.size)
        if not sides:
            raise InputError(f"option --size: {self.size!r} must be HEIGHTxWIDTH, such as 800x1280")
        for side in map(int, sides.groups()):
            if side % MULTIPLE:
                near = max(round(side / MULTIPLE) * MULTIPLE, SMALLEST)
                raise InputError(
                    f"option --size: {side} in {self.size!r} is no multiple of {MULTIPLE}; take {near}"
                )
            if not SMALLEST <= side <= LARGEST:
                raise InputError(
                    f"option --size: {side} in {self.size!r} must be from {SMALLEST} to {LARGEST}"
                )
        check_figure_name("--figure", self.figure)
        if self.figure and not Path(self.figure).parent.is_dir():
            raise InputError(f"option --figure: {Path(self.figure).parent}: no such folder; make it first")

    @property
    def pixels(self) -> tuple[int, int]:
        height, width = self.size.split("x")
        return int(height), int(width)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    named = recipe_or_help(arguments, USAGE)
    if named is None:
        return 0
    asked, options = override((named, FlopsOptions()), arguments[1:])
    found = ledger(asked.detector, options.pixels)
    if options.time:
        found = _timed(found, asked.detector)
    if options.figure:
        _draw(found, asked.name, Path(options.figure))
    print(json.dumps(as_plain(found, asked.name), indent=1) if options.json else as_text(found, asked.name))
    return 0


def _timed(found: Ledger, config: DetectorConfig) -> Ledger:
    """Return the ledger with seconds; says before how much memory and time it takes."""
    held = 4 * found.total.parameters + WORKING_TENSORS * found.largest_bytes + PYTORCH_BYTES
    seconds = SLOWER * found.total.full / multiply_accumulates_per_second()
    print(
        f"one forward pass on one CPU thread: about {seconds:.0f} s and {held / 2**30:.1f} GiB of memory",
        file=sys.stderr,
        flush=True,
    )
    torch.manual_seed(0)
    detector, pixels = Detector(config).eval(), torch.randn(1, 3, *found.size)
    with tqdm(total=found.total.full, disable=None, unit="op", unit_scale=True) as bar:
        operations = {part.name: part.full for part in found.parts}

        def progress(name: str) -> None:
            bar.set_description(name)
            bar.update(operations[name])

        return found.with_seconds(
            seconds_by_part(detector, pixels, found.proposals, found.detections, progress)
        )


def _draw(found: Ledger, name: str, path: Path) -> None:
    """Write the figure; raises InputError where it cannot be written."""
    costs = found.parts
    panels = [
        Bars("parameters", "million", [[cost.parameters / 1e6 for cost in costs]]),
        Bars(
            "operations",
            "billion",
            [[cost.official / 1e9 for cost in costs], [cost.full / 1e9 for cost in costs]],
            ("official", "full"),
        ),
        Bars(
            "kept for backward",
            "MiB",
            [
                [cost.kept_bytes / 2**20 for cost in costs],
                [cost.kept_bytes_checkpointed / 2**20 for cost in costs],
            ],
            ("plain", "checkpointed"),
        ),
    ]
    seconds = [cost.seconds for cost in costs if cost.seconds is not None]
    if len(seconds) == len(costs):
        panels.append(Bars("time, one CPU thread", "seconds", [seconds]))
    height, width = found.size
    figure = cost_bars([cost.name for cost in costs], panels, f"{name}, one picture of {height} x {width}")
    write_figure(figure, path)
