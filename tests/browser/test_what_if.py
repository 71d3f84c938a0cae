"""The what-if viewer in a real browser: its AP against pycocotools, its boxes against the library.

To keep the screenshots: CASCADE_LAB_SCREENSHOTS=DIR pytest -m browser tests/browser -s
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from cascade_lab.heads.postprocess import pick_detections
from cascade_lab.laboratory.box_ap import box_ap, truth_of
from cascade_lab.laboratory.crossed import Choice, Crossed, cross, read, vote
from cascade_lab.learn.course import course_pictures, course_run
from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.structures import Instances
from cascade_lab.widgets.choice_words import choice_words
from cascade_lab.widgets.what_if import WhatIf
from tests.browser.pages import (
    ASK_KERNEL,
    FOCUSED,
    contrast,
    luminance,
    pixels,
    rest,
    screenshot,
    step_times,
)
from tests.laboratory.test_crossed import PICTURES, build
from tests.tiny_detector import stages

pytestmark = pytest.mark.browser
COUNT = 12
CLASSES = ("rectangle", "ellipse", "triangle", "star")


@pytest.fixture(scope="module")
def crossed() -> Crossed:
    run = course_run()
    assert run.classes == CLASSES
    return cross(run.detector, course_pictures(COUNT))


def measured(page, timeout: int = 5000) -> dict[str, list[float]]:
    """Wait until the AP on show is that of the controls; return [this setting, plain, difference] by name."""
    rest(page)
    page.wait_for_function(MEASURED, timeout=timeout)
    return page.evaluate(TABLE)


# data-painted lists the picture, then the choice, then three more
MEASURED = """() => { const r = document.querySelector(".what-if");
    return r.dataset.measured === JSON.stringify(JSON.parse(r.dataset.painted).slice(1, 7)) }"""
TABLE = """() => Object.fromEntries([...document.querySelectorAll(".wi-scores tbody tr")].map((row) =>
    [row.dataset.name, [...row.querySelectorAll("td")].map((cell) => +cell.dataset.value)]))"""


def reference(crossed: Crossed, choice: Choice) -> dict[str, float]:
    """Score by the library and pycocotools the boxes that went over, which are rounded to 16 bits."""
    config = replace(
        crossed.postprocess, score_threshold=choice.score_threshold, nms_iou=choice.nms_iou
    )  # the ensemble is in the scores
    looks = tuple(tuple(_doubled(look) for look in row) for row in crossed.looks)
    exact, found = replace(crossed, looks=looks), []
    for i, truth in enumerate(crossed.truth):
        boxes, scores = vote(exact, choice, i)
        (height, width), steps = truth.image_size, 65535
        sides = torch.tensor([width, height, width, height], dtype=torch.float64)
        rounded = (boxes.double() / sides * steps).round() / steps * sides
        _, *columns = pick_detections(rounded.float().double(), scores, config, (1.0, 1.0))
        found.append(Instances(truth.image_size, *columns))
    summary = box_ap(found, truth_of(crossed.truth, len(CLASSES))).summary
    return {name: summary[name] for name in ("AP", "AP50", "AP75")} | {
        "detections": sum(len(one) for one in found)
    }


def _doubled(look):
    earlier = look.earlier_logits and [[x.double() for x in one] for one in look.earlier_logits]
    return replace(look, logits=[x.double() for x in look.logits], earlier_logits=earlier)


SETTINGS = [
    {},
    {"stages": 1},
    {"stages": 2, "ensemble": "own_rois_probabilities"},
    {"ensemble": "last_rois_probabilities", "nms_iou": 0.7},
    {"foreign": (2, 0), "score_threshold": 0.2},
    {"foreign": (0, 2), "targets_added": True},
    {"targets_added": True, "nms_iou": 0.3, "score_threshold": 0.05},
    {"score_threshold": 0.95},
]


@pytest.mark.parametrize("change", SETTINGS, ids=str)
def test_ap_is_that_of_pycocotools(open_page, crossed, change: dict):
    choice = replace(crossed.plain, **change)
    page = open_page(WhatIf(crossed, CLASSES, choice))
    shown = measured(page)
    ours, plain = reference(crossed, choice), reference(crossed, crossed.plain)
    for name, (now, before, difference) in shown.items():
        # asked is 0.1, a thousandth of the scale; what is left is rounding
        assert now == pytest.approx(ours[name], abs=1e-6), name
        assert before == pytest.approx(plain[name], abs=1e-6), name
        assert difference == pytest.approx(ours[name] - plain[name], abs=1e-6), name
    words = page.locator(".cl-headline").inner_text().replace("\N{NO-BREAK SPACE}", " ")
    assert words == ("What if: " if change else "Plain setting: ") + choice_words(choice)


def test_every_cell_of_the_matrix(open_page, crossed):
    page = open_page(WhatIf(crossed, CLASSES))
    page.wait_for_function("() => ![...document.querySelectorAll('.wi-ap')].some((x) => x.innerText === '…')")
    cells = [float(text) for text in page.locator(".wi-ap").all_inner_texts()]
    plain = crossed.plain
    choices = [replace(plain, stages=k + 1) for k in range(3)]
    choices += [replace(plain, foreign=(h, k)) for h in range(3) for k in range(3)]
    assert cells == pytest.approx([reference(crossed, choice)["AP"] for choice in choices], abs=0.0501)
    assert len(set(cells)) > 3


def test_the_best_box_stands_where_the_library_puts_it(open_page, crossed):
    """Colours are read off the canvas where its edges should be; the threshold leaves that box alone."""
    plain = read(crossed, crossed.plain)
    gaps = [float(found.scores[0] - found.scores[1]) for found in plain]
    i = int(np.argmax(gaps))
    between = float(plain[i].scores[:2].mean())
    viewer = WhatIf(crossed, CLASSES, replace(crossed.plain, score_threshold=between))
    viewer.picture = i
    page = open_page(viewer)
    assert status(page)[0] == "1 detection"
    box, canvas = plain[i].boxes[0], page.locator(".cl-canvas")
    scale = canvas.evaluate("canvas => canvas.width") / crossed.truth[i].image_size[1]
    x1, y1, x2, y2 = (box * scale).tolist()
    yellow, orange = (240, 228, 66), (213, 94, 0)
    wanted = yellow if pairwise_iou(box[None], crossed.truth[i].boxes).max() >= 0.5 else orange
    for x, y in (x1, 0.6 * y1 + 0.4 * y2), (x2, 0.6 * y1 + 0.4 * y2), (0.6 * x1 + 0.4 * x2, y2):
        near = np.array(canvas.evaluate(LOOK, [round(x), round(y)])).reshape(-1, 4)[:, :3]
        assert np.abs(near - wanted).max(1).min() < 50, near


LOOK = "(canvas, [x, y]) => [...canvas.getContext('2d').getImageData(x - 1, y - 1, 3, 3).data]"


def status(page) -> list[str]:
    rest(page)
    return page.locator(".cl-status > *").all_inner_texts()


def test_a_click_reads_otherwise_and_back(open_page, crossed, tmp_path):
    page = open_page(WhatIf(crossed, CLASSES))
    before, plain = pixels(page), measured(page)
    page.locator(".wi-matrix tr").last.locator("td").first.click()  # head 3 on the boxes that enter stage 1
    after = measured(page)
    assert pixels(page) != before and after != plain
    assert after["AP"][0] == pytest.approx(reference(crossed, replace(crossed.plain, foreign=(2, 0)))["AP"])
    assert page.get_by_label("Ensemble").is_disabled()
    screenshot(page, "what_if_light_foreign", tmp_path)
    page.get_by_role("button", name="Back to the plain setting").click()
    assert measured(page) == plain and pixels(page) == before
    page.get_by_label("ground truth among the proposals").click()
    assert measured(page)["AP"][0] == pytest.approx(
        reference(crossed, replace(crossed.plain, targets_added=True))["AP"]
    )
    page.get_by_label("Ensemble").select_option("all heads on the last boxes")
    rest(page)
    assert "all heads on the last boxes, ground truth added" in page.locator(".cl-headline").inner_text()


def test_keyboard_alone_suffices(open_page, crossed):
    lax = read(crossed, replace(crossed.plain, nms_iou=0.9))
    viewer = WhatIf(crossed, CLASSES)
    viewer.picture = most_changed(map(len, lax), map(len, read(crossed, crossed.plain)))
    page = open_page(viewer)
    before = pixels(page)
    page.locator(".wi-matrix input:checked").focus()
    page.keyboard.press("ArrowLeft")  # 2 stages
    rest(page)
    assert page.locator(".cl-headline").inner_text().startswith("What if: 2 stages")
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowRight")
    rest(page)
    assert (
        page.locator(".cl-headline")
        .inner_text()
        .startswith("What if: head 1 on the boxes that enter stage 1")
    )
    page.keyboard.press("r")
    assert pixels(page) == before
    page.get_by_label("NMS IoU").focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    assert pixels(page) != before
    assert "NMS 0.90" in page.locator(".cl-headline").inner_text()
    assert page.get_by_label("NMS IoU").get_attribute("aria-valuetext") == "0.90"
    page.locator(".cl-canvas").focus()
    page.keyboard.press("g")
    page.keyboard.press("p")
    rest(page)
    assert page.get_by_label("ground truth among the proposals").is_checked()
    assert page.get_by_label("plain detections behind").is_checked()
    for key, number in (("Home", 0), ("ArrowRight", 1), ("End", COUNT - 1), ("ArrowRight", COUNT - 1)):
        page.keyboard.press(key)
        rest(page)
        assert page.get_by_label("Picture", exact=True).input_value() == str(number)
        assert f"Picture {number + 1} of {COUNT}" in page.locator(".cl-canvas").get_attribute("aria-label")
        assert page.locator("[aria-live]").inner_text().startswith(f"Picture {number + 1} of {COUNT}: ")
    back = page.get_by_role("button", name="Back to the plain setting")
    back.focus()
    page.keyboard.press("Enter")
    rest(page)
    assert back.get_attribute("aria-disabled") == "true"
    assert page.evaluate(FOCUSED)[1].startswith("Back"), "the focus stays where it was"


def test_iou_of_a_positive_only_recolours(open_page, crossed):
    pairs = zip(read(crossed, crossed.plain), crossed.truth, strict=True)
    ious = [pairwise_iou(found.boxes, truth.boxes).amax(1) for found, truth in pairs]
    at_half, at_nine = ([int((best >= least).sum()) for best in ious] for least in (0.5, 0.9))
    viewer = WhatIf(crossed, CLASSES)
    viewer.picture = i = most_changed(at_half, at_nine)
    page = open_page(viewer)
    plain, before = measured(page), pixels(page)
    assert status(page)[1] == f"{at_half[i]} would be positive"
    assert status(page)[2].startswith(f"{len(crossed.truth[i])} object")
    page.get_by_label("A positive needs IoU").focus()
    for _ in range(8):
        page.keyboard.press("ArrowRight")
    assert pixels(page) != before
    assert status(page)[1] == f"{at_nine[i]} would be positive"
    assert measured(page) == plain
    assert "IoU ≥ 0.90 with any object" in page.locator(".wi-legend").inner_text()
    assert "thresholds act in training" in page.locator(".wi-training").inner_text()


@pytest.mark.parametrize("added", [False, True])
def test_boxes_that_enter_a_stage(open_page, crossed, added: bool):
    """The later the stage, the more of the boxes that enter it are positives (Cascade R-CNN, figure 4)."""

    def entering(stage: int, i: int) -> torch.Tensor:
        look = crossed.looks[stage - 1][stage - 1]
        return look.proposals[i] if added else look.proposals[i][~look.is_target[i]]

    def positives(stage: int) -> list[int]:
        ious = [pairwise_iou(entering(stage, i), crossed.truth[i].boxes).amax(1) for i in range(COUNT)]
        return [int((best >= 0.6).sum()) for best in ious]

    counts = {stage: positives(stage) for stage in (1, 3)}
    i = most_changed(counts[1], counts[3])
    for stage in (1, 3):
        viewer = WhatIf(crossed, CLASSES, replace(crossed.plain, stages=stage, targets_added=added))
        viewer.picture, viewer.layer, viewer.positive_iou = i, "entering", 0.6
        page = open_page(viewer)
        rows = len(entering(stage, i))
        assert status(page)[:2] == [
            f"{rows} boxes enter stage {stage}",
            f"{counts[stage][i]} would be positive",
        ]


def most_changed(before: Iterable[int], after: Iterable[int]) -> int:
    """Return the picture in which two counts differ most, and insist that they do."""
    differences = np.abs(np.subtract(list(before), list(after)))
    assert differences.max() > 0
    return int(differences.argmax())


def test_tab_reaches_every_control_in_reading_order(open_page, crossed):
    page = open_page(WhatIf(crossed, CLASSES, replace(crossed.plain, targets_added=True)))
    reached = []
    for _ in range(25):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
        if reached[-1][1].strip() == "Keyboard":
            break
    names = [name.strip() for _, name, _ in reached]
    order = [
        "Back to the plain setting", "The first 3 stages", "Ensemble", "Score threshold", "NMS IoU",
        "ground truth among", "Previous picture", "Picture", "Next picture", "Picture 1 of", "Show",
        "plain detections", "A positive needs IoU", "Keyboard",
    ]  # fmt: skip
    assert len(names) == len(order)
    assert all(name.startswith(wanted) for name, wanted in zip(names, order, strict=True)), names
    assert all(suppressed == "true" for *_, suppressed in reached), "JupyterLab would take its keys"


def test_one_stage_and_nothing_to_find(open_page):
    untrained = cross(build(stages(1)), PICTURES[1:2])
    viewer = WhatIf(untrained, ("disc", "square", "star"))
    viewer.show_plain = True
    page = open_page(viewer)
    page.wait_for_selector("[data-measured]")
    texts = page.locator(".wi-scores tbody tr").all_inner_texts()
    assert [text.split() for text in texts[:3]] == [[name, "–", "–", "–"] for name in ("AP", "AP50", "AP75")]
    assert texts[3].split()[1] == str(len(read(untrained, untrained.plain)[0]))
    assert page.locator(".wi-ap").count() == 2
    assert status(page)[1:] == ["0 would be positive", "0 objects"]


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes_are_legible(open_page, crossed, tmp_path, scheme):
    choice = replace(crossed.plain, foreign=(1, 1), score_threshold=0.1)
    viewer = WhatIf(crossed, CLASSES, choice)
    viewer.picture, viewer.show_plain = 3, True
    page = open_page(viewer, color_scheme=scheme, device_scale_factor=2)
    paper = luminance(page.evaluate("getComputedStyle(document.querySelector('.what-if')).backgroundColor"))
    assert (paper > 0.8) if scheme == "light" else (paper < 0.1)
    measured(page)
    for selector in (
        ".cl-headline",
        ".cl-hint",
        ".cl-status",
        ".wi-legend",
        ".wi-scores td",
        ".wi-ap",
        ".cl-help",
    ):
        assert contrast(page, selector) >= 4.5, selector
    page.wait_for_function("() => ![...document.querySelectorAll('.wi-ap')].some((x) => x.innerText === '…')")
    screenshot(page, f"what_if_{scheme}", tmp_path)


def test_narrow_window_needs_no_sideways_scrolling(open_page, crossed, tmp_path):
    viewer = WhatIf(crossed, CLASSES)
    viewer.layer = "entering"
    page = open_page(viewer, viewport={"width": 420, "height": 900})
    measured(page)
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    screenshot(page, "what_if_narrow", tmp_path)
    parts = [page.locator(name).bounding_box() for name in (".wi-controls", ".wi-view", ".wi-numbers")]
    tops = [part["y"] for part in parts]
    assert tops == sorted(tops), "what to change, what becomes of the boxes, what it scores"


def test_wide_window_shows_numbers_beside_the_picture_without_scrolling(open_page, crossed):
    page = open_page(WhatIf(crossed, CLASSES))
    controls, view, numbers = (
        page.locator(name).bounding_box() for name in (".wi-controls", ".wi-view", ".wi-numbers")
    )
    assert numbers["x"] + numbers["width"] < view["x"] and numbers["y"] == view["y"]
    assert controls["y"] >= numbers["y"] + numbers["height"]
    assert controls["y"] + controls["height"] < 900


def test_boxes_follow_the_hand_and_ap_within_a_second(open_page, crossed):
    page = open_page(WhatIf(crossed, CLASSES))
    places = [0.02 + (i * 7 % 40) * 0.01 for i in range(40)]
    times = step_times(page, "[aria-label='Score threshold']", places, f"what-if viewer, {COUNT} pictures")
    assert np.median(times) < 100
    waits = []
    for value in ("0.61", "0.62", "0.63"):
        began = time.monotonic()
        page.locator("[aria-label='Score threshold']").fill(value)
        measured(page)
        waits.append(time.monotonic() - began)
    print(f"AP over {COUNT} pictures: {np.median(waits) * 1000:.0f} ms after the control")
    assert np.median(waits) < 1


@pytest.mark.slow
def test_notebook_in_jupyterlab(lab_notebooks: Path, open_notebook, tmp_path):
    cells = [
        nbformat.v4.new_code_cell(source)
        for source in (CROSS, "viewer = WhatIf(crossed, run.classes)\nviewer")
    ]
    notebook = nbformat.v4.new_notebook(
        cells=cells, metadata={"kernelspec": {"name": "python3", "display_name": "Python 3"}}
    )
    nbformat.write(notebook, lab_notebooks / "what_if.ipynb")
    page = open_notebook("what_if.ipynb", ".what-if")
    plain, before = measured(page, 30_000), pixels(page)
    page.get_by_label("Score threshold").focus()
    for _ in range(9):
        page.keyboard.press("ArrowRight")  # JupyterLab would like these keys for itself
    page.locator(".cl-canvas").focus()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("g")  # and this one
    after = measured(page, 30_000)
    assert pixels(page) != before and after["detections"][0] < plain["detections"][0]
    told = "1 0.1 True"
    for _ in range(50):  # what the reader did reaches the kernel when the hand rests
        if page.evaluate(ASK_KERNEL, ASK) == told:
            break
        page.wait_for_timeout(100)
    assert page.evaluate(ASK_KERNEL, ASK) == told
    page.evaluate(ASK_KERNEL, "viewer.choice = crossed.plain")  # and back from Python
    page.wait_for_function("() => document.querySelector('.cl-headline').innerText.startsWith('Plain')")
    assert measured(page, 30_000) == plain
    screenshot(page, "what_if_jupyterlab", tmp_path)


CROSS = """from cascade_lab.laboratory.box_ap import box_ap, truth_of
from cascade_lab.laboratory.crossed import cross
from cascade_lab.learn.course import course_pictures, course_run
from cascade_lab.widgets.what_if import WhatIf
run = course_run()
crossed = cross(run.detector, course_pictures(4))"""
ASK = "print(viewer.picture, round(viewer.score_threshold, 4), viewer.targets_added, end='')"
