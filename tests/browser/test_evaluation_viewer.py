"""The evaluation viewer in a real browser: as an exported page, and in JupyterLab.

To keep the screenshots: CASCADE_LAB_SCREENSHOTS=DIR pytest -m browser tests/browser -s
"""

from __future__ import annotations

import re

import numpy as np
import pytest

from cascade_lab.evaluation.errors import ERRORS, Kind, box_overlaps
from cascade_lab.learn.course import course_pictures, course_run
from cascade_lab.learn.course_evaluation import course_detections
from cascade_lab.widgets.evaluation_cases import CHARTS
from cascade_lab.widgets.evaluation_viewer import EvaluationViewer
from cascade_lab.widgets.stored_evaluation import EvaluationView, evaluation_view
from tests.browser.pages import FOCUSED, LATENCY, contrast, luminance, pixels, rest, screenshot, step_times
from tests.widgets.made_up_evaluation import made_up_evaluation

pytestmark = pytest.mark.browser


@pytest.fixture(scope="module")
def view() -> EvaluationView:
    return made_up_evaluation()


def painted(page) -> list[str]:
    rest(page)
    return page.locator("[data-painted]").get_attribute("data-painted").split(":")


def shown(page) -> tuple[int, int]:
    """Return how many pictures and boxes stand behind the chosen item, as the page counts them."""
    pictures = int(painted(page)[-1])
    return pictures, int(page.locator("[data-painted]").get_attribute("data-boxes"))


def expected(viewer: EvaluationViewer) -> tuple[int, int]:
    found = viewer.cases()
    return len(found), sum(len(case.detections) + len(case.objects) for case in found)


def place(page) -> str:
    rest(page)
    return page.locator(".ev-walk strong").inner_text()


@pytest.mark.parametrize("chart", CHARTS)
@pytest.mark.parametrize(
    "stages, class_filter, iou, threshold", [("1", "", 50, 0.3), ("1~2", "fork", 75, 0.62)]
)
def test_every_item_shows_what_python_says(open_page, view, chart, stages, class_filter, iou, threshold):
    viewer = EvaluationViewer(view, chart=chart)
    viewer.stages, viewer.class_filter, viewer.iou, viewer.threshold = stages, class_filter, iou, threshold
    page = open_page(viewer)
    page.locator(".cl-canvas").first.focus()
    items = {"errors": 6, "confusion": 16, "precision": 101, "iou": 10, "pictures": 6}[chart]
    step = 7 if chart == "precision" else 1
    for item in range(0, items, step):
        viewer.item = item
        assert painted(page)[5] == str(item)
        assert shown(page) == expected(viewer), f"{chart} {item}"
        found = viewer.cases()
        if found:
            assert place(page).split(", ")[0] == view.names[found[0].picture]
            boxes = page.locator(".ev-list li").count()
            assert boxes == len(found[0].detections) + len(found[0].objects)
        for _ in range(step):
            page.keyboard.press("ArrowRight")


def test_numbers_of_the_charts_are_those_of_python(open_page, view):
    viewer = EvaluationViewer(view)
    page, reading = open_page(viewer), view.readings["1~2"]
    page.locator(".cl-canvas").first.focus()
    for kind in ERRORS:
        told = page.locator(".cl-headline").inner_text().split("change by ")[1].split(" ")[0]
        gain = float(told.replace("\N{MINUS SIGN}", "-"))
        assert gain == pytest.approx(reading.errors[0].gain(kind), abs=0.051)
        page.keyboard.press("ArrowDown")
        rest(page)
    page.keyboard.press("2")
    rest(page)
    matrix = reading.confusion.matrix(0.3)
    for item in range(16):
        first = re.search(r"\d+", page.locator(".cl-headline").inner_text())
        assert item == 15 or int(first[0]) == matrix.flat[item]
        page.keyboard.press("ArrowRight")
        rest(page)
    page.keyboard.press("4")
    rest(page)
    for ap in reading.curves.ap():
        assert float(
            re.search(r"is ([\d.]+):", page.locator(".cl-headline").inner_text())[1]
        ) == pytest.approx(ap, abs=0.051)
        page.keyboard.press("ArrowRight")
        rest(page)
    page.keyboard.press("3")
    page.get_by_label("IoU", exact=True).select_option("70")
    page.locator(".cl-canvas").first.focus()
    for _ in range(30):
        page.keyboard.press("ArrowRight")
    rest(page)
    told = [float(v) for v in re.findall(r"\d\.\d\d", page.locator(".cl-headline").inner_text())]
    assert told == pytest.approx([0.30, reading.curves.precision_at(4)[30]], abs=0.0051)
    legend = page.locator(".ev-legend span").all_inner_texts()
    aps = [view.readings[mode].curves.ap()[4] for mode in ("1", "1~2")]
    assert [float(text.split()[-1]) for text in legend] == pytest.approx(aps, abs=0.051)


