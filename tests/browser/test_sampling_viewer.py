"""The sampling viewer in a real browser: as an exported page, and in JupyterLab.

To keep the screenshots: CASCADE_LAB_SCREENSHOTS=DIR pytest -m browser tests/browser -s
"""

from __future__ import annotations

import io
import re
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image

from cascade_lab.sampling import Sampling
from cascade_lab.widgets.sampling_text import describe_pixel
from cascade_lab.widgets.sampling_view import SamplingView
from cascade_lab.widgets.sampling_viewer import SamplingViewer
from tests.browser.pages import (
    ASK_KERNEL,
    FOCUSED,
    LATENCY,
    contrast,
    luminance,
    pixels,
    rest,
    screenshot,
    step_times,
)
from tests.widgets.made_up_sampling import SIZE, made_up_fields, made_up_sampling

pytestmark = pytest.mark.browser

MARGIN = round(max(SIZE) / 6)


@pytest.fixture(scope="module")
def sampling() -> Sampling:
    return made_up_sampling()


def viewer(sampling: Sampling, **options) -> SamplingViewer:
    view = SamplingView(sampling=sampling, before=made_up_fields(2), after=made_up_fields(4))
    return SamplingViewer(view, **options)


def painted(page) -> list[str]:
    """Return what the canvas shows: view, level, block, group, pixel, point, trained, boxes, picture."""
    rest(page)
    return page.locator("[data-painted]").get_attribute("data-painted").split(":")


def colors(page) -> np.ndarray:
    """Return the canvas as (H, W, 3) with one dot a CSS pixel."""
    rest(page)
    data = page.locator(".cl-canvas").screenshot()
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)


def near(image: np.ndarray, color: str) -> np.ndarray:
    """Return (H, W) bool: dots close to a colour."""
    wanted = [int(color[i : i + 2], 16) for i in (1, 3, 5)]
    return np.abs(image - wanted).sum(-1) < 60


def place(page, x: float, y: float) -> tuple[float, float]:
    """Return where the canvas has picture position (x, y), in CSS pixels of the canvas."""
    scale = page.locator(".cl-canvas").bounding_box()["width"] / (SIZE[1] + 2 * MARGIN)
    return (x + MARGIN) * scale, (y + MARGIN) * scale


def compare_panel(page, sampling: Sampling, level: int, block: int, group: int, pixel: tuple[int, int]):
    """Compare all numbers of the panel with those that Python tells."""
    head, *lines, last = describe_pixel(sampling, level, block, group, pixel).splitlines()
    rest(page)
    assert page.locator(".cl-headline").inner_text() == head
    numbers = r"[-+]?\d+\.?\d*"
    spoken = [float(v) for v in re.findall(numbers, page.locator(".sv-verdict").inner_text())]
    assert spoken == pytest.approx([float(v) for v in re.findall(numbers, last)], abs=0.11)
    rows = page.locator(".sv-table tbody tr").all()
    assert len(rows) == len(lines) == 9
    for row, line in zip(rows, lines, strict=True):
        shown = [float(v) for v in re.findall(numbers, row.inner_text().replace("−", "-"))]
        number, gx, gy, dx, dy, x, y, modulation = (float(v) for v in re.findall(numbers, line))
        assert shown[:3] == [number, gx, gy]
        assert shown[3:5] == pytest.approx([dx, dy], abs=0.011)
        assert shown[5:7] == pytest.approx([x, y], abs=0.11)
        assert shown[7] == pytest.approx(modulation, abs=0.011)


def test_arrow_keys_walk_from_pixel_to_pixel(open_page, sampling, tmp_path):
    page = open_page(viewer(sampling))
    before = pixels(page)
    page.locator(".cl-canvas").focus()
    assert pixels(page) == before, "the focus alone must not change the picture"
    for key in ("ArrowRight", "ArrowRight", "ArrowUp"):
        page.keyboard.press(key)
    assert painted(page)[4] == "7,14" and pixels(page) != before
    compare_panel(page, sampling, 0, 0, 0, (7, 14))
    screenshot(page, "sampling_light_points", tmp_path)
    for key in ("ArrowLeft", "ArrowLeft", "ArrowDown"):
        page.keyboard.press(key)
    assert pixels(page) == before
    for _ in range(30):
        page.keyboard.press("ArrowLeft")
    assert painted(page)[4] == "8,0", "the border stops it"
    compare_panel(page, sampling, 0, 0, 0, (8, 0))


