"""Memory that a training step keeps between its forward and its backward pass.

Autograd tells of every tensor that it saves for a gradient. What is added up is the storage behind them, once
each and in the part that saved it first; weights are left out, since they are there anyway. Beside it
training needs the weights, their gradients, two moments of AdamW, the losses, and what one operator needs
while it runs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, UntypedStorage, nn
from torch.autograd.graph import saved_tensors_hooks
from torch.utils._python_dispatch import TorchDispatchMode


class SavedBytes:
    """Add up the bytes that autograd saves within ``part(name)``. Works on the meta device."""

    def __init__(self, detector: nn.Module) -> None:
        self.by_part: Counter[str] = Counter()
        held = [*detector.parameters(), *detector.buffers()]
        # Known by their address inside PyTorch: meta tensors have no other. Kept, so that none is used twice.
        self._seen: dict[int, UntypedStorage] = {
            t.untyped_storage()._cdata: t.untyped_storage() for t in held
        }

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        def keep(tensor: Tensor) -> Tensor:
            storage = tensor.untyped_storage()
            if storage._cdata not in self._seen:
                self._seen[storage._cdata] = storage
                self.by_part[name] += storage.nbytes()
            return tensor

        with saved_tensors_hooks(keep, lambda tensor: tensor), RealLayout():
            yield


class RealLayout(TorchDispatchMode):
    """Let convolutions on the meta device answer channels last where their input is, as on real devices.

    PyTorch's meta convolution forgets the layout, and with it the copies that later operators must make.
    """

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        result = func(*args, **(kwargs or {}))
        if func is torch.ops.aten.convolution.default and result.is_meta:
            last = args[0].is_contiguous(memory_format=torch.channels_last)
            result = result.contiguous(memory_format=torch.channels_last) if last else result
        return result
