"""Kinds of mistakes by hand and by a slow reading of the paper; repairs really done, then scored anew."""

import copy

import numpy as np
import pytest

from cascade_lab.evaluation.coco import coco_scores, load_ground_truth, run_cocoeval
from cascade_lab.evaluation.errors import ERRORS, Errors, Kind, find_errors, mean_ap, missed_objects
from cascade_lab.evaluation.matches import Matches, flat_matches
from tests.evaluation.scenes import CLASSES, box, found, random_scene, truth


def errors_of(annotations: dict, detections: list[dict], iou: int = 0) -> Errors:
    return find_errors(flat_matches(run_cocoeval(load_ground_truth(annotations), detections)), iou)


def missed(errors: Errors) -> list[bool]:
    return missed_objects(errors.matches, errors.kinds, errors.objects).tolist()


CUP = box(0, 0, 40, 40)


@pytest.mark.parametrize(
    "detection, kind, about",
    [
        (found(4, 0, 40, 40), Kind.RIGHT, 0),  # 36 / 44 = .82
        (found(0, 0, 40, 40, category_id=2), Kind.CLASSIFICATION, 0),
        (found(20, 0, 40, 40), Kind.LOCALISATION, 0),  # 20 / 60 = .33
        (found(20, 0, 40, 40, category_id=2), Kind.BOTH, 0),
        (found(50, 50, 20, 20), Kind.BACKGROUND, -1),
        (found(36, 0, 40, 40), Kind.BACKGROUND, -1),  # 4 / 76 = .05
    ],
)
def test_kind_of_a_single_detection(detection, kind, about):
    errors = errors_of(truth(CUP), [detection])
    assert (errors.kinds.tolist(), errors.objects.tolist()) == ([kind], [about])
    # The first two mistakes are about the cup, so it is not missed: repairing them finds it.
    usable = kind in (Kind.RIGHT, Kind.CLASSIFICATION, Kind.LOCALISATION)
    assert missed(errors) == [not usable]
    assert errors.repaired.tolist() == [usable and kind is not Kind.RIGHT]


def test_second_box_of_an_object_is_a_duplicate():
    errors = errors_of(truth(CUP), [found(1, 0, 40, 40, 0.5), found(0, 0, 38, 40, 0.9)])
    assert errors.kinds.tolist() == [Kind.DUPLICATE, Kind.RIGHT]
    assert errors.objects.tolist() == [0, 0] and errors.ious == pytest.approx([39 / 41, 38 / 40])


def test_right_class_but_loose_comes_before_wrong_class_in_place():
    both = truth(
        CUP, box(22, 0, 40, 40, category_id=2)
    )  # a cup found on the fork also overlaps the cup by .29
    errors = errors_of(both, [found(22, 0, 40, 40)])
    assert errors.kinds.tolist() == [Kind.LOCALISATION] and missed(errors) == [False, True]


def test_only_the_best_mistake_about_a_free_object_is_made_right():
    loose = [found(20, 0, 40, 40, 0.4), found(18, 0, 40, 40, 0.8)]
    assert errors_of(truth(CUP), loose).repaired.tolist() == [False, True]
    taken = [found(20, 0, 40, 40, 0.4), found(0, 0, 40, 40, 0.8)]
    assert not errors_of(truth(CUP), taken).repaired.any()


def test_detections_in_a_crowd_are_no_mistakes_and_crowds_are_not_missed():
    both = truth(CUP, box(50, 50, 50, 50, iscrowd=1))
    errors = errors_of(both, [found(60, 60, 20, 20)])
    assert errors.kinds.tolist() == [Kind.IGNORED] and missed(errors) == [True, False]


def test_gains_by_hand():
    # Two cups. The first answer is on nothing, the second finds a cup: precision 1/2 up to recall 1/2, so AP
    # is 51 / 101 / 2. Without the first answer 51 / 101; if nobody asked for the second cup, 1 / 2.
    both = truth(CUP, box(50, 50, 40, 40))
    errors = errors_of(both, [found(0, 60, 20, 20, 0.9), found(0, 0, 40, 40, 0.8)])
    before = 100 * 51 / 101 / 2
    assert mean_ap(errors.ap) == pytest.approx(before)
    assert errors.gain(Kind.BACKGROUND) == pytest.approx(100 * 51 / 101 - before)
    assert errors.gain(Kind.MISSED) == pytest.approx(50 - before)
    assert [errors.gain(kind) for kind in ERRORS[:4]] == pytest.approx([0, 0, 0, 0])
    assert [len(errors.rows(kind)) for kind in ERRORS] == [0, 0, 0, 0, 1, 1]


