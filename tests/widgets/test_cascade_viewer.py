"""The viewer without a browser: its traits, what goes over the wire, and the exported page."""

import base64
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import traitlets

from cascade_lab.errors import InputError
from cascade_lab.widgets.cascade_viewer import CascadeViewer
from cascade_lab.widgets.stage_text import describe_box
from cascade_lab.widgets.stored_trace import view_from_trace
from tests.widgets import made_up


def make_view(seed: int = 0, **options):
    picture, trace, instances, targets = made_up.made_up_prediction(seed, objects=4, copies=2, **options)
    return view_from_trace(picture, trace, instances, targets, made_up.CLASSES, name=f"picture {seed}")


@pytest.fixture(scope="module")
def views():
    return [make_view(0), make_view(1, stages=2, mask_stages=())]


def test_traits_can_be_set_and_heard(views):
    viewer, heard = CascadeViewer(views), []
    viewer.observe(
        lambda change: heard.append((change["name"], change["new"])), names=["position", "selected"]
    )
    viewer.position = 1.25
    viewer.selected = 2
    assert heard == [("position", 1.25), ("selected", 2)]
    assert viewer.panel_text() == describe_box(views[0], 2)


def test_starts_at_the_proposals(views):
    viewer = CascadeViewer(views)
    assert (viewer.position, viewer.selected, viewer.picture) == (0.0, -1, 0)
    assert viewer.panel_text() == ""


def test_one_view_is_enough(views):
    assert CascadeViewer(views[0], position=3.0).view is views[0]


def test_another_picture_forgets_the_box_and_keeps_the_place_if_it_can(views):
    viewer = CascadeViewer(views, position=2.5, selected=1)
    viewer.picture = 1  # two stages only
    assert (viewer.selected, viewer.position) == (-1, 2.0)


@pytest.mark.parametrize(
    "trait, value",
    [
        ("position", -0.1),
        ("position", 3.01),
        ("position", float("nan")),
        ("threshold", 1.5),
        ("threshold", float("nan")),
        ("picture", 2),
        ("picture", -1),
        ("selected", 99),
        ("selected", -2),
        ("class_filter", "zebra"),
        ("position", "first"),
    ],
)
def test_values_out_of_range_are_refused(views, trait, value):
    viewer = CascadeViewer(views)
    with pytest.raises(traitlets.TraitError, match=trait):
        setattr(viewer, trait, value)


def test_class_filter_takes_names(views):
    viewer = CascadeViewer(views)
    for name in ("star", ""):
        viewer.class_filter = name
        assert viewer.class_filter == name


def test_nothing_to_show():
    with pytest.raises(InputError, match="at least one"):
        CascadeViewer([])


def test_arrays_go_over_as_raw_little_endian_bytes(views):
    payload = CascadeViewer(views)._views[0]
    boxes = np.frombuffer(payload["boxes"], "<f4").reshape(4, -1, 4)
    np.testing.assert_array_equal(boxes, views[0].boxes)
    np.testing.assert_array_equal(np.frombuffer(payload["labels"], "<i4"), views[0].labels)
    assert payload["picture"] == views[0].picture
    assert [style["name"] for style in payload["styles"]] == ["proposal", "stage 1", "stage 2", "stage 3"]
    assert len({(style["color"], *style["dash"]) for style in payload["styles"]}) == 4


def test_moving_the_slider_sends_only_the_position(views):
    viewer = CascadeViewer(views)
    viewer.position = 1.0
    assert set(viewer.get_state("position")) == {"position"}
    arrays = sum(len(value) for view in viewer._views for value in view.values() if isinstance(value, bytes))
    assert len(json.dumps(viewer.get_state(["position", "selected", "threshold"]))) < 100 < arrays


def test_page_holds_everything_and_asks_for_nothing(views, tmp_path: Path):
    viewer = CascadeViewer([replace(views[0], name="</script><b>")], position=1.5, threshold=0.2)
    page = viewer.to_html(tmp_path / "page.html", title="a < b").read_text(encoding="utf-8")
    assert "<title>a &lt; b</title>" in page
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r"""(src|href)=|@import|url\(|fetch\(|import\(""", page)
    assert set(re.findall(r"https?://[^\s\"')]+", page)) == {
        "http://www.w3.org/2000/svg"
    }  # a name, no address
    data = re.search(r'<script type="application/json" id="viewer-\d+-state">(.*?)</script>', page, re.S)[1]
    state = json.loads(data)
    assert (state["position"], state["threshold"]) == (1.5, 0.2)
    assert state["_views"][0]["name"] == "</script><b>"
    boxes = np.frombuffer(base64.b64decode(state["_views"][0]["boxes"]["base64"]), "<f4")
    np.testing.assert_array_equal(boxes, views[0].boxes.ravel())
