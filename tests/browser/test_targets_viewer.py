"""The targets viewer in a real browser: as an exported page, and in JupyterLab.

To keep the screenshots: CASCADE_LAB_SCREENSHOTS=DIR pytest -m browser tests/browser -s
"""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest

from cascade_lab.widgets import targets_text as text
from cascade_lab.widgets.targets_view import SuppressionView, TargetsView
from cascade_lab.widgets.targets_viewer import NUMBERS, TABS, TargetsViewer
from tests.browser.pages import FOCUSED, contrast, luminance, pixels, rest, screenshot, step_times
from tests.widgets.course_view import course_view, other_view

pytestmark = pytest.mark.browser
NAMES = ("picture", "tab", *NUMBERS, "zoom", "show_negatives")


@pytest.fixture(scope="module")
def view() -> TargetsView:
    return course_view()


def shown(page) -> dict[str, str]:
    rest(page)
    return dict(
        zip(NAMES, page.locator("[data-painted]").get_attribute("data-painted").split(":"), strict=True)
    )


def headline(page) -> str:
    rest(page)
    return page.locator(".cl-headline").first.inner_text()


def words(view: TargetsView, tab: str, at: dict[str, int]) -> str:
    """Return the headline of a tab as Python says it."""
    return {
        "anchors": lambda: text.describe_cell(view, at["level"], at["cell"]).splitlines()[0],
        "samples": lambda: text.describe_sample(view, at["source"], at["sample"]),
        "levels": lambda: text.describe_level(view, at["box"]).splitlines()[-1],
        "bins": lambda: text.describe_bin(view, at["box"], at["bin"]),
        "nms": lambda: text.describe_step(view, at["level"], at["step"]).splitlines()[0],
    }[tab]()


def place(page, x: float, y: float, width: float) -> tuple[float, float]:
    """Return where a point of a picture of this width stands on the screen."""
    area = page.locator(".cl-canvas").bounding_box()
    scale = area["width"] / width
    return area["x"] + x * scale, area["y"] + y * scale


@pytest.mark.parametrize("tab", TABS)
def test_every_tab_moves_by_keyboard_and_says_the_numbers_of_python(open_page, view, tmp_path, tab):
    page = open_page(TargetsViewer(view, tab=tab))
    before, seen = pixels(page), set()
    page.locator(".cl-canvas").focus()
    assert pixels(page) == before, "the focus alone must not change the picture"
    for key in ("ArrowRight", "ArrowRight", "ArrowRight", "ArrowLeft"):
        page.keyboard.press(key)
        state = shown(page)
        seen.add(tuple(state.values()))
        numbers = {name: int(state[name]) for name in NUMBERS}
        assert headline(page) == words(view, tab, numbers)
        assert words(view, tab, numbers) in page.locator(".cl-canvas").get_attribute("aria-label")
    assert len(seen) == 3 and pixels(page) != before
    screenshot(page, f"targets_light_{tab}", tmp_path)


@pytest.mark.parametrize("tab", TABS)
def test_thumbnails_choose_the_picture(open_page, view, tmp_path, tab):
    other = other_view()
    viewer = TargetsViewer([view, other], tab=tab, level=1)
    viewer.source, viewer.sample, viewer.box, viewer.step, viewer.bin = 2, 9, 3, 1, 8
    page = open_page(viewer)
    before = pixels(page)
    first, second = page.locator(".cl-thumbnail").all()
    assert (first.get_attribute("aria-pressed"), second.get_attribute("aria-pressed")) == ("true", "false")
    second.focus()
    page.keyboard.press("Enter")
    state = shown(page)
    assert second.get_attribute("aria-pressed") == "true" and pixels(page) != before
    assert page.locator(".cl-canvas").get_attribute("aria-label").startswith(f"{other.name}, ")
    at = {name: int(state[name]) for name in NUMBERS}
    cell = other.anchors.best_cell(1)
    assert at == {"level": 1, "source": 2, "cell": cell, "sample": 0, "box": 0, "bin": 8, "step": 0}
    assert headline(page) == words(other, tab, at)
    screenshot(page, f"targets_light_pictures_{tab}", tmp_path)


