"""What all viewers share: traits, looks and pages."""

import json
import re

import pytest
import traitlets

from cascade_lab.viz.palette import LineLook
from cascade_lab.widgets.canvas import PAGES, CanvasWidget, Share, assets, stroke_values


class Small(CanvasWidget):
    """A viewer that shows nothing."""

    _esm, _css = "export default { render() {} };", ""
    part = Share(0.5).tag(sync=True)
    data = traitlets.Dict().tag(sync=True)


def state_in(page: str) -> dict:
    return json.loads(re.search(r'<script type="application/json"[^>]*>(.*?)</script>', page, re.S)[1])


@pytest.mark.parametrize("value", [0, 0.25, 1.0])
def test_a_share_is_a_number_from_0_to_1(value):
    viewer = Small(part=value)
    assert viewer.part == value and isinstance(viewer.part, float)


@pytest.mark.parametrize("value", [-0.01, 1.01, float("nan"), float("inf"), "half", None])
def test_a_share_is_nothing_else(value):
    with pytest.raises(traitlets.TraitError, match="part"):
        Small().part = value


def test_dashes_grow_with_the_line():
    dashed = LineLook(colour="#123456", style=(0, (3, 1.5)), width=2.0)
    assert stroke_values(dashed) == {"color": "#123456", "dash": [6, 3]}
    assert stroke_values(LineLook(colour="#123456", style="solid")) == {"color": "#123456", "dash": []}


def test_the_kit_stands_before_the_viewer():
    script, style = assets("mask_viewer")
    assert script.index("function follow(") < script.index("function render(")
    assert style.index(".cascade-lab {") < style.index(".mv-tile")


def test_a_page_may_hold_several_viewers():
    first, second = Small(part=0.25), Small(data={"bytes": [b"\x00\x01"], "name": "</script>"})
    pieces = first.fragment() + second.fragment()
    names = re.findall(r'<div id="([^"]+)"', pieces)
    assert len(set(names)) == 2 and pieces.count("</script>") == 4
    assert state_in(first.fragment()) == {"part": 0.25, "data": {}}
    assert state_in(second.fragment())["data"] == {"bytes": [{"base64": "AAE="}], "name": "</script>"}


def test_where_pages_are_built_a_viewer_is_shown_as_a_piece_of_one(monkeypatch):
    monkeypatch.setenv(PAGES, "1")
    data, _ = Small(part=0.75)._repr_mimebundle_()
    assert set(data) == {"text/html"} and state_in(data["text/html"])["part"] == 0.75


def test_what_the_page_told_is_not_told_back():
    assert all(trait.metadata["echo_update"] is False for trait in Small().traits(sync=True).values())
