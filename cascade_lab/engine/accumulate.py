"""A batch in parts, for memory that does not hold the whole: their gradients add up to those of the whole.

A loss is a sum over rows divided by their number, and the number belongs to the whole batch. Dividing each
part by its own and averaging would weigh a positive box in a sparse picture more than one in a crowded
picture. So the parts are looked at twice: once without gradients, to count, and once to learn. That is one
more forward pass a step, in the memory of a single part.

Equal to the whole batch, up to rounding: samples, losses and gradients of heads with norm "group" or "none".
Not equal: batch norm, whose statistics are those of one part (of all processes, if synchronised), and whose
running averages move once a part.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from cascade_lab.losses import Divisor, global_mean

Batch = TypeVar("Batch", bound=Any)  # a dataclass with indices, images, targets and seeds, all of one length


def split(batch: Batch, size: int | None, rank: int = 0) -> list[tuple[int, Batch]]:
    """Return a batch in parts of at most ``size`` pictures (None: in one), numbered over all processes.

    Pictures keep the padding of the whole batch, without which they would not give the same losses.
    """
    count = len(batch.indices)
    size = size or count
    parts = []
    for start in range(0, count, size):
        rows = slice(start, start + size)
        columns = {name: getattr(batch, name)[rows] for name in ("indices", "images", "targets", "seeds")}
        parts.append(replace(batch, **columns))
    return list(enumerate(parts, rank * len(parts)))


@torch.no_grad()
def whole_batch_divisors(model: nn.Module, looks: Sequence[Callable[[Divisor], object]]) -> list[Divisor]:
    """Return one divisor for each part of a batch; all count the rows of all parts, in all processes.

    ``looks`` are the forward passes over the parts, which have to ask for the same counts in the same order;
    raises ValueError where one asks for more. The buffers of ``model`` are left as they were. A single part
    is the whole batch: nothing has to be counted first.
    """
    if len(looks) == 1:
        return [global_mean]
    before = [buffer.clone() for buffer in model.buffers()]
    noted: list[list[Tensor]] = []
    for look in looks:
        noted.append([])
        look(_note_in(noted[-1]))
    for buffer, value in zip(model.buffers(), before, strict=True):
        buffer.copy_(value)
    totals = [torch.stack(counts).sum() for counts in zip(*noted, strict=True)]
    return [_answer_from(iter(totals)) for _ in looks]


def add_up(parts: Sequence[Mapping[str, Tensor]]) -> dict[str, float]:
    """Return the losses of the whole batch: sums over parts, means over processes; of accuracies the mean."""
    rows = torch.stack([torch.stack(list(part.values())).detach() for part in parts])  # (parts, names)
    sums = global_mean(rows.sum(0)).tolist()
    return {
        name: value if "loss" in name else value / len(parts)
        for name, value in zip(parts[0], sums, strict=True)
    }


def _note_in(counts: list[Tensor]) -> Divisor:
    def note(count: Tensor) -> Tensor:
        counts.append(global_mean(count))
        return counts[-1]

    return note


def _answer_from(totals: Iterator[Tensor]) -> Divisor:
    return lambda _: next(totals)
