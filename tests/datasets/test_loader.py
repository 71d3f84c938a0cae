"""Batches depend on seed, step and position, and on nothing else."""

import multiprocessing
import os
import signal
from dataclasses import replace

import pytest
import torch

from cascade_lab.datasets.catalog import DataConfig, load_dataset
from cascade_lab.datasets.coco import CocoDataset
from cascade_lab.datasets.loader import _load_all, evaluation_batches, training_batches
from cascade_lab.datasets.order import aspect_groups
from cascade_lab.datasets.shapes import ShapesConfig, write_shapes
from cascade_lab.datasets.transforms import AugmentConfig
from cascade_lab.errors import InputError
from cascade_lab.structures import Instances

# pycocotools 2.0.11 has not followed NumPy 2 in a signature.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.fixture(scope="module")
def config(tmp_path_factory):
    root = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(root, ShapesConfig(size=64, radius=(7.0, 14.0)), seed=0, train=7, val=5)
    augment = AugmentConfig(scale=(0.5, 1.5), crop=48, rotate90=0.5, vertical_flip=0.5, colour=0.3)
    return DataConfig(root=str(root), images_per_batch=4, augment=augment)


@pytest.fixture(scope="module")
def dataset(config):
    return load_dataset(config, "train", training=True)


def fingerprint(batch) -> list:
    boxes = [targets.boxes.tolist() for targets in batch.targets]
    masks = [targets.masks.sum().item() for targets in batch.targets]
    return [
        batch.step,
        batch.indices,
        batch.seeds,
        batch.images.pixels.sum().item(),
        batch.images.sizes,
        boxes,
        masks,
    ]


def test_starting_in_the_middle_gives_the_same_batches(dataset, config):
    whole = [fingerprint(batch) for batch in training_batches(dataset, config, 1, 0, 6)]
    tail = [fingerprint(batch) for batch in training_batches(dataset, config, 1, 3, 6)]
    assert whole[3:] == tail and [row[0] for row in whole] == [0, 1, 2, 3, 4, 5]
    assert whole != [fingerprint(batch) for batch in training_batches(dataset, config, 2, 0, 6)]


@pytest.mark.parametrize("workers", [1, 2])
def test_workers_change_nothing(dataset, config, workers):
    torch.manual_seed(0)
    alone = list(training_batches(dataset, config, 1, 0, 4))
    state = torch.get_rng_state()
    helped = list(training_batches(dataset, replace(config, workers=workers), 1, 0, 4))
    for a, b in zip(alone, helped, strict=True):
        assert fingerprint(a) == fingerprint(b) and torch.equal(a.images.pixels, b.images.pixels)
        for x, y in zip(a.targets, b.targets, strict=True):
            assert torch.equal(x.masks, y.masks) and torch.equal(x.labels, y.labels)
    assert torch.equal(torch.get_rng_state(), state)  # the model's own chance is not touched


def test_workers_may_be_started_afresh(dataset, config):
    """As on macOS and Windows, and on Linux from Python 3.14 on: a worker inherits nothing."""
    first = next(training_batches(dataset, config, 1, 0, 1))
    shown, _, _ = next(evaluation_batches(dataset, config))
    before = multiprocessing.get_start_method(allow_none=True)
    multiprocessing.set_start_method("spawn", force=True)
    try:
        helped = replace(config, workers=1)
        assert fingerprint(next(training_batches(dataset, helped, 1, 0, 1))) == fingerprint(first)
        assert next(evaluation_batches(dataset, helped))[0] == shown
    finally:
        multiprocessing.set_start_method(before, force=True)


def _die(_: int) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def test_a_worker_that_the_system_kills_is_one_line(config):
    """As it does when memory runs out."""
    with pytest.raises(InputError, match=r"data\.workers: a worker was ended .*: free some, or take fewer"):
        list(_load_all(_die, range(3), workers=1, seed=0))