def test_negatives_can_be_switched_off(open_page, view):
    page = open_page(TargetsViewer(view, tab="samples"))
    with_all = pixels(page)
    page.get_by_label("Negatives").press("Space")
    assert shown(page)["show_negatives"] == "false" and pixels(page) != with_all
    without = pixels(page)
    sample = view.samples[0]
    for _ in range(sample.positives):
        page.get_by_label("Box", exact=True).press("ArrowRight")
    assert "negative" in headline(page) and pixels(page) != without, "a chosen negative is shown alone"


def test_tabs_keep_their_places(open_page, view):
    page = open_page(TargetsViewer(view))
    places = []
    for tab in TABS:
        page.locator(f"input[value={tab}]").check()
        rest(page)
        places.append([label.bounding_box() for label in page.locator(".tv-tab").all()])
    assert places == [places[0]] * len(TABS)


def test_tabs_are_one_radio_group(open_page, view):
    page = open_page(TargetsViewer(view))
    page.keyboard.press("Tab")
    for tab in (*TABS[1:], "anchors"):
        page.keyboard.press("ArrowRight")
        assert shown(page)["tab"] == tab
        assert page.locator("input[type=radio]:checked").get_attribute("value") == tab
    page.get_by_text("RoIAlign bins").click()
    assert shown(page)["tab"] == "bins"


def test_anchor_lines_and_table_are_those_of_the_assigner(open_page, view):
    level, cell = 1, 5 * 16 + 10
    viewer = TargetsViewer(view, level=level)
    viewer.cell = cell
    page = open_page(viewer)
    _, *lines = text.describe_cell(view, level, cell).splitlines()
    assert page.locator(".tv-line").all_inner_texts() == lines
    rows = page.locator(".tv-panel tbody tr").all()
    for number, row in enumerate(rows):
        index = view.anchors.target_index[view.anchors.level_boxes(number)]
        counts = [len(index), (index >= 0).sum(), (index == -1).sum(), (index == -2).sum()]
        assert row.locator("td").all_inner_texts() == [str(count) for count in counts]


def test_a_click_chooses_the_nearest_cell(open_page, view):
    page = open_page(TargetsViewer(view, level=2))
    page.mouse.click(*place(page, 50, 95, 128))  # stride 16: column 3, row 6
    assert shown(page)["cell"] == str(6 * 8 + 3)
    assert "row 6, column 3" in headline(page)


def test_another_level_keeps_the_place(open_page, view):
    viewer = TargetsViewer(view, level=1)
    viewer.cell = 6 * 16 + 4  # y 48, x 32
    page = open_page(viewer)
    page.get_by_label("Level", exact=True).select_option("2")
    assert shown(page)["cell"] == str(3 * 8 + 2)


def test_samples_count_as_python_does(open_page, view):
    page = open_page(TargetsViewer(view, tab="samples"))
    before = pixels(page)
    page.get_by_label("Loss of").select_option("3")
    assert shown(page)["source"] == "3" and pixels(page) != before
    counts, shares = page.locator(".tv-panel table").all()
    for sample, row, quality in zip(
        view.samples, counts.locator("tbody tr").all(), shares.locator("tbody tr").all(), strict=True
    ):
        negatives = len(sample.boxes) - sample.positives
        wanted = [*sample.available, sample.positives, negatives]
        assert row.locator("td").all_inner_texts() == [str(value) for value in wanted]
        found = [float(cell.split()[0]) for cell in quality.locator("td").all_inner_texts()]
        assert found == pytest.approx(
            [100 * text.share(sample.entering_iou, u) for u in (0.5, 0.6, 0.7)], abs=0.51
        )


