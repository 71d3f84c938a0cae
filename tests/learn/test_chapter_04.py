"""Chapter 04: solutions agree with the library and its published models, and likely mistakes are named."""

import math

import numpy as np
import pytest
import torch

from cascade_lab.backbones.internimage import Block, InternImage, InternImageConfig
from cascade_lab.learn.chapter_04 import (
    BLOCK_PARAMETERS,
    CHAPTER_04,
    FARTHEST_POINT,
    LEVEL_SIZES,
    STACKING,
)
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.ops.dcnv3_reference import sampling_points
from cascade_lab.recipes.published import BACKBONES

ids = [exercise.id for exercise in CHAPTER_04]


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (5, 7), (1, 61)])
def test_level_sizes_are_those_of_the_backbone(size: tuple[int, int]):
    config = InternImageConfig(channels=2, depths=(1, 1, 1, 1), groups=(1, 1, 1, 1))
    with torch.no_grad():
        maps = InternImage(config)(torch.zeros(1, 3, *size))
    assert LEVEL_SIZES.solve()(*size) == [list(features.shape[2:]) for features in maps]


@pytest.mark.parametrize("name", ["t", "s", "b", "l", "xl"])
def test_stacking_gives_the_published_models(name: str):
    published = BACKBONES[name]
    width, depths = published.channels // published.groups[0], published.depths
    expected = [list(published.out_channels), list(published.groups), list(depths)]
    assert STACKING.solve()(published.channels, width, depths[0], depths[2]) == expected


@pytest.mark.parametrize("name", ["t", "s", "b", "l"])
@pytest.mark.parametrize("level", range(4))
def test_block_parameters_are_those_of_the_library(name: str, level: int):
    config = BACKBONES[name]
    channels, groups = config.out_channels[level], config.groups[level]
    with torch.device("meta"):
        block = Block(config, channels, groups, 0.0)
    assert BLOCK_PARAMETERS.solve()(channels, groups) == sum(p.numel() for p in block.parameters())


@pytest.mark.parametrize("stride, scale", [(4, 1.0), (16, 2.0)])
def test_farthest_point_is_that_of_the_operators_points(stride: int, scale: float):
    offset = torch.randn(1, 1, 1, 18, generator=torch.Generator().manual_seed(stride), dtype=torch.float64)
    x, y = sampling_points((1, 1), offset, 1, offset_scale=scale)
    expected = (x.square() + y.square()).sqrt().max().item() * stride
    mine = FARTHEST_POINT.solve()(offset.view(9, 2).tolist(), stride, scale)
    assert mine == pytest.approx(expected, rel=1e-9)


# Each a mistake that learners make, and the words of a case that has to catch it.


