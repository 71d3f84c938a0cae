"""AdamW, with a learning rate per layer and weight decay where it belongs."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor, nn

from cascade_lab.engine.precision import Precision
from cascade_lab.errors import InputError


@dataclass(frozen=True, kw_only=True)
class OptimConfig:
    """How gradients become new weights.

    ``layer_decay`` multiplies the learning rate once per layer going down from the heads; 1 is off.
    ``clip_norm`` bounds the norm of all gradients together; None leaves them as they are (official).
    ``lr_for_batch`` is the ``data.images_per_batch`` that ``lr`` was chosen for: another batch scales ``lr``
    in proportion, and training says so. None never scales, and neither does an ``--optim.lr`` that was typed.

    The other fields fit the same training to a machine. ``images_at_once`` is how many pictures of its share
    a process holds in memory; if fewer than all, gradients add up part by part (``engine.accumulate``).
    ``channels_last`` stores the weights of convolutions as the backbone stores its maps, so that neither they
    nor their gradients have to be converted in every step, as several processes otherwise do.
    """

    lr: float
    weight_decay: float = 0.05
    betas: tuple[float, float] = (0.9, 0.999)
    layer_decay: float = 1.0
    clip_norm: float | None = None
    lr_for_batch: int | None = None
    precision: Precision = "float32"
    channels_last: bool = False
    images_at_once: int | None = None

    def __post_init__(self) -> None:
        if not self.lr > 0:
            raise InputError(f"optim.lr: {self.lr} must be above 0")
        if not self.weight_decay >= 0:
            raise InputError(f"optim.weight_decay: {self.weight_decay} must be 0 or more")
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(f"optim.betas: {self.betas} must lie in [0, 1)")
        if not 0 < self.layer_decay <= 1:
            raise InputError(f"optim.layer_decay: {self.layer_decay} must lie in (0, 1]")
        if self.clip_norm is not None and not self.clip_norm > 0:
            raise InputError(f"optim.clip_norm: {self.clip_norm} must be above 0, or None for no clipping")
        for name in ("lr_for_batch", "images_at_once"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f"optim.{name}: {value} must be 1 or more, or None")


class Layered(Protocol):
    """A model that knows how deep each of its parameters lies.

    ``layer_of`` is 0 for the stem, 1..``num_layers`` for the blocks, ``num_layers + 1`` for the heads.
    """

    @property
    def num_layers(self) -> int: ...

    def layer_of(self, parameter_name: str, /) -> int: ...

    def named_parameters(self) -> Iterator[tuple[str, nn.Parameter]]: ...


def build_optimizer(detector: Layered, config: OptimConfig) -> torch.optim.AdamW:
    """Build AdamW with one parameter group per learning rate and weight decay.

    Every group carries ``lr_scale`` (for ``set_lr``) and ``param_names``. Groups stand in the order in
    which the model names their first parameter, so that a saved state fits the rebuilt optimizer.

    Source: CustomLayerDecayOptimizerConstructor of the official InternImage detection code.
    """
    groups: dict[tuple[float, float], dict] = {}
    for name, parameter in detector.named_parameters():
        if not parameter.requires_grad:
            continue
        scale = config.layer_decay ** (detector.num_layers + 1 - detector.layer_of(name))
        decay = config.weight_decay if decays(name, parameter) else 0.0
        group = groups.setdefault(
            (scale, decay),
            {"params": [], "lr": config.lr * scale, "lr_scale": scale, "weight_decay": decay},
        )
        group["params"].append((name, parameter))
    return torch.optim.AdamW(list(groups.values()), lr=config.lr, betas=config.betas, eps=1e-8, fused=True)


def decays(name: str, parameter: Tensor) -> bool:
    """Say whether weight decay pulls this parameter towards zero: not for biases, norms and scales."""
    exempt = any(word in name for word in ("norm", "relative_position", "sampling_offsets"))
    return not (parameter.ndim == 1 or name.endswith(".bias") or exempt)


def set_lr(optimizer: torch.optim.Optimizer, lr: float) -> None:
    """Give every group its share of the learning rate ``lr`` of the heads."""
    for group in optimizer.param_groups:
        group["lr"] = lr * group["lr_scale"]


def gradient_norm(optimizer: torch.optim.Optimizer) -> Tensor:
    """Return the Euclidean norm of all gradients together; not finite as soon as one entry is not."""
    gradients = [parameter.grad for group in optimizer.param_groups for parameter in group["params"]]
    return nn.utils.get_total_norm([gradient for gradient in gradients if gradient is not None])


def clip_gradients(optimizer: torch.optim.Optimizer, max_norm: float, norm: Tensor) -> None:
    """Scale all gradients down, in place, so that their norm is at most ``max_norm``.

    ``norm`` must be finite: an infinite one would turn every gradient into 0 or NaN.
    """
    parameters = [parameter for group in optimizer.param_groups for parameter in group["params"]]
    nn.utils.clip_grads_with_norm_(parameters, max_norm, norm)