@pytest.mark.parametrize("steps", [0, 2, 7, 16])
def test_levels_follow_the_formula(open_page, view, steps):
    page = open_page(TargetsViewer(view, tab="levels"))
    page.get_by_label("Enlarge the picture").focus()
    for _ in range(steps):
        page.keyboard.press("ArrowRight")
    zoom = 2 ** (steps / 4)
    assert float(shown(page)["zoom"]) == pytest.approx(zoom)
    *formula, last = text.describe_level(view, 0, zoom).splitlines()
    assert page.locator(".tv-formula").all_inner_texts() == formula and headline(page) == last


def test_a_bin_is_the_mean_of_its_samples(open_page, view):
    page = open_page(TargetsViewer(view, tab="bins"))
    x1, y1, x2, y2 = view.reading.boxes[0] / 4
    left, top = int(np.floor(x1)) - 2, int(np.floor(y1)) - 2
    right = min(int(np.ceil(x2)) + 2, 32)
    x, y = x1 + 3.5 * (x2 - x1) / 7 - left, y1 + 5.5 * (y2 - y1) / 7 - top
    page.mouse.click(*place(page, float(x), float(y), right - left))
    assert shown(page)["bin"] == str(5 * 7 + 3)
    values = [float(v) for v in page.locator(".tv-panel tbody tr td:last-child").all_inner_texts()]
    assert np.mean(values) == pytest.approx(view.reading.pooled[0, 5, 3], abs=1e-3)
    said = re.search(r"Mean of the (\d+): (-?[\d.]+)\.", page.locator(".tv-panel .cl-headline").inner_text())
    assert int(said[1]) == len(values)
    assert float(said[2]) == pytest.approx(view.reading.pooled[0, 5, 3], abs=1e-3)


def test_nms_lists_who_falls_and_by_how_much(open_page, view):
    viewer = TargetsViewer(view, tab="nms", level=1)
    page = open_page(viewer)
    _, *lines = text.describe_step(view, 1, 0).splitlines()
    rows = [row.locator("th, td").all_inner_texts() for row in page.locator(".tv-panel tbody tr").all()]
    fallen = [f"{box}, score {score}: IoU {iou}" for box, score, iou, end in rows if end == "falls"]
    assert fallen == lines
    waits = [float(iou) for _, _, iou, end in rows if end == "waits"]
    assert waits == sorted(waits, reverse=True) and max(waits) <= 0.7
    before = pixels(page)
    page.get_by_label("Step", exact=True).press("End")
    assert shown(page)["step"] == str(len(view.suppression[1].kept()) - 1) and pixels(page) != before


def test_what_python_sets_out_of_turn_is_still_drawn(open_page, view):
    """Traits may come one by one: a number beyond its range is drawn as the last one."""
    viewer = TargetsViewer(view, tab="nms", level=0)
    viewer.step = viewer.last("step")
    page = open_page(viewer)
    page.get_by_label("Level", exact=True).select_option("4")
    assert shown(page)["level"] == "4"
    assert headline(page) == text.describe_step(view, 4, 0).splitlines()[0]


@pytest.mark.parametrize("tab", TABS)
def test_a_view_without_boxes_is_drawn_too(open_page, view, tab):
    """Nothing sampled, nothing to read, nothing for NMS: no tab may break, by hand or by key."""
    none = np.zeros((0, 4), np.float32)
    nms = SuppressionView(threshold=0.7, boxes=none, scores=none[:, 0], by=none[:, 0].astype(np.int64))
    samples = [
        replace(sample, boxes=none, iou=none[:, 0], is_target=none[:, 0] > 0, positives=0)
        for sample in view.samples
    ]
    reading = replace(
        view.reading, names=(), boxes=none, levels=none[:, 0].astype(np.int64),
        rows=view.reading.rows[:0], columns=view.reading.columns[:0], pooled=view.reading.pooled[:0],
    )  # fmt: skip
    empty = replace(view, samples=tuple(samples), reading=reading, suppression=(nms,) * 5)
    page = open_page(TargetsViewer(empty, tab=tab))
    page.locator(".cl-canvas").click()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("ArrowDown")
    assert shown(page)["tab"] == tab
    assert tab == "anchors" or headline(page).lower().startswith(("no box", "there are no boxes"))


