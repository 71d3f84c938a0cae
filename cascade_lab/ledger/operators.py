"""Operations counted where they happen: every operator that PyTorch dispatches in a forward pass.

An operation is one multiply-accumulate; where nothing is multiplied and added at once, it is one result of
arithmetic. So per operator:

    convolution, linear     multiply-accumulates, and one per output element for the bias
    DCNv3                   per position, group and kernel point: 2 for the place, 8 for the weights of four
                            corners, 3 for the softmax; and 4 corners for every channel of the group
    RoIAlign                4 corners for every sample and channel
    LayerNorm, GroupNorm    4 per element: mean, variance, normalised, scaled and shifted
    BatchNorm, at inference 2 per element: normalised, scaled and shifted; after a convolution part of it
    interpolation           1 per output element
    all others              1 per output element: activations, sums, products, comparisons
    moving and viewing      free

Not in the pass, so not counted: NMS and sorting, decoding of boxes, scores, pasting of masks.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from math import ceil, prod
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

import cascade_lab.ops.dcnv3
import cascade_lab.ops.roi_align  # noqa: F401  (with them PyTorch knows the operators named below)

aten, own = torch.ops.aten, torch.ops.cascade_lab
CONVOLUTION, LINEAR, DCNV3, ROI_ALIGN, NORM, OTHER = (
    "convolution", "linear", "DCNv3", "RoIAlign", "norm", "element-wise",
)  # fmt: skip
CORNERS = 4
PLACE, WEIGHTS, SOFTMAX = 2, 8, 3  # of one kernel point of one group
FREE = {
    aten._to_copy, aten._unsafe_view, aten.arange, aten.cat, aten.clone, aten.copy_, aten.empty, aten.full,
    aten.new_empty, aten.new_full, aten.new_zeros, aten.promote_types, aten.stack, aten.zeros,
}  # fmt: skip


class OperationCounter(TorchDispatchMode):
    """Add up the operations of everything that runs within ``part(name)``, by part and by kind.

    ``typical_side`` is the side of a box in cells of the level that it is read from; RoIAlign that adapts its
    samples to the box is counted for such boxes.

    Raises NotImplementedError for an operator without a rule, rather than leave it out.
    """

    def __init__(self, typical_side: float) -> None:
        super().__init__()
        self.by_part: Counter[str] = Counter()
        self.by_kind: Counter[str] = Counter()
        self.largest_bytes = 0  # of a single result: tells how much memory the pass needs at once
        self._side = typical_side
        self._part = ""

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        self._part = name
        with self:
            yield

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        kind, operations = self._count(func, args, result)
        if operations:
            self.by_part[self._part] += operations
            self.by_kind[kind] += operations
        if isinstance(result, Tensor):
            self.largest_bytes = max(self.largest_bytes, result.nbytes)
        return result

    def _count(self, func, args: tuple[Any, ...], result: Any) -> tuple[str, int]:
        packet = func.overloadpacket
        if packet in FREE or func.is_view:
            return OTHER, 0
        if packet == own.pool_rois:
            return ROI_ALIGN, pool_rois(result, args[3], args[5], self._side)
        if packet in RULES:
            kind, rule = RULES[packet]
            return kind, rule(args, result)
        if torch.Tag.pointwise in func.tags:
            return OTHER, result.numel()
        raise NotImplementedError(f"operator {func}: no rule to count it by; add one to RULES or FREE")


def typical_side(canonical_size: float, finest_stride: int) -> float:
    """Return the side of a box in the cells of its level: boxes come from ``canonical_size`` to twice that at
    the finest level, and look the same on every other; this is the middle."""
    return 1.5 * canonical_size / finest_stride


def convolution(args: tuple[Any, ...], result: Tensor) -> int:
    """Count a convolution; a transposed one starts from the positions of its input."""
    input, weight, bias, *_ = args
    starts = input if args[6] else result
    positions = starts.shape[0] * prod(starts.shape[2:])
    return weight.numel() * positions + (0 if bias is None else result.numel())


def matrix_product(args: tuple[Any, ...], result: Tensor) -> int:
    """Count (M, K) @ (K, N), or a batch of them."""
    return result.numel() * args[0].shape[-1]


def product_and_bias(args: tuple[Any, ...], result: Tensor) -> int:
    """Count bias + (M, K) @ (K, N)."""
    return result.numel() * (args[1].shape[-1] + 1)


def dcnv3(args: tuple[Any, ...], result: Tensor) -> int:
    """Count the operator: result (N, H', W', C), modulation (N, H', W', G * K)."""
    modulation, groups, rule = args[2], args[3], args[9]
    points = modulation.shape[-1] // groups
    each_point = PLACE + WEIGHTS + (SOFTMAX if rule == "softmax" else 0)
    return result.numel() * points * CORNERS + modulation.numel() * each_point


def pool_rois(result: Tensor, bins: int, sampling_ratio: int, side: float) -> int:
    """Count RoIAlign: result (R, C, bins, bins)."""
    samples = sampling_ratio or ceil(side / bins)
    return result.numel() * samples**2 * CORNERS


def _each(operations: int) -> Callable[[tuple[Any, ...], Any], int]:
    """Count so many operations for each element of the input."""
    return lambda args, _: operations * args[0].numel()


RULES: dict[Any, tuple[str, Callable[[tuple[Any, ...], Any], int]]] = {
    aten.convolution: (CONVOLUTION, convolution),
    aten.mm: (LINEAR, matrix_product),
    aten.bmm: (LINEAR, matrix_product),
    aten.addmm: (LINEAR, product_and_bias),
    own.dcnv3: (DCNV3, dcnv3),
    aten.native_layer_norm: (NORM, _each(4)),
    aten.native_group_norm: (NORM, _each(4)),
    aten.native_batch_norm: (NORM, _each(2)),
    aten.cudnn_batch_norm: (NORM, _each(2)),
    aten.upsample_nearest2d: (OTHER, lambda _, result: result.numel()),
}
