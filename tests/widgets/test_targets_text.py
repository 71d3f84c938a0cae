"""The words of the targets viewer say the numbers of its view, which are checked by hand here."""

import re
from dataclasses import replace

import numpy as np
import pytest
import torch
from torchvision.ops import box_iou

from cascade_lab.widgets import targets_text as text
from cascade_lab.widgets.targets_view import SuppressionView
from tests.widgets.course_view import course_view


@pytest.fixture(scope="module")
def view():
    return course_view()


def test_a_cell_names_its_place_and_its_anchors(view):
    first, *lines = text.describe_cell(view, level=1, cell=2 * 16 + 5).splitlines()
    assert (
        first == "Cell in row 2, column 5 of level 1 (P3, stride 8). Its anchors are centred on x 40, y 16."
    )
    sizes = [tuple(map(float, re.findall(r"[\d.]+", line)[:2])) for line in lines]
    # area 32 squared; ratios 1/2, 1, 2 of height over width
    assert sizes == [(45.3, 22.6), (32.0, 32.0), (22.6, 45.3)]


def test_verdicts_are_those_of_the_assigner(view):
    index, iou = view.anchors.target_index, view.anchors.iou
    groups = {
        "negative": index == -1,
        "neither": index == -2,
        "rescued": (index >= 0) & (iou < 0.7),
        "positive": (index >= 0) & (iou >= 0.7),
    }
    for word, where in groups.items():
        for anchor in np.flatnonzero(where)[:5].tolist():
            found = text.verdict(view, anchor)
            assert word in found
            assert ("rescued" in found) == (word == "rescued")
            if index[anchor] >= 0:
                assert f"object {index[anchor] + 1} (" in found
    assert groups["rescued"].any()


def test_samples_tell_positives_from_negatives(view):
    stage = view.samples[1]
    chosen = replace(stage, is_target=np.arange(len(stage.boxes)) == 0)
    own = replace(view, samples=(view.samples[0], chosen))
    assert text.describe_sample(own, 1, 0).endswith(
        "positive, an object's own box that was put among the proposals."
    )
    found = int(np.flatnonzero(~stage.is_target[: stage.positives])[0])
    assert text.describe_sample(view, 1, found).startswith(f"Box {found + 1} of 64: positive, IoU 0.")
    assert "negative, its best IoU is 0." in text.describe_sample(view, 1, len(stage.boxes) - 1)
    rescued = int(np.flatnonzero(view.samples[0].iou[: view.samples[0].positives] < 0.7)[0])
    assert "positive, rescued" in text.describe_sample(view, 0, rescued)


def test_the_table_counts(view):
    _, _, *rows = text.sample_table(view).splitlines()
    for row, sample in zip(rows, view.samples, strict=True):
        found = [float(value) for value in re.findall(r"[\d.]+", row.removeprefix(sample.name))]
        negatives = len(sample.boxes) - sample.positives
        assert found[:6] == [sample.positive_iou, *sample.available, sample.positives, negatives]
        shares = [100 * np.mean(sample.entering_iou >= np.float32(u)) for u in (0.5, 0.6, 0.7)]
        assert found[6:] == pytest.approx(shares, abs=0.51)


def test_the_level_formula_by_hand(view):
    """Object 1 is 36 x 38: a side of 36.99; log2 over 32 is 0.21, and each doubling adds 1."""
    assert text.describe_level(view, 0).splitlines() == [
        "Side of object 1: √(36.0 × 38.0) = 37.0 pixels",
        "log2(37.0 / 32) = 0.21, rounded down 0, kept within 0 … 3",
        "Level of object 1: 0 (P2, stride 4), where a cell is 4 pixels wide.",
    ]
    assert "Level of object 1: 2 (P4, stride 16), where a cell is 16" in text.describe_level(view, 0, zoom=4)
    assert "rounded down 4" in text.describe_level(view, 0, zoom=16)
    assert ": 3 (P5, stride 32), where" in text.describe_level(view, 0, zoom=16)
    assert "rounded down -2" in text.describe_level(view, 0, zoom=0.25)


def test_a_bin_says_its_samples_and_mean(view):
    found = text.describe_bin(view, box=0, number=9)
    # 38 / 4 / 7 = 1.36 cells down and 36 / 4 / 7 = 1.29 across take two samples each
    assert found.startswith(
        "Bin in row 1, column 2 of object 1, on level 0 (P2, stride 4): 2 × 2 samples, mean "
    )
    assert float(found.rstrip(".").split()[-1]) == pytest.approx(view.reading.pooled[0, 1, 2], abs=5e-4)


def test_steps_of_nms_by_hand(view):
    """Of five boxes in a row, 1 falls to 0 and 4 falls to 2; 3 overlaps nobody enough."""
    x = np.array([0, 1, 20, 60, 21], np.float32)
    boxes = np.stack([x, 0 * x, x + 10, 0 * x + 10], axis=1)
    by = np.array([-1, 0, -1, -1, 2])
    nms = SuppressionView(threshold=0.7, boxes=boxes, scores=1 - 0.1 * np.arange(5), by=by)
    made = replace(view, suppression=(nms,))
    first, fallen = text.describe_step(made, 0, 0).splitlines()
    assert first == (
        "Step 1 of 3: box 1, score 1.000, stays. 1 of 4 waiting boxes overlap it by more than 0.7 and fall."
    )
    assert fallen == "box 2, score 0.900: IoU 0.82"  # 9 / 11
    assert [text.waiting(nms, step) for step in range(3)] == [4, 2, 0]
    assert text.describe_step(made, 0, 2).splitlines()[0].startswith("Step 3 of 3: box 4")


def test_steps_of_a_real_level_agree_with_torchvision(view):
    nms = view.suppression[1]
    _, *lines = text.describe_step(view, 1, 0).splitlines()
    iou = box_iou(torch.from_numpy(nms.boxes[:1]), torch.from_numpy(nms.boxes))[0]
    wanted = [f"IoU {value:.2f}" for value in iou[1:] if value > 0.7]
    assert [line.split(": ")[1] for line in lines] == wanted and wanted