def test_processes_share_a_batch(dataset, config):
    whole = next(training_batches(dataset, config, 1, 2, 3))
    parts = [next(training_batches(dataset, config, 1, 2, 3, rank=rank, world=2)) for rank in range(2)]
    assert parts[0].indices + parts[1].indices == whole.indices
    assert parts[0].seeds + parts[1].seeds == whole.seeds
    for a, b in zip(parts[0].targets + parts[1].targets, whole.targets, strict=True):
        assert torch.equal(a.boxes, b.boxes)
    with pytest.raises(InputError, match=r"images_per_batch is 4 \(must divide by the 3 processes\)"):
        next(training_batches(dataset, config, 1, 0, 1, world=3))


class Shapes:
    """Pictures of two shapes without a file: 5 wide, 3 high, 1 square."""

    sizes = [(8, 12)] * 4 + [(12, 8), (9, 9), (12, 8), (8, 12), (12, 8)]

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, index: int):
        height, width = self.sizes[index]
        objects = Instances((height, width), torch.tensor([[0.0, 0, 5, 5]]), torch.tensor([index]))
        return torch.full((3, height, width), 20 * index, dtype=torch.uint8), objects


def test_batches_of_one_shape_are_the_same_however_they_are_loaded():
    dataset, config = Shapes(), DataConfig(images_per_batch=4, group_by_aspect=True)
    whole = list(training_batches(dataset, config, 1, 0, 9))  # three epochs
    groups = [set(group) for group in aspect_groups(dataset.sizes)]
    assert groups == [{4, 5, 6, 8}, {0, 1, 2, 3, 7}]
    for batch in whole:
        assert any(set(batch.indices) <= group for group in groups)
        assert batch.indices == [int(targets.labels) for targets in batch.targets]
    for start, workers in ((4, 0), (0, 1), (5, 2)):
        part = list(training_batches(dataset, replace(config, workers=workers), 1, start, 9))
        for a, b in zip(part, whole[start:], strict=True):
            assert (a.step, a.indices, a.seeds) == (b.step, b.indices, b.seeds)
            assert torch.equal(a.images.pixels, b.images.pixels)
    parts = [list(training_batches(dataset, config, 1, 0, 9, rank=rank, world=2)) for rank in range(2)]
    assert [a.indices + b.indices for a, b in zip(*parts, strict=True)] == [b.indices for b in whole]


def test_a_picture_seen_twice_in_a_batch_is_changed_differently(dataset, config):
    batch = next(training_batches(dataset, replace(config, images_per_batch=14), 0, 0, 1))
    assert len(set(batch.seeds)) == 14
    first, second = (i for i, index in enumerate(batch.indices) if index == 0)
    assert not torch.equal(batch.images.pixels[first], batch.images.pixels[second])


@pytest.mark.parametrize("workers", [0, 2])
def test_evaluation_shows_every_picture_once_in_order(config, workers):
    config = replace(config, workers=workers)
    dataset = load_dataset(config, "val", training=False)
    batches = list(evaluation_batches(dataset, config, batch_size=2))
    assert [indices for indices, _, _ in batches] == [[0, 1], [2, 3], [4]]
    for indices, images, targets in batches:
        assert images.original_sizes == [(64, 64)] * len(indices)
        for index, objects in zip(indices, targets, strict=True):
            assert torch.equal(objects.boxes, dataset[index][1].boxes)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_broken_picture_is_named_in_one_line(tmp_path, config, workers):
    write_shapes(tmp_path / "shapes", ShapesConfig(size=64, radius=(7.0, 14.0)), seed=0, train=1, val=1)
    dataset = CocoDataset(tmp_path / "shapes", "train")
    dataset.path(0).write_bytes(b"no picture")
    with pytest.raises(InputError) as caught:
        list(training_batches(dataset, replace(config, workers=workers), 0, 0, 1))
    assert str(caught.value).startswith(f"{dataset.path(0)}: ") and "\n" not in str(caught.value)


def test_workers_leave_ctrl_c_to_the_main_process():
    def load(_: int) -> tuple[bool, int]:
        return signal.getsignal(signal.SIGINT) == signal.SIG_IGN, torch.get_num_threads()

    assert list(_load_all(load, range(2), workers=1, seed=0)) == [(True, 1)] * 2
