"""Write a checkpoint in another form: ``cascade-lab weights convert FILE --to FORM --output OUT``."""

from __future__ import annotations

import os
import shlex
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from cascade_lab import __version__
from cascade_lab.commands.weights_report import recipe_for
from cascade_lab.datasets.coco_classes import COCO_CLASSES
from cascade_lab.detector import Detector
from cascade_lab.engine import checkpoint, run_folder
from cascade_lab.errors import InputError
from cascade_lab.overrides import override, split_named
from cascade_lab.recipes import Recipe, to_dict
from cascade_lab.weights import LoadReport, Weights, compare_file, read_weights
from cascade_lab.weights.load import check_finite
from cascade_lab.weights.outputs import count_classes
from cascade_lab.weights.write import own, write_official, write_official_backbone, write_safetensors

USAGE = """usage: cascade-lab weights convert FILE --to FORM --output OUT [options]

  FILE           checkpoint of a detector or a classifier: official, ours, or safetensors
  --to FORM      cascade-lab (a run folder that evaluate, predict and view take), official, safetensors
  --output OUT   the file or run folder to write; files get their SHA-256 beside them
  --recipe NAME  the recipe it was trained with (one of our checkpoints states it)
  --classes A,B  names of its classes, where the file does not state them
  --backbone     write the backbone alone (official and safetensors)"""

FORMS = ("cascade-lab", "official", "safetensors")


@dataclass(frozen=True, kw_only=True)
class ConvertOptions:
    to: str = ""
    output: str = ""
    recipe: str = ""
    classes: str = ""
    backbone: bool = False

    def __post_init__(self) -> None:
        if self.to and self.to not in FORMS:
            raise InputError(f"option --to: {self.to!r} must be one of {', '.join(FORMS)}")
        if self.backbone and self.to == "cascade-lab":
            raise InputError("option --backbone: a run folder holds a whole detector; leave it out")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    named, rest = split_named(arguments)
    (options,) = override((ConvertOptions(),), rest)
    if len(named) != 1:
        raise InputError("arguments: name one checkpoint file, before the options")
    for name in ("to", "output"):
        if not getattr(options, name):
            raise InputError(f"option --{name}: missing; see cascade-lab weights convert --help")
    output = Path(options.output)
    if options.to == "cascade-lab":
        run_folder.check(output, {}, resume=False)
        if output.exists() and (not output.is_dir() or any(output.iterdir())):
            raise InputError(f"option --output: {output} is not empty; name a new folder")
    elif output.is_dir():
        raise InputError(f"option --output: {output} is a folder; name a file")
    if options.to != "official" and options.to != "cascade-lab" and output.suffix != ".safetensors":
        raise InputError(f"option --output: {options.output!r} must end in .safetensors")
    weights = read_weights(Path(named[0]))
    asked = recipe_for(weights, options.recipe)
    fitted, report = fit(weights, asked, options.backbone)
    print(f"{weights.path}: {len(weights.state)} tensors {weights.layout}\n{report}")
    classes = tuple(filter(None, options.classes.split(","))) or fitted.classes
    if options.to == "cascade-lab":
        write_run(output, fitted, asked, classes)
        print(f"next:\n  cascade-lab predict {shlex.quote(options.output)} IMAGE --output PICTURES")
        return 0
    if options.to == "safetensors":
        digest = write_safetensors(output, fitted.state, classes)
    elif options.backbone:
        digest = write_official_backbone(output, fitted.state)
    else:
        digest = write_official(output, fitted.state, classes, len(asked.detector.cascade.stages) == 1)
    print(f"{digest}  {output}")
    return 0


def fit(weights: Weights, asked: Recipe, backbone: bool = False) -> tuple[Weights, LoadReport]:
    """Return the weights as the recipe's detector orders them, in its types, and what became of the file's.

    The number of classes is the file's.

    Raises:
        InputError: the file lacks parameters or has more of them, layers have other shapes or are not finite.
    """
    there = count_classes({name: tuple(value.shape) for name, value in weights.state.items()})
    with torch.device("meta"):
        detector = Detector(replace(asked.detector, num_classes=there or asked.detector.num_classes))
    report = compare_file(detector, weights)
    wanted = {n: v for n, v in detector.state_dict().items() if not backbone or n.startswith("backbone.")}
    if backbone:
        report = report.of_backbone()
    report.check(weights.path, complete=True)
    check_finite(wanted, weights.state, weights.path)
    state = {name: own(weights.state[name].to(value.dtype)) for name, value in wanted.items()}
    return replace(weights, state=state), report


def write_run(output: Path, weights: Weights, asked: Recipe, classes: Sequence[str] | None) -> None:
    """Write a run folder that was never trained here: evaluate, predict, view and report take it.

    Its recipe.json does not say what was asked for, so ``train --resume`` refuses it; to train on, give the
    file to ``train --weights``.
    """
    count = count_classes({name: tuple(value.shape) for name, value in weights.state.items()}) or 0
    if classes is None and count == len(COCO_CLASSES):
        classes = tuple(COCO_CLASSES)
    if classes is None or len(classes) != count:
        given = "no names" if classes is None else f"{len(classes)} names"
        raise InputError(
            f"option --classes: {given} for the {count} classes of {weights.path}; name them all"
        )
    ids = weights.category_ids or tuple(range(1, count + 1))
    if tuple(classes) == tuple(COCO_CLASSES):
        ids = tuple(COCO_CLASSES.values())
    facts = {
        "recipe": to_dict(replace(asked, detector=replace(asked.detector, num_classes=count))),
        "classes": list(classes),
        "category_ids": list(ids),
        "weights": {"file": weights.path.name, "sha256": checkpoint.sha256(weights.path)},
        "library_version": __version__,
    }
    state = {"step": 0, "detector": weights.state, "optimizer": None, "ema": None, **facts}
    partial = output.with_name(output.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)  # of a conversion that was killed
    try:
        run_folder.write(partial, facts, asked.seed)
        checkpoint.save(partial / "checkpoints", state)
        os.rename(partial, output)  # the folder is there whole or not at all
    except OSError as error:
        raise InputError(f"{output}: cannot be written ({error.strerror}); name another folder") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    print(f"{asked.name}, {count} classes -> {output}")
