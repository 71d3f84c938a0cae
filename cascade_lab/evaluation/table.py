"""What an evaluation found, as the tables that are printed: by stage, by class, by size."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

BOX_COLUMNS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90")
MASK_COLUMNS = ("AP", "AP50", "AP75")
SIZES = {"small": "APs", "medium": "APm", "large": "APl"}


def results_table(results: dict[str, Any]) -> str:
    """Return the tables of what ``assemble_results`` laid out; a score that is not defined is a dash."""
    stages: dict[str, Any] = results["stages"]
    full = list(stages)[-1]
    classes: dict[str, Any] = results["per_class"]
    width = max(9, *(min(24, len(name)) for name in classes)) if classes else 9
    lines = [
        f"{'':<{width}}  {'boxes':<{7 * len(BOX_COLUMNS)}}   masks",
        f"{'stages':<{width}}" + _head(BOX_COLUMNS) + "  |" + _head(MASK_COLUMNS),
        *(f"{mode:<{width}}{_row(both, BOX_COLUMNS)}" for mode, both in stages.items()),
        "",
        f"{'class':<{width}}" + _head(BOX_COLUMNS) + "  |" + _head(MASK_COLUMNS) + "   objects",
        *(f"{n[:width]:<{width}}{_row(c, BOX_COLUMNS)}{c['objects']:>10}" for n, c in classes.items()),
        "",
        f"{'size':<{width}}" + _head(tuple(SIZES)) + "  |" + _head(tuple(SIZES)),
        f"{'AP':<{width}}{_row(results, tuple(SIZES.values()), tuple(SIZES.values()))}",
    ]
    if full != "1":
        gain = _gain(stages["1"]["bbox"]["AP75"], stages[full]["bbox"]["AP75"])
        lines += ["", f"stages {full} over stage 1: box AP75 {gain}"]
    return "\n".join(lines)


def _head(columns: Sequence[str]) -> str:
    return "".join(f"{column:>7}" for column in columns)


def _row(both: dict[str, Any], boxes: Sequence[str], masks: Sequence[str] = MASK_COLUMNS) -> str:
    box = "".join(_cell(both["bbox"][key]) for key in boxes)
    return box + "  |" + "".join(_cell(both["segm"] and both["segm"][key]) for key in masks)


def _cell(value: float | None) -> str:
    return f"{'-' if value is None else f'{value:.1f}':>7}"


def _gain(before: float | None, after: float | None) -> str:
    return "-" if before is None or after is None else f"{after - before:+.1f}"
