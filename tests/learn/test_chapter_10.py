"""Chapter 10: solutions agree with pycocotools and the library; each likely mistake is caught and named."""

import numpy as np
import pytest

from cascade_lab.evaluation.coco import coco_summary, load_ground_truth, run_cocoeval
from cascade_lab.evaluation.errors import Kind, box_overlaps, find_errors
from cascade_lab.evaluation.matches import flat_matches
from cascade_lab.learn.chapter_10 import AVERAGE, INTERPOLATED, KIND, RANKED
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from tests.evaluation.scenes import box, found, random_scene, truth
from tests.learn.mistakes import assert_caught


def random_ranking(seed: int) -> tuple[list[bool], int]:
    random = np.random.default_rng(seed)
    right = (random.random(12) < 0.6).tolist()
    return right, sum(right) + int(random.integers(0, 4))


@pytest.mark.parametrize("seed", range(5))
def test_ranked_is_what_cumulative_sums_give(seed):
    right, objects = random_ranking(seed)
    precision, recall = np.array(RANKED.solve()(right, objects)).T
    np.testing.assert_allclose(precision, np.cumsum(right) / np.arange(1, 13))
    np.testing.assert_allclose(recall, np.cumsum(right) / objects)


def scene_of(right: list[bool], objects: int) -> tuple[dict, list[dict]]:
    """Give every object a place of its own, every right detection the next one, every wrong one none."""
    places = iter(range(objects))
    detections = [
        found(40 * next(places) if hit else -1000 - 40 * n, 0, 20, 20, 0.9 - n / 100)
        for n, hit in enumerate(right)
    ]
    return truth(*(box(40 * i, 0, 20, 20) for i in range(objects))), detections


@pytest.mark.parametrize("seed", range(5))
def test_average_and_interpolated_are_those_of_pycocotools(seed):
    right, objects = random_ranking(seed)
    annotations, detections = scene_of(right, objects)
    summary = coco_summary(annotations, detections, "bbox")
    assert summary is not None
    assert 100 * AVERAGE.solve()(right, objects) == pytest.approx(summary["AP50"])
    evaluation = run_cocoeval(load_ground_truth(annotations), detections)
    curve = evaluation.eval["precision"][0, :, 0, 0, -1]
    pairs = RANKED.solve()(right, objects)
    assert [INTERPOLATED.solve()(pairs, i / 100) for i in range(101)] == pytest.approx(curve.tolist())


@pytest.mark.parametrize("seed", range(5))
def test_kind_is_that_of_the_library(seed):
    annotations, detections = random_scene(seed)
    matches = flat_matches(run_cocoeval(load_ground_truth(annotations), detections))
    errors, asked = find_errors(matches), 0
    for row, kind in enumerate(errors.kinds):
        if kind in (Kind.RIGHT, Kind.IGNORED):
            continue
        real = np.flatnonzero((matches.object_picture == matches.picture[row]) & ~matches.object_ignored)
        ious = box_overlaps(matches.boxes[[row]], matches.object_boxes[real])[0]
        same = matches.object_labels[real] == matches.labels[row]
        own, other = ious[same].max(initial=0), ious[~same].max(initial=0)
        assert KIND.solve()(own, other) == kind
        asked += 1
    assert asked > 10


# Each a mistake that learners make, and the words of a case that has to catch it.


def ranked_by(precision=lambda h, n, m: h / n, recall=lambda h, n, m: h / m, start=1):
    def answer(right, objects):
        pairs, hits = [], 0
        for seen, hit in enumerate(right, start=start):
            hits += hit
            pairs.append([precision(hits, seen, objects), recall(hits, seen, objects)])
        return pairs

    return answer


def interpolated_by(able=lambda r, level: r >= level, choose=max, default=0):
    return lambda pairs, level: choose([p for p, r in pairs if able(r, level)], default=default)


def average_by(levels=101, able=lambda r, level: r >= level, best=True, scale=1):
    def answer(right, objects):
        pairs, hits = [], 0
        for seen, hit in enumerate(right, start=1):
            hits += hit
            pairs.append((hits / seen, hits / objects))
        heights = []
        for i in range(levels):
            some = [p for p, r in pairs if able(r, i / (levels - 1))]
            heights.append((max(some) if best else some[0]) if some else 0)
        return scale * sum(heights) / levels

    return answer


def kind_by(order=(2, 1, 4, 5), low=lambda own: own >= 0.1, high=lambda own: own < 0.5):
    def answer(own, other):
        asked = {
            2: low(own) and high(own), 1: other >= 0.5, 4: not high(own), 5: max(own, other) <= 0.1,
        }  # fmt: skip
        return next((kind for kind in order if asked[kind]), 3)

    return answer


MISTAKES = [
    (RANKED, "recall over detections", ranked_by(recall=lambda h, n, m: h / n), "where four objects exist"),
    (RANKED, "precision over objects", ranked_by(precision=lambda h, n, m: h / m), "one right and one wrong"),
    (RANKED, "the other order", lambda r, m: [p[::-1] for p in ranked_by()(r, m)], "one right and one wrong"),
    (RANKED, "only right ones", lambda r, m: [ranked_by()(r, m)[i] for i, h in enumerate(r) if h], "three"),
    (INTERPOLATED, "more than the level", interpolated_by(lambda r, level: r > level), "has exactly"),
    (INTERPOLATED, "no dip", lambda p, level: next((a for a, r in p if r >= level), 0), "a dip in the curve"),
    (INTERPOLATED, "the worst", interpolated_by(choose=min), "has exactly"),
    (INTERPOLATED, "up to the level", interpolated_by(lambda r, level: r <= level), "between two pairs"),
    (INTERPOLATED, "1 where nothing is", interpolated_by(default=1), "never reached"),
    (AVERAGE, "100 levels", average_by(levels=100), "one of two objects"),
    (AVERAGE, "11 levels, as in 2007", average_by(levels=11), "one of two objects"),
    (AVERAGE, "not interpolated", average_by(best=False), "found after a mistake"),
    (AVERAGE, "in percent", average_by(scale=100), "found at once"),
    (AVERAGE, "more than the level", average_by(able=lambda r, level: r > level), "found at once"),
    (AVERAGE, "mean of precisions", lambda r, m: sum(p for p, _ in ranked_by()(r, m)) / len(r), "comes last"),
    (KIND, "class first", kind_by((1, 2, 4, 5)), "loose on its own class"),
    (KIND, "duplicate first", kind_by((4, 2, 1, 5)), "two overlapping"),
    (KIND, "background is what is left", kind_by((2, 1, 4)), "on nothing"),
    (KIND, "no both", lambda own, other: {3: 5}.get(k := kind_by()(own, other), k), "loose box with"),
    (KIND, "0.5 is loose", kind_by(high=lambda own: own <= 0.5), "exactly 0.5"),
    (KIND, "0.1 is background", kind_by(low=lambda own: own > 0.1), "exactly 0.1"),
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
    [(RANKED, ranked_by()), (INTERPOLATED, interpolated_by()), (AVERAGE, average_by()), (KIND, kind_by())],
    ids=["ranked", "interpolated", "average", "kind"],
)
def test_the_mistakes_are_one_step_from_an_answer_that_passes(exercise: Exercise, right):
    assert judge(exercise, right).state == "right"
