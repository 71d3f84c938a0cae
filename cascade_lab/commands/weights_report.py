"""Say what a recipe would load from a file: ``cascade-lab weights report FILE --recipe NAME``."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.errors import InputError
from cascade_lab.overrides import override, split_named
from cascade_lab.recipes import Recipe, from_dict, recipe
from cascade_lab.weights import LoadReport, Weights, compare_file, read_weights

USAGE = """usage: cascade-lab weights report FILE --recipe NAME [options]

  FILE             checkpoint of a detector or a classifier: official, ours, or safetensors
  --recipe NAME    the recipe to load it into (default: the one that one of our checkpoints states)
  --num_classes N  as if the recipe were trained on N classes (default: as the recipe says)
  --json           as JSON

Nothing is loaded or written. Exit code 2 where loading would be refused."""


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    recipe: str = ""
    num_classes: int | None = None
    json: bool = False

    def __post_init__(self) -> None:
        if self.num_classes is not None and self.num_classes < 1:
            raise InputError(f"option --num_classes: {self.num_classes} must be 1 or more")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError where the file would be refused."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    named, rest = split_named(arguments)
    (options,) = override((ReportOptions(),), rest)
    if len(named) != 1:
        raise InputError("arguments: name one checkpoint file, before the options")
    weights = read_weights(Path(named[0]))
    asked = recipe_for(weights, options.recipe).detector
    if options.num_classes is not None:
        asked = replace(asked, num_classes=options.num_classes)
    report = would_load(weights, asked)
    if options.json:
        about = {"file": str(weights.path), "layout": weights.layout, "class_names": weights.classes}
        print(json.dumps(about | report.to_plain(), indent=1))
    else:
        print(f"{weights.path}: {len(weights.state)} tensors {weights.layout}\n{report}")
    report.check(weights.path)
    return 0


def recipe_for(weights: Weights, name: str) -> Recipe:
    """Return the recipe of that name, or the one that the file states.

    Raises:
        InputError: neither is there.
    """
    if name:
        return recipe(name)
    if weights.recipe is None:
        raise InputError(f"option --recipe: missing; {weights.path} does not say which recipe it belongs to")
    return from_dict(weights.recipe)


def would_load(weights: Weights, config: DetectorConfig) -> LoadReport:
    """Compare a file with a detector that takes no memory."""
    with torch.device("meta"):
        return compare_file(Detector(config), weights)