def sizes_by(half=lambda n: (n + 1) // 2, halvings=(2, 1, 1, 1), order=lambda h, w: [h, w]):
    def answer(height, width):
        sizes = []
        for times in halvings:
            for _ in range(times):
                height, width = half(height), half(width)
            sizes.append(order(height, width))
        return sizes

    return answer


def stacking_by(
    channel=lambda c, i: c * 2**i, group=lambda c, width: c // width, depth=lambda f, t: [f, f, t, f]
):
    def answer(c1, width, first, third):
        channels = [channel(c1, i) for i in range(4)]
        return [channels, [group(c, width) for c in channels], depth(first, third)]

    return answer


def parameters_by(bias=1, groups_count=True, norms=3, scales=2, ratio=4):
    def answer(c, g):
        g = g if groups_count else 1
        points = 27 * g * (c + bias)
        forward = 2 * ratio * c * c + bias * (ratio + 1) * c
        return 9 * c + bias * c + norms * 2 * c + scales * c + points + 2 * c * (c + bias) + forward

    return answer


def farthest_by(place=lambda g, d, s: (g + d) * s, order=lambda a, b: (a, b), far=max, length=math.hypot):
    def answer(offsets, stride, scale):
        grid = [order(a, b) for a in (-1, 0, 1) for b in (-1, 0, 1)]
        return stride * far(
            length(place(gx, dx, scale), place(gy, dy, scale))
            for (gx, gy), (dx, dy) in zip(grid, offsets, strict=True)
        )

    return answer


MISTAKES = [
    (LEVEL_SIZES, "rounds down", sizes_by(half=lambda n: n // 2), "not multiples of 32"),
    (LEVEL_SIZES, "one halving in the stem", sizes_by(halvings=(1, 1, 1, 1)), "square picture"),
    (LEVEL_SIZES, "width first", sizes_by(order=lambda h, w: [w, h]), "wider than high"),
    (LEVEL_SIZES, "rounds at the end",
     sizes_by(half=lambda n: n / 2, order=lambda h, w: [round(h), round(w)]), "a single pixel"),
    (STACKING, "channels grow by c1", stacking_by(channel=lambda c, i: c * (i + 1)), "InternImage-T"),
    (STACKING, "channels stay", stacking_by(channel=lambda c, i: c), "smallest numbers"),
    (STACKING, "the width is the number", stacking_by(group=lambda c, width: width), "InternImage-T"),
    (STACKING, "level 4 is deep", stacking_by(depth=lambda f, t: [f, f, t, t]), "smallest numbers"),
    (STACKING, "level 2 is deep", stacking_by(depth=lambda f, t: [f, t, f, f]), "InternImage-T"),
    (BLOCK_PARAMETERS, "no biases", parameters_by(bias=0), "one channel in one group"),
    (BLOCK_PARAMETERS, "offsets once", parameters_by(groups_count=False), "in two groups"),
    (BLOCK_PARAMETERS, "two norms", parameters_by(norms=2), "two channels in one group"),
    (BLOCK_PARAMETERS, "no layer scale", parameters_by(scales=0), "one channel in one group"),
    (BLOCK_PARAMETERS, "twice as wide", parameters_by(ratio=2), "of InternImage-T"),
    (FARTHEST_POINT, "scales the offset alone", farthest_by(lambda g, d, s: g + d * s),
     "stretches the grid too"),
    (FARTHEST_POINT, "scales the grid alone", farthest_by(lambda g, d, s: g * s + d), "stretched together"),
    (FARTHEST_POINT, "no scale", farthest_by(lambda g, d, s: g + d), "stretches the grid too"),
    (FARTHEST_POINT, "along the rows", farthest_by(order=lambda a, b: (b, a)), "pull every point"),
    (FARTHEST_POINT, "the nearest point", farthest_by(far=min), "zero offsets at stride 4"),
    (FARTHEST_POINT, "along one axis", farthest_by(length=lambda x, y: max(abs(x), abs(y))),
     "zero offsets at stride 4"),
]  # fmt: skip


@pytest.mark.parametrize(
    "exercise, answer, words",
    [(exercise, answer, words) for exercise, _, answer, words in MISTAKES],
    ids=[f"{exercise.name}: {mistake}" for exercise, mistake, _, _ in MISTAKES],
)
def test_mistake_is_caught_and_its_case_named(exercise: Exercise, answer, words: str):
    verdict = judge(exercise, answer)
    assert verdict.state == "wrong"
    caught = [failed for failed in verdict.failed if words in failed]
    assert len(caught) == 1, verdict.text


@pytest.mark.parametrize(
    "exercise, right",
    [(LEVEL_SIZES, sizes_by()), (BLOCK_PARAMETERS, parameters_by()), (STACKING, stacking_by()),
     (FARTHEST_POINT, farthest_by())],
    ids=ids,
)  # fmt: skip
def test_the_mistakes_are_one_step_from_an_answer_that_passes(exercise: Exercise, right):
    assert judge(exercise, right).state == "right"


def test_expected_sizes_are_whole_numbers():
    assert all(np.array(case.expected).dtype.kind == "i" for case in LEVEL_SIZES.cases)