def test_a_click_chooses_and_the_arrows_walk(open_page, view, tmp_path):
    viewer = EvaluationViewer(view)
    page = open_page(viewer)
    area = page.locator(".cl-canvas").first.bounding_box()
    before = pixels(page, ".ev-photo")
    page.mouse.click(area["x"] + 100, area["y"] + 8 + 2.5 * (area["height"] - 16) / 6)
    viewer.item = 2
    assert painted(page)[5] == "2" and shown(page) == expected(viewer)
    page.wait_for_timeout(300)
    assert pixels(page, ".ev-photo") != before
    pictures = [case.picture for case in viewer.cases()]
    assert len(pictures) > 2
    for picture in (*pictures[1:], pictures[0]):
        page.get_by_role("button", name="Next picture").click()
        assert place(page).startswith(view.names[picture])
    page.get_by_role("button", name="Previous picture").click()
    assert place(page).startswith(view.names[pictures[-1]])
    screenshot(page, "evaluation_click", tmp_path)


def test_keyboard_alone(open_page, view):
    page = open_page(EvaluationViewer(view))
    chart = page.locator(".cl-canvas").first
    chart.focus()
    for key, name in zip("12345", CHARTS, strict=True):
        page.keyboard.press(key)
        assert painted(page)[0] == name
    page.keyboard.press("1")
    for key, item in (("End", 5), ("ArrowDown", 5), ("ArrowUp", 4), ("Home", 0), ("ArrowUp", 0)):
        page.keyboard.press(key)
        assert painted(page)[5] == str(item), key
    page.keyboard.press("2")
    page.keyboard.press("ArrowDown")
    assert painted(page)[5] == "4", "a row down"
    page.keyboard.press("1")
    rest(page)
    page.keyboard.press("Enter")
    assert "ev-photo" in page.evaluate(FOCUSED)[0]
    first = place(page)
    page.keyboard.press("ArrowRight")
    assert place(page) != first
    page.keyboard.press("p")
    assert place(page) == first
    page.keyboard.press("Escape")
    assert page.evaluate("document.activeElement === document.querySelector('.cl-canvas')")


def test_what_is_spoken_follows(open_page, view):
    page = open_page(EvaluationViewer(view))
    chart = page.locator(".cl-canvas").first
    chart.focus()
    page.keyboard.press("ArrowDown")
    rest(page)
    words = page.locator(".cl-headline").inner_text()
    assert words.startswith("Too loose") and words[1:-1] in chart.get_attribute("aria-label")
    assert place(page).split(",")[0] in page.locator(".ev-photo").get_attribute("aria-label")
    for speaking in (".cl-headline", ".ev-walk strong"):
        assert page.locator(speaking).get_attribute("aria-live") == "polite"


def test_a_missed_object_names_the_box_that_comes_closest(open_page, view):
    matches = view.readings["1~2"].matches
    viewer = EvaluationViewer(view, item=ERRORS.index(Kind.MISSED))
    viewer.threshold, told = 0.9, []
    page, expected_words = open_page(viewer), []
    for case in viewer.cases():
        told += [text.split("missed: ")[1] for text in page.locator(".ev-list li").all_inner_texts()]
        for m in case.objects:
            name = view.classes[matches.object_labels[m]]
            rivals = np.flatnonzero(
                (matches.picture == case.picture) & (matches.labels == matches.object_labels[m])
            )
            overlaps = box_overlaps(matches.boxes[rivals], matches.object_boxes[[m]])[:, 0]
            best = int(overlaps.argmax()) if len(rivals) else -1
            words = f"closest box scores {matches.scores[rivals[best]]:.2f}, IoU {overlaps[best]:.2f}"
            near = words if len(rivals) and overlaps[best] > 0 else f"no {name} box touches it"
            expected_words.append(f"{name}, {near}")
        page.get_by_role("button", name="Next picture").click()
        rest(page)
    assert told == expected_words and len(told) >= 4


def test_boxes_in_question_have_numbers_on_the_picture_and_below(open_page, view):
    viewer = EvaluationViewer(view, item=1)
    page = open_page(viewer)
    several = len(viewer.cases()[0].detections)
    assert several > 1
    texts = page.locator(".ev-list li").all_inner_texts()
    assert [text.split(" ·")[0].strip() for text in texts] == [str(i + 1) for i in range(several)]
    key = page.locator(".ev-key").inner_text()
    assert "ground truth" in key and "other box, score \N{GREATER-THAN OR EQUAL TO} 0.30" in key


def test_controls_of_a_chart_only(open_page, view):
    page = open_page(EvaluationViewer(view))
    for chart, controls in {
        "errors": {"Class", "IoU", "Least score"}, "confusion": {"Least score"},
        "precision": {"Class", "IoU"}, "iou": {"Class"}, "pictures": {"IoU", "Least score"},
    }.items():  # fmt: skip
        page.locator(f"[data-chart={chart}]").click()
        rest(page)
        visible = {
            n for n in ("Class", "IoU", "Least score") if page.get_by_label(n, exact=True).is_visible()
        }
        assert visible == controls, chart


