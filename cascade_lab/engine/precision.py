"""Which number type the large matrix products run in."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch
from torch import Tensor

from cascade_lab.errors import InputError

Precision = Literal["float32", "bfloat16", "float16"]


def autocast(precision: Precision, device: torch.device | str) -> AbstractContextManager[object]:
    """Return a context for the forward pass; float32 changes nothing.

    Boxes, IoU, deltas, RoI coordinates and losses stay float32 in any case: their modules see to that.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=getattr(torch, precision))


def check_finite(features: Sequence[Tensor]) -> None:
    """Raise InputError where a feature is NaN or infinite: no detection would come of it, and no word."""
    if not all(bool(feature.isfinite().all()) for feature in features):
        raise InputError(
            "the features of the network are not finite; the training has diverged or a half type overflows:"
            " take an earlier checkpoint, or --precision float32"
        )


def loss_scaler(precision: Precision, device: torch.device | str) -> torch.amp.GradScaler:
    """Return what keeps small float16 gradients above zero; it does nothing for the other types.

    float16 ends at 6e-8: the loss is multiplied by a large factor before the backward pass, and the gradients
    divided by it after. The factor halves when a gradient overflows and doubles after 2000 steps without.
    bfloat16 has the range of float32 and needs none. Source: Micikevicius et al. 2018, "Mixed Precision
    Training", section 3.2.
    """
    return torch.amp.GradScaler(torch.device(device).type, enabled=precision == "float16")


def overflowed(scaler: torch.amp.GradScaler, loss: float) -> bool:
    """Say whether a step whose gradients are not finite is only the scale finding its size.

    That is no failure as long as the loss itself is finite and the scale is not below 1. ``loss`` is that of
    all processes, so that all give the same answer.
    """
    return scaler.is_enabled() and math.isfinite(loss) and scaler.get_scale() >= 1
