"""A 3x3 convolution of many small maps with fewer multiplications: Winograd's algorithm.

Along one side, four neighbouring outputs of a filter of three taps take twelve multiplications the plain way
and six this way; three outputs take nine, or five. So a map of 7 x 7 (4 + 3 each way) takes 11 x 11 products
for each pair of channels instead of 7 x 7 x 9, and all of it is matrix products:

    y = Q [ (G g G^T) * (T x T^T) ] Q^T

Source: Lavin and Gray 2016, "Fast Algorithms for Convolutional Neural Networks", section 4; how the matrices
follow from points: Barabasz et al. 2020, "Error Analysis and Improving the Accuracy of Winograd Convolution
for Deep Neural Networks", section 3. In float32 the error is about eight times that of the plain sum.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from math import prod

import numpy as np
import torch
from torch import Tensor

# Where the polynomials are taken, besides infinity. Of the sets of small fractions that were tried these have
# the smallest error. Tiles of four use all, tiles of three all but EXTRA: one transformed filter serves both.
SHARED, EXTRA = (0.0, -1.0, 1.0, 0.5), -2.0
POINTS = len(SHARED) + 2  # infinity comes fifth, EXTRA last
AT_ONCE = 2**21  # numbers of the transformed input: they stay in a processor's cache


def winograd_conv3x3(maps: Tensor, weight: Tensor) -> Tensor:
    """Convolve with a 3x3 filter, stride 1 and padding 1: what ``conv2d`` computes, up to rounding.

    Shapes: ``maps`` (H, W, R, C), position before map; ``weight`` (O, C, 3, 3); to (H, W, R, O).

    Raises:
        ValueError: a side cannot be cut into tiles of four and three.
    """
    with torch.autocast(maps.device.type, enabled=False):
        return _Winograd.apply(maps, weight)


def tiles(length: int) -> list[int]:
    """Return the outputs of each tile of a side, fours before threes; none where they do not fit."""
    threes = -length % 4
    return [] if 3 * threes > length else [4] * ((length - 3 * threes) // 4) + [3] * threes


@dataclass(frozen=True)
class Side:
    """The matrices of one side of a map: T, G and Q of the module's docstring.

    Shapes: ``spread`` (P, L), ``filter`` (6, 3), ``collect`` (L, P). The padding is in ``spread``: what lies
    outside the map has no column there. Of the P products those of a point lie together, one of each tile.
    """

    spread: Tensor
    filter: Tensor
    collect: Tensor
    shared: int  # products for each point but the last
    extra: int  # products for the last

    @property
    def point_of(self) -> list[int]:
        """The point that each product belongs to."""
        return [p for p in range(POINTS - 1) for _ in range(self.shared)] + [POINTS - 1] * self.extra


@lru_cache
def side(length: int, dtype: torch.dtype) -> Side:
    """Return the matrices of a side. Raises ValueError where it cannot be cut."""
    cut = tiles(length)
    if not cut:
        raise ValueError(f"a side of {length} cannot be cut into tiles of four and three")
    shared, extra, start = len(cut), cut.count(4), 0
    products = shared * (POINTS - 1) + extra
    spread, collect = np.zeros((products, length)), np.zeros((length, products))
    for number, outputs in enumerate(cut):
        evaluate, inverse = tile_matrices(outputs)
        own = number + shared * np.arange(outputs + 2)
        for step in range(outputs + 2):
            if 0 <= start - 1 + step < length:
                spread[own, start - 1 + step] = evaluate[:, step]
        collect[start : start + outputs, own] = inverse
        start += outputs
    spread, taps, collect = (
        torch.from_numpy(matrix).to(dtype) for matrix in (spread, filter_matrix(), collect)
    )
    return Side(spread, taps, collect, shared, extra)


def filter_matrix() -> np.ndarray:
    """Return G (6, 3): the filter's polynomial at each point, over the distances to the other points."""
    points = (*SHARED, EXTRA)
    rows = [
        [p**power / prod(p - other for other in points if other != p) for power in range(3)] for p in points
    ]
    return np.array([*rows[:-1], [0, 0, 1], rows[-1]])


def tile_matrices(outputs: int) -> tuple[np.ndarray, np.ndarray]:
    """Return T (n, n) and Q (m, n) of one tile, m outputs by n = m + 2 products.

    Toom and Cook multiply two polynomials by their values at n points; Winograd's filter is that product
    transposed. A tile of three does without EXTRA, by whose distance ``filter_matrix`` divides all the same.
    """
    points = (*SHARED, EXTRA) if outputs == 4 else SHARED
    evaluate, inverse = np.zeros((outputs + 2, outputs + 2)), np.zeros((outputs, outputs + 2))
    for p, row in zip(points, (0, 1, 2, 3, 5), strict=False):
        evaluate[row, :-1] = np.poly([other for other in points if other != p])[::-1]
        evaluate[row] *= 1 if outputs == 4 else p - EXTRA
        inverse[:, row] = [p**power for power in range(outputs)]
    evaluate[4], inverse[-1, 4] = np.poly(points)[::-1], 1
    return evaluate, inverse


