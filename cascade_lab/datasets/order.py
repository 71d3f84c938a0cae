"""Which pictures each step sees: a pure function of (seed, step), with or without grouping by shape.

And in which batches pictures are evaluated, where nothing is left to chance.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import cycle, islice

import torch

from cascade_lab.errors import InputError


def order_of_step(length: int, images_per_batch: int, seed: int, step: int) -> list[int]:
    """Return which pictures step ``step`` (from 0) sees.

    Every epoch is a new permutation; the tail of one fills its last batch with the head of the next, so that
    batches are always full and every picture is seen once an epoch.
    """
    _check(length)
    first = step * images_per_batch
    numbers = range(first, first + images_per_batch)
    return [_permutation(length, seed, number // length)[number % length] for number in numbers]


def grouped_order_of_step(
    groups: Sequence[Sequence[int]], images_per_batch: int, seed: int, step: int
) -> list[int]:
    """Return which pictures step ``step`` (from 0) sees, all from one group.

    In every epoch each group is shuffled, filled up to whole batches with its own head, and the batches of
    all groups are shuffled.

    Source: mmdetection 2.28 ``DistributedGroupSampler``, whose epochs are as long. It differs in what comes
    from one group: there the 2 pictures of one GPU, here the batch of all processes, so that their number
    changes nothing.
    """
    counts = tuple(map(len, groups))
    _check(sum(counts))
    epoch, place = divmod(step, _whole_batches(counts, images_per_batch))
    group, members = _grouped_epoch(counts, images_per_batch, seed, epoch)[place]
    return [groups[group][member] for member in members]


def aspect_groups(sizes: Sequence[tuple[int, int]]) -> tuple[list[int], list[int]]:
    """Return the numbers of the pictures, ``sizes`` (H, W), in two groups: w / h at most 1, and above."""
    wide = [w > h for h, w in sizes]
    return [i for i, above in enumerate(wide) if not above], [i for i, above in enumerate(wide) if above]


def batches_of_one_size(sizes: Sequence[tuple[int, int]], batch_size: int) -> list[list[int]]:
    """Return the numbers of the pictures in batches of equal ``sizes`` (H, W), by their first pictures."""
    alike: dict[tuple[int, int], list[int]] = {}
    for number, size in enumerate(sizes):
        alike.setdefault(size, []).append(number)
    return sorted(
        numbers[start : start + batch_size]
        for numbers in alike.values()
        for start in range(0, len(numbers), batch_size)
    )


def pictures_per_epoch(sizes: Sequence[tuple[int, int]], images_per_batch: int, group_by_aspect: bool) -> int:
    """Return how many pictures an epoch shows, counting those that fill up the groups' last batches."""
    if not group_by_aspect:
        return len(sizes)
    return images_per_batch * _whole_batches(map(len, aspect_groups(sizes)), images_per_batch)


def derive_seed(*parts: str | int) -> int:
    """Mix names and numbers into a seed below 2**63; neighbours share nothing, unlike seed + 1."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


def _whole_batches(counts: Iterable[int], images_per_batch: int) -> int:
    return sum(-(-count // images_per_batch) for count in counts)


@lru_cache(maxsize=4)
def _permutation(length: int, seed: int, epoch: int) -> list[int]:
    return torch.randperm(length, generator=_generator(seed, epoch)).tolist()


@lru_cache(maxsize=2)
def _grouped_epoch(
    counts: tuple[int, ...], images_per_batch: int, seed: int, epoch: int
) -> list[tuple[int, list[int]]]:
    """Return the batches of an epoch as (number of the group, members by their place in the group)."""
    generator, batches = _generator(seed, epoch), []
    for group, count in enumerate(counts):
        shuffled = torch.randperm(count, generator=generator).tolist()
        places = cycle(shuffled)
        for _ in range(_whole_batches([count], images_per_batch)):
            batches.append((group, list(islice(places, images_per_batch))))
    return [batches[i] for i in torch.randperm(len(batches), generator=generator).tolist()]


def _generator(seed: int, epoch: int) -> torch.Generator:
    return torch.Generator().manual_seed(derive_seed("order", seed, epoch))


def _check(pictures: int) -> None:
    if pictures < 1:
        raise InputError("the training set holds no picture; nothing can be learned from it")
