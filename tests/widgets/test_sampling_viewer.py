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
from cascade_lab.widgets.sampling_view import SamplingView
from cascade_lab.widgets.sampling_viewer import SamplingViewer
from tests.widgets.made_up_sampling import SIZE, made_up_fields, made_up_sampling, made_up_view


@pytest.fixture
def viewer():
    return SamplingViewer(made_up_view())


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
    for layer, sent in zip(viewer.sampling.layers, viewer._views[0]["layers"], strict=True):
        moved = np.frombuffer(sent["moved"], "<i2").reshape(layer.points.shape) * sent["step"]
        back = layer.regular()[:, :, None] + moved
        assert np.abs(back - layer.points).max() < 1e-3, "map pixels"
        modulation = np.frombuffer(sent["modulation"], "<u2").reshape(layer.modulation.shape) / 65535
        assert np.abs(modulation - layer.modulation).max() < 1e-4
    shown = np.asarray(Image.open(io.BytesIO(viewer._views[0]["picture"])))
    assert np.abs(shown.astype(int) - viewer.sampling.picture).mean() < 1, "a JPEG that no eye tells from it"


def test_fields_go_over_with_their_radius_and_as_the_square_root_of_sums(viewer):
    field, data = made_up_fields(4)[0], viewer._views[0]
    sent = data["fields"][6]
    assert sent["trained"] and (sent["level"], sent["row"], sent["column"]) == (0, 2, 2)
    assert sent["radius"] == pytest.approx(field.radius())
    assert data["cell"] == 2
    sums = [[field.gradient[y : y + 2, x : x + 2].sum() for x in range(0, 96, 2)] for y in range(0, 64, 2)]
    tiles = Image.open(io.BytesIO(data["heat"]))  # twelve fields: four columns and three rows
    assert tiles.size == (4 * 48, 3 * 32)
    share = np.asarray(tiles)[32:64, 2 * 48 : 3 * 48] / 255  # number 6, counted from 0
    np.testing.assert_allclose(share, np.sqrt(sums / np.max(sums)), atol=0.002)
    colors = np.asarray(tiles.convert("RGBA"))[32:64, 2 * 48 : 3 * 48]
    assert tuple(colors[share == 1][0]) == (0xF0, 0xE4, 0x42, 255), "most is yellow"
    assert (colors[share == 0][:, 3] == 0).all(), "nothing is clear"


def test_moving_sends_only_what_moved(viewer):
    assert len(json.dumps(viewer.get_state(["x", "y", "group", "show"]))) < 100


def test_fields_of_another_picture_are_refused():
    other = [replace(field, gradient=field.gradient[:32]) for field in made_up_fields(2)]
    with pytest.raises(InputError, match="is not the size of the picture"):
        SamplingView(sampling=made_up_sampling(), after=other)


def test_nothing_to_show_is_refused():
    with pytest.raises(InputError, match="at least one"):
        SamplingViewer([])


def test_another_picture_keeps_what_it_has_too():
    small = made_up_sampling(size=(32, 40))
    small = replace(small, layers=small.layers[:1])  # level 0, block 0
    viewer = SamplingViewer([made_up_view(), SamplingView(sampling=small)], level=1, group=2, x=90, y=60)
    viewer.picture = 1
    assert (viewer.level, viewer.block, viewer.group, viewer.x, viewer.y) == (0, 0, 1, 39, 31)
    assert viewer.pixel == (7, 9) and viewer.panel_text() == describe_pixel(small, 0, 0, 1, (7, 9))
    viewer.set_state({"picture": 0, "level": 1, "block": 0, "group": 2, "x": 90, "y": 60})
    assert (viewer.picture, viewer.level, viewer.group, viewer.x, viewer.y) == (0, 1, 2, 90, 60)
    with pytest.raises(traitlets.TraitError, match="picture"):
        viewer.picture = 2


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
    assert state["_views"][0]["name"] == "</script><b>" and state["_views"][0]["size"] == list(SIZE)


def test_a_page_of_four_pictures_is_small(tmp_path: Path):
    run, views = course_run(), []
    for picture, truth in course_pictures(4):
        before, after = (
            receptive_fields(model, picture, per_side=4, directions=1)
            for model in (untrained(run.recipe.detector), run.detector)
        )
        sampling = sample_picture(run.detector, picture, boxes=truth.boxes)
        views.append(SamplingView(sampling=sampling, before=before, after=after))
    assert SamplingViewer(views).to_html(tmp_path / "page.html").stat().st_size < 3_000_000
