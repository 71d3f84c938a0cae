"""The training viewer in a real browser: a recorded run as a page, and a live one in JupyterLab.

To keep the screenshots: CASCADE_LAB_SCREENSHOTS=DIR pytest -m browser tests/browser -s
"""

from __future__ import annotations

import json
import re
from itertools import takewhile
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch

from cascade_lab.widgets.moments import FILE, main, read_moments, saved_steps
from cascade_lab.widgets.training_story import read_story
from cascade_lab.widgets.training_viewer import TrainingViewer
from tests.browser.pages import ASK_KERNEL, FOCUSED, contrast, pixels, rest, screenshot, step_times
from tests.widgets import made_up_run

pytestmark = [
    pytest.mark.browser,
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools
]

# Run code in the kernel without waiting for it; ask whether it still runs.
RUN_BESIDE = """code => { const kernel = jupyterapp.shell.currentWidget.sessionContext.session.kernel;
    window.beside = kernel.requestExecute({ code, store_history: false }); }"""
STILL_RUNS = (
    "() => Promise.race([window.beside.done.then(() => false), new Promise((d) => setTimeout(d, 50, true))])"
)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Path:
    torch.set_num_threads(1)
    run = made_up_run.write_run(tmp_path_factory.mktemp("training"), pictures=4)
    assert main([str(run), "--pictures", "2", "--measure", "4"]) == 0
    return run


def viewer_of(run: Path, **traits) -> TrainingViewer:
    viewer = TrainingViewer(run)
    for name, value in traits.items():
        setattr(viewer, name, value)
    return viewer


def table(page) -> dict[str, list[str]]:
    rest(page)
    rows = page.locator(".tv-left tbody tr").all()
    return {row.get_attribute("data-mode"): row.locator("td").all_inner_texts() for row in rows}


def shown_step(page) -> str:
    rest(page)
    return page.locator(".cl-status strong").first.inner_text()


def headline(page) -> str:
    rest(page)
    return page.locator(".training-viewer .tv-head strong").first.text_content()


def test_table_says_what_the_run_folder_says(open_page, run):
    page = open_page(viewer_of(run, moment=1))
    losses = {(line.part, line.name): line.smooth for line in read_story(run).lines}
    moment = read_moments(run)[1]
    shown = table(page)
    assert list(shown) == ["1", "2", "3", "1~3"]
    for one in moment.scores:
        if one.mode not in shown:
            continue
        cls, box, mask, *aps = shown[one.mode]
        values = [one.ap, one.ap50, one.ap75, one.mask_ap]
        assert [float(text) for text in aps] == pytest.approx(values, abs=0.051)
        if "~" in one.mode:
            assert (cls, box, mask) == ("", "", "")
            continue
        name = f"stage {one.mode}"
        place = moment.step - 1  # every step is in this log
        assert float(cls) == pytest.approx(losses["classification", name][place], abs=0.0051)
        assert float(box) == pytest.approx(losses["boxes", name][place], abs=0.0051)
        assert mask == "–", "this log has no mask losses"


def test_arrow_keys_scrub_through_the_checkpoints(open_page, run, tmp_path):
    page = open_page(viewer_of(run))
    assert shown_step(page) == "step 30"
    newest = pixels(page)
    page.locator(".cl-slider").focus()
    assert pixels(page) == newest, "the focus alone must not change the picture"
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")
    assert shown_step(page) == "step 10" and pixels(page) != newest
    page.locator(".cl-canvas").focus()
    page.keyboard.press("ArrowRight")
    assert shown_step(page) == "step 20"
    page.keyboard.press("End")
    assert shown_step(page) == "step 30" and pixels(page) == newest
    screenshot(page, "training_light", tmp_path)


def test_boxes_are_those_above_the_threshold(open_page, run):
    found = read_moments(run)[-1].found[0]
    for threshold in (0.1, 0.6):
        page = open_page(viewer_of(run, threshold=threshold))
        count = sum(score >= threshold for score in found.scores)
        words = page.locator(".cl-status").inner_text()
        assert f"{count} box" in words
    assert page.get_by_label("Least score").input_value() == "0.6"


