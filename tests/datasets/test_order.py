"""The order of pictures: every one in every epoch, whole batches, and the official number of them."""

from collections import Counter
from math import ceil

import pytest

from cascade_lab.datasets.order import (
    aspect_groups,
    batches_of_one_size,
    derive_seed,
    grouped_order_of_step,
    order_of_step,
    pictures_per_epoch,
)
from cascade_lab.engine.schedule import ScheduleConfig, lr_factor
from cascade_lab.errors import InputError


def test_every_epoch_is_a_permutation_and_batches_are_full():
    seen = [index for step in range(35) for index in order_of_step(10, 6, 0, step)]
    epochs = [seen[start : start + 10] for start in range(0, 210, 10)]
    assert all(sorted(epoch) == list(range(10)) for epoch in epochs)
    assert len({tuple(epoch) for epoch in epochs}) == 21
    assert all(len(order_of_step(10, 6, 0, step)) == 6 for step in range(35))


def test_a_batch_larger_than_the_set_wraps_around():
    assert Counter(order_of_step(3, 9, 5, 0)) == {0: 3, 1: 3, 2: 3}
    with pytest.raises(InputError, match="no picture"):
        order_of_step(0, 8, 0, 0)


def test_order_depends_on_the_seed_alone():
    assert order_of_step(50, 8, 1, 3) == order_of_step(50, 8, 1, 3) != order_of_step(50, 8, 2, 3)


def test_seeds_are_mixed():
    seeds = [derive_seed("augment", seed, step, 0, 0) for seed in range(30) for step in range(30)]
    assert len(set(seeds)) == 900 and all(0 <= seed < 2**63 for seed in seeds)
    assert 0.4 < sum(seed & 1 for seed in seeds) / 900 < 0.6


def test_groups_are_split_above_square():
    assert aspect_groups([(10, 11), (10, 10), (11, 10), (1, 9)]) == ([1, 2], [0, 3])
    assert aspect_groups([]) == ([], [])


@pytest.mark.parametrize("counts", [(10, 23), (0, 7), (3, 50), (1, 1), (16, 32)])
def test_every_epoch_fills_each_group_up_to_whole_batches(counts):
    """The counts follow from the official sampler's arithmetic, worked out here a second time."""
    groups = [list(range(counts[0])), list(range(100, 100 + counts[1]))]
    batch, steps = 8, sum(ceil(count / 8) for count in counts)
    epochs = []
    for epoch in range(4):
        batches = [grouped_order_of_step(groups, batch, 5, epoch * steps + place) for place in range(steps)]
        for members in batches:
            assert len(members) == batch and len({member >= 100 for member in members}) == 1
        seen = Counter(member for members in batches for member in members)
        for group in filter(None, groups):
            padded = ceil(len(group) / batch) * batch
            more, times = padded % len(group), padded // len(group)
            wanted = {times + 1: more, times: len(group) - more}
            assert Counter(seen[member] for member in group) == +Counter(wanted)
        epochs.append(batches)
    if sum(counts) > 2:
        assert all(a != b for a, b in zip(epochs, epochs[1:], strict=False))
    assert epochs[3] == [grouped_order_of_step(groups, batch, 5, 3 * steps + p) for p in range(steps)]


def test_the_batches_of_both_groups_are_mixed():
    groups = [list(range(40)), list(range(40, 80))]
    kinds = ["".join("ab"[grouped_order_of_step(groups, 4, seed, s)[0] >= 40] for s in range(20))
             for seed in range(30)]  # fmt: skip
    assert len(set(kinds)) == 30 and all(sorted(kind) == ["a"] * 10 + ["b"] * 10 for kind in kinds)


def test_batches_of_one_size_hold_every_picture_once_and_pad_none():
    sizes = [(4, 6), (6, 4), (4, 6), (4, 6), (6, 4), (5, 5)]
    batches = batches_of_one_size(sizes, 2)
    assert batches == [[0, 2], [1, 4], [3], [5]]  # by their first pictures
    assert batches_of_one_size([(8, 8)] * 5, 2) == [[0, 1], [2, 3], [4]]
    assert batches_of_one_size([], 2) == []


def test_an_empty_set_is_refused():
    with pytest.raises(InputError, match="no picture"):
        grouped_order_of_step([[], []], 8, 0, 0)


def coco_like(high: int) -> list[tuple[int, int]]:
    """Return sizes of the 117,266 pictures of COCO train2017 that are trained on, some higher than wide."""
    return [(640, 480)] * high + [(480, 640)] * (117_266 - high)


@pytest.mark.parametrize("high", [32 * 980, 32 * 980 + 19])
@pytest.mark.parametrize("batch, steps", [(16, 7330), (64, 1833)])
def test_an_epoch_of_coco_has_the_official_number_of_steps(high, batch, steps):
    """Which of the pictures are high is made up; nearly every split gives the published numbers."""
    pictures = pictures_per_epoch(coco_like(high), batch, group_by_aspect=True)
    assert pictures == batch * steps
    schedule = ScheduleConfig(epochs=12)  # its rate drops after 8 and 11 epochs
    total = schedule.total_steps(pictures, batch)
    assert total == 12 * steps
    drops = [lr_factor(epoch * steps + place, total, schedule) for epoch in (8, 11) for place in (-1, 0)]
    assert drops == pytest.approx([1, 0.1, 0.1, 0.01])
    assert pictures_per_epoch(coco_like(high), batch, group_by_aspect=False) == 117_266


def test_both_groups_may_need_filling_up():
    sizes = coco_like(16 * 2000 + 1)  # one picture above a whole batch in both groups
    assert pictures_per_epoch(sizes, 16, group_by_aspect=True) == 16 * 7331
