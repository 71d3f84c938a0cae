"""The folder of one run: whose it is, and what it says of itself."""

from __future__ import annotations

import json
import shlex
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade_lab.engine import checkpoint
from cascade_lab.engine.logger import write_environment
from cascade_lab.errors import InputError

# The data may have moved; that it is the same is seen from the other facts.
MOVABLE = ("asked.data.root", "recipe.data.root")


def check(run: Path, facts: Mapping[str, Any], resume: bool) -> None:
    """Raise InputError unless ``run`` is free, or with ``resume`` holds the run that ``facts`` describe.

    ``facts`` are plain values; recipe.json may know more, which is not compared.
    """
    path = run / "recipe.json"
    if not resume:
        if path.exists() or checkpoint.paths(run / "checkpoints"):
            raise InputError(f"{run}: holds a run already; add --resume to continue it, or name another")
        return
    if not path.is_file():
        raise InputError(f"{run}: holds no run to resume; leave out --resume to start one")
    try:
        before = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); start again in a new folder") from error
    if not isinstance(before, dict) or not before.keys() >= facts.keys():
        raise InputError(f"{path}: incomplete, so nothing can be resumed; start again in a new folder")
    was, now = _flat(before), _flat(json.loads(json.dumps(facts)))
    names = [name for name in was | now if name.split(".")[0] in facts and name not in MOVABLE]
    changes = [
        f"{name.removeprefix('asked.')} was {was.get(name)}, is {now.get(name)}"
        for name in names
        if was.get(name) != now.get(name)
    ]
    if changes:
        raise InputError(f"{run}: only the same run can be resumed; {'; '.join(changes)}")


def write(run: Path, facts: Mapping[str, Any], seed: int) -> None:
    """Create the folder of a run, with recipe.json and environment.json.

    Raises:
        InputError: the folder cannot be written.
    """
    try:
        run.mkdir(parents=True, exist_ok=True)
        checkpoint.write_text(run / "recipe.json", json.dumps(facts, indent=1) + "\n")
        write_environment(run, seed=seed, command=shlex.join(sys.argv))
    except OSError as error:
        raise InputError(f"{run}: cannot write there ({error.strerror}); name another folder") from error


def divergence(failures: Sequence[str], run: Path, lr: float) -> str:
    """Say in which steps the gradients were not finite, and what is left of the run."""
    saved = checkpoint.paths(run / "checkpoints")
    kept = f"{saved[-1]} is kept" if saved else "there is no checkpoint yet"
    return (
        f"{run}: the gradients were not finite {len(failures)} times in a row, in steps"
        f" {', '.join(failures)}; {kept}; look at these pictures or lower --optim.lr (now {lr:g})"
    )


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    """Return nested dicts and lists of dicts as one level with dotted names."""
    if isinstance(value, list) and value and all(isinstance(member, dict) for member in value):
        value = {str(index): member for index, member in enumerate(value)}
    if not isinstance(value, dict):
        return {name: value}
    return {
        key: leaf
        for inner, member in value.items()
        for key, leaf in _flat(member, f"{name}.{inner}" if name else inner).items()
    }
