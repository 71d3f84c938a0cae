"""What can be wrong with the box and the mask of one annotation, before pycocotools sees them."""

from __future__ import annotations

import math
from typing import Any, TypeGuard

import numpy as np

UNKNOWN = (0, 0)  # the size of a picture whose entry is itself at fault


def box_fault(box: Any, size: tuple[int, int] | None, may_be_flat: bool = False) -> str:
    """Say what is wrong with a COCO box x, y, w, h in a picture of ``size`` (H, W); empty if nothing."""
    if not isinstance(box, list) or len(box) != 4:
        return f"bbox is {show(box)} (must be 4 numbers x, y, width, height)"
    for number, value in enumerate(box):
        if not is_finite(value):
            return f"bbox[{number}] is {show(value)} (must be a finite number)"
        if number >= 2 and (value < 0 or (value == 0 and not may_be_flat)):
            return f"bbox[{number}] is {show(value)} (must be > 0)"
    if size is None or size == UNKNOWN or 0 in box[2:]:
        return ""
    (height, width), (x, y, w, h) = size, box
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return f"bbox is {show(box)} (must overlap the picture, {width}x{height})"
    if x < -width or y < -height or x + w > 2 * width or y + h > 2 * height:
        return f"bbox is {show(box)} (reaches far outside the picture, {width}x{height})"
    return ""


def segmentation_fault(segmentation: Any, size: tuple[int, int] | None) -> str:
    """Say what is wrong with polygons or runs in a picture of ``size`` (H, W); empty if nothing.

    None and an empty list both say that the object has no mask.
    """
    if segmentation is None or segmentation == []:
        return ""
    if isinstance(segmentation, dict):
        return _runs_fault(segmentation, size)
    if not isinstance(segmentation, list):
        return f"segmentation is {show(segmentation)} (must be polygons or runs)"
    limit = 2 * max(size) if size and size != UNKNOWN else 1e300
    for number, polygon in enumerate(segmentation):
        where = f"segmentation[{number}]"
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            count = f"has {len(polygon)} numbers" if isinstance(polygon, list) else f"is {show(polygon)}"
            return f"{where} {count} (must be 6 or more, x and y in turn)"
        try:
            if math.isfinite(sum(polygon)) and min(polygon) >= -limit and max(polygon) <= limit:
                continue
        except (TypeError, ValueError, OverflowError):
            pass  # a text, or infinities of both signs: found below
        for position, value in enumerate(polygon):
            if not is_finite(value):
                return f"{where}[{position}] is {show(value)} (must be a finite number)"
            if abs(value) > limit:
                return f"{where}[{position}] is {show(value)} (far outside the picture)"
    return ""


def _runs_fault(runs: dict[str, Any], size: tuple[int, int] | None) -> str:
    counts, stated = runs.get("counts"), runs.get("size")
    if (
        not isinstance(stated, list)
        or len(stated) != 2
        or not all(is_int(side) and side > 0 for side in stated)
    ):
        return f"segmentation.size is {show(stated)} (must be [height, width])"
    if size and size != UNKNOWN and tuple(stated) != size:
        return (
            f"segmentation.size is {show(stated)} (must be {list(size)}, the [height, width] of its picture)"
        )
    if isinstance(counts, str):
        shortest, total = _run_lengths(counts)
    elif isinstance(counts, list) and all(is_int(count) for count in counts):
        shortest, total = min(counts, default=0), sum(counts)
    else:
        return f"segmentation.counts is {show(counts)} (must be a text or a list of integers)"
    if shortest < 0:
        return f"segmentation.counts is {show(counts)} (cannot be decoded)"
    if total != stated[0] * stated[1]:
        return f"segmentation.counts covers {total} pixels (must be {stated[0] * stated[1]}, its size)"
    return ""


def _run_lengths(text: str) -> tuple[int, int]:
    """Return the shortest and the sum of compressed runs; the shortest is -1 where they cannot be decoded.

    A letter holds 5 bits and says whether its number goes on; from the fourth number on it is the difference
    to the one two before. Source: pycocotools ``rleFrString``, which trusts its input.
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    if not len(ends) or ends[-1] != len(codes) - 1 or codes.min() < 0 or codes.max() > 63:
        return -1, 0
    starts = np.append(0, ends[:-1] + 1)
    if (ends - starts).max() > 6:
        return -1, 0  # more than 35 bits
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, 32 << shifts[ends], 0)  # the sign
    values[1::2], values[2::2] = values[1::2].cumsum(), values[2::2].cumsum()
    return int(values.min()), int(values.sum())


def is_int(value: Any) -> TypeGuard[int]:
    """Say whether a JSON value is a whole number; to Python, true and false are some too."""
    return isinstance(value, int) and not isinstance(value, bool)


def is_finite(value: Any) -> TypeGuard[float]:
    """Say whether a JSON value is a number, and neither NaN nor infinite."""
    # Compared, not asked by math.isfinite: that overflows on an integer of a thousand digits.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def show(value: Any) -> str:
    """Return a JSON value as a message shows it, short and in one line."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