def test_boxes_are_drawn_where_the_run_found_them(open_page, run):
    """The middle of every edge of the surest box differs from the same pixel without boxes."""
    x1, y1, x2, y2 = read_moments(run)[-1].found[0].boxes[0]
    middle = [[(x1 + x2) / 2, y1], [(x1 + x2) / 2, y2], [x1, (y1 + y2) / 2], [x2, (y1 + y2) / 2]]
    colors = []
    for threshold in (1.0, read_moments(run)[-1].found[0].scores[0] - 1e-6):
        page = open_page(viewer_of(run, threshold=threshold))
        colors.append(
            page.locator(".cl-canvas").evaluate(
                """(canvas, points) => { const c = canvas.getContext("2d"), s = canvas.width / 128;
                return points.map(([x, y]) => [...c.getImageData(x * s, y * s, 1, 1).data]) }""",
                middle,
            )
        )
    for without, there in zip(*colors, strict=True):
        assert np.abs(np.array(without) - there).max() > 30


def test_controls_change_the_charts(open_page, run):
    page = open_page(viewer_of(run))
    losses, ap = pixels(page, ".tv-chart"), pixels(page, ".tv-box:nth-of-type(4) .tv-chart")
    page.get_by_label("logarithmic").press("Space")
    logarithmic = pixels(page, ".tv-chart")
    assert logarithmic != losses
    page.locator(".cl-canvas").focus()
    page.keyboard.press("l")
    assert pixels(page, ".tv-chart") == losses
    page.get_by_label("Which losses").select_option("gradient norm")
    assert pixels(page, ".tv-chart") not in (losses, logarithmic)
    said = page.locator(".tv-chart").first.get_attribute("aria-label")
    assert said == "gradient norm over the steps, at the end gradient norm 4"
    page.get_by_label("Which AP").select_option("AP50")
    assert pixels(page, ".tv-box:nth-of-type(4) .tv-chart") != ap
    best = read_moments(run)[-1].scores[-1].ap50
    assert f"stages 1~3 {best:.1f}" in page.locator(".tv-chart").nth(1).get_attribute("aria-label")


def test_a_click_on_a_chart_goes_to_the_nearest_checkpoint(open_page, run):
    page = open_page(viewer_of(run))
    area = page.locator(".tv-chart").first.bounding_box()
    page.mouse.click(area["x"] + 48 + (area["width"] - 136) * 12 / 30, area["y"] + 100)
    assert shown_step(page) == "step 10"


def test_another_picture(open_page, run):
    page = open_page(viewer_of(run))
    before = pixels(page)
    page.get_by_role("button", name="picture 2").click()
    assert pixels(page) != before
    page.keyboard.press("n")
    assert pixels(page) == before


def test_plays_through_the_checkpoints(open_page, run):
    page = open_page(viewer_of(run))
    page.get_by_role("button", name="Play through").click()
    assert shown_step(page) == "step 10"
    page.wait_for_function(
        "() => document.querySelector('.cl-status strong').innerText === 'step 30'", timeout=9000
    )
    page.wait_for_function("() => document.querySelector('.cl-play').innerText.includes('▶')", timeout=9000)


def test_a_page_offers_no_buttons_that_nobody_hears(open_page, run):
    viewer = viewer_of(run)
    viewer.state = "training"
    page = open_page(viewer)
    assert page.get_by_role("button", name="Pause and save").count() == 0
    assert "step 30 of 30" in page.locator(".tv-head").inner_text()


class LiveViewer(TrainingViewer):
    """A page that believes to have a kernel: it notes what it sends, and the test sets what comes back."""

    def fragment(self) -> str:
        heard = "window.model = model; model.send = (content) => (window.sent ??= []).push(content.wish);"
        call = "render({ model, el: document"
        return super().fragment().replace(call, f"{heard}\n{call}")


