"""The training logs that mmdetection writes and the InternImage project published: ``NAME.log.json``.

One JSON object a line: first what was run on, then for every 50 steps or so a line with "mode": "train" and
its losses, and after an epoch one with "mode": "val" and its AP in [0, 1].
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cascade_lab.errors import InputError

NUMBERS = ("epoch", "iter")


@dataclass(frozen=True, kw_only=True)
class PublishedLog:
    """A log as plain arrays.

    Shapes:
        epochs: (T,), finished epochs at each training line, such as 0.5 in the middle of the first.
        train: "loss", "lr", "s0.loss_cls", ... -> (T,); NaN where a line lacks it.
        val_epochs: (V,), finished epochs at each evaluation.
        val: "bbox_mAP", "segm_mAP_75", ... -> (V,), in [0, 1].
    """

    epochs: np.ndarray
    train: dict[str, np.ndarray]
    val_epochs: np.ndarray
    val: dict[str, np.ndarray]


def read_published_log(path: Path) -> PublishedLog:
    """Read a log. Where a run was resumed, the later line of the same step counts.

    The log does not say how many steps an epoch has. The highest that any line shows stands for it, which is
    short of it by less than one interval of logging.

    Raises:
        InputError: absent, or a line is broken; the message has its number.
    """
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise InputError(
            f"{path}: no such file; cascade-lab weights get fetches the published ones"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a text file that can be read ({error}); fetch it again") from None
    train: dict[tuple[int, int], dict[str, float]] = {}
    val: dict[int, dict[str, float]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        row = _row(line, f"{path}: line {number}")
        if row.get("mode") == "train":
            train[row["epoch"], row["iter"]] = _numbers(row)
        elif row.get("mode") == "val":
            val[row["epoch"]] = _numbers(row)
    if not train:
        raise InputError(f"{path}: holds no line with mode train; is it a training log of mmdetection?")
    steps = max(step for _, step in train)
    order = sorted(train)
    return PublishedLog(
        epochs=np.array([epoch - 1 + step / steps for epoch, step in order]),
        train=_columns([train[key] for key in order]),
        val_epochs=np.array(sorted(val), float),
        val=_columns([val[epoch] for epoch in sorted(val)]),
    )


def _row(line: str, where: str) -> dict[str, Any]:
    """Return one line, checked; a loss that is NaN is a fact about the run, not a fault."""
    try:
        row = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InputError(f"{where}: not JSON ({error}); fetch the log again") from None
    if not isinstance(row, dict):
        raise InputError(f"{where}: holds a {type(row).__name__}, not an object; fetch the log again")
    if "mode" not in row:
        return row  # what it was run on
    if row["mode"] not in ("train", "val"):
        raise InputError(f"{where}: mode is {str(row['mode'])[:40]!r}, not train or val; remove the line")
    for name in NUMBERS:
        value = row.get(name)
        if not isinstance(value, int) or isinstance(value, bool) or value < 1:
            raise InputError(
                f"{where}: {name} is {str(value)[:40]!r}, not a whole number from 1 up; correct it"
            )
    if row["mode"] == "train" and not _is_number(row.get("loss")):
        raise InputError(f"{where}: loss is {str(row.get('loss'))[:40]!r}, not a number; correct it")
    return row


def _numbers(row: dict[str, Any]) -> dict[str, float]:
    return {name: float(v) for name, v in row.items() if name not in NUMBERS and _is_number(v)}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _columns(rows: list[dict[str, float]]) -> dict[str, np.ndarray]:
    names: Iterable[str] = dict.fromkeys(name for row in rows for name in row)
    return {name: np.array([row.get(name, np.nan) for row in rows]) for name in names}
