"""How the browser tests look at a page: its canvas, its focus, its colours, its speed, its kernel.

To keep the screenshots: CASCADE_LAB_SCREENSHOTS=DIR pytest -m browser tests/browser -s
"""

from __future__ import annotations

import os
import re
from pathlib import Path

import numpy as np

TWO_FRAMES = "() => new Promise((done) => requestAnimationFrame(() => requestAnimationFrame(done)))"

FOCUSED = """() => { const e = document.activeElement;
    return [e.className, e.ariaLabel ?? e.labels?.[0]?.innerText ?? e.innerText,
        e.dataset.lmSuppressShortcuts] }"""

# Move a range input and wait until data-painted of the viewer says so; one time a step, in ms.
LATENCY = """async ([selector, values]) => {
  const slider = document.querySelector(selector), times = [];
  const root = document.querySelector("[data-painted]");
  for (const value of values) {
    await new Promise((done) => setTimeout(done, 40 + 17 * Math.random())); // any moment between two frames
    const before = root.dataset.painted, begin = performance.now();
    slider.value = value;
    slider.dispatchEvent(new Event("input", { bubbles: true }));
    while (root.dataset.painted === before) await new Promise(requestAnimationFrame);
    await new Promise((done) => setTimeout(done)); // the frame has gone to the screen
    times.push(performance.now() - begin);
  }
  return times;
}"""

RUN_ALL = """async () => { const w = jupyterapp.shell.currentWidget; await w.context.ready;
    await w.sessionContext.ready; await w.sessionContext.session.kernel.info;
    await jupyterapp.commands.execute("notebook:run-all-cells") }"""

ASK_KERNEL = """async (code) => { let text = "";
    const future = jupyterapp.shell.currentWidget.sessionContext.session.kernel.requestExecute(
        { code, store_history: false });
    future.onIOPub = (message) => { if (message.header.msg_type === "stream") text += message.content.text };
    await future.done; return text }"""


def rest(page) -> None:
    """Wait until what was done has been painted: a viewer paints in the next frame, late or not."""
    page.evaluate(TWO_FRAMES)


def pixels(page, selector: str = ".cl-canvas") -> str:
    """Return the canvas itself: a screenshot would also change with a focus ring."""
    rest(page)
    return page.locator(selector).first.evaluate("canvas => canvas.toDataURL()")


def wait_until_still(page, selector: str = ".cl-canvas") -> None:
    """Wait until the picture, which is decoded in the background, stands on the canvas."""
    page.wait_for_timeout(250)
    seen, before = pixels(page, selector), ""
    while seen != before:
        page.wait_for_timeout(100)
        seen, before = pixels(page, selector), seen


def step_times(page, slider: str, values: list[float], name: str) -> np.ndarray:
    """Return the time from input to picture in ms of every step, and print the median.

    Every value has to change ``data-painted`` of the viewer's root element.
    """
    times = np.array(page.evaluate(LATENCY, [slider, values]))
    print(
        f"\n{name}, input to picture: median {np.median(times):.1f} ms, "
        f"90 % within {np.percentile(times, 90):.1f} ms"
    )
    return times


def screenshot(page, name: str, tmp_path: Path) -> None:
    """Store the whole page as ``name``.png, in CASCADE_LAB_SCREENSHOTS if that is set."""
    folder = Path(os.environ.get("CASCADE_LAB_SCREENSHOTS", tmp_path))
    folder.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=folder / f"{name}.png", full_page=True)


def luminance(color: str) -> float:
    """Return the relative luminance of WCAG 2 of "rgb(r, g, b)"."""
    channels = [int(value) / 255 for value in re.findall(r"\d+", color)[:3]]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels]
    return float(np.dot((0.2126, 0.7152, 0.0722), linear))


def contrast(page, selector: str, paper: str = ".cascade-lab") -> float:
    """Return the contrast (WCAG 2, 1 to 21) of an element's text with the background of the viewer."""
    colors = (
        "s => { const c = getComputedStyle(document.querySelector(s)); return [c.color, c.backgroundColor] }"
    )
    ink, ground = luminance(page.evaluate(colors, selector)[0]), luminance(page.evaluate(colors, paper)[1])
    return (max(ink, ground) + 0.05) / (min(ink, ground) + 0.05)
