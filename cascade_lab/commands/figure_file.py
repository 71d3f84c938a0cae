"""A figure that a command writes: the name is checked before the work, the file is whole or not there."""

from __future__ import annotations

import io
from pathlib import Path

from matplotlib.figure import Figure

from cascade_lab.engine.checkpoint import write_bytes
from cascade_lab.errors import InputError

KINDS = (".png", ".svg")


def check_figure_name(option: str, name: str) -> None:
    """Raise InputError unless ``name``, the value of ``option``, ends in a kind of figure; empty is none."""
    if name and Path(name).suffix not in KINDS:
        raise InputError(f"option {option}: {name!r} must end in {' or '.join(KINDS)}")


def write_figure(figure: Figure, path: Path) -> None:
    """Write a figure as PNG or SVG, into a folder that is made if need be.

    Raises:
        InputError: it cannot be written; nothing is left behind.
    """
    drawn = io.BytesIO()
    figure.savefig(drawn, format=path.suffix[1:], dpi=150)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_bytes(path, drawn.getvalue())
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); name another file") from error
