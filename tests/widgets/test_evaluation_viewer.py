"""The evaluation viewer without a browser: its traits, what goes over the wire, and the stored view."""

import numpy as np
import pytest
import torch
import traitlets

from cascade_lab.errors import InputError
from cascade_lab.evaluation.coco import coco_summary
from cascade_lab.widgets.evaluation_cases import cases
from cascade_lab.widgets.evaluation_viewer import EvaluationViewer
from cascade_lab.widgets.stored_evaluation import evaluation_view
from tests.evaluation.scenes import box, found, random_scene, truth
from tests.widgets.made_up_evaluation import made_up_evaluation


@pytest.fixture(scope="module")
def view():
    return made_up_evaluation()


def test_starts_with_what_the_detector_predicts(view):
    viewer = EvaluationViewer(view)
    assert (viewer.chart, viewer.stages, viewer.item, viewer.picture) == ("errors", "1~2", 0, 0)
    assert EvaluationViewer(view, chart="confusion", item=7).item == 7


def test_traits_choose_the_cases(view):
    viewer = EvaluationViewer(view)
    viewer.chart, viewer.stages, viewer.class_filter, viewer.iou = "precision", "1", "fork", 75
    viewer.item, viewer.threshold = 40, 0.1
    assert (viewer.choice.label, viewer.choice.iou, viewer.choice.item) == (1, 5, 40)
    assert viewer.cases() == cases(view, "1", viewer.choice)


def test_an_item_that_another_chart_lacks_becomes_the_first(view):
    viewer = EvaluationViewer(view, chart="confusion", item=9)
    viewer.chart = "iou"
    assert viewer.item == 9
    viewer.chart = "errors"
    assert viewer.item == 0


def test_what_the_page_sets_is_not_sent_back(view):
    """Coming late, it would throw the reader back."""
    viewer, sent = EvaluationViewer(view, item=5), []
    viewer._send = lambda message, buffers=None: sent.append(message)
    viewer.set_state({"chart": "confusion", "item": 3, "picture": 0, "threshold": 0.5})
    assert (viewer.chart, viewer.item, viewer.threshold) == ("confusion", 3, 0.5) and not sent


@pytest.mark.parametrize(
    "trait, value",
    [
        ("chart", "pie"), ("stages", "3"), ("class_filter", "zebra"), ("iou", 52), ("threshold", 1.1),
        ("threshold", float("nan")), ("item", 6), ("item", -1), ("picture", 6),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(view, trait, value):
    viewer = EvaluationViewer(view)
    with pytest.raises(traitlets.TraitError, match=trait):
        setattr(viewer, trait, value)


def test_arrays_go_over_as_raw_little_endian_bytes(view):
    payload = EvaluationViewer(view)._view
    sent, matches = payload["readings"][0], view.readings["1"].matches
    np.testing.assert_allclose(np.frombuffer(sent["boxes"], "<f4").reshape(-1, 4), matches.boxes, rtol=1e-6)
    matched = np.frombuffer(sent["matched"], "<i4").reshape(10, -1)
    np.testing.assert_array_equal(matched >= 0, matches.right)
    np.testing.assert_array_equal(matched == -2, matches.ignored)
    assert payload["pictures"] == list(view.pictures)


def test_the_view_scores_as_the_library_does():
    annotations, detections = random_scene(1)
    pictures = [torch.zeros(3, 600, 800, dtype=torch.uint8)] * 6
    view = evaluation_view(annotations, {"1": detections}, pictures)
    summary = coco_summary(annotations, detections, "bbox")
    assert summary is not None
    assert view.readings["1"].curves.ap().mean() == pytest.approx(summary["AP"])
    assert view.sizes[0] == (600, 800) and len(view.pictures[0]) < 20_000, "stored smaller, boxes as they are"


def test_names_come_from_the_file():
    annotations = truth(box(0, 0, 9, 9), images=2)
    annotations["images"][0]["file_name"] = "cup.jpg"
    view = evaluation_view(
        annotations, {"1": [found(0, 0, 9, 9)]}, [torch.zeros(3, 9, 9, dtype=torch.uint8)] * 2
    )
    assert view.names == ("cup.jpg", "picture 2")


def test_pictures_have_to_be_those_of_the_annotations():
    annotations, detections = random_scene(1)
    with pytest.raises(InputError, match="1 given, the annotations name 6"):
        evaluation_view(annotations, {"1": detections}, [torch.zeros(3, 9, 9, dtype=torch.uint8)])
    with pytest.raises(InputError, match="nothing to show"):
        evaluation_view(annotations, {}, [torch.zeros(3, 9, 9, dtype=torch.uint8)] * 6)


def test_page_is_one_small_file(view, tmp_path):
    page = EvaluationViewer(view).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert "src=" not in page and "import(" not in page and page.count("<script") == 2
