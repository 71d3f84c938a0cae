"""DCNv3 as the layers call it: one function, and the choice of who computes it.

The kernels are a ``torch.library`` operator with a backward operator of its own, so that autograd, autocast,
``torch.compile``, ``torch.export`` and activation checkpointing all see one opaque node.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from functools import lru_cache
from typing import Literal, cast, get_args

import torch
from torch import Tensor
from torch.nn import functional

from cascade_lab.kernels import dcnv3 as kernels
from cascade_lab.kernels import machines
from cascade_lab.kernels.dcnv3 import Rule, Settings
from cascade_lab.kernels.machines import Machine
from cascade_lab.ops.dcnv3_reference import Pair, as_pair, dcnv3_reference, output_size, sampling_points

Backend = Literal["auto", "cuda", "cpu", "emulator", "grid_sample", "reference"]
MACHINES = get_args(Machine)
log = logging.getLogger(__name__)


def dcnv3(
    input: Tensor,
    offset: Tensor,
    modulation: Tensor,
    *,
    groups: int,
    kernel: Pair = 3,
    stride: Pair = 1,
    dilation: Pair = 1,
    padding: Pair = 1,
    offset_scale: float = 1.0,
    rule: Rule = "none",
    backend: Backend = "auto",
) -> Tensor:
    """Compute DCNv3; shapes as in ``dcnv3_reference``.

    Args:
        rule: what makes the modulation of a group out of ``modulation``: "softmax" over its points, "sigmoid"
            of each, or "none" (they are it already).
        backend: "auto" takes the kernels where they can run ("cuda" for CUDA tensors, "cpu" elsewhere), else
            plain PyTorch ("grid_sample", in float64 "reference"), and says so once. "emulator" is slow and
            exact, for tests and for stepping through the kernel. With "grid_sample" the derivative at exactly
            whole positions may be the left-hand slope, and values differ by rounding (about 1e-5).

    Under autocast the kernels run in the half type, with sums in float32; plain PyTorch computes half types
    in float32 and returns them as they came.

    Raises:
        ValueError: shapes do not fit the settings.
        CompileError: a backend that was asked for by name cannot be built here.
    """
    settings = Settings(
        groups=groups,
        kernel=as_pair(kernel),
        stride=as_pair(stride),
        dilation=as_pair(dilation),
        padding=as_pair(padding),
        offset_scale=float(offset_scale),
        rule=rule,
    )
    _check(input, offset, modulation, settings)
    if not input.is_meta and torch.is_autocast_enabled(input.device.type):  # meta: shapes only, no autocast
        half = torch.get_autocast_dtype(input.device.type)
        input, offset, modulation = input.to(half), offset.to(half), modulation.to(half)
    if backend == "auto":
        backend = choose(input.device.type, input.dtype)
    if backend in MACHINES:
        return _forward(
            input, offset.to(input.dtype), modulation.to(input.dtype), groups, settings.kernel,
            settings.stride, settings.dilation, settings.padding, settings.offset_scale, rule, backend,
        )  # fmt: skip
    wide = torch.promote_types(input.dtype, torch.float32)
    run = {"grid_sample": dcnv3_grid_sample, "reference": dcnv3_reference}[backend]
    return run(
        input.to(wide),
        offset.to(wide),
        modulate(modulation.to(wide), groups, rule),
        groups=groups,
        kernel=kernel,
        stride=stride,
        dilation=dilation,
        padding=padding,
        offset_scale=offset_scale,
    ).to(input.dtype)


def modulate(logits: Tensor, groups: int, rule: Rule) -> Tensor:
    """Return the modulation (N, H', W', G * K) that ``rule`` makes of logits of the same shape."""
    if rule == "softmax":
        return logits.unflatten(-1, (groups, -1)).softmax(-1).flatten(-2)
    return logits.sigmoid() if rule == "sigmoid" else logits


def dcnv3_grid_sample(
    input: Tensor,
    offset: Tensor,
    modulation: Tensor,
    *,
    groups: int,
    kernel: int = 3,
    stride: int = 1,
    dilation: int = 1,
    padding: int = 1,
    offset_scale: float = 1.0,
) -> Tensor:
    """Compute DCNv3 with ``torch.nn.functional.grid_sample``, the usual way on a CPU.

    Shapes and errors as in ``dcnv3_reference``.
    """
    n, h, w, channels = input.shape
    x, y = sampling_points((h, w), offset, groups, kernel, stride, dilation, padding, offset_scale)
    _, ho, wo, _, points = x.shape

    grid = torch.stack([(2 * x + 1) / w - 1, (2 * y + 1) / h - 1], dim=-1)  # (N, H', W', G, K, 2)
    grid = grid.permute(0, 3, 1, 2, 4, 5).reshape(n * groups, ho * wo, points, 2)
    maps = input.view(n, h, w, groups, channels // groups).permute(0, 3, 4, 1, 2)
    maps = maps.reshape(n * groups, channels // groups, h, w)
    read = functional.grid_sample(maps, grid, align_corners=False)  # (N * G, C', H' * W', K)

    modulation = modulation.view(n, ho * wo, groups, points).permute(0, 2, 1, 3)
    summed = (read * modulation.reshape(n * groups, 1, ho * wo, points)).sum(-1)
    return summed.view(n, channels, ho, wo).permute(0, 2, 3, 1)  # (N, H', W', G * C')


@torch.compiler.assume_constant_result
def choose(device: str, dtype: torch.dtype) -> Backend:
    """Return what "auto" takes for tensors of a device type, and say so the first time."""
    if machines.are_switched_off():
        return plain(dtype)
    return why(device, dtype)[0]


def plain(dtype: torch.dtype) -> Backend:
    """Return what "auto" takes where there are no kernels."""
    return "reference" if dtype == torch.float64 else "grid_sample"


@lru_cache
def why(device: str, dtype: torch.dtype) -> tuple[Backend, str]:
    """Return what "auto" takes and the reason. The kernels are tried on a small case first.

    Raises RuntimeError where the kernels run and compute something else than the reference.
    """
    machine, reason = machines.tried(device, dtype, self_check)
    if machine is None:
        log.warning("DCNv3 runs as plain PyTorch, many times slower (%s); see cascade-lab doctor", reason)
        return plain(dtype), reason
    log.info("DCNv3 runs on the %s kernels (%s)", machine, reason)
    return machine, reason


def self_check(machine: Machine, dtype: torch.dtype = torch.float32) -> float:
    """Compare the kernels with the reference on one 4 x 4 case and return the largest error of values and
    gradients.

    Raises RuntimeError where they differ by more than rounding.
    """
    device = "cuda" if machine == "cuda" else "cpu"
    count = torch.arange(4 * 4 * 64, dtype=torch.float64)
    input, grad = ((count * step).sin().view(1, 4, 4, 64)[..., :16] for step in (0.37, 0.73))
    offset = (count * 0.61).cos().view(1, 4, 4, 64)[..., :18] * 1.3
    logits = (count * 0.83).sin().view(1, 4, 4, 64)[..., :9]
    found = []
    with torch.inference_mode(False), torch.enable_grad(), torch.autocast(device, enabled=False):
        for backend, kind in ((machine, dtype), ("reference", torch.float64)):
            leaves = [t.to(device, dtype).to(kind).requires_grad_() for t in (input, offset, logits)]
            output = dcnv3(*leaves, groups=1, rule="softmax", backend=cast(Backend, backend))
            grads = torch.autograd.grad(output, leaves, grad.to(device, dtype).to(kind))
            found.append([output.detach(), *grads])
    return machines.largest_error("DCNv3", machine, *found)


@torch.library.custom_op("cascade_lab::dcnv3", mutates_args=())
def _forward(
    input: Tensor,
    offset: Tensor,
    logits: Tensor,
    groups: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    offset_scale: float,
    rule: str,
    machine: str,
) -> Tensor:
    settings = _settings(groups, kernel, stride, dilation, padding, offset_scale, rule)
    with machines.on_device_of(input):
        tensors = (input.contiguous(), offset.contiguous(), logits.contiguous())
        return kernels.forward(cast(Machine, machine), *tensors, settings)


@_forward.register_fake
def _(input, offset, logits, groups, kernel, stride, dilation, padding, offset_scale, rule, machine):
    return input.new_empty(offset.shape[0], offset.shape[1], offset.shape[2], input.shape[3])


@torch.library.custom_op("cascade_lab::dcnv3_backward", mutates_args=())
def _backward(
    grad_output: Tensor,
    input: Tensor,
    offset: Tensor,
    logits: Tensor,
    groups: int,
    kernel: Sequence[int],
    stride: Sequence[int],
    dilation: Sequence[int],
    padding: Sequence[int],
    offset_scale: float,
    rule: str,
    machine: str,
) -> tuple[Tensor, Tensor, Tensor]:
    if machine == "cuda" and torch.are_deterministic_algorithms_enabled():
        raise RuntimeError(
            "the DCNv3 backward adds atomically on a GPU, in no fixed order; use backend='reference', or turn"
            " torch.use_deterministic_algorithms off"
        )
    settings = _settings(groups, kernel, stride, dilation, padding, offset_scale, rule)
    with machines.on_device_of(input):
        tensors = (grad_output.contiguous(), input.contiguous(), offset.contiguous(), logits.contiguous())
        return kernels.backward(cast(Machine, machine), *tensors, settings)


@_backward.register_fake
def _(grad_output, input, offset, logits, *settings):
    return tuple(t.new_empty(t.shape) for t in (input, offset, logits))


def _keep(ctx, inputs, output) -> None:
    ctx.save_for_backward(*inputs[:3])
    ctx.settings = inputs[3:]


def _differentiate(ctx, grad_output: Tensor):
    return (*_backward(grad_output, *ctx.saved_tensors, *ctx.settings), *(None for _ in ctx.settings))


def _refuse(ctx, *_grads):
    raise RuntimeError(
        "DCNv3 has no second derivative in its kernels; use backend='reference' for double backward"
    )


_forward.register_autograd(_differentiate, setup_context=_keep)
_backward.register_autograd(_refuse)


def _settings(groups, kernel, stride, dilation, padding, offset_scale, rule) -> Settings:
    pairs = [(int(pair[0]), int(pair[1])) for pair in (kernel, stride, dilation, padding)]
    return Settings(
        groups=groups,
        kernel=pairs[0],
        stride=pairs[1],
        dilation=pairs[2],
        padding=pairs[3],
        offset_scale=offset_scale,
        rule=rule,
    )


def _check(input: Tensor, offset: Tensor, modulation: Tensor, settings: Settings) -> None:
    n, h, w, channels = input.shape
    groups, (kh, kw) = settings.groups, settings.kernel
    if channels % groups:
        raise ValueError(f"{channels} channels cannot be split into {groups} groups")
    out = output_size((h, w), settings.kernel, settings.stride, settings.dilation, settings.padding)
    for name, tensor, each in (("offset", offset, 2), ("modulation", modulation, 1)):
        expected = (n, *out, groups * kh * kw * each)
        if tuple(tensor.shape) != expected:
            raise ValueError(f"{name} must be {expected}, got {tuple(tensor.shape)}")