@pytest.mark.parametrize("width", [1280, 420])
def test_buttons_ask_once_and_keep_the_focus(open_page, run, tmp_path, width):
    viewer = LiveViewer(run)
    viewer.state = "training"
    page = open_page(viewer, viewport={"width": width, "height": 900})
    pause, stop = (page.locator(".tv-controls button").nth(k) for k in (0, 1))
    pause.focus()
    page.keyboard.press("Enter")
    assert headline(page).startswith("asked to pause · step 30 of 30")
    assert page.locator("[aria-live]").inner_text() == "asked to pause"
    page.evaluate("model.set('state', 'pausing')")
    assert headline(page).startswith("finishing the step, then pausing")
    assert [button.get_attribute("aria-disabled") for button in (pause, stop)] == ["true", "false"]
    page.keyboard.press("Enter")
    assert page.evaluate("sent") == ["pause"], "while it pauses there is nothing to pause"
    page.evaluate("model.set('state', 'paused')")
    rest(page)
    assert pause.inner_text() == "Go on"
    screenshot(page, f"training_buttons_{width}", tmp_path)
    page.keyboard.press("Enter")
    stop.click()
    assert page.evaluate("sent") == ["pause", "go on", "stop"]
    page.evaluate("model.set('state', 'finished')")
    rest(page)
    assert [button.get_attribute("aria-disabled") for button in (pause, stop)] == ["true", "true"]
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_before_the_first_checkpoint(open_page, run, tmp_path):
    (tmp_path / "recipe.json").write_text((run / "recipe.json").read_text())
    page = open_page(viewer_of(tmp_path))
    assert "appears with the first checkpoint" in page.locator(".tv-left").inner_text()
    assert page.locator(".cl-slider").is_disabled()
    (tmp_path / "metrics.jsonl").write_text(json.dumps({"step": 1, "loss": 3.0, "seconds": 1.0}) + "\n")
    (tmp_path / FILE).write_text("")
    assert "step 1 of 30" in open_page(viewer_of(tmp_path)).locator(".tv-head").inner_text()


def test_tab_reaches_every_control_in_reading_order(open_page, run):
    page = open_page(viewer_of(run))
    reached = []
    for _ in range(20):
        page.keyboard.press("Tab")
        reached.append(page.evaluate(FOCUSED))
        if str(reached[-1][1]).startswith("Keyboard"):
            break
    names = [str(name).strip() for _, name, _ in reached]
    order = ["Which losses", "logarithmic", "Which AP", "picture 1", "picture 2", "picture 1, step 30"]
    order += ["Play through", "Checkpoint", "Least score", "Keyboard"]
    at = 0
    for wanted in order:
        at = next(i for i in range(at, len(names)) if names[i].startswith(wanted)) + 1
    assert all(suppressed == "true" for *_, suppressed in reached), "JupyterLab would take its keys"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_themes_are_legible(open_page, run, tmp_path, scheme):
    page = open_page(viewer_of(run, moment=1, log_scale=True), color_scheme=scheme)
    for selector in (
        ".tv-head strong",
        ".cl-status strong",
        ".tv-left td",
        ".cl-hint",
        ".cl-help",
        ".tv-truth",
    ):
        assert contrast(page, selector) >= 4.5, selector
    screenshot(page, f"training_{scheme}_log", tmp_path)


def test_narrow_window_needs_no_sideways_scrolling(open_page, run, tmp_path):
    page = open_page(viewer_of(run), viewport={"width": 420, "height": 900})
    assert page.evaluate("document.documentElement.scrollWidth") <= 420
    hidden = "table => table.scrollWidth - table.clientWidth"
    assert page.locator(".tv-left .cl-scroll").evaluate(hidden) == 0, "a column is out of sight"
    screenshot(page, "training_narrow", tmp_path)


def test_the_checkpoints_follow_the_hand(open_page, run):
    made_up_run.write_metrics(run, steps=2000)
    page = open_page(viewer_of(run, part="classification"))
    times = step_times(page, ".cl-slider", [i % 3 for i in range(30)], "training viewer, 2000 logged steps")
    made_up_run.write_metrics(run)
    assert np.median(times) < 100


