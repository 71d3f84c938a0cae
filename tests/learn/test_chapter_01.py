"""Chapter 01: solutions agree with other libraries, and each likely mistake is caught and named."""

import math

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from torchvision.ops import box_convert, box_iou

from cascade_lab.learn.chapter_01 import CORNERS, DELTAS, IOU, MATCHES, RUNS
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.ops.box_coder import encode_deltas
from tests.learn.mistakes import assert_caught


def random_boxes(random: np.random.Generator, count: int) -> torch.Tensor:
    corner, size = random.uniform(0, 20, (count, 2)), random.uniform(1, 20, (count, 2))
    return torch.from_numpy(np.hstack([corner, corner + size]))


def test_iou_is_that_of_torchvision():
    a, b = (random_boxes(np.random.default_rng(seed), 50) for seed in (0, 1))
    mine = [[IOU.solve()(first, second) for second in b.tolist()] for first in a.tolist()]
    np.testing.assert_allclose(mine, box_iou(a, b).numpy(), rtol=1e-9)


def test_corners_are_those_of_torchvision():
    boxes = random_boxes(np.random.default_rng(2), 20)
    mine = [CORNERS.solve()(box) for box in boxes.tolist()]
    np.testing.assert_allclose(mine, box_convert(boxes, "xywh", "xyxy").numpy())


def test_deltas_are_those_of_the_box_coder():
    a, b = (random_boxes(np.random.default_rng(seed), 50) for seed in (3, 4))
    std = [0.1, 0.2, 0.3, 0.4]
    mine = [DELTAS.solve()(p, t, std) for p, t in zip(a.tolist(), b.tolist(), strict=True)]
    np.testing.assert_allclose(mine, encode_deltas(a, b, std).numpy(), rtol=1e-9)


@pytest.mark.parametrize("shape", [(1, 1), (3, 5), (6, 2)])
def test_runs_are_what_pycocotools_decodes_to_the_mask(shape: tuple[int, int]):
    random = np.random.default_rng(5)
    for _ in range(20):
        mask = torch.from_numpy(random.integers(0, 2, shape))
        counts = RUNS.solve()(mask)
        packed = coco_mask.frPyObjects({"size": list(shape), "counts": counts}, *shape)
        np.testing.assert_array_equal(coco_mask.decode(packed), mask.numpy())


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("threshold", [0.3, 0.5])
def test_matches_are_those_of_cocoeval(seed: int, threshold: float):
    random = np.random.default_rng(seed)
    objects = random_boxes(random, 5)
    found = objects[random.integers(0, 5, 12)] + torch.from_numpy(random.normal(0, 2, (12, 4)))
    found[:, 2:] = torch.maximum(found[:, 2:], found[:, :2] + 1)
    ious = box_iou(found, objects)
    truth = COCO()
    truth.dataset = {
        "images": [{"id": 1}],
        "categories": [{"id": 1}],
        "annotations": [
            {"id": m + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, "bbox": box, "area": box[2] * box[3]}
            for m, box in enumerate(box_convert(objects, "xyxy", "xywh").tolist())
        ],
    }
    truth.createIndex()
    boxes = box_convert(found, "xyxy", "xywh").tolist()
    results = [
        {"image_id": 1, "category_id": 1, "bbox": box, "score": 1 - d / 100} for d, box in enumerate(boxes)
    ]
    evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
    evaluation.params.iouThrs = np.array([threshold])
    evaluation.evaluate()
    expected = evaluation.evalImgs[0]["dtMatches"][0] > 0
    assert expected.any() and not expected.all()
    assert MATCHES.solve()(ious.tolist(), threshold) == expected.tolist()


# Each a mistake that learners make, and the words of a case that has to catch it.


def iou_by(shared, union):
    """Build a wrong IoU from its two parts."""

    def answer(a, b):
        width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
        areas = (a[2] - a[0]) * (a[3] - a[1]), (b[2] - b[0]) * (b[3] - b[1])
        common = shared(width, height)
        total = union(*areas, common)
        return common / total if total > 0 else 0.0

    return answer


def cut(width, height):
    return max(0, width) * max(0, height)


def deltas_by(
    size=lambda p, g: p, change=lambda g, p: math.log(g / p), place="centre", scale=lambda d, s: d / s
):
    def answer(proposal, target, std):
        found = []
        for axis in (0, 1):
            p, g = proposal[axis + 2] - proposal[axis], target[axis + 2] - target[axis]
            shift = target[axis] - proposal[axis] + ((g - p) / 2 if place == "centre" else 0)
            found.append((shift / size(p, g), change(g, p)))
        (dx, dw), (dy, dh) = found
        return [scale(delta, s) for delta, s in zip((dx, dy, dw, dh), std, strict=True)]

    return answer


