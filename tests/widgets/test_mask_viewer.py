"""The mask viewer without a browser: its traits, what goes over the wire, and the exported page."""

import base64
import json
import re

import numpy as np
import pytest
import traitlets

from cascade_lab.errors import InputError
from cascade_lab.widgets.mask_view import mask_view
from cascade_lab.widgets.mask_viewer import MaskViewer
from tests.widgets import made_up


def make_view(seed: int = 0, **options):
    picture, trace, _, targets = made_up.made_up_prediction(seed, objects=4, copies=2, **options)
    return mask_view(picture, trace, targets, made_up.CLASSES, name=f"picture {seed}")


@pytest.fixture(scope="module")
def views():
    return [make_view(0), make_view(1, mask_stages=(0, 2))]


def test_starts_with_the_surest_detection_and_all_votes(views):
    viewer = MaskViewer(views)
    assert (viewer.picture, viewer.detection, viewer.position, viewer.threshold) == (0, 0, 0.0, 0.5)
    assert viewer.votes == [1, 2, 3] and viewer.average == "sigmoids"
    assert MaskViewer(views[1]).votes == [1, 3]


def test_another_picture_keeps_the_votes_that_exist_there(views):
    viewer = MaskViewer(views, detection=3)
    viewer.votes = [2, 3]
    viewer.picture = 1
    assert (viewer.detection, viewer.votes) == (0, [3])
    viewer.picture = 0
    viewer.votes = [2]
    viewer.picture = 1
    assert viewer.votes == [1, 3]


@pytest.mark.parametrize(
    "trait, value",
    [
        ("picture", 2),
        ("detection", -1),
        ("detection", 99),
        ("position", 2.1),
        ("position", float("nan")),
        ("threshold", -0.1),
        ("row", 28),
        ("column", -1),
        ("votes", []),
        ("votes", [4]),
        ("average", "median"),
    ],
)
def test_values_out_of_range_are_refused(views, trait, value):
    viewer = MaskViewer(views)
    with pytest.raises(traitlets.TraitError, match=trait):
        setattr(viewer, trait, value)


def test_nothing_to_show():
    with pytest.raises(InputError, match="at least one"):
        MaskViewer([])


def test_page_holds_the_arrays(views, tmp_path):
    viewer = MaskViewer(views)
    viewer.position = 1.5
    page = viewer.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=|@import|url\(|fetch\(|import\(""", page)
    state = json.loads(
        re.search(r'<script type="application/json" id="viewer-\d+-state">(.*?)</script>', page, re.S)[1]
    )
    assert state["position"] == 1.5
    sent = state["_views"][0]
    logits = np.frombuffer(base64.b64decode(sent["logits"]["base64"]), "<f4").reshape(views[0].logits.shape)
    np.testing.assert_array_equal(logits, views[0].logits)
    bits = np.unpackbits(np.frombuffer(base64.b64decode(sent["target_masks"]["base64"]), np.uint8))
    masks = views[0].target_masks
    np.testing.assert_array_equal(bits[: masks.size].reshape(masks.shape), masks)
