"""The sampling viewer without a browser: its traits, what goes over the wire, and the exported page."""

import io
import json
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import traitlets
from PIL import Image

from cascade_lab.errors import InputError
from cascade_lab.learn.course import course_pictures, course_run
from cascade_lab.receptive_field import receptive_fields, untrained
from cascade_lab.sampling import sample_picture
from cascade_lab.widgets import sampling_viewer
from cascade_lab.widgets.sampling_text import describe_pixel
from cascade_lab.widgets.sampling_viewer import SamplingViewer
from tests.widgets.made_up_sampling import SIZE, made_up_fields, made_up_sampling


@pytest.fixture
def viewer():
    return SamplingViewer(made_up_sampling(), before=made_up_fields(2), after=made_up_fields(4))


def test_starts_in_the_middle_of_the_picture_on_the_first_level(viewer):
    assert (viewer.x, viewer.y, viewer.level, viewer.block, viewer.group, viewer.point) == (
        48,
        32,
        0,
        0,
        0,
        -1,
    )
    assert viewer.pixel == (8, 12)
    assert viewer.panel_text() == describe_pixel(viewer.sampling, 0, 0, 0, (8, 12))


def test_the_place_stays_when_the_level_changes(viewer):
    viewer.x, viewer.y = 41, 20
    assert viewer.pixel == (5, 10)
    viewer.level = 1
    assert viewer.pixel == (3, 5), "41 / 8 is nearest to 5, and 20 / 8, half-way, goes to 3"
    viewer.x, viewer.y = 95, 63
    assert viewer.pixel == (7, 11), "the last pixel of a map also serves what lies beyond its centre"


def test_a_group_that_the_level_lacks_becomes_its_last(viewer):
    viewer.level = 1
    viewer.group = 2
    viewer.level, viewer.block = 0, 1
    assert (viewer.group, viewer.block) == (1, 1)
    viewer.level = 1
    assert (viewer.group, viewer.block) == (1, 0)


@pytest.mark.parametrize(
    "trait, value",
    [("x", 96), ("y", -1), ("level", 2), ("block", 2), ("group", 2), ("point", 9), ("point", -2),
     ("show", "everything"), ("x", 1.5)],
)  # fmt: skip
def test_values_out_of_range_are_refused(viewer, trait, value):
    with pytest.raises(traitlets.TraitError, match=trait):
        setattr(viewer, trait, value)


def test_several_values_at_once_are_checked_together(viewer):
    """What the browser sends when the reader changes the level: all at once."""
    viewer.set_state({"level": 1, "block": 0, "group": 2, "show": "offsets"})
    assert (viewer.level, viewer.block, viewer.group, viewer.show) == (1, 0, 2, "offsets")
    viewer.set_state({"level": 0, "block": 1, "group": 1})
    assert (viewer.level, viewer.block, viewer.group) == (0, 1, 1)


def test_points_go_over_in_16_bits_and_come_back(viewer):
    for layer, sent in zip(viewer.sampling.layers, viewer._data["layers"], strict=True):
        moved = np.frombuffer(sent["moved"], "<i2").reshape(layer.points.shape) * sent["step"]
        back = layer.regular()[:, :, None] + moved
        assert np.abs(back - layer.points).max() < 1e-3, "map pixels"
        modulation = np.frombuffer(sent["modulation"], "<u2").reshape(layer.modulation.shape) / 65535
        assert np.abs(modulation - layer.modulation).max() < 1e-4
    shown = np.asarray(Image.open(io.BytesIO(viewer._data["picture"])))
    np.testing.assert_array_equal(shown, viewer.sampling.picture)


def test_fields_go_over_with_their_radius_and_as_the_square_root_of_sums(viewer):
    field, sent = made_up_fields(4)[0], viewer._data["fields"][6]
    assert sent["trained"] and (sent["level"], sent["row"], sent["column"]) == (0, 2, 2)
    assert sent["radius"] == pytest.approx(field.radius())
    cell = viewer._data["cell"]
    assert cell == 2 and sent["size"] == [32, 48]
    sums = [[field.gradient[y : y + 2, x : x + 2].sum() for x in range(0, 96, 2)] for y in range(0, 64, 2)]
    heat = np.frombuffer(sent["heat"], np.uint8).reshape(32, 48)
    np.testing.assert_allclose(heat / 255, np.sqrt(sums / np.max(sums)), atol=0.002)


def test_moving_sends_only_what_moved(viewer):
    assert len(json.dumps(viewer.get_state(["x", "y", "group", "show"]))) < 100


def test_fields_of_another_picture_are_refused():
    other = [replace(field, gradient=field.gradient[:32]) for field in made_up_fields(2)]
    with pytest.raises(InputError, match="is not the size of the picture"):
        SamplingViewer(made_up_sampling(), after=other)


def test_too_much_for_a_browser_names_the_remedy(monkeypatch):
    monkeypatch.setattr(sampling_viewer, "MOST_BYTES", 1000)
    with pytest.raises(InputError, match=r"sample_picture\(keep=\.\.\.\)"):
        SamplingViewer(made_up_sampling())


def test_page_holds_everything_and_asks_for_nothing(tmp_path: Path):
    sampling = replace(made_up_sampling(), name="</script><b>")
    viewer = SamplingViewer(sampling, level=1, group=2, show="offsets", x=3)
    page = viewer.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r"""(src|href)=|@import|url\(|fetch\(|import\(""", page)
    state = json.loads(re.search(r'-state">(.*?)</script>', page, re.S)[1])
    assert (state["level"], state["group"], state["show"], state["x"]) == (1, 2, "offsets", 3)
    assert state["_data"]["name"] == "</script><b>" and state["_data"]["size"] == list(SIZE)


def test_page_of_the_course_is_small(tmp_path: Path):
    run, ((picture, truth),) = course_run(), course_pictures(1)
    sampling = sample_picture(run.detector, picture, boxes=truth.boxes)
    before, after = (
        receptive_fields(model, picture, per_side=4, directions=1)
        for model in (untrained(run.recipe.detector), run.detector)
    )
    page = SamplingViewer(sampling, before=before, after=after).to_html(tmp_path / "page.html")
    assert page.stat().st_size < 1_500_000
