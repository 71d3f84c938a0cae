"""One look for all figures: colours that colour-blind readers can tell apart, and a line style a stage.

Colour never speaks alone: each stage has its own line style too, and a class is always named in text.
Source: Okabe and Ito, "Color Universal Design", https://jfly.uni-koeln.de/color/
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

ORANGE, SKY, GREEN, YELLOW = "#E69F00", "#56B4E9", "#009E73", "#F0E442"
BLUE, VERMILLION, PURPLE, GREY, PALE = "#0072B2", "#D55E00", "#CC79A7", "#8C8C8C", "#DADADA"
INK, FAINT, PAPER = "#1F2328", "#6E7781", "#FFFFFF"  # text and axes, secondary text and grid, background


@dataclass(frozen=True, kw_only=True)
class LineLook:
    """How one stage, or one way to read a cascade, is drawn wherever it appears."""

    colour: str
    style: Any  # as matplotlib takes it: a name, or (offset, (dash, gap, ...))
    width: float = 1.8

    def line(self) -> dict[str, Any]:
        """Return the keyword arguments of ``Axes.plot``."""
        return {"color": self.colour, "linestyle": self.style, "linewidth": self.width}


PROPOSAL = LineLook(colour=PALE, style=(0, (1, 1.6)), width=1.4)
TRUTH = LineLook(colour=PAPER, style=(0, (5, 2.5)), width=1.2)

_STAGES = (
    LineLook(colour=SKY, style=(0, (4.5, 1.6))),
    LineLook(colour=ORANGE, style=(0, (6, 1.5, 1.2, 1.5))),
    LineLook(colour=GREEN, style="solid"),
    LineLook(colour=PURPLE, style=(0, (8, 2))),
    LineLook(colour=VERMILLION, style=(0, (2.4, 1.2))),
)
_ENSEMBLES = (
    LineLook(colour=BLUE, style=(0, (9, 1.6, 1.2, 1.6, 1.2, 1.6)), width=2.0),
    LineLook(colour=INK, style="solid", width=2.6),
)
_CLASSES = (SKY, ORANGE, GREEN, PURPLE, YELLOW, VERMILLION, BLUE)


def stage_look(stage: int) -> LineLook:
    """Return the look of a stage, 0-based; after five stages the looks repeat."""
    return _STAGES[stage % len(_STAGES)]


def mode_look(mode: str, full: str) -> LineLook:
    """Return the look of a way to read a cascade: "2" is stage 2, "1~2" averages two stages.

    ``full`` names the mode in which all stages vote, which is drawn as the boldest line.
    """
    if "~" not in mode:
        return stage_look(int(mode) - 1)
    return _ENSEMBLES[1 if mode == full else 0]


def class_colour(label: int) -> str:
    """Return the colour of a class; with more than seven classes colours repeat, so name the class too."""
    return _CLASSES[label % len(_CLASSES)]


def text_colour(background: str) -> str:
    """Return black or white, whichever reads better on a colour (relative luminance of WCAG 2)."""
    channels = [int(background[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    luminance = sum(w * c for w, c in zip((0.2126, 0.7152, 0.0722), linear, strict=True))
    # Contrast with white is 1.05 / (L + .05), with black (L + .05) / .05; they are equal at L = .179.
    return "#000000" if luminance > 0.179 else "#FFFFFF"
