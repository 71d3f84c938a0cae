"""The what-if viewer without a browser: traits, choices, and the exported page."""

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest
import traitlets

from cascade_lab.errors import InputError
from cascade_lab.laboratory.crossed import Crossed, cross, read
from cascade_lab.widgets.choice_words import choice_words
from cascade_lab.widgets.what_if import WhatIf
from tests.laboratory.test_crossed import PICTURES, build

CLASSES = ("disc", "square", "star")


@pytest.fixture(scope="module")
def crossed() -> Crossed:
    return cross(build(), PICTURES)


def test_starts_with_the_plain_setting(crossed):
    viewer = WhatIf(crossed, CLASSES)
    assert viewer.choice == crossed.plain
    assert (viewer.picture, viewer.layer, viewer.positive_iou) == (0, "detections", 0.5)


def test_a_choice_goes_in_and_comes_out(crossed):
    viewer = WhatIf(crossed, CLASSES)
    for choice in (
        replace(crossed.plain, stages=2, ensemble="last_rois_probabilities", targets_added=True),
        replace(crossed.plain, foreign=(2, 0), score_threshold=0.4, nms_iou=0.7),
        crossed.plain,
    ):
        viewer.choice = choice
        assert viewer.choice == choice == WhatIf(crossed, CLASSES, choice).choice
        assert len(read(crossed, viewer.choice)) == len(PICTURES)


def test_controls_are_traits_that_python_sets_and_hears(crossed):
    viewer, heard = WhatIf(crossed, CLASSES), []
    viewer.observe(lambda change: heard.append((change["name"], change["new"])), names=["stages", "foreign"])
    viewer.stages = 1
    viewer.foreign = [1, 2]
    assert heard == [("stages", 1), ("foreign", [1, 2])]
    assert viewer.choice == replace(crossed.plain, stages=1, foreign=(1, 2))
    synced = {name for name in viewer.traits(sync=True) if not name.startswith("_")}
    assert {"picture", "stages", "ensemble", "foreign", "score_threshold", "nms_iou", "targets_added",
            "positive_iou", "layer", "show_plain"} <= synced  # fmt: skip


@pytest.mark.parametrize(
    "trait, value",
    [
        ("picture", 3),
        ("picture", -1),
        ("stages", 0),
        ("stages", 4),
        ("foreign", [1]),
        ("foreign", [0, 3]),
        ("foreign", [-1, 0]),
        ("ensemble", "median"),
        ("score_threshold", 0.049),
        ("score_threshold", 1.1),
        ("nms_iou", float("nan")),
        ("positive_iou", -0.1),
        ("layer", "masks"),
    ],
)
def test_values_out_of_range_are_refused(crossed, trait: str, value: object):
    viewer = WhatIf(crossed, CLASSES)
    before = viewer.choice
    with pytest.raises(traitlets.TraitError, match=trait):
        setattr(viewer, trait, value)
    assert viewer.choice == before


def test_classes_have_to_fit(crossed):
    with pytest.raises(InputError, match="2 names.* 3 classes"):
        WhatIf(crossed, CLASSES[:2])


def test_a_slow_kernel_does_not_throw_a_slider_back(crossed):
    """What the browser sent is not sent back to it: it may have moved on since."""
    viewer = WhatIf(crossed, CLASSES)
    sent = []
    viewer._send = lambda message, buffers=None: sent.append(message)
    viewer.set_state({"score_threshold": 0.25, "nms_iou": 0.7})
    assert (viewer.score_threshold, viewer.nms_iou) == (0.25, 0.7)
    assert not [message for message in sent if message["method"] == "echo_update"]


def test_moving_a_control_sends_only_that(crossed):
    viewer = WhatIf(crossed, CLASSES)
    viewer.score_threshold = 0.5
    assert set(viewer.get_state("score_threshold")) == {"score_threshold"}


def test_page_holds_everything_and_asks_for_nothing(crossed, tmp_path: Path):
    choice = replace(crossed.plain, foreign=(2, 0))
    viewer = WhatIf(crossed, ("</script><b>", "square", "star"), choice)
    page = viewer.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r"""(src|href)=|@import|url\(|fetch\(|import\(""", page)
    data = json.loads(re.search(r'-state">(.*?)</script>', page, re.S)[1])
    assert data["foreign"] == [2, 0] and data["_about"]["plain"]["foreign"] == []
    assert len(data["_pictures"]) == len(PICTURES)


@pytest.mark.parametrize(
    "change, words",
    [
        ({}, "3 stages, mean of logits, score > 0.05, NMS 0.50"),
        ({"stages": 1}, "1 stage, score > 0.05, NMS 0.50"),
        (
            {"stages": 2, "ensemble": "last_rois_probabilities"},
            "2 stages, all heads on the last boxes, score > 0.05, NMS 0.50",
        ),
        (
            {"foreign": (2, 0), "targets_added": True, "nms_iou": 0.7},
            "head 3 on the boxes that enter stage 1, ground truth added, score > 0.05, NMS 0.70",
        ),
    ],
)
def test_words(crossed, change: dict, words: str):
    assert choice_words(replace(crossed.plain, **change)) == words