@pytest.mark.parametrize("tab", TABS)
def test_tab_reaches_every_control_in_reading_order(open_page, view, tab):
    page = open_page(TargetsViewer(view, tab=tab))
    controls = {
        "anchors": ["Level", "Cell"], "samples": ["Loss of", "Box", "Negatives"],
        "levels": ["Box", "Enlarge the picture"], "bins": ["Box", "Bin"], "nms": ["Level", "Step"],
    }[tab]  # fmt: skip
    reached = []
    for _ in range(3 + len(controls)):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    names = [name.strip().splitlines()[0] for _, name, _ in reached]
    assert names[0].startswith(
        {"bins": "RoIAlign", "levels": "Pyramid", "nms": "NMS"}.get(tab, tab.capitalize())
    )
    assert "Arrow keys" in names[1]
    assert [
        name.startswith(wanted) for name, wanted in zip(names[2:], [*controls, "Keyboard"], strict=True)
    ] == [True] * (len(controls) + 1), names
    assert all(suppressed == "true" for *_, suppressed in reached), "JupyterLab would take its keys"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes_are_legible(open_page, view, tmp_path, scheme):
    page = open_page(TargetsViewer(view), color_scheme=scheme, device_scale_factor=2)
    paper = luminance(
        page.evaluate("getComputedStyle(document.querySelector('.cascade-lab')).backgroundColor")
    )
    assert (paper > 0.8) if scheme == "light" else (paper < 0.1)
    for selector in (
        ".cl-headline",
        ".cl-hint",
        ".tv-line",
        ".tv-tab",
        ".tv-control",
        ".cl-help",
        "thead th",
    ):
        assert contrast(page, selector) >= 4.5, selector
    canvas = page.locator(".cl-canvas")
    width, dense = canvas.bounding_box()["width"], canvas.evaluate("canvas => canvas.width")
    assert dense == pytest.approx(2 * width, abs=2), "a sharp picture on a dense screen"
    for tab in TABS:
        page.locator(f"input[value={tab}]").check()
        rest(page)
        screenshot(page, f"targets_{scheme}_dense_{tab}", tmp_path)


def test_narrow_window_needs_no_sideways_scrolling(open_page, view, tmp_path):
    page = open_page(TargetsViewer(view), viewport={"width": 420, "height": 900})
    for tab in TABS:
        page.locator(f"input[value={tab}]").check()
        rest(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        screenshot(page, f"targets_narrow_{tab}", tmp_path)


@pytest.mark.parametrize(
    "tab, slider",
    [
        ("anchors", "Cell"),
        ("samples", "Box"),
        ("levels", "Enlarge the picture"),
        ("bins", "Bin"),
        ("nms", "Step"),
    ],
)
def test_tabs_follow_the_hand(open_page, view, tab, slider):
    page = open_page(TargetsViewer(view, tab=tab, level=1))
    selector = f'input[aria-label="{slider}"]'
    control = page.locator(selector)
    now, most = int(control.input_value()), int(control.get_attribute("max"))
    places = most + (3 if tab == "levels" else 1)  # the zoom begins at 2 to the power of -2
    values = [(now + i * (places // 2)) % places - (places - most - 1) for i in range(1, 25)]
    values = [value for value, before in zip(values, [now, *values], strict=False) if value != before]
    times = step_times(page, selector, values, f"targets viewer, {tab}")
    assert len(times) > 10 and np.median(times) < 100


@pytest.mark.slow
def test_notebook_in_jupyterlab(open_notebook, tmp_path):
    page = open_notebook("05_proposals.ipynb", ".targets-viewer")
    before = pixels(page, ".targets-viewer .cl-canvas")
    slider = page.locator(".targets-viewer .cl-slider").first
    slider.focus()
    at = int(slider.input_value())
    page.keyboard.press("ArrowRight")  # JupyterLab would like these keys for itself
    page.keyboard.press("ArrowRight")
    rest(page)
    assert int(slider.input_value()) == at + 2
    assert pixels(page, ".targets-viewer .cl-canvas") != before
    screenshot(page, "targets_jupyterlab", tmp_path)
