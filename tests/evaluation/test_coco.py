"""COCO scores against published numbers and cases worked by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from pycocotools import mask as coco_mask

from cascade_lab.errors import InputError
from cascade_lab.evaluation.coco import SUMMARY_KEYS, coco_scores, coco_summary, detections_to_coco
from cascade_lab.structures import Instances

FAKE100 = Path(__file__).parents[2] / "../shared/data/evaluators/coco_fake100"


def truth(*rows: dict, classes: int = 1, images: int = 1) -> dict:
    """Ground truth of 100 x 100 pictures 1, 2, ... and categories 1, 2, ..."""
    return {
        "images": [
            {"id": i + 1, "width": 100, "height": 100, "file_name": f"{i}.png"} for i in range(images)
        ],
        "categories": [{"id": k + 1, "name": f"class {k + 1}"} for k in range(classes)],
        "annotations": [
            {"id": n + 1, "image_id": 1, "category_id": 1, "iscrowd": 0, **row} for n, row in enumerate(rows)
        ],
    }


def box(x: float, y: float, w: float, h: float, **more) -> dict:
    return {"bbox": [x, y, w, h], "area": w * h, **more}


def found(x: float, y: float, w: float, h: float, score: float = 0.9, **more) -> dict:
    return {"image_id": 1, "category_id": 1, "bbox": [x, y, w, h], "score": score, **more}


def rle(x: int, y: int, w: int, h: int) -> dict:
    mask = np.zeros((100, 100), np.uint8)
    mask[y : y + h, x : x + w] = 1
    packed = coco_mask.encode(np.asfortranarray(mask))
    return {"size": [100, 100], "counts": packed["counts"].decode()}


def known(summary: dict | None) -> dict:
    assert summary is not None
    return {name: value for name, value in summary.items() if value is not None}


@pytest.mark.parametrize("iou_type", ["bbox", "segm"])
def test_published_numbers(iou_type):
    if not FAKE100.is_dir():
        pytest.skip(f"needs {FAKE100}, which is not there")
    detections = json.loads((FAKE100 / f"instances_val2014_fake{iou_type}100_results.json").read_text())
    ours = coco_summary(FAKE100 / "instances_val2014_100.json", detections, iou_type)
    expected = json.loads((FAKE100 / "expected.json").read_text())
    published = dict(zip(expected["order"], expected[iou_type]["published"], strict=True))
    for name in ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR100"):
        assert round(known(ours)[name] / 100, 3) == published[name]


def test_keys_are_those_of_the_results_file():
    ours = coco_summary(truth(box(0, 0, 40, 40)), [found(0, 0, 40, 40)], "bbox")
    assert ours is not None
    middle = [f"AP{iou}" for iou in range(50, 100, 5)]
    assert tuple(ours) == SUMMARY_KEYS == ("AP", *middle, "APs", "APm", "APl", "AR100")


def test_perfect_box_and_missing_sizes():
    ours = coco_summary(truth(box(0, 0, 40, 40)), [found(0, 0, 40, 40)], "bbox")
    assert ours is not None and ours["AP"] == pytest.approx(100) and ours["APm"] == pytest.approx(100)
    assert ours["APs"] is None and ours["APl"] is None  # 40 * 40 lies between 32 ** 2 and 96 ** 2


def test_shifted_box_meets_seven_of_ten_ious():
    # 40 wide, shifted by 4: 36 / 44 = .818, so .50 ... .80 are met: AP 70.
    ours = known(coco_summary(truth(box(0, 0, 40, 40)), [found(4, 0, 40, 40)], "bbox"))
    assert ours["AP"] == pytest.approx(70) and ours["AP80"] == pytest.approx(100) and ours["AP85"] == 0
    assert ours["AR100"] == pytest.approx(70)


def test_false_positive_before_a_hit_halves_precision():
    both = [found(60, 60, 20, 20, 0.9), found(0, 0, 40, 40, 0.8)]
    assert known(coco_summary(truth(box(0, 0, 40, 40)), both, "bbox"))["AP50"] == pytest.approx(50)


def test_one_of_two_objects_found():
    # Recall points 0, .01 ... .50 of 101 have precision 1: 51 / 101.
    both = truth(box(0, 0, 40, 40), box(50, 50, 40, 40))
    assert known(coco_summary(both, [found(0, 0, 40, 40)], "bbox"))["AP"] == pytest.approx(100 * 51 / 101)


def test_no_detections_score_zero():
    ours = known(coco_summary(truth(box(0, 0, 40, 40)), [], "bbox"))
    assert ours["AP"] == 0 and ours["AR100"] == 0


def test_no_objects_at_all_score_nothing():
    ours = coco_summary(truth(), [found(0, 0, 40, 40)], "bbox")
    assert ours is not None and set(ours.values()) == {None}
    assert coco_summary(truth(), [], "segm") is None


def test_per_class_and_mean_over_classes():
    both = truth(box(0, 0, 40, 40), box(50, 50, 40, 40, category_id=2), classes=3)
    scores = coco_scores(both, [found(0, 0, 40, 40)], "bbox")
    assert scores is not None and scores.summary["AP"] == pytest.approx(50)
    assert [c.objects for c in scores.per_class.values()] == [1, 1, 0]
    assert [c.summary["AP"] for c in scores.per_class.values()] == [pytest.approx(100), 0, None]


def test_only_known_classes_count():
    both = truth(box(0, 0, 40, 40), box(50, 50, 40, 40, category_id=2), classes=2)
    scores = coco_scores(both, [found(0, 0, 40, 40)], "bbox", category_ids=[1])
    assert scores is not None and scores.summary["AP"] == pytest.approx(100)
    assert list(scores.per_class) == ["class 1"]


def test_crowd_absorbs_detections():
    both = truth(box(0, 0, 40, 40), box(50, 50, 50, 50, iscrowd=1))
    detections = [found(60, 60, 20, 20, 0.95), found(0, 0, 40, 40, 0.9)]
    assert known(coco_summary(both, detections, "bbox"))["AP"] == pytest.approx(100)


def test_boxes_without_area_and_iscrowd():
    bare = truth({"bbox": [0, 0, 20, 20]})
    del bare["annotations"][0]["iscrowd"]
    ours = coco_summary(bare, [found(0, 0, 20, 20)], "bbox")
    assert known(ours)["APs"] == pytest.approx(100)  # 400 pixels: small
    assert coco_summary(bare, [found(0, 0, 20, 20, segmentation=rle(0, 0, 20, 20))], "segm") is None


@pytest.mark.parametrize("first_id", [0, 7])
def test_annotation_ids_do_not_matter(first_id):
    both = truth(box(0, 0, 40, 40), box(50, 50, 40, 40))
    for annotation in both["annotations"]:
        annotation["id"] = first_id
    detections = [found(0, 0, 40, 40), found(50, 50, 40, 40)]
    assert known(coco_summary(both, detections, "bbox"))["AP"] == pytest.approx(100)


def test_masks_are_scored_by_their_own_area_and_overlap():
    # The box is perfect, the mask covers 32 of 40 columns: 32 / 40 = .8, so seven of ten IoUs are met.
    polygon = [[0, 0, 40, 0, 40, 40, 0, 40]]
    detection = found(0, 0, 40, 40, segmentation=rle(0, 0, 32, 40))
    ours = coco_summary(truth(box(0, 0, 40, 40, segmentation=polygon)), [detection], "segm")
    assert known(ours)["AP"] == pytest.approx(70)


def test_detection_outside_a_size_range_counts_by_mask_area():
    # A wrong detection with a small mask in a medium box: of no weight for APm, where the object is found.
    polygon = [[0, 0, 40, 0, 40, 40, 0, 40]]
    detections = [
        found(50, 50, 40, 40, 0.95, segmentation=rle(50, 50, 10, 10)),
        found(0, 0, 40, 40, 0.9, segmentation=rle(0, 0, 40, 40)),
    ]
    ours = known(coco_summary(truth(box(0, 0, 40, 40, segmentation=polygon)), detections, "segm"))
    assert ours["APm"] == pytest.approx(100) and ours["AP"] == pytest.approx(50)


def test_object_without_mask_is_neither_right_nor_wrong():
    polygon = [[0, 0, 40, 0, 40, 40, 0, 40]]
    both = truth(box(0, 0, 40, 40, segmentation=polygon), box(50, 50, 40, 40))
    hit = found(0, 0, 40, 40, 0.8, segmentation=rle(0, 0, 40, 40))
    on_bare = found(50, 50, 40, 40, 0.9, segmentation=rle(50, 50, 40, 40))
    assert known(coco_summary(both, [hit], "segm"))["AP"] == pytest.approx(100)
    assert known(coco_summary(both, [on_bare, hit], "segm"))["AP"] == pytest.approx(100)
    scores = coco_scores(both, [hit], "bbox")
    assert scores is not None and scores.per_class["class 1"].objects == 2


def test_ground_truth_is_not_changed(capsys):
    polygon = [[0, 0, 40, 0, 40, 40, 0, 40]]
    given = truth(box(0, 0, 40, 40, segmentation=polygon))
    before = json.dumps(given)
    coco_summary(given, [found(0, 0, 40, 40, segmentation=rle(0, 0, 40, 40))], "segm")
    assert json.dumps(given) == before
    assert capsys.readouterr().out == ""


def test_detections_of_unknown_image():
    with pytest.raises(ValueError, match="99"):
        coco_summary(truth(box(0, 0, 40, 40)), [found(0, 0, 9, 9) | {"image_id": 99}], "bbox")


def test_detections_to_coco():
    masks = torch.zeros(2, 6, 8, dtype=torch.bool)
    masks[0, 1:4, 2:5] = True
    instances = Instances(
        (6, 8),
        torch.tensor([[2.0, 1.0, 5.0, 4.0], [0.5, 0.0, 8.0, 6.0]]),
        torch.tensor([1, 0]),
        torch.tensor([0.75, 0.5]),
        masks,
    )
    first, second = detections_to_coco(12, instances, category_ids=[30, 7])
    assert first["image_id"] == 12 and first["category_id"] == 7 and first["score"] == 0.75
    assert first["bbox"] == [2, 1, 3, 3] and second["bbox"] == [0.5, 0, 7.5, 6]
    assert coco_mask.area(first["segmentation"]) == 9
    assert coco_mask.toBbox(first["segmentation"]).tolist() == [2, 1, 3, 3]
    json.dumps([first, second], allow_nan=False)
    assert detections_to_coco(1, instances[:0], [30, 7]) == []


@pytest.mark.parametrize("where", ["boxes", "scores"])
def test_nan_is_refused(where):
    instances = Instances((6, 8), torch.ones(1, 4), torch.tensor([0]), torch.ones(1))
    getattr(instances, where).view(-1)[0] = float("nan")
    with pytest.raises(InputError, match="image id 5.*not finite"):
        detections_to_coco(5, instances, [1])