def test_a_click_and_a_drag_pick_the_pixel_under_the_mouse(open_page, sampling):
    page = open_page(viewer(sampling, level=1, group=2))
    area = page.locator(".cl-canvas").bounding_box()
    for (x, y), pixel in (((40.5, 24.5), (3, 5)), ((0.5, 56.5), (7, 0)), ((95, 3), (0, 11))):
        dx, dy = place(page, x, y)
        page.mouse.click(area["x"] + dx, area["y"] + dy)
        assert painted(page)[4] == "{},{}".format(*pixel)
        compare_panel(page, sampling, 1, 0, 2, pixel)
    page.mouse.down()
    dx, dy = place(page, 48.5, 32.5)
    page.mouse.move(area["x"] + dx, area["y"] + dy, steps=5)
    page.mouse.up()
    assert painted(page)[4] == "4,6"


def test_discs_lie_where_the_layer_reads_and_are_as_large_as_their_modulation(open_page, sampling):
    """Every disc is found on the canvas by its colour, at the place that Python says."""
    page = open_page(viewer(sampling, x=40, y=24, level=1, group=1))
    layer = sampling.layers[2]
    orange = near(colors(page), "#E69F00")
    points, modulation = layer.on_picture()[3, 5, 1], layer.modulation[3, 5, 1]
    free = 0
    for k in range(9):
        away = np.hypot(*(points - points[k]).T)
        x, y = place(page, *points[k])
        cut = not (20 < x < orange.shape[1] - 20 and 20 < y < orange.shape[0] - 20)
        if np.sort(away)[1] < 6 or cut or layer.outside()[3, 5, 1, k]:
            continue  # discs that overlap, that the margin cuts, or that are pale since they read zero
        radius = 22 * modulation[k] ** 0.5
        rows, columns = np.indices(orange.shape)
        disc = np.hypot(columns + 0.5 - x, rows + 0.5 - y)
        if radius > 6:
            assert orange[(disc > radius * 0.75) & (disc < radius - 1.5)].mean() > 0.6
        assert not orange[(disc > radius + 2) & (disc < radius + 5)].any()
        free += 1
    assert free >= 3


def test_keys_change_level_block_group_point_and_view(open_page, sampling):
    page = open_page(viewer(sampling))
    page.locator(".cl-canvas").focus()
    for key, wanted in (
        ("b", "points:0:1:0:8,12:-1:true:true"),
        ("g", "points:0:1:1:8,12:-1:true:true"),
        ("g", "points:0:1:0:8,12:-1:true:true"),
        ("Shift+G", "points:0:1:1:8,12:-1:true:true"),
        ("l", "points:1:0:1:4,6:-1:true:true"),
        ("v", "offsets:1:0:1:4,6:-1:true:true"),
        ("3", "offsets:1:0:1:4,6:2:true:true"),
        ("v", "receptive:1:0:1:4,6:2:true:true"),
        ("t", "receptive:1:0:1:4,6:2:false:true"),
        ("Escape", "receptive:1:0:1:4,6:-1:false:true"),
        ("v", "points:1:0:1:4,6:-1:false:true"),
        ("o", "points:1:0:1:4,6:-1:false:false"),
        ("PageUp", "points:0:0:1:8,12:-1:false:false"),
    ):
        before = pixels(page)
        page.keyboard.press(key)
        assert ":".join(painted(page)[:8]) == wanted, key
        if key not in ("t", "Escape") or "receptive" in wanted:
            assert (pixels(page) != before) == (key != "Escape"), key


def test_controls_do_what_the_keys_do(open_page, sampling):
    page = open_page(viewer(sampling))
    page.get_by_label("Level", exact=True).select_option("1")
    page.get_by_label("Group", exact=True).fill("2")
    page.get_by_label("Point to follow").select_option(index=5)
    page.get_by_role("button", name="offsets of the group").click()
    assert painted(page)[:4] == ["offsets", "1", "0", "2"] and painted(page)[5] == "4"
    assert page.get_by_role("button", name="offsets of the group").get_attribute("aria-pressed") == "true"
    page.get_by_label("Level", exact=True).select_option("0")
    page.get_by_label("Block", exact=True).select_option(index=1)
    assert painted(page)[:4] == ["offsets", "0", "1", "1"], "level 0 has two groups only"
    before = pixels(page)
    page.get_by_label("boxes", exact=True).press("Space")
    assert pixels(page) != before
    page.locator(".sv-table tbody tr").nth(7).click()
    assert painted(page)[5] == "7"


def test_a_dart_ends_where_the_mean_of_the_points_lies(open_page, sampling, tmp_path):
    page = open_page(viewer(sampling, level=1, group=1, show="offsets"))
    layer = sampling.layers[2]
    image = colors(page)
    yellow = np.minimum(image[..., 0], image[..., 1]) - image[..., 2] > 70
    mean = (layer.on_picture()[:, :, 1] * layer.modulation[:, :, 1, :, None]).sum(2)  # (H, W, 2)
    centre = layer.regular()[:, :, 4] * 8 + 0.5
    hit, beyond = [], []
    for row in range(1, 7):
        for column in range(1, 11):
            for share, found in ((0.85, hit), (1.5, beyond)):
                way = mean[row, column] - centre[row, column]
                x, y = (int(value) for value in place(page, *(centre[row, column] + share * way)))
                found.append(yellow[y - 1 : y + 2, x - 1 : x + 2].any())
    assert np.mean(hit) > 0.9, "a dart leads nearly to the mean"
    assert np.mean(beyond) < 0.3, "and ends there; other darts may pass"
    screenshot(page, "sampling_light_offsets", tmp_path)