def runs_by(order=lambda mask: mask.T, first=0, last=True):
    def answer(mask):
        pixels = order(mask).flatten().tolist()
        counts, value, count = [], pixels[0] if first is None else first, 0
        for pixel in pixels:
            if pixel != value:
                counts.append(count)
                value, count = pixel, 0
            count += 1
        return [*counts, count] if last else counts

    return answer


def matches_by(free=True, best=True, enough=lambda iou, threshold: iou >= threshold, only_best=False):
    def answer(ious, threshold):
        taken, right = set(), []
        for row in ious:
            able = [m for m, iou in enumerate(row) if enough(iou, threshold)]
            if only_best and row and max(row) in [row[m] for m in taken]:
                able = []
            able = [m for m in able if m not in taken or not free]
            if able:
                taken.add(max(able, key=row.__getitem__) if best else able[0])
            right.append(bool(able))
        return right

    return answer


UNION = lambda a, b, common: a + b - common  # noqa: E731
MISTAKES = [
    (CORNERS, "returns it as it is", lambda box: box, "away from the origin"),
    (CORNERS, "takes off 1", lambda b: [b[0], b[1], b[0] + b[2] - 1, b[1] + b[3] - 1], "at the origin"),
    (CORNERS, "mixes up sides", lambda b: [b[0], b[1], b[0] + b[3], b[1] + b[2]], "at the origin"),
    (CORNERS, "rounds", lambda b: [int(b[0]), int(b[1]), int(b[0] + b[2]), int(b[1] + b[3])], "between the"),
    (IOU, "no cut", iou_by(lambda w, h: w * h, UNION), "apart in x and in y"),
    (IOU, "cut after the product", iou_by(lambda w, h: max(0, w * h), UNION), "apart in x and in y"),
    (IOU, "shared counted twice", iou_by(cut, lambda a, b, common: a + b), "shifted by half its width"),
    (IOU, "over the area of a", iou_by(cut, lambda a, b, common: a), "shifted by half its width"),
    (IOU, "over the smaller", iou_by(cut, lambda a, b, common: min(a, b)), "inside a large one"),
    (IOU, "adds 1", iou_by(lambda w, h: cut(w + 1, h + 1), UNION), "only touch"),
    (IOU, "divides 0 by 0", lambda a, b: cut(b[2] - a[0], 1) / (cut(b[2] - a[0], 1)), "without any area"),
    (DELTAS, "corners, not centres", deltas_by(place="corner"), "same centre"),
    (DELTAS, "in widths of the target", deltas_by(size=lambda p, g: g), "a move and a change"),
    (DELTAS, "no logarithm", deltas_by(change=lambda g, p: g / p), "right already"),
    (DELTAS, "logarithm of base 2", deltas_by(change=lambda g, p: math.log2(g / p)), "twice the width"),
    (DELTAS, "upside down", deltas_by(change=lambda g, p: math.log(p / g)), "twice the width"),
    (DELTAS, "no std", deltas_by(scale=lambda d, s: d), "the stds of the first stage"),
    (DELTAS, "times std", deltas_by(scale=lambda d, s: d * s), "the stds of the first stage"),
    (RUNS, "along the rows", runs_by(order=lambda mask: mask), "by rows and by columns"),
    (RUNS, "begins with any value", runs_by(first=None), "whose first pixel is 1"),
    (RUNS, "begins with the ones", runs_by(first=1), "an empty mask"),
    (RUNS, "forgets the last run", runs_by(last=False), "an empty mask"),
    (MATCHES, "duplicates count", matches_by(free=False), "duplicate"),
    (MATCHES, "takes the first", matches_by(best=False), "has to take the better one"),
    (MATCHES, "more than the threshold", matches_by(enough=lambda iou, t: iou > t), "exactly the threshold"),
    (MATCHES, "never second best", matches_by(only_best=True), "gets the second best"),
    (MATCHES, "no threshold", matches_by(enough=lambda iou, t: True), "too loose"),
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
    [(IOU, iou_by(cut, UNION)), (DELTAS, deltas_by()), (RUNS, runs_by()), (MATCHES, matches_by())],
    ids=["iou", "deltas", "runs", "matches"],
)
def test_the_mistakes_are_one_step_from_an_answer_that_passes(exercise: Exercise, right):
    assert judge(exercise, right).state == "right"