def wait_for(page, words: str) -> int:
    """Wait until the headline matches ``words``; return the step that it names, 0 before the first."""
    said = "words => document.querySelector('.training-viewer .tv-head strong').textContent.match(words)"
    page.wait_for_function(said, arg=words)
    step = re.search(r"step (\d+)", headline(page))
    return int(step[1]) if step else 0


@pytest.mark.slow
def test_pause_go_on_and_stop_while_it_trains(open_notebook, lab_notebooks: Path, tmp_path):
    """The cells of the notebook up to the viewer, and then what a reader may do while it trains."""
    pytest.importorskip("ipykernel", minversion="7", reason="before, no cell lets a message in between")
    notebook = nbformat.read(lab_notebooks / "09_train_it.ipynb", as_version=4)
    before = list(takewhile(lambda cell: "TrainingViewer(" not in cell.source, notebook.cells))
    notebook.cells = notebook.cells[: len(before) + 1]
    nbformat.write(notebook, lab_notebooks / "09_first_cells.ipynb")
    page = open_notebook("09_first_cells.ipynb", ".training-viewer", seconds=180)
    page.set_default_timeout(240_000)  # a crowded machine may train slowly
    run = Path(page.evaluate(ASK_KERNEL, "print(training.run, end='')"))
    first = wait_for(page, r"^training · step \d+ of 125 · \d+ \w+ left$")

    go_on = tmp_path / "go_on"
    until = f"while not Path({str(go_on)!r}).exists():"
    page.evaluate(RUN_BESIDE, f"{until} pass")
    wait_for(page, rf"^training · step (?!{first} )")
    assert page.evaluate(STILL_RUNS), "the viewer moves while a cell computes"
    go_on.touch()
    page.wait_for_function("() => window.beside.done.then(() => true)")
    go_on.unlink()

    page.evaluate(RUN_BESIDE, f"import asyncio\n{until} await asyncio.sleep(0.1)")
    page.get_by_role("button", name="Pause and save").click()
    paused = wait_for(page, "^paused; all is saved")
    assert page.evaluate(STILL_RUNS), "a cell that awaits lets the buttons in between"
    go_on.touch()
    saved = saved_steps(run)[-1]
    assert saved - paused in (0, 1) and saved < 125, "every second step is in the log"
    screenshot(page, "training_live_light", tmp_path)

    page.keyboard.press("Enter")  # the button has kept the focus; JupyterLab would like this key for itself
    wait_for(page, rf"^training · step (?!{paused} )")
    page.get_by_role("button", name="Stop and save").click()
    stopped = wait_for(page, "^stopped; all is saved")
    assert stopped > saved and saved_steps(run)[-1] - stopped in (0, 1)
    assert page.evaluate(ASK_KERNEL, "print(training.state, end='')") == "stopped"
    page.evaluate("jupyterapp.commands.execute('apputils:change-theme', { theme: 'JupyterLab Dark' })")
    page.wait_for_function("() => document.body.dataset.jpThemeLight === 'false'")
    page.wait_for_selector("#jupyterlab-splash", state="detached")  # it covers the page meanwhile
    assert contrast(page, ".tv-head strong") >= 4.5
    screenshot(page, "training_live_dark", tmp_path)


@pytest.mark.slow
def test_notebook_in_jupyterlab(open_notebook, tmp_path):
    """All cells have run when the fixture returns: the live viewer has seen the end, the last one replays."""
    page = open_notebook("09_train_it.ipynb", ".training-viewer", seconds=180)
    assert re.match(r"(finished|stopped; all is saved) · step \d+ of 125", headline(page)), headline(page)
    replay = page.locator(".training-viewer").last
    assert replay.locator(".tv-head strong").text_content().startswith("a recorded run · step")
    assert replay.locator(".tv-controls button").count() == 0
    newest = replay.locator(".cl-status strong").text_content()
    assert re.fullmatch(r"step \d+", newest) and replay.locator("tbody tr").count() == 4
    replay.locator(".cl-slider").press("Home")
    rest(page)
    assert replay.locator(".cl-status strong").text_content() == "step 25" != newest
    screenshot(page, "training_jupyterlab", tmp_path)
