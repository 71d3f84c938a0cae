"""RoIAlign: read a box of any size from a feature map into a fixed grid, without rounding anything.

`roi_align_reference.py` is the definition (Mask R-CNN, section 3). Here it is one ``torch.library`` operator
for all levels of a pyramid, computed by the kernels of ``cuda_src/roi_align.cu``, or by torchvision where
they cannot run.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Literal, cast, get_args

import torch
import torchvision
from torch import Tensor

from cascade_lab.kernels import machines
from cascade_lab.kernels import roi_align as kernels
from cascade_lab.kernels.machines import Machine
from cascade_lab.ops.boxes import at_least_float32
from cascade_lab.ops.roi_align_reference import roi_align_reference

Backend = Literal["auto", "cuda", "cpu", "emulator", "torchvision", "reference"]
MACHINES = get_args(Machine)
log = logging.getLogger(__name__)


def roi_align(
    features: Tensor,
    rois: Tensor,
    output_size: int,
    spatial_scale: float,
    sampling_ratio: int = 0,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Return (R, C, S, S): each bin is the mean of bilinear samples spread evenly over it.

    Shapes:
        features: (N, C, H, W).
        rois: (R, 5): picture index, then x1, y1, x2, y2 in pixels of the network input.
        spatial_scale: features over pixels, 1 / stride.
        sampling_ratio: samples per bin and axis; 0 or less takes as many as the bin is features long.
        backend: see ``pyramid_roi_align``.

    Pixel centres lie at half coordinates (the ``aligned`` form). Coordinates are at least float32.
    """
    levels = torch.zeros(len(rois), dtype=torch.int64, device=rois.device)
    return pyramid_roi_align(
        [features], rois, levels, output_size, [spatial_scale], sampling_ratio, backend=backend
    )


def pyramid_roi_align(
    pyramid: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    output_size: int,
    spatial_scales: Sequence[float],
    sampling_ratio: int = 0,
    *,
    backend: Backend = "auto",
) -> Tensor:
    """Do what ``roi_align`` does for each roi (R, 5) on its own level (R,) int64 of L maps (N, C, H_l, W_l).

    Args:
        spatial_scales: one for each level.
        backend: "auto" takes the kernels where they can run ("cuda" for CUDA tensors, "cpu" elsewhere), else
            "torchvision", level by level. "reference" is the definition; "emulator" is slow and exact, for
            tests and for stepping through the kernel.

    The kernels sum half types in float32, and return channels last in memory, gradients too. Every level has
    a gradient, zeros where no roi was read from it.

    Raises:
        ValueError: levels and scales do not match, or a roi is of a picture or a level that is not there (not
            noticed on a GPU).
        CompileError: a backend that was asked for by name cannot be built here.
    """
    pyramid, spatial_scales = list(pyramid), [float(scale) for scale in spatial_scales]
    _check(pyramid, spatial_scales, rois, levels)
    if backend == "auto":
        backend = choose(pyramid[0].device.type, pyramid[0].dtype)
    if backend in MACHINES:
        return _forward(pyramid, rois, levels, output_size, spatial_scales, sampling_ratio, backend)
    read = roi_align_reference if backend == "reference" else _torchvision
    return _level_by_level(read, pyramid, rois, levels, output_size, spatial_scales, sampling_ratio)


def _torchvision(features: Tensor, rois: Tensor, size: int, scale: float, sampling_ratio: int) -> Tensor:
    return torchvision.ops.roi_align(features, rois, size, scale, sampling_ratio or -1, aligned=True)


def _level_by_level(
    read: Callable[[Tensor, Tensor, int, float, int], Tensor],
    pyramid: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: int,
    scales: Sequence[float],
    sampling_ratio: int,
) -> Tensor:
    pooled = pyramid[0].new_zeros(len(rois), pyramid[0].shape[1], size, size)  # (R, C, S, S)
    # A roi that is not a number, or is inverted and so has no samples, reads nothing, as in the kernels.
    extent = rois[:, 3:] - rois[:, 1:3]  # (R, 2)
    reads = (extent.isfinite() & ((extent >= 0) | (sampling_ratio > 0))).all(1)
    for level, (features, scale) in enumerate(zip(pyramid, scales, strict=True)):
        here = ((levels == level) & reads).nonzero().squeeze(1)
        wide = at_least_float32(features)
        # An empty selection stays in the graph, so that every level has a gradient in every step.
        found = read(wide, rois[here].to(wide.dtype), size, scale, sampling_ratio)
        pooled = pooled.index_copy(0, here, found.to(pooled.dtype))
    return pooled


@torch.compiler.assume_constant_result
def choose(device: str, dtype: torch.dtype) -> Backend:
    """Return what "auto" takes for tensors of a device type."""
    if device == "meta":
        return "cpu"  # only shapes are asked for: the operator, not its kernel
    if machines.are_switched_off():
        return "torchvision"
    if device == "cuda" and torch.are_deterministic_algorithms_enabled():
        return "torchvision"  # the kernels add atomically on a GPU; torchvision has another way then
    return why(device, dtype)[0]


