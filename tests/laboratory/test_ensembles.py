"""Table 2 on a trained detector, against the detector's own read_out and pycocotools."""

from dataclasses import replace

import pytest

from cascade_lab.evaluation.coco import coco_scores, detections_to_coco
from cascade_lab.evaluation.per_stage import stage_modes
from cascade_lab.laboratory.box_ap import truth_of
from cascade_lab.laboratory.crossed import cross
from cascade_lab.laboratory.ensembles import ensembles
from cascade_lab.learn.course import course_pictures, course_run
from cascade_lab.runs import with_postprocess
from cascade_lab.structures import ImageBatch

RULES = ("own_rois_logits", "own_rois_probabilities", "last_rois_probabilities")


@pytest.fixture(scope="module")
def pictures():
    return course_pictures(6)


@pytest.fixture(scope="module")
def result(pictures):
    return ensembles(cross(course_run().detector, pictures), classes=4)


def test_layout(result):
    assert list(result.single) == ["1", "2", "3"] and tuple(result.together) == RULES
    assert all(list(modes) == ["1~2", "1~3"] for modes in result.together.values())


@pytest.mark.parametrize("rule", RULES)
def test_scores_are_those_of_the_detector(result, pictures, rule):
    run = course_run()
    kept = run.recipe.detector.cascade.postprocess
    detector = with_postprocess(run, replace(kept, ensemble=rule)).detector
    truth = truth_of([target for _, target in pictures], 4)
    found = {mode: [] for mode in stage_modes(3)}
    for number, (picture, _) in enumerate(pictures, start=1):
        trace = detector.predict(ImageBatch.collate([picture]), keep_features=True).trace
        for mode, voters in stage_modes(3).items():
            (instances,) = detector.read_out(trace, voters)
            found[mode] += detections_to_coco(number, replace(instances, masks=None), (1, 2, 3, 4))
    for mode, rows in found.items():
        ours = result.single[mode] if mode in result.single else result.together[rule][mode]
        theirs = coco_scores(truth, rows, "bbox").summary
        assert ours["AP"] == pytest.approx(theirs["AP"], abs=1e-6) and ours["AP"] > 20
        assert ours["AP75"] == pytest.approx(theirs["AP75"], abs=1e-6)


def test_the_paper_stands_beside_its_own_rule_only(result):
    rows = [line for line in result.text(draws=5).splitlines() if line.startswith("1~3 ")]
    assert [row.split()[1] for row in rows] == list(RULES)
    assert ["38.9" in row for row in rows] == [False, False, True]
    assert result.text(draws=5).count("minus") == 5