def test_tab_reaches_every_control_in_reading_order(open_page, view):
    page = open_page(EvaluationViewer(view))
    reached = []
    for _ in range(15):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
        if reached[-1][1] == "Keyboard":
            break
    names = [str(name).strip() for _, name, _ in reached]
    order = [
        "Kinds of error", "Confusion", "Precision and recall", "AP and IoU", "Pictures",
        "Read from", "Class", "IoU", "Least score", "Kinds of error, ",
        "Previous picture", "Next picture", "picture", "Keyboard",
    ]  # fmt: skip
    assert len(names) == len(order)
    assert all(name.startswith(wanted) for name, wanted in zip(names, order, strict=True)), names
    assert all(suppressed == "true" for *_, suppressed in reached), "JupyterLab would take its keys"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes_are_legible(open_page, view, tmp_path, scheme):
    page = open_page(
        EvaluationViewer(view, chart="precision", item=30), color_scheme=scheme, device_scale_factor=2
    )
    paper = luminance(
        page.evaluate("getComputedStyle(document.querySelector('.cascade-lab')).backgroundColor")
    )
    assert (paper > 0.8) if scheme == "light" else (paper < 0.1)
    for selector in (".cl-headline", ".ev-legend span", ".ev-walk strong", ".cl-help", ".ev-list li"):
        assert contrast(page, selector) >= 4.5, selector
    corner = "c => [...c.getContext('2d').getImageData(2, 2, 1, 1).data]"
    red, green, blue, _ = page.locator(".cl-canvas").first.evaluate(corner)
    assert luminance(f"rgb({red}, {green}, {blue})") == pytest.approx(paper, abs=0.02), (
        "the chart's own paper"
    )
    for chart in CHARTS:
        page.locator(f"[data-chart={chart}]").click()
        page.mouse.move(0, 0)
        page.wait_for_timeout(200)
        screenshot(page, f"evaluation_{scheme}_{chart}", tmp_path)


def test_narrow_window_needs_no_sideways_scrolling(open_page, view, tmp_path):
    page = open_page(EvaluationViewer(view), viewport={"width": 420, "height": 900})
    for chart in CHARTS:
        page.locator(f"[data-chart={chart}]").click()
        rest(page)
        assert page.evaluate("document.documentElement.scrollWidth") <= 420
        screenshot(page, f"evaluation_narrow_{chart}", tmp_path)


def test_nothing_to_show_is_said(open_page, view):
    viewer = EvaluationViewer(view)
    viewer.threshold = 1.0
    page = open_page(viewer)
    assert place(page) == "No picture to show" and not page.locator(".ev-photo").is_visible()
    assert page.get_by_role("button", name="Next picture").is_disabled()
    page.get_by_label("Least score").fill("0.3")
    rest(page)
    assert page.locator(".ev-photo").is_visible() and place(page).endswith("pictures")


def test_a_picture_that_goes_hands_the_focus_back_to_the_chart(open_page, view):
    page = open_page(EvaluationViewer(view))
    page.locator(".ev-photo").focus()
    page.get_by_label("Least score").evaluate("e => { e.value = 1; e.dispatchEvent(new Event('input')) }")
    assert painted(page)[-1] == "0"
    assert page.evaluate("document.activeElement === document.querySelector('.cl-canvas')")


def test_forty_pictures_are_small_and_follow_the_hand(open_page, tmp_path):
    course = course_detections(course_run(), course_pictures(8))
    view = evaluation_view(course.annotations, course.stages, course.pictures)
    size = EvaluationViewer(view).to_html(tmp_path / "page.html").stat().st_size
    print(f"\nevaluation viewer: {size / 1e6:.2f} MB for 8 pictures and 5 readings")
    assert size < 3_000_000 * 8 / 40, "40 pictures have to stay below 3 MB"
    page = open_page(EvaluationViewer(made_up_evaluation(3, images=120)))
    values = [(i * 37 % 60) / 100 + 0.1 for i in range(40)]
    page.evaluate(LATENCY, ["[aria-label='Least score']", values[:10]])
    times = step_times(page, "[aria-label='Least score']", values, "evaluation viewer, 120 pictures")
    assert np.median(times) < 100


@pytest.mark.slow
def test_notebook_in_jupyterlab(open_notebook, tmp_path):
    page = open_notebook("10_evaluate_it.ipynb", ".evaluation-viewer", seconds=240)
    chart = page.locator(".evaluation-viewer .cl-canvas").first
    before = pixels(page, ".evaluation-viewer .cl-canvas")
    chart.focus()
    page.keyboard.press("ArrowUp")  # JupyterLab would like these keys for itself
    assert painted(page)[5] == "4" and pixels(page, ".evaluation-viewer .cl-canvas") != before
    page.keyboard.press("3")  # in a notebook it makes a heading
    assert painted(page)[0] == "precision"
    screenshot(page, "evaluation_jupyterlab", tmp_path)
