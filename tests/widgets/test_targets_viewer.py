"""The targets viewer without a browser: its traits, what goes over the wire, and the exported page."""

import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import traitlets

from cascade_lab.errors import InputError
from cascade_lab.widgets.targets_viewer import TABS, TargetsViewer
from tests.widgets.course_view import course_view, other_view


@pytest.fixture
def viewer() -> TargetsViewer:
    return TargetsViewer(course_view())


def test_starts_where_there_is_something_to_see(viewer):
    anchors = viewer.view.anchors
    positive = [
        int((anchors.target_index[anchors.level_boxes(level)] >= 0).sum())
        for level in range(len(anchors.grids))
    ]
    assert viewer.tab == "anchors" and positive[viewer.level] == max(positive)
    first = anchors.starts()[viewer.level] + viewer.cell * anchors.shapes
    here = anchors.iou[first : first + anchors.shapes].max()
    assert here == anchors.iou[anchors.level_boxes(viewer.level)].max()


def test_traits_can_be_set_and_heard(viewer):
    heard = []
    viewer.observe(lambda change: heard.append((change["name"], change["new"])), names=["tab", "box", "zoom"])
    for name, value in (("tab", "bins"), ("box", 3), ("zoom", 2.0)):
        setattr(viewer, name, value)
    assert heard == [("tab", "bins"), ("box", 3), ("zoom", 2.0)]


def test_numbers_stay_in_range_when_what_they_count_changes(viewer):
    viewer.level = 0
    viewer.cell = 32 * 32 - 1
    viewer.step = viewer.last("step")
    viewer.level = 4
    assert viewer.cell == 2 * 2 - 1
    assert viewer.step <= len(viewer.view.suppression[4].kept()) - 1
    viewer.source = 0
    viewer.sample = len(viewer.view.samples[0].boxes) - 1
    viewer.source = 3
    assert viewer.sample == len(viewer.view.samples[3].boxes) - 1


def test_another_picture_keeps_the_numbers_that_it_has_too():
    few = replace(other_view(), samples=other_view().samples[:2])
    viewer = TargetsViewer([course_view(), few], tab="samples", level=2)
    viewer.source, viewer.bin = 3, 20
    viewer.box = viewer.last("box")
    viewer.picture = 1
    assert viewer.view is few
    assert (viewer.tab, viewer.level, viewer.source, viewer.bin) == ("samples", 2, 1, 20)
    assert viewer.box == min(len(course_view().reading.boxes), len(few.reading.boxes)) - 1


def test_several_values_at_once_are_checked_together():
    """What the browser sends when the reader chooses another picture: all at once."""
    viewer = TargetsViewer([course_view(), other_view()])
    viewer.set_state({"picture": 1, "level": 4, "cell": 3, "sample": 0, "box": 0, "step": 0})
    assert (viewer.picture, viewer.level, viewer.cell) == (1, 4, 3)


def test_nothing_to_show_is_refused():
    with pytest.raises(InputError, match="at least one view"):
        TargetsViewer([])


@pytest.mark.parametrize(
    "trait, value",
    [
        ("tab", "masks"), ("level", 5), ("level", -1), ("cell", 16 * 16), ("source", 4), ("sample", 128),
        ("box", 99), ("bin", 49), ("step", 60), ("zoom", 17.0), ("zoom", float("nan")), ("zoom", 0.0),
        ("picture", 1),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(viewer, trait, value):
    viewer.level = 1
    with pytest.raises(traitlets.TraitError, match=trait):
        setattr(viewer, trait, value)


def test_arrays_go_over_as_raw_little_endian_bytes(viewer):
    view, payload = viewer.view, viewer._views[0]
    np.testing.assert_array_equal(
        np.frombuffer(payload["anchors"]["boxes"], "<f4").reshape(-1, 4), view.anchors.boxes
    )
    index = np.frombuffer(payload["anchors"]["target_index"], "<i4")
    np.testing.assert_array_equal(index, view.anchors.target_index)
    rows = np.frombuffer(payload["reading"]["rows"], "<f4").reshape(view.reading.rows.shape)
    np.testing.assert_array_equal(rows, view.reading.rows)
    assert payload["target_names"] == [view.target_name(m) for m in range(4)]


@pytest.mark.parametrize("tab", TABS)
def test_page_holds_everything_and_asks_for_nothing(tab, tmp_path: Path):
    page = TargetsViewer(course_view(), tab=tab).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=|@import|url\(|fetch\(|import\(""", page)
    assert set(re.findall(r"https?://[^\s\"')]+", page)) == {"http://www.w3.org/2000/svg"}
    state = json.loads(re.search(r'-state">(.*?)</script>', page, re.S)[1])
    assert state["tab"] == tab and state["_views"][0]["anchors"]["shapes"] == 3


def test_a_page_of_four_pictures_is_small(tmp_path: Path):
    views = [course_view(), other_view()] * 2
    assert TargetsViewer(views).to_html(tmp_path / "page.html").stat().st_size < 1_500_000
