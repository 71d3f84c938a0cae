"""The sampler's quota, and the rules that choose."""

import pytest
import torch
from torch import Tensor

from cascade_lab.targets.assigner import Assignment
from cascade_lab.targets.sampler import Sampler, evenly, first, random_choice


def assignment(positives: int, negatives: int, unused: int = 0) -> Assignment:
    """Boxes in three blocks: unused, negatives, positives."""
    index = torch.tensor([-2] * unused + [-1] * negatives + [3] * positives, dtype=torch.int64)
    return Assignment(index, torch.zeros(len(index)))


def never(candidates: Tensor, num: int, image: int) -> Tensor:
    raise AssertionError("nothing to choose: all fit in")


@pytest.mark.parametrize(
    ("positives", "negatives", "expected"),
    [
        (2, 3, (2, 3)),  # all fit
        (9, 30, (4, 12)),  # both too many: a quarter of 16, and the rest
        (1, 30, (1, 15)),  # negatives fill up
        (9, 5, (4, 5)),  # positives do not fill up
        (0, 30, (0, 16)),
        (9, 0, (4, 0)),
        (0, 0, (0, 0)),
    ],
)
def test_quota(positives: int, negatives: int, expected: tuple[int, int]):
    sampler = Sampler(num=16, positive_fraction=0.25)
    chosen = sampler.sample(assignment(positives, negatives, unused=5), first, 0)
    assert tuple(map(len, chosen)) == expected
    positive, negative = chosen
    assert ((positive >= 5 + negatives) & (positive < 5 + negatives + positives)).all()
    assert ((negative >= 5) & (negative < 5 + negatives)).all()


def test_the_rule_is_asked_only_where_there_is_a_choice():
    sampler = Sampler(num=16, positive_fraction=0.25)
    positive, negative = sampler.sample(assignment(4, 12, unused=1), never, 0)
    assert positive.tolist() == [13, 14, 15, 16] and negative.tolist() == list(range(1, 13))
    assert positive.dtype == negative.dtype == torch.int64


def test_the_rule_hears_which_picture():
    heard = []

    def listen(candidates: Tensor, num: int, image: int) -> Tensor:
        heard.append((candidates.tolist(), num, image))
        return candidates[-num:]

    Sampler(num=4, positive_fraction=0.5).sample(assignment(3, 3), listen, 7)
    assert heard == [([3, 4, 5], 2, 7), ([0, 1, 2], 2, 7)]


def test_golden_rules():
    candidates = torch.arange(10) * 10
    assert evenly(candidates, 4, 0).tolist() == [0, 20, 50, 70]  # floor of 0, 2.5, 5, 7.5
    assert evenly(candidates, 0, 0).tolist() == []
    assert first(candidates, 3, 0).tolist() == [0, 10, 20]


def test_random_choice_is_sorted_distinct_and_repeatable():
    candidates = torch.arange(100) * 3
    choose = random_choice([5, 6])
    drawn = choose(candidates, 20, 0)
    assert len(set(drawn.tolist())) == 20 and drawn.tolist() == sorted(drawn.tolist())
    assert set(drawn.tolist()) <= set(candidates.tolist())
    again = random_choice([5, 6])
    assert torch.equal(again(candidates, 20, 0), drawn)
    assert not torch.equal(again(candidates, 20, 0), drawn)  # the next question gets another answer


def test_random_choice_of_a_picture_knows_nothing_of_the_others():
    candidates = torch.arange(100)
    alone, busy = random_choice([5, 6]), random_choice([5, 6])
    busy(candidates, 7, 0)
    torch.manual_seed(0)
    assert torch.equal(alone(candidates, 20, 1), busy(candidates, 20, 1))


def test_random_choice_is_fair():
    choose, counts = random_choice([0]), torch.zeros(10)
    for _ in range(2000):
        counts[choose(torch.arange(10), 3, 0)] += 1
    # 600 each is expected, with a standard deviation of 20.5.
    assert (counts - 600).abs().max() < 5 * 20.5


def test_impossible_settings():
    with pytest.raises(ValueError, match="num"):
        Sampler(num=0, positive_fraction=0.5)
    with pytest.raises(ValueError, match="positive_fraction"):
        Sampler(num=8, positive_fraction=1.5)