def test_field_circles_and_radii(open_page, sampling, tmp_path):
    page = open_page(viewer(sampling, x=8, y=8, show="receptive"))
    before, after = made_up_fields(2)[0].radius(), made_up_fields(4)[0].radius()
    text = page.locator(".sv-radii").inner_text()
    assert f"within {before:.1f} picture pixels before" in text and f"within {after:.1f} after" in text
    assert page.locator(".cl-hint").last.inner_text() == ""
    image = colors(page)
    scale = page.locator(".cl-canvas").bounding_box()["width"] / (SIZE[1] + 2 * MARGIN)
    x, y = place(page, 8.5, 8.5)
    ring = image[int(y), int(x + after * scale) - 2 : int(x + after * scale) + 3]
    assert (ring.min(-1) > 200).any(), "a white circle, at the radius after training"
    yellow, dark = image[int(y) - 9, int(x) + 9], image[int(y + 3.5 * after * scale), int(x)]
    assert yellow[:2].min() > 120 > dark.max()
    screenshot(page, "sampling_light_receptive", tmp_path)
    shown = pixels(page)
    page.locator(".sv-small").first.click()
    assert painted(page)[6] == "false" and pixels(page) != shown
    page.locator(".cl-canvas").focus()
    page.keyboard.press("ArrowRight")
    rest(page)
    assert "are of the nearest one, row 2, column 2." in page.locator(".cl-hint").last.inner_text()


def test_thumbnails_choose_the_picture(open_page, sampling, tmp_path):
    small = made_up_sampling(size=(32, 40), name="small")
    small = replace(small, layers=small.layers[:1])  # level 0, block 0, no fields
    views = [SamplingView(sampling=sampling, after=made_up_fields(4)), SamplingView(sampling=small)]
    page = open_page(SamplingViewer(views, level=1, group=2, x=90, y=60, show="receptive"))
    before = pixels(page)
    button = page.get_by_role("button", name="small")
    assert button.get_attribute("aria-pressed") == "false"
    button.focus()
    page.keyboard.press("Enter")
    assert painted(page) == ["points", "0", "0", "1", "7,9", "-1", "true", "true", "1"]
    assert button.get_attribute("aria-pressed") == "true" and pixels(page) != before
    compare_panel(page, small, 0, 0, 1, (7, 9))
    assert page.locator(".cl-canvas").get_attribute("aria-label").startswith("small: Level 0")
    assert page.get_by_role("button", name="receptive field").is_disabled()
    screenshot(page, "sampling_light_pictures", tmp_path)
    page.get_by_role("button", name="made up").click()
    assert painted(page)[0] == "receptive" and painted(page)[8] == "0"


def test_no_number_stands_over_the_disc_of_another_point(open_page, sampling):
    """Two discs side by side, too small for their numbers: each number keeps away from both."""
    layer = sampling.layers[2]
    points, modulation = layer.points.copy(), np.full_like(layer.modulation, 0.01)
    points[3, 5, 0] = 100  # outside of the canvas, so that nothing is enlarged
    points[3, 5, 0, :2] = [(5, 3), (5.18, 3)]  # 8 CSS pixels apart
    modulation[..., 8] = 1 - 0.08
    layer = replace(layer, points=points, modulation=modulation)
    page = open_page(viewer(replace(sampling, layers=(*sampling.layers[:2], layer)), level=1, x=40, y=24))
    image = colors(page)
    rows, columns = np.indices(image.shape[:2])
    for k in (0, 1):
        x, y = place(page, *layer.on_picture()[3, 5, 0, k])
        disc = np.hypot(columns + 0.5 - x, rows + 0.5 - y) < 1.5
        assert not (image[disc].min(-1) > 200).any(), "the white of a number"


def test_crowded_points_are_enlarged_in_the_far_corner(open_page, sampling):
    page = open_page(viewer(sampling, x=8, y=8), viewport={"width": 420, "height": 900})
    layer, orange = sampling.layers[0], near(colors(page), "#E69F00")
    points, modulation = layer.on_picture()[2, 2, 0], layer.modulation[2, 2, 0]
    away = np.abs(np.concatenate([points, layer.regular()[2, 2] * 4 + 0.5]) - 8.5).max()
    height, width = orange.shape
    side = 0.45 * width
    x, y = (
        np.array([width, height])
        - 4
        - side / 2
        + (points[modulation.argmax()] - 8.5) * (side / 2 - 22) / away
    )
    rows, columns = np.indices(orange.shape)
    disc, radius = np.hypot(columns + 0.5 - x, rows + 0.5 - y), 22 * modulation.max() ** 0.5
    assert orange[(disc > radius * 0.75) & (disc < radius - 1.5)].mean() > 0.6


