"""The model and the pictures of the notebooks."""

import torch

from cascade_lab.datasets.coco import CocoDataset
from cascade_lab.datasets.shapes import LEVELS, write_shapes
from cascade_lab.learn.course import MODEL, course_pictures, course_run
from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.predict import detect


def test_pictures_are_those_of_the_command(tmp_path):
    write_shapes(tmp_path / "shapes", LEVELS["moderate"], seed=0, train=1, val=5)
    written = CocoDataset(tmp_path / "shapes", "val", training=False)
    for index, (picture, truth) in enumerate(course_pictures(3, first=2), start=2):
        theirs = written.targets(index)
        assert torch.equal(picture, written.picture(index))
        assert torch.equal(truth.boxes, theirs.boxes) and torch.equal(truth.labels, theirs.labels)
        assert torch.equal(truth.masks, theirs.masks)


def test_model_is_small_and_has_learned():
    """Nine of ten objects are found with their class, at IoU 0.5, by a detection above 0.3."""
    assert MODEL.stat().st_size < 2_000_000
    run, found, objects = course_run(), 0, 0
    for picture, truth in course_pictures(20):
        (seen,) = detect(run, [picture]).instances
        seen = seen[seen.scores > 0.3]
        hit = (pairwise_iou(truth.boxes, seen.boxes) >= 0.5) & (truth.labels[:, None] == seen.labels)
        found, objects = found + int(hit.any(1).sum()), objects + len(truth)
    assert objects > 30
    assert found >= 0.9 * objects
