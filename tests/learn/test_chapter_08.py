"""Chapter 08: solutions agree with library, torch and pycocotools, and each likely mistake is caught."""

import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from cascade_lab.learn.chapter_08 import MASK_FROM_RUNS, MASK_TARGET, MASK_VALUE, MASK_VOTE
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.ops.masks import crop_masks, sample_mask
from tests.learn.mistakes import assert_caught


@pytest.mark.parametrize("box, size", [([0, 0, 12, 8], 4), ([3, 2, 9, 8], 3), ([4, 0, 12, 8], 2)])
def test_target_is_that_of_the_library(box, size):
    random = np.random.default_rng(0)
    mask = torch.from_numpy(random.random((8, 12)) > 0.5)
    theirs = crop_masks(mask[None], torch.tensor([box]).float(), torch.tensor([0]), size)[0]
    mine = MASK_TARGET.solve()(mask.int(), box, size)
    torch.testing.assert_close(mine.float(), theirs)


@pytest.mark.parametrize("box", [[0, 0, 5, 5], [1.25, 2.5, 17.75, 9.5], [-3, -2, 30, 12]])
def test_value_is_what_the_paste_reads(box):
    scores = torch.rand(5, 5, generator=torch.Generator().manual_seed(0))
    theirs = sample_mask(scores.double(), torch.tensor(box).double(), range(12), range(20))
    mine = [[MASK_VALUE.solve()(scores.tolist(), box, x, y) for x in range(20)] for y in range(12)]
    np.testing.assert_allclose(mine, theirs.numpy(), atol=1e-6)


def test_vote_is_the_mean_of_torch_sigmoids():
    logits = torch.randn(50, 3, generator=torch.Generator().manual_seed(1)) * 4
    mine = [MASK_VOTE.solve()(row) for row in logits.tolist()]
    np.testing.assert_allclose(mine, logits.sigmoid().mean(1).numpy(), atol=1e-6)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (6, 2)])
def test_runs_are_read_as_pycocotools_reads_them(shape):
    random = np.random.default_rng(5)
    for _ in range(20):
        cuts = np.sort(random.integers(0, math.prod(shape) + 1, 3))
        runs = np.diff([0, *cuts, math.prod(shape)]).tolist()
        packed = coco_mask.frPyObjects({"size": list(shape), "counts": runs}, *shape)
        assert MASK_FROM_RUNS.solve()(runs, *shape) == coco_mask.decode(packed).tolist()


# Each a mistake that learners make, and the words of a case that has to catch it.


def target_by(half=lambda covered: covered >= 0.5, swap=False, whole=False):
    def answer(mask, box, size):
        x1, y1, x2, y2 = box
        part = mask.float() if whole else mask[x1:x2, y1:y2].float() if swap else mask[y1:y2, x1:x2].float()
        height, width = part.shape[0] // size, part.shape[1] // size
        return half(part.reshape(size, height, size, width).mean(dim=(1, 3))).int()

    return answer


def value_by(centre=0.5, first=0.5, nearest=False, clamp=False, swap=False):
    def answer(mask, box, x, y):
        size, (x1, y1, x2, y2) = len(mask), box
        u = (x + centre - x1) / (x2 - x1) * size - first
        v = (y + centre - y1) / (y2 - y1) * size - first
        if nearest:
            u, v = round(u), round(v)
        value = 0.0
        for i in (math.floor(u), math.floor(u) + 1):
            for j in (math.floor(v), math.floor(v) + 1):
                weight = (1 - abs(u - i)) * (1 - abs(v - j))
                if clamp:
                    i, j = min(max(i, 0), size - 1), min(max(j, 0), size - 1)
                if i in range(size) and j in range(size):
                    value += (mask[i][j] if swap else mask[j][i]) * weight
        return value

    return answer


def sigmoid(z):
    return 1 / (1 + math.exp(-z))


def from_runs_by(first=0, rows=False):
    def answer(runs, height, width):
        pixels = [(place + first) % 2 for place, run in enumerate(runs) for _ in range(run)]
        if rows:
            return [pixels[y * width : (y + 1) * width] for y in range(height)]
        return [[pixels[x * height + y] for x in range(width)] for y in range(height)]

    return answer


MISTAKES = [
    (MASK_TARGET, "more than half", target_by(half=lambda c: c > 0.5), "exactly half"),
    (MASK_TARGET, "any pixel", target_by(half=lambda c: c > 0), "less than half"),
    (MASK_TARGET, "every pixel", target_by(half=lambda c: c == 1), "cells of two by two"),
    (MASK_TARGET, "x and y swapped", target_by(swap=True), "does not start at 0"),
    (MASK_TARGET, "forgets the box", target_by(whole=True), "does not start at 0"),
    (MASK_VALUE, "the corner of the pixel", value_by(centre=0), "on the centre of a cell"),
    (MASK_VALUE, "cells counted from their corner", value_by(first=0), "on the centre of a cell"),
    (MASK_VALUE, "the nearest cell", value_by(nearest=True), "nearer to the second"),
    (MASK_VALUE, "the border goes on", value_by(clamp=True), "fades to 0"),
    (MASK_VALUE, "rows for columns", value_by(swap=True), "nearer to the second"),
    (MASK_VALUE, "rounds the box", lambda m, b, x, y: value_by()(m, [*map(round, b)], x, y), "between the"),
    (MASK_VOTE, "the mean first", lambda z: sigmoid(sum(z) / len(z)), "extremely sure"),
    (MASK_VOTE, "no sigmoid", lambda z: sum(z) / len(z), "do not know"),
    (MASK_VOTE, "a sum", lambda z: sum(map(sigmoid, z)), "do not know"),
    (MASK_VOTE, "the majority", lambda z: sum(v > 0 for v in z) / len(z), "a single stage"),
    (MASK_FROM_RUNS, "along the rows", from_runs_by(rows=True), "go on into the next column"),
    (MASK_FROM_RUNS, "begins with ones", from_runs_by(first=1), "of one column"),
]  # fmt: skip


@pytest.mark.parametrize(
    "exercise, answer, words",
    [(exercise, answer, words) for exercise, _, answer, words in MISTAKES],
    ids=[f"{exercise.name}: {mistake}" for exercise, mistake, _, _ in MISTAKES],
)
def test_mistake_is_caught_and_its_case_named(exercise: Exercise, answer, words: str):
    assert_caught(exercise, answer, words)


@pytest.mark.parametrize(
    "exercise, right",
    [(MASK_TARGET, target_by()), (MASK_VALUE, value_by()), (MASK_FROM_RUNS, from_runs_by())],
    ids=["mask_target", "mask_value", "mask_from_runs"],
)
def test_the_mistakes_are_one_step_from_an_answer_that_passes(exercise: Exercise, right):
    assert judge(exercise, right).state == "right"