def test_nothing_found_and_nothing_there():
    nothing = errors_of(truth(CUP), [])
    assert missed(nothing) == [True] and mean_ap(nothing.ap) == 0
    empty = errors_of(truth(), [found(0, 0, 9, 9)])
    assert empty.kinds.tolist() == [Kind.BACKGROUND] and np.isnan(empty.ap).all()


def plain_iou(a: list[float], b: list[float]) -> float:
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    shared = max(0.0, width) * max(0.0, height)
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


def kind_in_words(detection: dict, annotations: dict, found_iou: float) -> Kind:
    """Say what kind a wrong detection is: the paper's definitions, in the order of its program."""
    objects = [
        o for o in annotations["annotations"] if o["image_id"] == detection["image_id"] and not o["iscrowd"]
    ]
    ious = {name: [0.0] for name in ("own", "other")}
    for o in objects:
        name = "own" if o["category_id"] == detection["category_id"] else "other"
        ious[name].append(plain_iou(detection["bbox"], o["bbox"]))
    own, other = max(ious["own"]), max(ious["other"])
    if 0.1 <= own < found_iou:
        return Kind.LOCALISATION
    if other >= found_iou:
        return Kind.CLASSIFICATION
    if own >= found_iou:
        return Kind.DUPLICATE  # it did not get its object, so another has it
    return Kind.BACKGROUND if max(own, other) <= 0.1 else Kind.BOTH


def repair(annotations: dict, detections: list[dict], matches: Matches, errors: Errors, kind: Kind):
    """Change files as a person would who mends one kind of mistake."""
    mended = copy.deepcopy(annotations)
    if kind is Kind.MISSED:
        mended["annotations"] = [
            o for o, gone in zip(mended["annotations"], missed(errors), strict=True) if not gone
        ]
        return mended, detections
    kept = []
    for row, detection in enumerate(copy.deepcopy(detections)):
        if errors.kinds[row] == kind:
            if not errors.repaired[row]:
                continue
            about = annotations["annotations"][errors.objects[row]]
            field = "category_id" if kind is Kind.CLASSIFICATION else "bbox"
            detection[field] = about[field]
        kept.append(detection)
    return mended, kept


def class_ap(annotations: dict, detections: list[dict], iou: int) -> list[float]:
    scores = coco_scores(annotations, detections, "bbox")
    assert scores is not None
    values = [scores.per_class[name].summary[f"AP{50 + 5 * iou}"] for name in CLASSES]
    return [np.nan if value is None else value for value in values]


@pytest.mark.parametrize("seed, iou", [*((seed, 0) for seed in range(8)), (0, 5), (1, 5), (2, 8)])
def test_against_repairs_really_done(seed, iou):
    annotations, detections = random_scene(seed)
    matches = flat_matches(run_cocoeval(load_ground_truth(annotations), detections))
    errors = find_errors(matches, iou)
    assert len(matches) == len(detections)
    np.testing.assert_allclose(errors.ap, class_ap(annotations, detections, iou), rtol=1e-12)
    for kind, ours in zip(ERRORS, errors.repaired_ap, strict=True):
        theirs = class_ap(*repair(annotations, detections, matches, errors, kind), iou)
        np.testing.assert_allclose(ours, theirs, rtol=1e-12, err_msg=kind.name)
        assert errors.gain(kind) == pytest.approx(np.nanmean(theirs) - np.nanmean(errors.ap))
    for kind, detection in zip(errors.kinds, detections, strict=True):
        assert kind in (Kind.RIGHT, Kind.IGNORED) or kind == kind_in_words(
            detection, annotations, 0.5 + 0.05 * iou
        )


def test_the_scenes_hold_every_kind_and_every_repair_matters():
    counts, gains = np.zeros(6), np.zeros(6)
    for seed in range(8):
        errors = errors_of(*random_scene(seed))
        counts += [len(errors.rows(kind)) for kind in ERRORS]
        gains += [abs(errors.gain(kind)) for kind in ERRORS]
    assert (counts > 0).all() and (gains > 0.1).all()


@pytest.mark.parametrize("seed", range(4))
def test_a_least_score_is_the_same_as_dropping_detections(seed):
    annotations, detections = random_scene(seed)
    ours = errors_of(annotations, detections)
    theirs = errors_of(annotations, [d for d in detections if d["score"] >= 0.4])
    for kind in Kind:
        mine, other = ours.rows(kind, 0.4), theirs.rows(kind)
        if kind is not Kind.MISSED:
            mine, other = ours.matches.scores[mine], theirs.matches.scores[other]
        assert mine.tolist() == other.tolist(), kind
