"""The folder of a run, opened again: its recipe and its trained detector."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from cascade_lab.detector import Detector
from cascade_lab.engine import checkpoint
from cascade_lab.errors import InputError
from cascade_lab.heads.postprocess import PostprocessConfig
from cascade_lab.recipes import Recipe, from_dict


@dataclass(frozen=True)
class Run:
    """A trained run; the detector is in eval mode and carries the averaged weights, if there are any."""

    path: Path
    recipe: Recipe
    classes: tuple[str, ...]
    category_ids: tuple[int, ...]
    detector: Detector
    step: int


def load_run(path: str | Path, step: int | None = None) -> Run:
    """Open the newest intact checkpoint of a run, or that of ``step``.

    Raises InputError where the folder, its recipe or a checkpoint is missing or damaged.
    """
    path = Path(path)
    if not path.is_dir():
        raise InputError(
            f"{path}: no such run folder; train one with: cascade-lab train nano --output {path}"
        )
    try:
        facts = json.loads((path / "recipe.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise InputError(f"{path}/recipe.json: missing; this is not a run folder") from None
    except ValueError as error:
        raise InputError(f"{path}/recipe.json: not JSON ({error}); restore it or train again") from error
    folder = path / "checkpoints"
    state = checkpoint.load_newest(folder) if step is None else checkpoint.load(checkpoint.at(folder, step))
    if state is None:
        raise InputError(f"{path}/checkpoints: no checkpoint yet; let the training go on for longer")
    recipe = from_dict(facts["recipe"])
    detector = Detector(recipe.detector)
    detector.load_state_dict(state.get("ema") or state["detector"])
    classes, ids = tuple(facts["classes"]), tuple(facts["category_ids"])
    return Run(path, recipe, classes, ids, detector.eval(), state["step"])


def with_postprocess(run: Run, postprocess: PostprocessConfig) -> Run:
    """Return the run with other rules for how scores become detections, in its recipe and in its detector.

    The detector is changed in place, since no weight depends on them.
    """
    detector = run.recipe.detector
    changed = replace(detector, cascade=replace(detector.cascade, postprocess=postprocess))
    run.detector.config, run.detector.cascade.config = changed, changed.cascade
    return replace(run, recipe=replace(run.recipe, detector=changed))
