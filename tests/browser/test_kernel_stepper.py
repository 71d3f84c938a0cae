"""The kernel stepper in a real browser: as an exported page, and in JupyterLab."""

from __future__ import annotations

import io
import re

import numpy as np
import pytest
from PIL import Image

from cascade_lab.viz.palette import ORANGE, SKY
from cascade_lab.widgets.kernel_moments import moments
from cascade_lab.widgets.kernel_stepper import KernelStepper
from cascade_lab.widgets.kernel_text import arrivals, describe_step, fill
from cascade_lab.widgets.kernel_trace import KernelTrace, stored_trace
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

pytestmark = pytest.mark.browser

INPUT_X, INPUT_Y = 2, 2.8  # where the maps begin, in cells, when they stand side by side
FORWARD = {"output": (10, 2.8), "across": 16.3}
BACKWARD = {"grad_input": (10, 2.8), "grad_output": (17.1, 2.8), "across": 23.4}


@pytest.fixture(scope="module")
def trace() -> KernelTrace:
    return stored_trace()


def settle(page, wanted: str) -> None:
    """Wait until the page has painted "forward:thread:step"."""
    page.wait_for_function("w => document.querySelector('[data-painted]').dataset.painted === w", arg=wanted)


def panel(page) -> list[str]:
    return [page.locator(".ks-panel h3").inner_text(), *page.locator(".ks-arithmetic p").all_inner_texts()]


def told(trace: KernelTrace, thread: int, step: int, backward: bool = False) -> list[str]:
    return describe_step(trace, thread, step, backward=backward).splitlines()[1:]


def spot(page, across: float, column: float, row: float) -> tuple[float, float]:
    """Return a place on the canvas, given in cells, in pixels of the page."""
    area = page.locator(".cl-canvas").bounding_box()
    return area["x"] + column * area["width"] / across, area["y"] + row * area["width"] / across


def colour(page, across: float, column: float, row: float) -> np.ndarray:
    page.evaluate("scrollTo(0, 0)")
    picture = np.asarray(Image.open(io.BytesIO(page.screenshot())).convert("RGB"))
    x, y = spot(page, across, column, row)
    return picture[int(y), int(x)].astype(int)


def over_white(name: str, alpha: float) -> np.ndarray:
    rgb = np.array([int(name[i : i + 2], 16) for i in (1, 3, 5)])
    return rgb * alpha + 255 * (1 - alpha)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_every_step_says_what_python_says(open_page, trace, backward):
    thread = trace.thread_of(1, 4, 1)
    page = open_page(KernelStepper(trace, row=1, column=4, group=1, backward=backward))
    name = "backward" if backward else "forward"
    page.get_by_label("Step", exact=True).focus()
    for step in range(len(moments(backward))):
        settle(page, f"{name}:{thread}:{step}")
        assert panel(page) == told(trace, thread, step, backward)
        marked = page.locator(".ks-line[aria-current]").first
        where = describe_step(trace, thread, step, backward=backward).splitlines()[0]
        assert f"line {marked.get_attribute('data-number')}: {marked.inner_text().strip()}" in where
        page.keyboard.press("n")


def test_the_marked_line_is_in_sight(open_page, trace):
    page = open_page(KernelStepper(trace))
    inside = """() => { const line = document.querySelector(".ks-line[aria-current]").getBoundingClientRect();
        const box = document.querySelector(".ks-source").getBoundingClientRect();
        return line.top >= box.top && line.bottom <= box.bottom }"""
    for step in (0, 9, 12, 30, 81):
        page.get_by_label("Step", exact=True).fill(str(step))
        rest(page)
        assert page.evaluate(inside)


def test_slider_buttons_and_keys(open_page, trace, tmp_path):
    page = open_page(KernelStepper(trace, row=2, column=2))
    before, slider = pixels(page), page.get_by_label("Step", exact=True)
    slider.focus()
    assert pixels(page) == before, "the focus alone must not change the picture"
    for key, wanted in (("ArrowRight", 1), ("PageDown", 9), ("PageDown", 17), ("ArrowLeft", 16),
                        ("PageUp", 9), ("End", 81), ("ArrowRight", 81), ("Home", 0), ("p", 0)):  # fmt: skip
        page.keyboard.press(key)
        settle(page, f"forward:28:{wanted}")
    for label, wanted in (("Next point", 9), ("Next step", 10), ("Next point", 17), ("Previous step", 16),
                          ("Previous point", 9)):  # fmt: skip
        page.get_by_role("button", name=label).click()
        settle(page, f"forward:28:{wanted}")
    assert pixels(page) != before
    area = slider.bounding_box()
    page.mouse.click(area["x"] + area["width"] / 2, area["y"] + area["height"] / 2)
    page.wait_for_function("() => Math.abs(+document.querySelector('.cl-slider').value - 40) <= 1")
    screenshot(page, "stepper_light_forward", tmp_path)


