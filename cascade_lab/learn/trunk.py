"""The part of the course's model that chapter 09 does not train from nothing: all but the cascade."""

from __future__ import annotations

from pathlib import Path

from cascade_lab.learn.course import course_run
from cascade_lab.weights.write import write_safetensors


def write_trunk(path: str | Path) -> Path:
    """Write backbone, pyramid and RPN of the course's model to a file that ``--weights`` takes; return it."""
    run, path = course_run(), Path(path)
    state = run.detector.state_dict()
    trunk = {name: tensor for name, tensor in state.items() if not name.startswith("cascade.")}
    write_safetensors(path, trunk, run.classes)
    return path
