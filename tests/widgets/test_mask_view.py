"""The mask viewer shows what the detector predicted: its masks, its rule for averaging and pasting."""

from dataclasses import replace

import numpy as np
import pytest
from torch.nn import functional

from cascade_lab.detector import on_original
from cascade_lab.errors import InputError
from cascade_lab.widgets.mask_view import MaskView, averaged, mask_iou, mask_table, mask_view, pasted
from tests.widgets import made_up


def make_view(seed: int = 0, most: int = 20, **options) -> MaskView:
    picture, trace, _, targets = made_up.made_up_prediction(seed, objects=4, copies=2, **options)
    return mask_view(picture, trace, targets, made_up.CLASSES, name=f"picture {seed}", most=most)


@pytest.fixture(scope="module")
def prediction():
    return made_up.made_up_prediction(0, objects=4, copies=2)


@pytest.fixture(scope="module")
def view(prediction):
    picture, trace, _, targets = prediction
    return mask_view(picture, trace, targets, made_up.CLASSES)


def test_detections_come_best_first_in_original_pixels(prediction, view):
    _, trace, instances, _ = prediction
    order = instances.scores.argsort(descending=True)
    np.testing.assert_allclose(view.scores, instances.scores[order], rtol=1e-6)
    np.testing.assert_allclose(view.boxes, instances.boxes[order], rtol=1e-5)
    assert view.labels.tolist() == instances.labels[order].tolist()
    for row, stage in enumerate(view.stages):
        theirs = trace.detections.mask_logits[stage - 1][0][order]
        np.testing.assert_array_equal(view.logits[row], theirs.numpy())


def test_all_votes_paste_what_the_detector_pastes(prediction, view):
    _, trace, instances, _ = prediction
    (theirs,) = on_original(trace.detections, trace.sizes, trace.original_sizes)
    order = instances.scores.argsort(descending=True).tolist()
    for detection, row in enumerate(order):
        np.testing.assert_array_equal(pasted(view, detection), theirs.masks[row].numpy())


@pytest.mark.parametrize("threshold", [0.2, 0.5, 0.9])
def test_paste_is_bilinear_between_cell_centres(view, threshold):
    """Resize the grid to a box of whole pixels by another function of torch, which clamps at the border."""
    whole = replace(view, boxes=np.tile(np.float32([20, 30, 104, 86]), (len(view), 1)))
    scores = averaged(whole, 0, [2])
    resized = functional.interpolate(scores[None, None], size=(56, 84), mode="bilinear", align_corners=False)
    mine = pasted(whole, 0, [2], threshold)
    inner = np.s_[32:84, 23:101]  # half a cell from the border the two rules differ
    np.testing.assert_array_equal(mine[inner], resized[0, 0].numpy()[2:-2, 3:-3] >= threshold)
    assert not mine[:29].any() and not mine[:, :19].any() and not mine[88:].any() and not mine[:, 106:].any()


def test_average_of_sigmoids_is_not_the_sigmoid_of_the_average(view):
    logits = view.logits[[0, 2], 1]
    sigmoid = 1 / (1 + np.exp(-logits.astype(np.float64)))
    np.testing.assert_allclose(averaged(view, 1, [1, 3]), sigmoid.mean(0), atol=1e-6)
    expected = 1 / (1 + np.exp(-logits.astype(np.float64).mean(0)))
    np.testing.assert_allclose(averaged(view, 1, [1, 3], "logits"), expected, atol=1e-6)
    assert np.abs(expected - sigmoid.mean(0)).max() > 0.01


def test_mask_iou_counts_pixels(view):
    mask = pasted(view, 0)
    truth = view.target_masks[view.target_index[0]]
    both = int((mask.astype(int) + truth == 2).sum())
    assert mask_iou(view, 0, mask) == pytest.approx(both / (mask.sum() + truth.sum() - both))
    assert mask_iou(view, 0, truth) == 1.0
    nobody = replace(view, target_index=np.full(len(view), -1, np.int32))
    assert np.isnan(mask_iou(nobody, 0, mask))


def test_table_has_a_column_for_each_voter_and_leaves_out_the_unsure(view):
    least = float(view.scores[2]) - 1e-6
    head, *lines = mask_table(view, least=least).splitlines()
    assert head.split() == ["detection", "stage", "1", "stage", "2", "stage", "3", "all"]
    assert len(lines) == 3
    assert lines[0].split()[-1] == f"{mask_iou(view, 0, pasted(view, 0)):.3f}"
    assert lines[0].split()[-4] == f"{mask_iou(view, 0, pasted(view, 0, [1])):.3f}"


def test_fewer_mask_heads_and_fewer_detections():
    view = make_view(1, most=3, mask_stages=(2,))
    assert view.stages == (3,) and view.logits.shape == (1, 3, 28, 28) and len(view) == 3


def test_without_ground_truth(prediction):
    picture, trace, _, _ = prediction
    view = mask_view(picture, trace, None, made_up.CLASSES)
    assert view.target_masks.shape == (0, *view.size) and (view.target_index == -1).all()
    assert np.isnan(mask_iou(view, 0, pasted(view, 0)))


def test_what_cannot_be_shown_is_told(prediction):
    picture, trace, _, targets = prediction
    with pytest.raises(InputError, match="it holds no masks"):
        mask_view(picture, replace(trace, detections=None), targets, made_up.CLASSES)
    with pytest.raises(InputError, match="pass the original picture"):
        mask_view(picture[:, :-1], trace, targets, made_up.CLASSES)
    view = mask_view(picture, trace, targets, made_up.CLASSES)
    with pytest.raises(InputError, match="logits has shape"):
        replace(view, logits=view.logits[:1])
