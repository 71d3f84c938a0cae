"""What the viewer shows is what a training step does, and agrees with torchvision and with definitions."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch.nn.functional import grid_sample
from torchvision.ops import box_iou, nms, roi_align

from cascade_lab.errors import InputError
from cascade_lab.learn.course import course_pictures
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.sampler import random_choice
from cascade_lab.widgets.targets_step import targets_view
from tests.widgets.course_view import course, course_view


@pytest.fixture(scope="module")
def view():
    return course_view()


def test_anchors_are_assigned_as_the_definition_says(view):
    """Positive from 0.7 up or best of an object from 0.3 up, negative below 0.3, else unused."""
    anchors, targets = view.anchors, torch.from_numpy(view.targets)
    iou = box_iou(torch.from_numpy(anchors.boxes), targets).numpy()  # (A, M)
    best = iou.max(1)
    np.testing.assert_allclose(anchors.iou, best, atol=1e-6)
    rescued = ((iou == iou.max(0)) & (iou.max(0) >= 0.3)).any(1)
    wanted = np.where((best >= 0.7) | rescued, 1, np.where(best < 0.3, -1, -2))
    np.testing.assert_array_equal(np.minimum(anchors.target_index, 0), np.minimum(wanted, 0))
    assert (wanted == 1).any() and (wanted == -2).any() and rescued.any()
    positive = anchors.target_index >= 0
    chosen = iou[positive, anchors.target_index[positive]]
    assert np.all((chosen == best[positive]) | (chosen == iou.max(0)[anchors.target_index[positive]]))


def test_levels_of_the_anchors_follow_their_strides(view):
    """Scale 4: an anchor of a level with stride s covers (4 s) squared, and sits on the corner of a cell."""
    assert view.anchors.strides == (4, 8, 16, 32, 64)
    assert view.anchors.starts()[-1] == len(view.anchors.boxes)
    for level, stride in enumerate(view.anchors.strides):
        boxes = view.anchors.boxes[view.anchors.level_boxes(level)]
        size = boxes[:, 2:] - boxes[:, :2]
        np.testing.assert_allclose(size.prod(1), (4 * stride) ** 2, rtol=1e-5)
        centre = (boxes[:, 2:] + boxes[:, :2]) / 2 / stride
        np.testing.assert_allclose(centre, centre.round(), atol=1e-4)
        assert view.anchors.grids[level] == (128 // stride, 128 // stride)


def test_stages_sample_what_a_training_step_samples(view):
    run, picture, truth = course()
    images = ImageBatch.collate([picture.float()])
    with torch.no_grad():
        trace = run.detector(images, [truth], random_choice([0])).trace
    assert [sample.name for sample in view.samples] == ["RPN", "stage 1", "stage 2", "stage 3"]
    for sample, stage in zip(view.samples[1:], trace.stages, strict=True):
        np.testing.assert_array_equal(sample.boxes, stage.proposals[0].numpy())
        assert sample.positives == len(stage.sampled[0][0])
        assert sample.positive_iou == stage.iou_threshold
    np.testing.assert_array_equal(
        np.sort(view.samples[1].entering_iou),
        np.sort(box_iou(trace.proposals.boxes[0], truth.boxes).amax(1).numpy()),
    )


def test_positives_overlap_and_negatives_do_not(view):
    targets = torch.from_numpy(view.targets)
    for sample in view.samples[1:]:
        best = box_iou(torch.from_numpy(sample.boxes), targets).amax(1).numpy()
        own = sample.is_target
        np.testing.assert_allclose(sample.iou[~own], best[~own], atol=1e-6)
        assert (best[: sample.positives] >= sample.positive_iou).all()
        assert (best[sample.positives :] < sample.positive_iou).all()
        least = np.float32(sample.positive_iou)
        positive = int((sample.entering_iou >= least).sum()) + len(targets)
        assert sample.available == (positive, int((sample.entering_iou < least).sum()), 0)
    rpn = view.samples[0]
    assert len(rpn.boxes) <= 128 and rpn.positives == sum(view.anchors.target_index >= 0)
    assert (rpn.iou[rpn.positives :] < 0.3).all()


def test_readings_are_those_of_torchvision(view):
    reading = view.reading
    side = np.sqrt(np.prod(reading.boxes[:, 2:] - reading.boxes[:, :2], axis=1))
    assert reading.levels.tolist() == np.clip(np.floor(np.log2(side / 32)), 0, 3).astype(int).tolist()
    for box, level, pooled in zip(reading.boxes, reading.levels, reading.pooled, strict=True):
        rois = torch.tensor([[0.0, *box]])
        values = torch.from_numpy(reading.maps[level])[None, None]
        expected = roi_align(values, rois, 7, 1 / reading.strides[level], -1, aligned=True)
        np.testing.assert_allclose(pooled, expected[0, 0].numpy(), atol=1e-5)


def test_a_bin_is_the_mean_at_its_sample_points(view):
    reading = view.reading
    for box in (0, len(reading.boxes) - 1):
        values = torch.from_numpy(reading.maps[reading.levels[box]])[None, None]
        height, width = values.shape[2:]
        for bin in (0, 24, 48):
            rows, columns = (
                part[box, place][np.isfinite(part[box, place])]
                for part, place in ((reading.rows, bin // 7), (reading.columns, bin % 7))
            )
            y, x = np.meshgrid((rows + 0.5) * 2 / height - 1, (columns + 0.5) * 2 / width - 1, indexing="ij")
            at = torch.from_numpy(np.stack([x, y], -1))[None].float()
            found = grid_sample(values, at, align_corners=False, padding_mode="border").mean()
            assert found.item() == pytest.approx(reading.pooled[box, bin // 7, bin % 7], abs=1e-5)


def test_boxes_fall_to_the_first_survivor_that_overlaps_them(view):
    for one in view.suppression:
        boxes, scores = torch.from_numpy(one.boxes), torch.from_numpy(one.scores)
        assert one.kept() == nms(boxes, scores, 0.7).tolist()
        iou = box_iou(boxes, boxes)
        for box in range(len(boxes)):
            over = [k for k in one.kept() if k < box and iou[k, box] > 0.7]
            assert one.by[box] == (over[0] if over else -1)
    assert (view.suppression[0].by >= 0).any()


def test_what_becomes_of_the_best_does_not_depend_on_the_rest(view):
    run, picture, truth = course()
    longer = targets_view(run.detector, picture, truth, run.classes, most_candidates=200)
    for few, many in zip(view.suppression, longer.suppression, strict=True):
        np.testing.assert_array_equal(few.by, many.by[: len(few.by)])
    proposals = run.detector.predict(ImageBatch.collate([picture.float()])).trace.proposals
    for level, one in enumerate(longer.suppression):
        kept = proposals.boxes[0][proposals.levels[0] == level]  # at most 150 of all levels survive
        np.testing.assert_allclose(one.boxes[one.kept()][: len(kept)], kept[: len(one.kept())], atol=1e-4)


def test_another_seed_samples_others(view):
    run, picture, truth = course()
    other = targets_view(run.detector, picture, truth, run.classes, seed=1)
    assert not np.array_equal(other.samples[0].boxes, view.samples[0].boxes)
    np.testing.assert_array_equal(other.anchors.target_index, view.anchors.target_index)


def test_a_picture_without_objects_and_an_odd_size():
    run, _, _ = course()
    empty = Instances((100, 70), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    view = targets_view(run.detector, torch.zeros(3, 100, 70, dtype=torch.uint8), empty, run.classes)
    assert (view.anchors.target_index < 0).all() and view.picture.shape == (100, 70, 3)
    assert all(sample.positives == 0 for sample in view.samples)


def test_what_does_not_belong_together_is_refused():
    run, picture, truth = course()
    with pytest.raises(InputError, match="picture has shape"):
        targets_view(run.detector, picture[:, :64], truth, run.classes)
    run.detector.train()
    try:
        with pytest.raises(InputError, match="eval"):
            targets_view(run.detector, picture, truth, run.classes)
    finally:
        run.detector.eval()


def test_norms_stay_as_they_are():
    run, _, _ = course()
    before = {name: value.clone() for name, value in run.detector.state_dict().items()}
    ((picture, truth),) = course_pictures(1, first=3)
    targets_view(run.detector, picture, replace(truth, masks=None), run.classes)
    assert all(torch.equal(value, before[name]) for name, value in run.detector.state_dict().items())
