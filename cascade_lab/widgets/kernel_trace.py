"""What every thread of DCNv3's two kernels did on one small map: recorded by the emulator, kept in a file.

The stored one, for machines without a compiler, was made by

    python -m cascade_lab.widgets.kernel_trace
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from cascade_lab.errors import InputError
from cascade_lab.kernels import dcnv3, emulator, host_compiler
from cascade_lab.kernels.dcnv3 import Settings
from cascade_lab.kernels.steps import Index, Step

STORED = Path(__file__).parent / "assets" / "kernel_trace.npz"
POINTS = 9
MOST_CHANNELS = 4  # of a group: what one thread reads at once, so that nobody shares a group


@dataclass(frozen=True, kw_only=True)
class KernelTrace:
    """One map through forward and backward, and what each thread told of it.

    Shapes, for T threads in order of output pixel and group, nine points, and the four pixels round a point
    from upper left to lower right:
        input, output, grad_output, grad_input: (H, W, C) float32.
        offset, grad_offset: (H, W, G, 9, 2); logits, grad_logits: (H, W, G, 9).
        offset_scale: (); block_size: (3,) threads along x, y, z.
        blocks, threads: (T, 3) indexes; places: (T, 6) row, column, group, at_points, at_input, at_output.
        points: (T, 9, 2) x and y in pixels of the input; modulation: (T, 9); weights: (T, 9, 4).
        reads: (T, 9, 4) elements of the input; adds: (T, 9, 4) elements of the gradient of the input.
        sums: (T, 9) the first channel of the thread's sum after each point.
        grads: (T,) the first channel of what arrives, dL/d output.
        dots: (T, 9, 4) that gradient times each of the four pixels, summed over the thread's channels.
        slopes: (T, 9, 3) dL/d offset x, dL/d offset y, dL/d modulation; along: (T, 9) sum of m dL/dm so far.
    """

    input: np.ndarray
    output: np.ndarray
    grad_output: np.ndarray
    grad_input: np.ndarray
    offset: np.ndarray
    grad_offset: np.ndarray
    logits: np.ndarray
    grad_logits: np.ndarray
    offset_scale: np.ndarray
    block_size: np.ndarray
    blocks: np.ndarray
    threads: np.ndarray
    places: np.ndarray
    points: np.ndarray
    modulation: np.ndarray
    weights: np.ndarray
    reads: np.ndarray
    adds: np.ndarray
    sums: np.ndarray
    grads: np.ndarray
    dots: np.ndarray
    slopes: np.ndarray
    along: np.ndarray

    def __post_init__(self) -> None:
        shape, count, groups = self.input.shape, len(self.threads), self.groups
        each = (*shape[:2], groups, POINTS)
        expected = dict.fromkeys(("output", "grad_output", "grad_input"), shape)
        expected |= dict.fromkeys(("offset", "grad_offset"), (*each, 2)) | {"grad_logits": each}
        expected |= {
            "blocks": (count, 3),
            "places": (count, 6),
            "points": (count, POINTS, 2),
            "grads": (count,),
        }
        expected |= dict.fromkeys(("modulation", "sums", "along"), (count, POINTS))
        expected |= dict.fromkeys(("weights", "reads", "adds", "dots"), (count, POINTS, 4))
        expected |= {"slopes": (count, POINTS, 3)}
        for name, wanted in expected.items():
            if getattr(self, name).shape != wanted:
                found = getattr(self, name).shape
                raise InputError(
                    f"kernel trace: {name} has shape {found}, expected {wanted}; record it again"
                )

    def __len__(self) -> int:
        return len(self.threads)

    @property
    def groups(self) -> int:
        """Return how many groups the channels are divided into."""
        return self.logits.shape[2]

    @property
    def size(self) -> tuple[int, int]:
        """Return (H, W)."""
        return self.input.shape[0], self.input.shape[1]

    def thread_of(self, row: int, column: int, group: int = 0) -> int:
        """Return the number of the thread that makes one output. Raises InputError where there is none."""
        (height, width), groups = self.size, self.groups
        if not (0 <= row < height and 0 <= column < width and 0 <= group < groups):
            raise InputError(
                f"thread: no output at row {row}, column {column}, group {group};"
                f" there are {height} rows, {width} columns and {groups} groups"
            )
        return (row * width + column) * groups + group


def record_trace(
    input: Tensor,
    offset: Tensor,
    logits: Tensor,
    grad_output: Tensor,
    *,
    groups: int,
    offset_scale: float = 1.0,
) -> KernelTrace:
    """Run forward and backward in the emulator, 3 x 3 points and softmax, and keep what all threads told.

    Shapes:
        input, grad_output: (1, H, W, C); offset: (1, H, W, G * 9 * 2); logits: (1, H, W, G * 9).

    Raises:
        InputError: the map is more than one block of threads, or a group more than one thread.
        CompileError: there is no compiler.
    """
    _, height, width, channels = input.shape
    if channels // groups > MOST_CHANNELS:
        raise InputError(
            f"input: {channels // groups} channels in a group, at most {MOST_CHANNELS} can be shown"
        )
    grid, block = dcnv3.grid_and_block("emulator", "dcnv3_forward", groups, height * width, len(input))
    if grid != (1, 1, 1):
        raise InputError(
            f"input: {grid} blocks; pass one picture of at most {block[1]} pixels, which is one block"
        )
    settings = plain_settings(groups, offset_scale)
    input, offset, logits, grad_output = (
        t.float().contiguous() for t in (input, offset, logits, grad_output)
    )
    everyone = [((0, 0, 0), (x, y, 0)) for y in range(height * width) for x in range(groups)]
    with emulator.recording(*everyone) as forward:
        output = dcnv3.forward("emulator", input, offset, logits, settings)
    with emulator.recording(*everyone) as backward:
        grads = dcnv3.backward("emulator", grad_output, input, offset, logits, settings)

    def shaped(tensor: Tensor, *shape: int) -> np.ndarray:
        return tensor.view(height, width, *shape).numpy().copy()

    places = _told(forward, everyone, "place")  # (T, 1, 8) exists, lane, group, row, column, ...
    adds, dots = _told(backward, everyone, "add"), _told(backward, everyone, "dots")
    reads = _told(forward, everyone, "read")
    return KernelTrace(
        input=shaped(input, channels),
        output=shaped(output, channels),
        grad_output=shaped(grad_output, channels),
        grad_input=shaped(grads[0], channels),
        offset=shaped(offset, groups, POINTS, 2),
        grad_offset=shaped(grads[1], groups, POINTS, 2),
        logits=shaped(logits, groups, POINTS),
        grad_logits=shaped(grads[2], groups, POINTS),
        offset_scale=np.array(offset_scale, np.float32),
        block_size=np.array(block, np.int32),
        blocks=np.array([place for place, _ in everyone], np.int32),
        threads=np.array([thread for _, thread in everyone], np.int32),
        places=places[:, 0, [3, 4, 2, 5, 6, 7]].astype(np.int32),
        points=_told(forward, everyone, "point")[..., 1:].astype(np.float32),
        modulation=reads[..., 1].astype(np.float32),
        weights=reads[..., 2:].astype(np.float32),
        reads=_touched(forward, everyone, "read"),
        adds=_touched(backward, everyone, "add"),
        sums=_told(forward, everyone, "sum")[..., 1].astype(np.float32),
        grads=adds[:, 0, -1].astype(np.float32),
        dots=dots[..., 2:6].astype(np.float32),
        slopes=dots[..., 6:9].astype(np.float32),
        along=dots[..., 9].astype(np.float32),
    )


def plain_settings(groups: int, offset_scale: float = 1.0) -> Settings:
    """Return the settings of all layers of InternImage: 3 x 3 points, softmax, and the map keeps its size."""
    one = (1, 1)
    return Settings(
        groups=groups, kernel=(3, 3), stride=one, dilation=one, padding=one, offset_scale=offset_scale,
        rule="softmax",
    )  # fmt: skip


def small_example() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return input, offset, logits and grad_output of a map of 5 x 6 pixels with two groups of four channels.

    Short numbers, so that a pencil can follow; some points lie outside of the map.
    """
    random = np.random.default_rng(3)

    def some(low: int, high: int, channels: int, parts: int = 1) -> Tensor:
        return torch.from_numpy(random.integers(low, high + 1, (1, 5, 6, channels)) / parts).float()

    return some(0, 9, 8), some(-12, 12, 2 * POINTS * 2, 10), some(-2, 2, 2 * POINTS, 2), some(-2, 2, 8)


