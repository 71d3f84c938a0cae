"""What a checkpoint holds of a training, and putting it back: everything that the next step depends on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cascade_lab.engine import checkpoint
from cascade_lab.engine.ema import Ema


def snapshot(
    done: int,
    detector: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    average: Ema | None,
    facts: Mapping[str, Any],
) -> dict[str, Any]:
    """Return all that a checkpoint holds: ``step`` finished steps, four states, and the plain ``facts``."""
    return {
        "step": done,
        "detector": detector.state_dict(),
        "optimizer": optimizer.state_dict(),
        "scaler": scaler.state_dict(),  # empty unless training in float16
        "ema": average.state if average is not None else None,
        **facts,
    }


def restore(
    run: Path,
    detector: torch.nn.Module,
    optimizer: torch.optim.Optimizer,
    scaler: torch.amp.GradScaler,
    average: Ema | None,
) -> int:
    """Load the newest intact checkpoint of ``run``, if there is one, and return its finished steps."""
    state = checkpoint.load_newest(run / "checkpoints")
    if state is None:
        return 0
    detector.load_state_dict(state["detector"])
    optimizer.load_state_dict(state["optimizer"])
    scaler.load_state_dict(state.get("scaler", {}))
    if average is not None:
        average.load(state["ema"])
    return state["step"]