class _Winograd(torch.autograd.Function):
    """Some maps at a time. The backward spreads them again rather than keep what is 2.5 times as large."""

    @staticmethod
    def forward(ctx, maps: Tensor, weight: Tensor) -> Tensor:
        maps = maps.contiguous()
        ctx.save_for_backward(maps, weight)
        rows, columns = _sides(maps)
        filters = _filters(weight, rows, columns).transpose(2, 3).contiguous()  # (6, 6, C, O)
        output = maps.new_empty(*maps.shape[:3], len(weight))
        read, made = Room(maps), Room(maps)
        for part in _parts(maps, rows, columns):
            spread = read.spread(rows.spread, columns.spread, maps[:, :, part])
            product = made.take(*spread.shape[:3], len(weight))
            for point, (lines, sums) in _lines(rows, columns, spread, product):
                torch.bmm(lines, filters[point], out=sums)
            made.collect(rows.collect, columns.collect, product, output[:, :, part])
        return output

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, grad: Tensor):
        grad = grad.contiguous()
        maps, weight = ctx.saved_tensors
        rows, columns = _sides(maps)
        filters = _filters(weight, rows, columns)  # (6, 6, O, C)
        grad_filters, grad_maps = torch.zeros_like(filters), torch.empty_like(maps)
        read, given = Room(maps), Room(maps)
        for part in _parts(maps, rows, columns):
            spread = read.spread(rows.spread, columns.spread, maps[:, :, part])
            product = given.spread(rows.collect.T, columns.collect.T, grad[:, :, part])
            for point, (lines, sums) in _lines(rows, columns, spread, product):
                grad_filters[point].baddbmm_(sums.transpose(1, 2), lines)
                torch.bmm(sums, filters[point], out=lines)  # what was read is not needed any more
            read.collect(rows.spread.T, columns.spread.T, spread, grad_maps[:, :, part])
        grad_weight = torch.einsum("pi,qj,pqoc->ocij", rows.filter, columns.filter, grad_filters)
        return grad_maps, grad_weight


class Room:
    """Memory that is asked for once and used for part after part: fresh pages cost more than the products."""

    def __init__(self, like: Tensor) -> None:
        self._half, self._whole = like.new_empty(0), like.new_empty(0)

    def take(self, *shape: int) -> Tensor:
        """Return a tensor of this shape, valid until the next call of this or ``spread``."""
        if self._whole.numel() < prod(shape):
            self._whole = self._whole.new_empty(prod(shape))
        return self._whole[: prod(shape)].view(shape)

    def spread(self, rows: Tensor, columns: Tensor, maps: Tensor) -> Tensor:
        """Apply matrices (B, W) to the columns, then (A, H) to the rows, of (H, W, R, C): (A, B, R, C)."""
        h, w, r, c = maps.shape
        half = self._take_half(h, len(columns), r * c)
        torch.bmm(columns.expand(h, -1, -1), maps.view(h, w, r * c), out=half)
        whole = self.take(len(rows), len(columns), r, c)
        torch.mm(rows, half.view(h, -1), out=whole.view(len(rows), -1))
        return whole

    def collect(self, rows: Tensor, columns: Tensor, products: Tensor, output: Tensor) -> None:
        """Apply matrices (H, A) to the rows, then (W, B) to the columns, of (A, B, R, C), into ``output``."""
        a, b, r, c = products.shape
        half = self._take_half(len(rows), b, r * c)
        torch.mm(rows, products.view(a, -1), out=half.view(len(rows), -1))
        torch.bmm(columns.expand(len(rows), -1, -1), half, out=output.view(len(rows), -1, r * c))

    def _take_half(self, *shape: int) -> Tensor:
        if self._half.numel() < prod(shape):
            self._half = self._half.new_empty(prod(shape))
        return self._half[: prod(shape)].view(shape)


def _sides(maps: Tensor) -> tuple[Side, Side]:
    return side(maps.shape[0], maps.dtype), side(maps.shape[1], maps.dtype)


def _filters(weight: Tensor, rows: Side, columns: Side) -> Tensor:
    """Return G g G^T for each pair of channels: (6, 6, O, C)."""
    return torch.einsum("pi,qj,ocij->pqoc", rows.filter, columns.filter, weight)


def _parts(maps: Tensor, rows: Side, columns: Side) -> Iterator[slice]:
    """Cut the maps so that a part's products are not too many."""
    each = max(1, AT_ONCE // (len(rows.spread) * len(columns.spread) * maps.shape[3]))
    return (slice(start, start + each) for start in range(0, maps.shape[2], each))


def _lines(
    rows: Side, columns: Side, *products: Tensor
) -> Iterator[tuple[tuple[int, slice], tuple[Tensor, ...]]]:
    """Yield what meets the same filters, of each of ``products`` (P, P', R, C), as matrices, without copies.

    That is (point of the row, points of the columns), and a view (points, tiles * R, C) of each.
    """
    shared = (POINTS - 1) * columns.shared
    for row, point in enumerate(rows.point_of):
        yield (
            (point, slice(0, POINTS - 1)),
            tuple(t[row, :shared].reshape(POINTS - 1, -1, t.shape[3]) for t in products),
        )
        if columns.extra:
            yield (
                (point, slice(POINTS - 1, POINTS)),
                tuple(t[row, shared:].reshape(1, -1, t.shape[3]) for t in products),
            )