def test_without_fields_that_view_is_off(open_page, sampling):
    page = open_page(SamplingViewer(sampling))
    assert page.get_by_role("button", name="receptive field").is_disabled()
    page.locator(".cl-canvas").focus()
    page.keyboard.press("v")
    page.keyboard.press("v")
    assert painted(page)[0] == "points"
    assert not page.locator(".sv-pair").is_visible()


def test_state_is_told_in_words(open_page, sampling):
    page = open_page(viewer(sampling, x=0, y=0))
    words = page.locator(".cl-canvas").get_attribute("aria-label")
    assert "row 0, column 0" in words and "picture pixels away" in words and "Arrow keys" in words
    assert "group 1 of 2" in page.get_by_label("Group", exact=True).get_attribute("aria-valuetext")


def test_tab_reaches_every_control_in_reading_order(open_page, sampling):
    page = open_page(viewer(sampling))
    reached = []
    for _ in range(14):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
        if reached[-1][1] == "Keyboard":
            break
    assert not page.get_by_label("after training").is_visible(), "it belongs to the receptive field"
    names = [name.strip() for _, name, _ in reached]
    order = [
        "points of a pixel",
        "offsets of the group",
        "receptive field",
        "made up: Level 0",
        "Level",
        "Block",
        "Group",
    ]
    order += ["Point to follow", "boxes", "Keyboard"]
    assert [name.startswith(wanted) for name, wanted in zip(names, order, strict=True)] == [True] * len(order)
    assert all(suppressed == "true" for *_, suppressed in reached), "JupyterLab would take its keys"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes_are_legible(open_page, sampling, tmp_path, scheme):
    page = open_page(viewer(sampling, level=1, x=0, y=0), color_scheme=scheme, device_scale_factor=2)
    paper = luminance(
        page.evaluate("getComputedStyle(document.querySelector('.cascade-lab')).backgroundColor")
    )
    assert (paper > 0.8) if scheme == "light" else (paper < 0.1)
    for selector in (".cl-headline", ".cl-hint", ".sv-legend", ".sv-verdict", ".cl-help", ".sv-outside td"):
        assert contrast(page, selector) >= 4.5, selector
    screenshot(page, f"sampling_{scheme}_dense", tmp_path)


def test_narrow_window_needs_no_sideways_scrolling(open_page, sampling, tmp_path):
    page = open_page(viewer(sampling), viewport={"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    screenshot(page, "sampling_light_narrow", tmp_path)


@pytest.mark.parametrize("show", ["points", "offsets"])
def test_a_hundred_boxes_follow_the_hand(open_page, show):
    """The offsets of 1200 output pixels, nine points each, and a hundred boxes."""
    crowded = made_up_sampling(boxes=100, size=(120, 160))
    page = open_page(SamplingViewer(crowded, show=show))
    page.evaluate(LATENCY, [".sv-group", [1, 0] * 5])
    # Other work on the machine can only add to the time, so the least disturbed of five rounds counts.
    rounds = [
        np.median(step_times(page, ".sv-group", [1, 0] * 10, f"sampling viewer, {show}, 100 boxes"))
        for _ in range(5)
    ]
    assert min(rounds) < 25


@pytest.mark.slow
def test_notebook_in_jupyterlab(open_notebook, tmp_path):
    page = open_notebook("04_internimage.ipynb", ".sampling-viewer", seconds=150)
    before, start, kinds = pixels(page), painted(page), page.evaluate(KINDS)
    page.locator(".cl-canvas").focus()
    for key in ("ArrowRight", "b", "m", "v"):  # in a notebook b makes a cell, and m a Markdown cell
        page.keyboard.press(key)
    assert painted(page)[0] == "offsets" and painted(page)[4] != start[4] and pixels(page) != before
    assert page.evaluate(KINDS) == kinds
    screenshot(page, "sampling_jupyterlab_light", tmp_path)
    told = f"offsets {painted(page)[4]}"
    for _ in range(50):  # what the reader did reaches the kernel when the hand rests
        if page.evaluate(ASK_KERNEL, ASK) == told:
            break
        page.wait_for_timeout(100)
    assert page.evaluate(ASK_KERNEL, ASK) == told


KINDS = "jupyterapp.shell.currentWidget.content.widgets.map((w) => w.model.type)"
ASK = "print(viewer.show, '{},{}'.format(*viewer.pixel), end='')"