def test_the_keyboard_chooses_thread_group_and_kernel(open_page, trace):
    page = open_page(KernelStepper(trace, row=2, column=2, step=9))
    page.locator(".cl-canvas").focus()
    for key, place in (("ArrowRight", (2, 3, 0)), ("ArrowDown", (3, 3, 0)), ("g", (3, 3, 1)),
                       ("ArrowLeft", (3, 2, 1)), ("ArrowUp", (2, 2, 1)), ("g", (2, 2, 0))):  # fmt: skip
        page.keyboard.press(key)
        settle(page, f"forward:{trace.thread_of(*place)}:9")
        x, y, z = trace.threads[trace.thread_of(*place)]
        row, column, _ = place
        wanted = f"thread ({x}, {y}, {z}) of block (0, 0, 0): output row {row}, column {column}"
        assert page.locator(".ks-head .ks-where").inner_text() == wanted
    page.keyboard.press("b")
    settle(page, "backward:28:0")
    assert page.get_by_role("button", name="backward").get_attribute("aria-pressed") == "true"
    page.get_by_label("Group of channels").select_option("1")
    settle(page, "backward:29:0")


def test_a_click_on_an_output_follows_its_thread(open_page, trace):
    page = open_page(KernelStepper(trace))
    (x, y), across = FORWARD["output"], FORWARD["across"]
    page.mouse.click(*spot(page, across, x + 4.5, y + 3.5))
    settle(page, f"forward:{trace.thread_of(3, 4)}:0")
    page.mouse.click(*spot(page, across, INPUT_X + 1.5, INPUT_Y + 1.5))  # the input belongs to nobody
    rest(page)
    settle(page, f"forward:{trace.thread_of(3, 4)}:0")
    page.get_by_role("button", name="backward").click()
    settle(page, f"backward:{trace.thread_of(3, 4)}:0")  # the maps have changed places
    (x, y), across = BACKWARD["grad_output"], BACKWARD["across"]
    page.mouse.click(*spot(page, across, x + 0.5, y + 1.5))
    settle(page, f"backward:{trace.thread_of(1, 0)}:0")


