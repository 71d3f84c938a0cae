"""IoUs by stage, the table and the sentences, on boxes small enough to check with a pencil."""

import numpy as np
import pytest

from cascade_lab.errors import InputError
from cascade_lab.widgets.stage_figure import draw_stages, stage_looks
from cascade_lab.widgets.stage_text import describe_box, stage_ious, stage_names, stage_table
from cascade_lab.widgets.stored_trace import View


def small_view(picture: bytes = b"") -> View:
    """Two stages. Box 0 nears a 10 x 10 object: IoU 1/3, 1/2, 1. Box 1 overlaps nothing. Box 2 gets worse."""
    path = [
        [[5, 0, 15, 10], [40, 40, 50, 50], [20, 20, 30, 30]],  # overlap 50 of 150
        [[0, 0, 10, 5], [40, 40, 50, 50], [20, 20, 30, 28]],  # 50 of 100; 80 of 100
        [[0, 0, 10, 10], [40, 40, 50, 50], [20, 20, 30, 25]],  # all; 50 of 100
    ]
    return View(
        name="small",
        classes=("cup", "spoon"),
        size=(60, 60),
        thresholds=(0.5, 0.6),
        picture=picture,
        boxes=np.array(path, np.float32),
        scores=np.array([[0.9, 0.8, 0.7], [0.5, 0.4, 0.3], [0.6, 0.5, 0.4]], np.float32),
        final_scores=np.array([0.75, 0.5, 0.25], np.float32),
        labels=np.array([1, 0, 0], np.int32),
        masks=np.zeros((0, 3, 0, 0), np.uint8),
        targets=np.array([[0, 0, 10, 10], [20, 20, 30, 30]], np.float32),
        target_labels=np.array([1, 0], np.int32),
        target_index=np.array([0, -1, 1], np.int32),
    )


def test_ious_by_stage():
    expected = [[1 / 3, np.nan, 1], [1 / 2, np.nan, 0.8], [1, np.nan, 0.5]]
    np.testing.assert_allclose(stage_ious(small_view()), expected, rtol=1e-6)


def test_threshold_counts_the_final_score():
    np.testing.assert_allclose(stage_ious(small_view(), 0.5), [[1 / 3, np.nan], [1 / 2, np.nan], [1, np.nan]])


def test_table_of_two_views():
    lines = stage_table([small_view(), small_view()], threshold=0.0).splitlines()
    assert [line.split() for line in lines[1:]] == [
        ["proposal", "4", "0.667", "50%", "50%", "50%"],
        ["stage", "1", "4", "0.650", "-0.017", "100%", "50%", "0%"],
        ["stage", "2", "4", "0.750", "+0.100", "100%", "50%", "50%"],
    ]


def test_table_without_boxes_says_so():
    assert "no detection" in stage_table([small_view()], threshold=0.99)


def test_story_of_a_box_that_gets_better():
    assert describe_box(small_view(), 0).splitlines() == [
        "Box 1, spoon: final score 0.75, compared with object 1 (spoon).",
        "proposal: objectness 0.90, IoU 0.33, box 5.0 0.0 15.0 10.0",
        "stage 1: score 0.50, IoU 0.50, box 0.0 0.0 10.0 5.0",
        "stage 2: score 0.60, IoU 1.00, box 0.0 0.0 10.0 10.0",
        "Stage 2 raised the IoU most (+0.50).",
    ]


def test_story_of_a_box_without_an_object():
    text = describe_box(small_view(), 1)
    assert "overlaps no known object" in text and "IoU unknown" in text and "raised" not in text


def test_story_of_a_box_that_gets_worse():
    assert describe_box(small_view(), 2).endswith("No stage raised the IoU.")


@pytest.mark.parametrize("box", [-1, 3])
def test_unknown_box(box: int):
    with pytest.raises(InputError, match="which has 3"):
        describe_box(small_view(), box)


def test_every_stage_has_a_look_of_its_own():
    view = small_view()
    assert stage_names(view) == ["proposal", "stage 1", "stage 2"]
    assert len({look.colour for look in stage_looks(view)}) == len(
        {str(look.style) for look in stage_looks(view)}
    )


def test_figure_shows_every_box_at_every_stage():
    from io import BytesIO

    from PIL import Image

    content = BytesIO()
    Image.new("RGB", (60, 60)).save(content, "PNG")
    figure = draw_stages(small_view(content.getvalue()), threshold=0.5)
    assert [axes.get_title() for axes in figure.axes] == [
        "proposal, mean IoU 0.33",
        "stage 1, mean IoU 0.50",
        "stage 2, mean IoU 1.00",
    ]
    for axes in figure.axes:  # two objects and two boxes, each with its halo
        assert len(axes.patches) == 8
