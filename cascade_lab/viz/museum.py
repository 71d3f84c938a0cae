"""What is seen of a mistake: the same measurement twice, as it should be and as it is."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from cascade_lab.viz.boxes import add_box, add_tag, show_picture
from cascade_lab.viz.curves import tidy
from cascade_lab.viz.palette import BLUE, FAINT, INK, VERMILLION, LineLook

RIGHT = LineLook(colour=BLUE, style="solid", width=2.4)
WRONG = LineLook(colour=VERMILLION, style=(0, (5, 2)), width=2.0)
NAMES = ("as it should be", "what you see")


@dataclass(frozen=True, kw_only=True)
class Curve:
    """A measurement along an axis.

    Attributes:
        x, y: (P,) each.
        kind: joined by a line, bars whose left edges are ``x``, or points in a picture, where y grows down.
        value: the one number that tells right from wrong; ``words`` say what it is.
    """

    x: np.ndarray
    y: np.ndarray
    x_label: str
    y_label: str
    value: float
    words: str
    kind: Literal["line", "bars", "points"] = "line"

    def __post_init__(self) -> None:
        if self.x.ndim != 1 or self.x.shape != self.y.shape:
            raise ValueError(f"x and y must both be (P,), got {self.x.shape} and {self.y.shape}")


@dataclass(frozen=True, kw_only=True)
class Picture:
    """Named boxes on a picture, and one number, as in ``Curve``.

    Shapes: pixels (H, W, 3) uint8; boxes (R, 4) xyxy in its pixels; names (R,).
    """

    pixels: np.ndarray
    boxes: np.ndarray
    names: tuple[str, ...]
    value: float
    words: str

    def __post_init__(self) -> None:
        if self.boxes.shape != (len(self.names), 4):
            raise ValueError(f"boxes must be ({len(self.names)}, 4), got {self.boxes.shape}")


Reading = Curve | Picture


def draw_readings(right: Reading, wrong: Reading) -> Figure:
    """Draw both readings: curves in one frame, pictures side by side. Raises TypeError for one of each."""
    if isinstance(right, Curve) and isinstance(wrong, Curve):
        return _curves(right, wrong)
    if isinstance(right, Picture) and isinstance(wrong, Picture):
        return _pictures((right, wrong))
    raise TypeError("two readings of the same kind are needed")


def _curves(right: Curve, wrong: Curve) -> Figure:
    figure = Figure(figsize=(6.4, 3.3), dpi=100, layout="constrained")
    axes = figure.subplots()
    for curve, look, name, marker in zip((right, wrong), (RIGHT, WRONG), NAMES, "os", strict=True):
        label = f"{name}: {curve.words} {written(curve.value)}"
        if curve.kind == "bars":
            _bars(axes, curve, look, label, left=curve is right)
        elif curve.kind == "points":
            axes.plot(curve.x, curve.y, marker, color=look.colour, label=label, fillstyle=_fill(curve, right))
        else:
            few = len(curve.x) <= 8
            axes.plot(curve.x, curve.y, label=label, marker=marker if few else None, **look.line())
            if few:
                axes.set_xticks(curve.x)
    if right.kind == "points":
        axes.set_aspect("equal")
        axes.invert_yaxis()
    tidy(axes)
    axes.grid(color=FAINT, alpha=0.22, linewidth=0.7)
    axes.set_axisbelow(True)
    axes.set_xlabel(right.x_label, color=INK)
    axes.set_ylabel(right.y_label, color=INK)
    figure.legend(loc="outside upper left", frameon=False, fontsize=9)
    return figure


def _bars(axes: Axes, curve: Curve, look: LineLook, label: str, left: bool) -> None:
    step = float(curve.x[1] - curve.x[0])
    place = curve.x + step * (0.28 if left else 0.72)
    axes.bar(place, curve.y, 0.4 * step, color=look.colour, hatch="" if left else "////", edgecolor="white",
             linewidth=0, label=label)  # fmt: skip


def _fill(curve: Curve, right: Curve) -> Literal["full", "none"]:
    return "full" if curve is right else "none"


def _pictures(pictures: Sequence[Picture]) -> Figure:
    figure = Figure(figsize=(8.4, 5.0), dpi=100, layout="constrained")
    columns = figure.subplots(1, 2)
    for axes, picture, look, name in zip(columns, pictures, (RIGHT, WRONG), NAMES, strict=True):
        show_picture(axes, picture.pixels)
        axes.set_title(f"{name}\n{picture.words} {written(picture.value)}", fontsize=10, color=INK)
        for box, tag in zip(picture.boxes.tolist(), picture.names, strict=True):
            add_box(axes, box, look)
            if tag:
                add_tag(axes, box, tag, look.colour, size=8)
    return figure


def written(value: float) -> str:
    """Return a number with three digits that count; what is left of 0 after rounding is 0."""
    return f"{value:.3g}" if abs(value) >= 1e-5 else "0"