def small_trace() -> KernelTrace:
    """Return the trace of the small example: recorded now where a compiler is there, else the stored one."""
    return stored_trace() if host_compiler.find() is None else record_trace(*small_example(), groups=2)


def stored_trace() -> KernelTrace:
    """Return the trace of the small example that comes with the library."""
    with np.load(STORED, allow_pickle=False) as file:
        return KernelTrace(**{field.name: file[field.name] for field in fields(KernelTrace)})


def _of_thread(steps: Sequence[Step], everyone: Sequence[tuple[Index, Index]], name: str) -> list[list[Step]]:
    found: dict[tuple[Index, Index], list[Step]] = {thread: [] for thread in everyone}
    for step in steps:
        if step.name == name:
            found[step.block, step.thread].append(step)
    return list(found.values())


def _told(steps: Sequence[Step], everyone: Sequence[tuple[Index, Index]], name: str) -> np.ndarray:
    """Return the values of all steps of one name, (T, how often, how many)."""
    return np.array([[step.values for step in own] for own in _of_thread(steps, everyone, name)])


def _touched(steps: Sequence[Step], everyone: Sequence[tuple[Index, Index]], name: str) -> np.ndarray:
    """Return the elements that the pointers of all steps of one name point to, (T, how often, how many)."""
    found = _of_thread(steps, everyone, name)
    return np.array([[[at.element for at in step.addresses] for step in own] for own in found], np.int32)


if __name__ == "__main__":
    trace = record_trace(*small_example(), groups=2)
    np.savez_compressed(STORED, **{field.name: getattr(trace, field.name) for field in fields(KernelTrace)})
    print(f"{STORED}: {len(trace)} threads, {STORED.stat().st_size:,} bytes")
