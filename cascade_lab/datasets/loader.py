"""Batches as a pure function of (seed, step, index).

Which pictures a step sees and how each is changed follows from the seed and the number of the step alone.
So resuming needs no generator state, and neither the number of workers nor that of processes can matter.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch.utils.data import DataLoader
from torch.utils.data import Dataset as TorchDataset

from cascade_lab.datasets import Dataset
from cascade_lab.datasets.catalog import DataConfig
from cascade_lab.datasets.order import (
    aspect_groups,
    batches_of_one_size,
    derive_seed,
    grouped_order_of_step,
    order_of_step,
)
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
    groups = aspect_groups(dataset.sizes) if config.group_by_aspect else None
    load = partial(_load_step, dataset, config, seed, positions, groups)
    yield from _load_all(load, range(first_step, last_step), config.workers, seed)


def evaluation_batches(
    dataset: Dataset, config: DataConfig, batch_size: int = 8, one_size: bool = False
) -> Iterator[tuple[list[int], ImageBatch, list[Instances]]]:
    """Yield (numbers of the pictures, pictures, objects in the network's frame), each once, in order.

    Args:
        one_size: let a batch hold only pictures of one size, which leaves their order. None is then padded
            for another's sake, and what a detector finds in it does not depend on its neighbours.
    """
    numbers = range(len(dataset))
    in_order = [list(numbers[start : start + batch_size]) for start in numbers[::batch_size]]
    batches = batches_of_one_size(dataset.sizes, batch_size) if one_size else in_order
    yield from _load_all(partial(_load_prepared, dataset, config), batches, config.workers, seed=0)


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


# Workers that are started afresh, as on macOS, are sent what they call: a function inside another cannot be.
def _load_step(
    dataset: Dataset,
    config: DataConfig,
    seed: int,
    positions: range,
    groups: tuple[list[int], list[int]] | None,
    step: int,
) -> Batch:
    if groups is None:
        order = order_of_step(len(dataset), config.images_per_batch, seed, step)
    else:
        order = grouped_order_of_step(groups, config.images_per_batch, seed, step)
    return load_batch(dataset, config, seed, step, {position: order[position] for position in positions})


def _load_prepared(
    dataset: Dataset, config: DataConfig, indices: list[int]
) -> tuple[list[int], ImageBatch, list[Instances]]:
    loaded = [prepare(*dataset[index], config.augment) for index in indices]
    sizes = [dataset.sizes[index] for index in indices]
    images = ImageBatch.collate([image for image, _ in loaded], sizes)
    return indices, images, [objects for _, objects in loaded]


class _Loads(TorchDataset[Any]):
    """Show a function to torch's loader as a data set.

    An InputError travels as a value: raised in a worker it would come back wrapped into a page of traceback.
    """

    def __init__(self, load: Callable[[Any], Any]) -> None:
        self.load = load

    def __getitem__(self, key: Any) -> Any:
        try:
            return self.load(key)
        except InputError as error:
            return error


def _load_all(load: Callable[[Any], Any], keys: Sequence[Any], workers: int, seed: int) -> Iterator[Any]:
    if not workers:
        yield from map(load, keys)
        return
    loader = DataLoader(
        _Loads(load), batch_size=None, sampler=keys, num_workers=workers, collate_fn=_as_is,
        worker_init_fn=_start_worker, generator=torch.Generator().manual_seed(seed),
    )  # fmt: skip
    try:
        for loaded in loader:
            if isinstance(loaded, InputError):
                raise loaded
            yield loaded
    except RuntimeError as error:
        if not str(error).startswith("DataLoader worker (pid"):  # so PyTorch says that one was killed
            raise
        raise InputError(
            f"data.workers: a worker was ended from outside ({error}); memory or shared memory (/dev/shm) may"
            " have run out: free some, or take fewer --data.workers"
        ) from error


def _as_is(loaded: Any) -> Any:
    return loaded


def _start_worker(_: int) -> None:
    # Ctrl-C goes to the whole group; the main process decides what it means and ends the workers itself.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    torch.set_num_threads(1)