@pytest.mark.parametrize("corner", range(4))
def test_the_pixel_that_is_read_is_the_marked_one(open_page, trace, corner):
    """Colours of the canvas, at places in a cell where nothing else is drawn."""
    thread = trace.thread_of(2, 3)
    page = open_page(KernelStepper(trace, row=2, column=3, step=13 + corner))
    for other, element in enumerate(trace.reads[thread, 0]):
        row, column = divmod(int(element) // trace.input.shape[2], trace.size[1])
        found = colour(page, FORWARD["across"], INPUT_X + column + 0.86, INPUT_Y + row + 0.14)
        wanted = over_white(ORANGE, 0.55) if other == corner else over_white(SKY, 0.28)
        assert np.abs(found - wanted).max() <= 3, (other, found, wanted)


def test_the_running_sum_stands_in_the_output(open_page, trace):
    thread = trace.thread_of(2, 2)
    page = open_page(KernelStepper(trace, row=2, column=2, step=81))
    cells = page.locator(".ks-panel table").first.locator("tbody tr")
    assert cells.count() == 9
    for point, row in enumerate(cells.all()):
        x, y, m, total = row.locator("td").all_inner_texts()
        expected = (*trace.points[thread, point], trace.modulation[thread, point], trace.sums[thread, point])
        assert [float(v) for v in (x, y, m, total)] == pytest.approx([float(v) for v in expected], abs=0.0051)
    page.get_by_label("Step", exact=True).fill("16")  # the last read of point 0
    rest(page)
    totals = [row.locator("td").last.inner_text() for row in cells.all()]
    assert totals == [fill("{s:4}", {"s": float(trace.sums[thread, 0])}), *["·"] * 8], (
        "nothing is told too early"
    )


def test_numbers_are_told_when_their_line_has_run(open_page, trace):
    page = open_page(KernelStepper(trace, row=2, column=2, backward=True))
    asks = ("Where does this point", "Where does this point", "Softmax", "Should the point move?")
    asks = (*asks, "Should the point move?", "Should the point count", "Through the softmax")  # a column each
    titles = [moment.title for moment, _ in moments(True)]
    first = [next(i for i, title in enumerate(titles) if title.startswith(ask)) for ask in asks]
    row = page.locator(".ks-points tbody tr").first
    for step in (*range(7, 16), len(titles) - 1):
        page.get_by_label("Step", exact=True).fill(str(step))
        settle(page, f"backward:{trace.thread_of(2, 2)}:{step}")
        told = [text != "·" for text in row.locator("td").all_inner_texts()]
        assert told == [step >= begin for begin in first], step


def test_the_panel_tells_who_meets_in_a_cell(open_page, trace, tmp_path):
    thread, point, corner = trace.thread_of(2, 3), 1, 2
    step = next(i for i, (m, k) in enumerate(moments(True)) if k == point and m.corner == corner)
    page = open_page(KernelStepper(trace, row=2, column=3, step=step, backward=True))
    element = int(trace.adds[thread, point, corner])
    meeting = arrivals(trace, element)
    head = page.locator(".cl-headline").inner_text()
    threads = {one.thread for one in meeting}
    assert re.match(rf"{len(meeting)} additions by {len(threads)} threads meet in row", head)
    assert fill("their sum is {s:4}.", {"s": float(trace.grad_input.ravel()[element])}) in head
    own = page.locator(".ks-meeting tbody tr").first
    name, _, which, value = own.locator("th, td").all_inner_texts()
    assert (name, which) == ("▶ row 2, column 3", "lower left")
    assert float(value) == pytest.approx(trace.weights[thread, point, corner] * trace.grads[thread], abs=6e-5)
    x, y = BACKWARD["grad_output"]
    for one in threads - {thread}:  # their outputs are tinted
        row, column = trace.places[one, :2]
        found = colour(page, BACKWARD["across"], x + column + 0.12, y + row + 0.88)
        assert np.abs(found - over_white(SKY, 0.32)).max() <= 3
    screenshot(page, "stepper_light_backward", tmp_path)


def test_tab_reaches_every_control_in_reading_order(open_page, trace):
    page = open_page(KernelStepper(trace, step=20))
    reached = []
    for _ in range(12):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
    names = [name.strip() for _, name, _ in reached]
    order = [
        "forward",
        "backward",
        "Group of channels",
        "Forward, output row 0",
        "Previous point",
        "Previous step",
    ]
    order += ["Step", "Next step", "Next point", "Source of the kernel", "Keyboard"]
    places = [next(i for i, name in enumerate(names) if name.startswith(wanted)) for wanted in order]
    assert places == list(range(len(order)))
    assert all(suppressed == "true" for *_, suppressed in reached[: len(order)]), (
        "JupyterLab would take its keys"
    )


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_themes_are_legible(open_page, trace, tmp_path, scheme, backward):
    step = 25 if backward else 12
    viewer = KernelStepper(trace, row=2, column=3, step=step, backward=backward)
    page = open_page(viewer, color_scheme=scheme, device_scale_factor=2)
    paper = luminance(
        page.evaluate("getComputedStyle(document.querySelector('.cascade-lab')).backgroundColor")
    )
    assert (paper > 0.8) if scheme == "light" else (paper < 0.1)
    for selector in (".ks-panel h3", ".ks-arithmetic p", ".cl-hint", ".ks-where", ".cl-help", ".ks-later td"):
        assert contrast(page, selector) >= 4.5, selector
    assert contrast(page, ".ks-line", ".ks-source") >= 4.5
    assert contrast(page, ".ks-line[aria-current]", ".ks-line[aria-current]") >= 7
    screenshot(page, f"stepper_{scheme}_{'backward' if backward else 'forward'}_dense", tmp_path)


def test_the_canvas_follows_the_theme(open_page, trace):
    page = open_page(KernelStepper(trace, step=12), color_scheme="light")
    light = pixels(page)
    page.emulate_media(color_scheme="dark")
    assert pixels(page) != light
    page.emulate_media(color_scheme="light")
    assert pixels(page) == light


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_narrow_window_needs_no_sideways_scrolling(open_page, trace, tmp_path, backward):
    viewer = KernelStepper(trace, row=2, column=2, step=25, backward=backward)
    page = open_page(viewer, viewport={"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    screenshot(page, f"stepper_light_narrow_{'backward' if backward else 'forward'}", tmp_path)


@pytest.mark.parametrize("backward", [False, True], ids=["forward", "backward"])
def test_it_follows_the_hand(open_page, trace, backward):
    page = open_page(KernelStepper(trace, row=2, column=2, backward=backward))
    times = step_times(page, ".cl-slider", [(i * 7) % 80 + 1 for i in range(40)], "kernel stepper")
    assert np.median(times) < 100


@pytest.mark.slow
def test_notebook_in_jupyterlab(open_notebook, tmp_path):
    page = open_notebook("03_the_cuda_kernel.ipynb", ".kernel-stepper")
    stepper = page.locator(".kernel-stepper").first
    stepper.locator(".cl-slider").focus()
    for _ in range(3):
        page.keyboard.press("ArrowRight")  # JupyterLab would like these keys for itself
    settle(page, "forward:28:3")
    stepper.locator(".cl-canvas").focus()
    for key in ("ArrowDown", "b"):  # in a notebook, B makes a new cell
        page.keyboard.press(key)
    settle(page, "backward:40:0")
    screenshot(page, "stepper_jupyterlab", tmp_path)
    for _ in range(50):  # what the reader did reaches the kernel when the hand rests
        if page.evaluate(ASK_KERNEL, ASK) == "True 40 0":
            break
        page.wait_for_timeout(100)
    assert page.evaluate(ASK_KERNEL, ASK) == "True 40 0"


ASK = "print(stepper.backward, stepper.thread, stepper.step, end='')"
