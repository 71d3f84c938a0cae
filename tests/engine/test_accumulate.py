"""A batch in parts against the whole batch, on the whole detector."""

from dataclasses import dataclass, replace
from functools import partial

import pytest
import torch
from torch import Tensor, nn
from torch.testing import assert_close

from cascade_lab.detector import Detector, TrainOutput
from cascade_lab.engine.accumulate import add_up, split, whole_batch_divisors
from cascade_lab.losses import Divisor, global_mean
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.sampler import random_choice
from tests.tiny_detector import CASCADE, SIZE, objects, pictures, tiny


@dataclass(frozen=True)
class Batch:
    indices: list[int]
    images: ImageBatch
    targets: list[Instances]
    seeds: list[int]


def batch() -> Batch:
    """Five pictures with three, two, one and no objects, one of them without masks: no two counts agree."""
    three = objects([[4.0, 4.0, 20.0, 22.0], [30.0, 8.0, 58.0, 30.0], [8.0, 36.0, 40.0, 60.0]], [0, 1, 2])
    one = objects([[10.0, 10.0, 50.0, 44.0]], [1])
    targets = [three, objects(), objects([], []), replace(one, masks=None), one]
    return Batch([10, 11, 12, 13, 14], pictures(5, size=SIZE), targets, [5, 6, 7, 8, 9])


def detector(norm: str) -> Detector:
    """Return a detector in float64, where rounding cannot be taken for a difference."""
    head = replace(CASCADE.box_head, convs=1, conv_channels=8, norm=norm)
    return tiny(replace(CASCADE, box_head=head)).double().train()


def learn(
    model: Detector, size: int | None, kind: str = "whole"
) -> tuple[dict[str, float], dict[str, Tensor]]:
    """Return losses and gradients of the batch, taken in parts of at most ``size`` pictures."""

    def look(_: int, part: Batch, divisor: Divisor) -> TrainOutput:
        images = replace(part.images, pixels=part.images.pixels.double())
        return model(images, part.targets, random_choice(part.seeds), divisor)

    model.zero_grad()
    parts = split(batch(), size)
    divisors = whole_batch_divisors(model, [partial(look, *part) for part in parts])
    if kind == "own":
        divisors = [global_mean] * len(parts)
    losses = []
    for part, divisor in zip(parts, divisors, strict=True):
        output = look(*part, divisor)
        output.total.backward()
        losses.append({"loss": output.total} | output.losses)
    return add_up(losses), {name: p.grad for name, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize("norm", ["none", "group"])
@pytest.mark.parametrize("size", [1, 2])
def test_parts_learn_what_the_whole_batch_does(norm: str, size: int):
    losses, gradients = learn(detector(norm), None)
    parted_losses, parted_gradients = learn(detector(norm), size)
    assert parted_gradients.keys() == gradients.keys() == dict(detector(norm).named_parameters()).keys()
    for name, value in losses.items():
        if "acc" not in name:
            assert parted_losses[name] == pytest.approx(value, rel=1e-9), name
    for name, gradient in gradients.items():
        assert_close(
            parted_gradients[name], gradient, atol=1e-9, rtol=1e-7, msg=lambda m, n=name: f"{n}: {m}"
        )


def test_dividing_every_part_by_its_own_counts_would_not():
    """Else the test above could not fail: averaged parts of one picture are off by more than a tenth."""
    _, gradients = learn(detector("none"), None)
    _, own = learn(detector("none"), 1, "own")
    name = "cascade.mask_heads.0.logits.weight"
    assert (own[name] / 5 - gradients[name]).norm() > 0.1 * gradients[name].norm()


def test_batch_norm_is_left_as_it_was_by_counting_and_moves_once_a_part():
    model = detector("batch")
    learn(model, 2)
    tracked = [b.item() for name, b in model.named_buffers() if name.endswith("num_batches_tracked")]
    assert tracked == [3, 3, 3]


def test_split_keeps_everything_in_order_and_numbers_over_all_processes():
    whole = batch()
    parts = split(whole, 2, rank=4)
    assert [number for number, _ in parts] == [12, 13, 14]
    assert [part.indices for _, part in parts] == [[10, 11], [12, 13], [14]]
    assert [part.seeds for _, part in parts] == [[5, 6], [7, 8], [9]]
    assert torch.equal(torch.cat([part.images.pixels for _, part in parts]), whole.images.pixels)
    assert [len(part.images) for _, part in parts] == [2, 2, 1]
    ((number, same),) = split(whole, None, rank=4)
    assert number == 4 and torch.equal(same.images.pixels, whole.images.pixels)


def test_counts_by_hand():
    """Parts of 3 and 5 rows, and of 10 and 20: both are divided by 8 and by 30."""

    def look(counts: tuple[int, int], divisor: Divisor) -> list[float]:
        return [divisor(torch.tensor(float(count))).item() for count in counts]

    counts = ((3, 10), (5, 20))
    divisors = whole_batch_divisors(nn.Identity(), [partial(look, each) for each in counts])
    answers = [look(each, divisor) for each, divisor in zip(counts, divisors, strict=True)]
    assert answers == [[8, 30], [8, 30]]
    (alone,) = whole_batch_divisors(nn.Identity(), [partial(look, counts[0])])
    assert look(counts[0], alone) == [3, 10]


def test_parts_that_ask_for_different_counts_are_refused():
    looks = [lambda divisor: divisor(torch.tensor(1.0)), lambda _: None]
    with pytest.raises(ValueError, match="argument 2 is shorter"):
        whole_batch_divisors(nn.Identity(), looks)


def test_add_up_by_hand():
    parts = [
        {"loss": torch.tensor(1.0), "acc": torch.tensor(50.0)},
        {"loss": torch.tensor(0.5), "acc": torch.tensor(100.0)},
    ]
    assert add_up(parts) == {"loss": 1.5, "acc": 75.0}
