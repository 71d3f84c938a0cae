"""What the kernel stepper says, in words and numbers.

The numbers of all threads are arrays with names; Python and JavaScript fill them into the same templates, so
both say the same.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from decimal import ROUND_HALF_UP, Decimal

import numpy as np

from cascade_lab.widgets.kernel_moments import kernel_lines, line_of, moments
from cascade_lab.widgets.kernel_trace import POINTS, KernelTrace


def numbers(trace: KernelTrace) -> dict[str, np.ndarray]:
    """Return every number that a template may name, float32: (T,) of a thread, (T, 9) of its points."""
    count, (height, width), channels = len(trace), trace.size, trace.input.shape[2]
    row, column, group, at_points, at_input, at_output = trace.places.T
    x, y = trace.points[..., 0], trace.points[..., 1]
    left, above = np.clip(np.floor(x), 0, width - 2), np.clip(np.floor(y), 0, height - 2)
    past_x, past_y = x - left, y - above
    pixels = trace.input.ravel()[trace.reads]  # (T, 9, 4)
    products = trace.weights * pixels  # of float32, as in the kernel, so the running sums are its own
    before = np.concatenate([np.zeros((count, 1), np.float32), trace.sums[:, :-1]], axis=1)
    offsets = trace.offset.reshape(count, POINTS, 2)
    kernel = np.broadcast_to(np.arange(POINTS), (count, POINTS))
    scale = trace.offset_scale

    def near(distance: np.ndarray) -> np.ndarray:
        return np.maximum(1 - np.abs(distance), 0)

    named = {
        "block_x": trace.blocks[:, 0], "block_y": trace.blocks[:, 1],
        "thread_x": trace.threads[:, 0], "thread_y": trace.threads[:, 1],
        "across": np.full(count, trace.block_size[0]), "down": np.full(count, trace.block_size[1]),
        "here": row * width + column, "row": row, "column": column, "group": group,
        "width": np.full(count, width), "groups": np.full(count, trace.groups),
        "channels": np.full(count, channels // trace.groups),
        "at_points": at_points, "at_offset": 2 * at_points, "at_input": at_input, "at_output": at_output,
        "step": np.full(count, channels), "line": np.full(count, width * channels),
        "largest": trace.logits.reshape(count, POINTS).max(1), "scale": np.full(count, scale),
        "start_x": column - scale, "start_y": row - scale,
        "kernel_x": kernel // 3, "kernel_y": kernel % 3,
        "offset_x": offsets[..., 0], "offset_y": offsets[..., 1],
        "x": x, "y": y, "left": left, "above": above, "past_x": past_x, "past_y": past_y,
        "share_left": near(past_x), "share_right": near(past_x - 1),
        "share_upper": near(past_y), "share_lower": near(past_y - 1),
        "m": trace.modulation, "sum_before": before, "sum_end": trace.sums[:, -1], "sum": trace.sums,
        "gradient": trace.grads, "along": trace.along[:, -1],
        "grad_x": trace.slopes[..., 0], "grad_y": trace.slopes[..., 1], "grad_m": trace.slopes[..., 2],
        "grad_logit": trace.grad_logits.reshape(count, POINTS),
    }  # fmt: skip
    running = before
    for corner in range(4):
        running = running + products[..., corner]
        named |= {
            f"e{corner}": trace.reads[..., corner], f"a{corner}": trace.adds[..., corner],
            f"w{corner}": trace.weights[..., corner], f"v{corner}": pixels[..., corner],
            f"s{corner}": running, f"d{corner}": trace.dots[..., corner],
            f"c{corner}": trace.weights[..., corner] * trace.grads[:, None],
        }  # fmt: skip
    return {name: np.asarray(values, np.float32) for name, values in named.items()}


def fill(template: str, values: Mapping[str, float]) -> str:
    """Return the template with its numbers, rounded half away from zero as in JavaScript, no idle zeros."""

    def number(match: re.Match[str]) -> str:
        exact = Decimal(float(values[match[1]]))
        text = f"{exact.quantize(Decimal(1).scaleb(-int(match[2] or 0)), ROUND_HALF_UP):f}"
        text = text.rstrip("0").rstrip(".") if "." in text else text
        return "0" if text == "-0" else text

    return re.sub(r"\{(\w+)(?::(\d))?\}", number, template)


def describe_step(trace: KernelTrace, thread: int, step: int, *, backward: bool = False) -> str:
    """Return what the stepper says at one step: its line, a title, and the arithmetic with values."""
    moment, point = moments(backward)[step]
    values = {
        name: array[thread] if array.ndim == 1 else array[thread, point]
        for name, array in numbers(trace).items()
    }
    number = line_of(moment)
    where = f"point {point}, " if point >= 0 else ""
    texts = [fill(text, values) for text in moment.text]
    return "\n".join([f"{where}line {number}: {kernel_lines()[number - 1].strip()}", moment.title, *texts])


@dataclass(frozen=True, kw_only=True)
class Arrival:
    """One atomic addition to a cell of the gradient of the input; corner 0 to 3 as everywhere."""

    thread: int
    point: int
    corner: int
    value: float


def arrivals(trace: KernelTrace, element: int) -> list[Arrival]:
    """Return all additions to one element that are not zero, by thread and point: they meet in one cell."""
    found = np.argwhere((trace.adds == element) & (trace.weights * trace.grads[:, None, None] != 0))
    return [
        Arrival(
            thread=int(t), point=int(k), corner=int(c), value=float(trace.weights[t, k, c] * trace.grads[t])
        )
        for t, k, c in found
    ]