@lru_cache
def why(device: str, dtype: torch.dtype) -> tuple[Backend, str]:
    """Return what "auto" takes and the reason. The kernels are tried on a small case first.

    Raises RuntimeError where the kernels run and compute something else than the reference.
    """
    machine, reason = machines.tried(device, dtype, self_check)
    if machine is None:
        log.info("RoIAlign is torchvision's, level by level (%s)", reason)
        return "torchvision", reason
    return machine, reason


def self_check(machine: Machine, dtype: torch.dtype = torch.float32) -> float:
    """Compare the kernels with the reference on three rois and two levels, and return the largest error of
    values and gradients.

    Raises RuntimeError where they differ by more than rounding.
    """
    device = "cuda" if machine == "cuda" else "cpu"
    wave = (torch.arange(16 * 8 * 8, dtype=torch.float64) * 0.37).sin().view(1, 16, 8, 8)
    rois = torch.tensor([[0.0, -3, 2, 13, 29], [0, 6.5, 4, 9, 40], [0, 5, 1, 30, 12]], dtype=torch.float64)
    levels = torch.tensor([0, 1, 0])
    found = []
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        for backend, kind in ((machine, dtype), ("reference", torch.float64)):
            narrow = [wave.to(device, dtype), wave[..., ::2, ::2].to(device, dtype)]
            maps = [level.to(kind, copy=True).requires_grad_() for level in narrow]
            pooled = pyramid_roi_align(
                maps, rois.to(device), levels.to(device), 2, (0.25, 0.125), backend=cast(Backend, backend)
            )
            grad = (torch.arange(pooled.numel()) * 0.73).sin().view(pooled.shape).to(device, dtype).to(kind)
            found.append([pooled.detach(), *torch.autograd.grad(pooled, maps, grad)])
    return machines.largest_error("RoIAlign", machine, *found)


@torch.library.custom_op("cascade_lab::pool_rois", mutates_args=())
def _forward(
    pyramid: Sequence[Tensor],
    rois: Tensor,
    levels: Tensor,
    size: int,
    scales: Sequence[float],
    sampling_ratio: int,
    machine: str,
) -> Tensor:
    with machines.on_device_of(rois):
        return kernels.forward(cast(Machine, machine), pyramid, scales, rois, levels, size, sampling_ratio)


@_forward.register_fake
def _(pyramid, rois, levels, size, scales, sampling_ratio, machine):
    return kernels.new_maps(pyramid[0], (rois.shape[0], pyramid[0].shape[1], size, size))


@torch.library.custom_op("cascade_lab::pool_rois_backward", mutates_args=())
def _backward(
    grad_output: Tensor,
    shapes: Sequence[int],
    rois: Tensor,
    levels: Tensor,
    scales: Sequence[float],
    sampling_ratio: int,
    machine: str,
) -> list[Tensor]:
    """``shapes`` are N, C, H, W of the first level, then those of the second, ..."""
    if machine == "cuda" and torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(
            "the RoIAlign backward adds atomically on a GPU, in no fixed order; use backend='torchvision', or"
            " turn torch.use_deterministic_algorithms off"
        )
    with machines.on_device_of(rois):
        return kernels.backward(
            cast(Machine, machine), grad_output, _by_level(shapes), scales, rois, levels, sampling_ratio
        )


@_backward.register_fake
def _(grad_output, shapes, rois, levels, scales, sampling_ratio, machine):
    return [kernels.new_maps(grad_output, shape) for shape in _by_level(shapes)]


def _keep(ctx, inputs, output) -> None:
    pyramid, rois, levels, _, *settings = inputs
    ctx.save_for_backward(rois, levels)
    ctx.shapes = [length for level in pyramid for length in level.shape]
    ctx.settings = settings


def _differentiate(ctx, grad_output: Tensor):
    grads = _backward(grad_output, ctx.shapes, *ctx.saved_tensors, *ctx.settings)
    return grads, None, None, None, *(None for _ in ctx.settings)


def _refuse(ctx, *_grads):
    raise RuntimeError(
        "RoIAlign has no second derivative in its kernels; use backend='reference' for double backward"
    )


_forward.register_autograd(_differentiate, setup_context=_keep)
_backward.register_autograd(_refuse)


def _by_level(shapes: Sequence[int]) -> list[Sequence[int]]:
    return [shapes[i : i + 4] for i in range(0, len(shapes), 4)]


def _check(pyramid: Sequence[Tensor], scales: Sequence[float], rois: Tensor, levels: Tensor) -> None:
    kinds = {(level.shape[:2], level.dtype, level.device) for level in pyramid}
    if len(kinds) != 1 or len(scales) != len(pyramid):
        raise ValueError(
            f"{len(scales)} scales for levels {[tuple(level.shape) for level in pyramid]}: need one for each,"
            " and levels of the same pictures, channels, type and device"
        )
    if rois.shape != (len(levels), 5):
        raise ValueError(f"{len(levels)} rois must be ({len(levels)}, 5), got {tuple(rois.shape)}")
