"""The ways to read a cascade, and the layout of results.json."""

import pytest

from cascade_lab.evaluation.coco import SUMMARY_KEYS, load_ground_truth
from cascade_lab.evaluation.per_stage import score_modes, stage_modes


def test_modes_of_three_stages_in_the_order_of_the_table():
    modes = stage_modes(3)
    assert list(modes) == ["1", "2", "3", "1~2", "1~3"]
    assert list(modes.values()) == [(0,), (1,), (2,), (0, 1), (0, 1, 2)]


@pytest.mark.parametrize(
    "stages, names", [(1, ["1"]), (2, ["1", "2", "1~2"]), (4, ["1", "2", "3", "4", "1~2", "1~3", "1~4"])]
)
def test_modes_of_other_cascades(stages, names):
    assert list(stage_modes(stages)) == names
    assert list(stage_modes(stages).values())[-1] == tuple(range(stages))


def test_a_cascade_has_a_stage():
    with pytest.raises(ValueError, match="at least 1"):
        stage_modes(0)


def scored(masks: bool) -> dict:
    polygon = {"segmentation": [[0, 0, 40, 0, 40, 40, 0, 40]]} if masks else {}
    truth = load_ground_truth(
        {
            "images": [{"id": 3, "width": 50, "height": 50}],
            "categories": [{"id": 9, "name": "nut"}],
            "annotations": [{"id": 1, "image_id": 3, "category_id": 9, "bbox": [0, 0, 40, 40], **polygon}],
        }
    )
    # Shifts by 4, 2, 1 of 40 pixels meet 7, 9 and 10 of the ten IoUs.
    shifts = {"1": 4, "2": 2, "3": 1, "1~2": 2, "1~3": 1}
    return score_modes(
        truth,
        {
            mode: [{"image_id": 3, "category_id": 9, "bbox": [shift, 0, 40, 40], "score": 0.9}]
            for mode, shift in shifts.items()
        },
    )


def test_layout_of_results():
    results = scored(masks=False)
    assert list(results) == ["bbox", "segm", "stages", "per_class"]
    assert tuple(results["bbox"]) == SUMMARY_KEYS
    assert list(results["stages"]) == ["1", "2", "3", "1~2", "1~3"]
    assert all(list(both) == ["bbox", "segm"] for both in results["stages"].values())
    assert results["bbox"] == results["stages"]["1~3"]["bbox"]
    found = {mode: both["bbox"]["AP"] for mode, both in results["stages"].items()}
    assert found == pytest.approx({"1": 70, "2": 90, "3": 100, "1~2": 90, "1~3": 100})
    assert results["per_class"]["nut"]["objects"] == 1
    assert results["per_class"]["nut"]["bbox"]["AP"] == pytest.approx(100)


@pytest.mark.parametrize("masks", [False, True])
def test_no_mask_scores_where_one_side_has_no_masks(masks):
    results = scored(masks)
    assert results["segm"] is None and results["per_class"]["nut"]["segm"] is None
    assert all(both["segm"] is None for both in results["stages"].values())


def test_a_stage_that_found_nothing_does_not_give_a_detector_masks():
    polygon = [[0, 0, 40, 0, 40, 40, 0, 40]]
    annotation = {"id": 1, "image_id": 3, "category_id": 9, "bbox": [0, 0, 40, 40], "segmentation": polygon}
    truth = load_ground_truth(
        {
            "images": [{"id": 3, "width": 50, "height": 50}],
            "categories": [{"id": 9, "name": "nut"}],
            "annotations": [annotation],
        }
    )
    box = {"image_id": 3, "category_id": 9, "bbox": [0, 0, 40, 40], "score": 0.9}
    results = score_modes(truth, {"1": [box], "2": [], "1~2": []})
    assert results["segm"] is None and all(both["segm"] is None for both in results["stages"].values())
