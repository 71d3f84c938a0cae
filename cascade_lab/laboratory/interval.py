"""How sure a number is that was measured on some pictures: the bootstrap over pictures.

Pictures are resampled, not boxes: boxes of one picture share its objects and are not independent. Such an
interval says how a number would vary with other pictures. It does not say how it would vary with another
training of the same recipe, which moves AP by much more in a small model.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

LEVEL = (2.5, 97.5)  # percentiles of a 95 % interval


@dataclass(frozen=True, kw_only=True)
class Interval:
    """A measured value and its 95 % interval over resampled pictures."""

    value: float
    low: float
    high: float

    @property
    def decided(self) -> bool:
        """Say whether the interval leaves out 0, so that the sign is more than the choice of pictures."""
        return self.low > 0 or self.high < 0

    def __str__(self) -> str:
        verdict = "" if self.decided else ", not decided by these pictures"
        return f"{self.value:+.1f} [{self.low:+.1f}, {self.high:+.1f}]{verdict}"


def resamples(pictures: int, draws: int, seed: int) -> np.ndarray:
    """Return ``draws`` times as many pictures, drawn with replacement: numbers (draws, pictures)."""
    return np.random.default_rng(seed).integers(0, pictures, (draws, pictures))


def ratio_intervals(tops: np.ndarray, bottoms: np.ndarray, draws: int, seed: int) -> np.ndarray:
    """Return the 95 % interval of sum(tops) / sum(bottoms) over resampled pictures.

    Shapes: tops and bottoms (N, B), one row a picture; returns (2, B), NaN where no draw has a denominator.
    """
    chosen = resamples(len(tops), draws, seed)
    top, bottom = tops[chosen].sum(1), bottoms[chosen].sum(1)  # (draws, B)
    return bounds(np.divide(top, bottom, out=np.full(top.shape, np.nan), where=bottom > 0))


def bounds(drawn: np.ndarray) -> np.ndarray:
    """Return the 95 % interval of every column of (draws, B) as (2, B), NaN where no draw has a value."""
    low_high = np.full((2, drawn.shape[1]), np.nan)
    known = ~np.isnan(drawn).all(0)
    low_high[:, known] = np.nanpercentile(drawn[:, known], LEVEL, axis=0)
    return low_high
