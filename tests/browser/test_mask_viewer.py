"""The mask viewer in a real browser: as an exported page, and in JupyterLab.

To keep the screenshots: CASCADE_LAB_SCREENSHOTS=DIR pytest -m browser tests/browser -s
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from cascade_lab.widgets.mask_view import MaskView, averaged, mask_iou, mask_view, pasted
from cascade_lab.widgets.mask_viewer import MaskViewer
from tests.browser.pages import ASK_KERNEL, FOCUSED, contrast, pixels, rest, screenshot, step_times
from tests.widgets import made_up

pytestmark = pytest.mark.browser

# What the canvas shows at the middle of some pixels (x, y) of a picture with so many columns.
COLOURS = """(canvas, [points, columns]) => {
  const context = canvas.getContext("2d"), scale = canvas.width / columns;
  const at = ([x, y]) => [...context.getImageData((x + 0.5) * scale, (y + 0.5) * scale, 1, 1).data];
  return points.map(at) }"""


def make_view(seed: int = 0, **options) -> MaskView:
    picture, trace, _, targets = made_up.made_up_prediction(seed, **options)
    return mask_view(picture, trace, targets, made_up.CLASSES, name=f"picture {seed + 1}")


@pytest.fixture(scope="module")
def views() -> list[MaskView]:
    return [make_view(0), make_view(1, objects=5, mask_stages=(0, 2))]


def viewer_at(views, **traits) -> MaskViewer:
    viewer = MaskViewer(views)
    for name, value in traits.items():
        setattr(viewer, name, value)
    return viewer


def status(page) -> str:
    rest(page)
    return page.locator(".cl-status").inner_text()


def cells(page) -> list[list[str]]:
    rest(page)
    return [row.locator("td").all_inner_texts() for row in page.locator(".mv-cell tbody tr").all()]


@pytest.mark.parametrize(
    "traits",
    [
        {},
        {"votes": [1]},
        {"votes": [2, 3], "average": "logits"},
        {"threshold": 0.2, "detection": 5},
        {"threshold": 0.85, "detection": 9, "votes": [1, 3]},
        {"picture": 1, "detection": 2},
    ],
)
def test_paste_has_the_pixels_and_the_iou_of_the_library(open_page, views, traits):
    viewer = viewer_at(views, **traits)
    page = open_page(viewer)
    mask = pasted(viewer.view, viewer.detection, viewer.votes, viewer.threshold, viewer.average)
    iou = mask_iou(viewer.view, viewer.detection, mask)
    shown = status(page)
    assert abs(int(re.search(r"(\d+) pixels inside", shown)[1]) - mask.sum()) <= 1  # float32 against float64
    assert float(re.search(r"mask IoU ([\d.]+)", shown)[1]) == pytest.approx(iou, abs=0.0051)


def test_pixels_on_the_canvas_are_those_of_the_mask(open_page, views):
    viewer = viewer_at(views, position=2.0, show_target=False)
    page = open_page(viewer)
    mask = pasted(viewer.view, 0)
    x1, y1, x2, y2 = viewer.view.boxes[0].round().astype(int)
    points = [(x, y) for y in range(y1 + 3, y2 - 3, 6) for x in range(x1 + 3, x2 - 3, 6)]
    points = [(x, y) for x, y in points if len(set(mask[y - 1 : y + 2, x - 1 : x + 2].ravel())) == 1]
    asked = [[[int(x), int(y)] for x, y in points], viewer.view.size[1]]
    found = page.locator(".cl-canvas").evaluate(COLOURS, asked)
    viewer.detection = 1  # the same picture with another mask: where do the colours differ?
    other = open_page(viewer).locator(".cl-canvas").evaluate(COLOURS, asked)
    tinted = [
        max(abs(a - b) for a, b in zip(p, q, strict=True)) > 25 for p, q in zip(found, other, strict=True)
    ]
    inside = [bool(mask[y, x]) for x, y in points]
    assert any(inside) and not all(inside)
    differing = [p for p, t, i in zip(points, tinted, inside, strict=True) if t != i]
    assert len(differing) <= 0.05 * len(points), differing  # the line of the box crosses some


def test_arrow_keys_choose_a_cell_and_read_its_values(open_page, views):
    view = views[0]
    page = open_page(MaskViewer(views))
    page.locator(".mv-tile").first.focus()
    for key in ("ArrowLeft", "ArrowLeft", "ArrowUp", "ArrowRight", "ArrowDown", "ArrowDown"):
        page.keyboard.press(key)
    rest(page)
    row, column = 15, 13
    assert f"row {row}, column {column}" in page.locator(".cl-headline").inner_text()
    for stage, texts in enumerate(cells(page)[:-1]):
        logit = float(view.logits[stage, 0, row, column])
        assert float(texts[0].replace("−", "-")) == pytest.approx(logit, abs=0.0051)
        assert float(texts[1]) == pytest.approx(1 / (1 + np.exp(-logit)), abs=0.00051)
    mean = float(averaged(view, 0, [1, 2, 3])[row, column])
    assert float(cells(page)[-1][1]) == pytest.approx(mean, abs=0.00051)
    spoken = page.locator(".mv-tile").last.get_attribute("aria-label")
    assert spoken.startswith(f"Row {row}, column {column}: mean {mean:.2f}")


def test_mouse_reads_the_cell_under_it(open_page, views):
    page = open_page(MaskViewer(views))
    area = page.locator(".mv-tile").nth(1).bounding_box()
    page.mouse.move(area["x"] + area["width"] * 3.5 / 28, area["y"] + area["height"] * 20.5 / 28)
    rest(page)
    assert "row 20, column 3" in page.locator(".cl-headline").inner_text()


def test_slider_goes_from_the_grid_to_the_pixels_and_back(open_page, views, tmp_path):
    page = open_page(MaskViewer(views))
    screenshot(page, "masks_light_grid", tmp_path)
    before = pixels(page)
    page.locator(".cl-slider").focus()
    assert pixels(page) == before, "the focus alone must not change the picture"
    seen = [before]
    for _ in range(3):
        page.keyboard.press("ArrowRight")
        seen.append(pixels(page))
    assert len(set(seen)) == 4
    page.get_by_role("button", name="one answer a pixel").click()
    assert status(page).startswith("one answer a pixel")
    screenshot(page, "masks_light_pixels", tmp_path)
    page.locator(".cl-slider").focus()
    page.keyboard.press("Home")
    assert pixels(page) == before and page.locator(".cl-slider").input_value() == "0"


def test_votes_by_key_and_by_mouse_and_never_none(open_page, views):
    view = views[0]
    page = open_page(MaskViewer(views))
    page.locator(".cl-canvas").focus()
    page.keyboard.press("2")
    assert cells(page)[1][2] == "no"
    page.get_by_label("stage 1 votes").click()
    assert cells(page)[0][2] == "no"
    assert float(cells(page)[-1][1]) == pytest.approx(float(averaged(view, 0, [3])[14, 14]), abs=0.00051)
    page.keyboard.press("3")
    assert page.get_by_label("stage 3 votes").is_checked() and cells(page)[2][2] == "yes"
    page.get_by_label("stage 3 votes").click()
    assert cells(page)[2][2] == "yes" and page.get_by_label("stage 3 votes").is_checked()


def test_detections_and_pictures(open_page, views):
    page = open_page(MaskViewer(views))
    page.locator(".cl-canvas").focus()
    page.keyboard.press("n")
    rest(page)
    assert page.get_by_label("Detection", exact=True).input_value() == "1"
    page.get_by_role("button", name="Previous detection").click()
    page.get_by_role("button", name="Previous detection").click()
    rest(page)
    assert page.get_by_label("Detection", exact=True).input_value() == str(len(views[0]) - 1)
    page.get_by_role("button", name="picture 2").click()
    rest(page)
    assert page.locator(".mv-tile").count() == 3, "two stages with a mask head, and their mean"
    page.get_by_label("true outline").press("Space")
    rest(page)
    assert not page.get_by_label("true outline").is_checked()


def test_tab_reaches_every_control_in_reading_order(open_page, views):
    page = open_page(MaskViewer(views))
    reached = []
    for _ in range(30):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
        if str(reached[-1][1]).startswith("Row 14, column 14: mean"):
            break
    names = [name for _, name, _ in reached]
    order = [
        "picture 1",
        "Previous detection",
        "Detection",
        "Next detection",
        "picture 1, ",
        "Play from the grid",
    ]
    order += ["From grid to pixels", "the grid itself", "one answer a pixel", "Threshold", "What is averaged"]
    order += [
        "true outline",
        "Keyboard",
        "stage 1 votes",
        "Row 14, column 14: logit of stage 1",
        "stage 3 votes",
    ]
    places, at = [], 0
    for wanted in order:
        at = next(i for i in range(at, len(names)) if names[i].strip().startswith(wanted)) + 1
        places.append(at)
    assert places == sorted(places)
    assert all(suppressed == "true" for *_, suppressed in reached), "JupyterLab would take its keys"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes_are_legible(open_page, views, tmp_path, scheme):
    page = open_page(viewer_at(views, position=1.0, votes=[1, 3]), color_scheme=scheme)
    for selector in (
        ".cl-headline",
        ".cl-status strong",
        ".mv-cell td",
        ".mv-legend",
        ".mv-name",
        ".cl-help",
    ):
        assert contrast(page, selector) >= 4.5, selector
    screenshot(page, f"masks_{scheme}", tmp_path)


def test_reduced_motion_jumps(open_page, views):
    page = open_page(MaskViewer(views), reduced_motion="reduce")
    page.get_by_role("button", name="Play from the grid").click()
    rest(page)
    assert page.locator(".cl-slider").input_value() in ("0", "1")
    page.wait_for_function("() => document.querySelector('.cl-slider').value === '2'", timeout=8000)


def test_playing_glides_until_a_hand_takes_over(open_page, views):
    page = open_page(MaskViewer(views))
    page.locator(".cl-canvas").focus()
    page.keyboard.press("Space")
    page.wait_for_function("() => 0 < document.querySelector('.cl-slider').value % 1")
    page.keyboard.press("Home")
    page.wait_for_selector("button[aria-label^=Play]")
    page.wait_for_timeout(300)
    assert page.locator(".cl-slider").input_value() == "0"


def test_narrow_window_needs_no_sideways_scrolling(open_page, views, tmp_path):
    page = open_page(MaskViewer(views), viewport={"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    screenshot(page, "masks_narrow", tmp_path)


def test_the_masks_follow_the_hand(open_page):
    view = make_view(5, objects=20, copies=1, size=(480, 640))
    page = open_page(MaskViewer(view))
    places = [(i * 7 % 40) * 0.05 + 0.025 for i in range(40)]
    times = step_times(page, ".cl-slider", places, "mask viewer, paste")
    assert np.median(times) < 100
    levels = [0.05 + (i * 7 % 40) * 0.0225 for i in range(40)]
    times = step_times(page, ".mv-threshold", levels, "mask viewer, threshold")
    assert np.median(times) < 100


@pytest.mark.slow
def test_notebook_in_jupyterlab(open_notebook, tmp_path):
    page = open_notebook("08_masks.ipynb", ".mask-viewer")
    before = pixels(page, ".mask-viewer .cl-canvas")
    page.locator(".mask-viewer .cl-slider").focus()
    for _ in range(5):
        page.keyboard.press("ArrowRight")  # JupyterLab would like these keys for itself
    rest(page)
    assert page.locator(".mask-viewer .cl-slider").input_value() == "0.25"
    assert pixels(page, ".mask-viewer .cl-canvas") != before
    page.locator(".mask-viewer .mv-tile").first.focus()
    page.keyboard.press("ArrowDown")
    page.keyboard.press("2")  # in a notebook it makes a heading
    rest(page)
    assert not page.get_by_label("stage 2 votes").is_checked()
    told = "0.25 15 [1, 3]"
    for _ in range(100):  # what the reader did reaches the kernel when the hand rests
        if page.evaluate(ASK_KERNEL, "print(viewer.position, viewer.row, viewer.votes, end='')") == told:
            break
        page.wait_for_timeout(100)
    assert page.evaluate(ASK_KERNEL, "print(viewer.position, viewer.row, viewer.votes, end='')") == told
    screenshot(page, "masks_jupyterlab", tmp_path)
