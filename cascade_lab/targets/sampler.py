"""The sampler: which boxes the loss looks at, so that background does not drown the few objects.

Source: Fast R-CNN, section 2.3: a fixed number of boxes a picture, at most a quarter of them positive.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cascade_lab.targets.assigner import NEGATIVE, Assignment

# (candidates (n,) ascending, num < n, image) -> num of them, ascending
Choose = Callable[[Tensor, int, int], Tensor]


@dataclass(frozen=True, kw_only=True)
class Sampler:
    """Sample ``num`` boxes of a picture, at most ``positive_fraction`` of them positive.

    Negatives fill up what positives leave; where there are too few of them, the sample is smaller.
    """

    num: int
    positive_fraction: float

    def __post_init__(self) -> None:
        if self.num < 1:
            raise ValueError(f"num must be at least 1, got {self.num}")
        if not 0 <= self.positive_fraction <= 1:
            raise ValueError(f"positive_fraction must be in [0, 1], got {self.positive_fraction}")

    def sample(self, assignment: Assignment, choose: Choose, image: int) -> tuple[Tensor, Tensor]:
        """Return the indices (P,) of the positives and (Q,) of the negatives, both ascending.

        ``image`` is the picture's number in the batch: it only tells ``choose`` whose dice to throw.
        """
        positive = (assignment.target_index >= 0).nonzero().squeeze(1)
        negative = (assignment.target_index == NEGATIVE).nonzero().squeeze(1)
        positive = _at_most(int(self.num * self.positive_fraction), positive, choose, image)
        negative = _at_most(self.num - len(positive), negative, choose, image)
        return positive, negative


def random_choice(seeds: Sequence[int]) -> Choose:
    """Return a rule that chooses at random, with one generator per picture of the batch.

    The same seeds and the same sequence of questions give the same answers, whatever the device and
    whatever happens in the other pictures.
    """
    generators = [torch.Generator().manual_seed(seed) for seed in seeds]

    def choose(candidates: Tensor, num: int, image: int) -> Tensor:
        order = torch.randperm(len(candidates), generator=generators[image])
        return candidates[order[:num].sort().values.to(candidates.device)]

    return choose


def evenly(candidates: Tensor, num: int, image: int) -> Tensor:
    """Choose candidates at even distances: number floor(j * n / num). For tests and explanations."""
    steps = torch.arange(num, device=candidates.device) * len(candidates)
    return candidates[torch.div(steps, num, rounding_mode="floor")] if num else candidates[:0]


def first(candidates: Tensor, num: int, image: int) -> Tensor:
    """Choose the first candidates. For tests and explanations."""
    return candidates[:num]


def _at_most(num: int, candidates: Tensor, choose: Choose, image: int) -> Tensor:
    return candidates if len(candidates) <= num else choose(candidates, num, image)
