"""Which number type the large matrix products run in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Literal

import torch


def autocast(
    precision: Literal["float32", "bfloat16"], device: torch.device | str
) -> AbstractContextManager[object]:
    """Return a context for the forward pass; float32 changes nothing.

    Boxes, IoU, deltas, RoI coordinates and losses stay float32 in either case: their modules see to that.
    """
    if precision == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, dtype=torch.bfloat16)
