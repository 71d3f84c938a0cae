"""Initial weights: one rule for the weight, zero for the bias."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from torch import Tensor, nn


def initialise(layers: Iterable[nn.Module], weight: Callable[[Tensor], Any]) -> None:
    """Draw the weight of each convolution or linear layer with ``weight``, in place, and zero its bias."""
    for layer in layers:
        for name, parameter in layer.named_parameters(recurse=False):
            if name == "weight":
                weight(parameter)
            else:
                nn.init.zeros_(parameter)
