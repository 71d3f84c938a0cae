"""Batches as a pure function of (seed, step, index).

Which pictures a step sees and how each is changed follows from the seed and the number of the step alone.
So resuming needs no generator state, and neither the number of workers nor that of processes can matter.
"""

from __future__ import annotations

import hashlib
import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from cascade_lab.datasets import Dataset
from cascade_lab.datasets.catalog import DataConfig
from cascade_lab.datasets.transforms import augment, prepare
from cascade_lab.errors import InputError
from cascade_lab.structures import ImageBatch, Instances


@dataclass(frozen=True)
class Batch:
    """The pictures of one step (of one process, where there are several).

    Shapes:
        indices: N numbers of pictures in the data set.
        targets: N times the objects, in the frame of ``images.sizes``.
        seeds: N seeds for what the model draws per picture, such as its samplers.
    """

    step: int
    indices: list[int]
    images: ImageBatch
    targets: list[Instances]
    seeds: list[int]


def order_of_step(length: int, images_per_batch: int, seed: int, step: int) -> list[int]:
    """Return which pictures step ``step`` (from 0) sees.

    Every epoch is a new permutation; the tail of one fills its last batch with the head of the next, so that
    batches are always full and every picture is seen once an epoch.
    """
    if length < 1:
        raise InputError("the training set holds no picture; nothing can be learned from it")
    first = step * images_per_batch
    numbers = range(first, first + images_per_batch)
    return [_permutation(length, seed, number // length)[number % length] for number in numbers]


def training_batches(
    dataset: Dataset,
    config: DataConfig,
    seed: int,
    first_step: int,
    last_step: int,
    rank: int = 0,
    world: int = 1,
) -> Iterator[Batch]:
    """Yield the augmented batches of steps ``first_step`` up to, but without, ``last_step``.

    Process ``rank`` of ``world`` gets its block of every batch.

    Raises:
        InputError: a picture is broken (its file is named), or the batch does not divide by ``world``.
    """
    if config.images_per_batch % world:
        raise InputError(
            f"data.images_per_batch is {config.images_per_batch} (must divide by the {world} processes)"
        )
    share = config.images_per_batch // world
    positions = range(rank * share, (rank + 1) * share)

    def load(step: int) -> Batch:
        order = order_of_step(len(dataset), config.images_per_batch, seed, step)
        return load_batch(dataset, config, seed, step, {position: order[position] for position in positions})

    yield from _load_all(load, range(first_step, last_step), config.workers, seed)


def evaluation_batches(
    dataset: Dataset, config: DataConfig, batch_size: int = 8
) -> Iterator[tuple[list[int], ImageBatch, list[Instances]]]:
    """Yield (numbers of the pictures, pictures, objects in the network's frame), each once, in order."""

    def load(start: int) -> tuple[list[int], ImageBatch, list[Instances]]:
        indices = list(range(start, min(start + batch_size, len(dataset))))
        loaded = [prepare(*dataset[index], config.augment) for index in indices]
        sizes = [dataset.sizes[index] for index in indices]
        return (
            indices,
            ImageBatch.collate([image for image, _ in loaded], sizes),
            [objects for _, objects in loaded],
        )

    yield from _load_all(load, range(0, len(dataset), batch_size), config.workers, seed=0)


def load_batch(dataset: Dataset, config: DataConfig, seed: int, step: int, chosen: dict[int, int]) -> Batch:
    """Load and augment the pictures of one step, given as {position in the batch: number of the picture}."""
    loaded = []
    for position, index in chosen.items():
        generator = torch.Generator().manual_seed(derive_seed("augment", seed, step, position, index))
        loaded.append(augment(*dataset[index], config.augment, generator))
    indices = list(chosen.values())
    images = ImageBatch.collate([image for image, _ in loaded], [dataset.sizes[index] for index in indices])
    seeds = [derive_seed("sample", seed, step, position, index) for position, index in chosen.items()]
    return Batch(step, indices, images, [objects for _, objects in loaded], seeds)


def derive_seed(*parts: str | int) -> int:
    """Mix names and numbers into a seed below 2**63; neighbours share nothing, unlike seed + 1."""
    digest = hashlib.blake2b("/".join(map(str, parts)).encode(), digest_size=8).digest()
    return int.from_bytes(digest, "big") >> 1


@lru_cache(maxsize=4)
def _permutation(length: int, seed: int, epoch: int) -> list[int]:
    generator = torch.Generator().manual_seed(derive_seed("order", seed, epoch))
    return torch.randperm(length, generator=generator).tolist()


class _Loads(TorchDataset[Any]):
    """Show a function to torch's loader as a data set.

    An InputError travels as a value: raised in a worker it would come back wrapped into a page of traceback.
    """

    def __init__(self, load: Callable[[int], Any]) -> None:
        self.load = load

    def __getitem__(self, key: int) -> Any:
        try:
            return self.load(key)
        except InputError as error:
            return error


def _load_all(load: Callable[[int], Any], keys: Sequence[int], workers: int, seed: int) -> Iterator[Any]:
    if not workers:
        yield from map(load, keys)
        return
    loader = DataLoader(
        _Loads(load), batch_size=None, sampler=keys, num_workers=workers, collate_fn=_as_is,
        worker_init_fn=_start_worker, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    for loaded in loader:
        if isinstance(loaded, InputError):
            raise loaded
        yield loaded


def _as_is(loaded: Any) -> Any:
    return loaded


def _start_worker(_: int) -> None:
    # Ctrl-C goes to the whole group; the main process decides what it means and ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
