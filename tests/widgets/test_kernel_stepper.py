"""The stepper without a browser: its traits, what goes over the wire, its page, and its plain figure."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import traitlets
from matplotlib.backends.backend_agg import FigureCanvasAgg

from cascade_lab.errors import InputError
from cascade_lab.widgets.kernel_figure import draw_steps
from cascade_lab.widgets.kernel_moments import kernel_lines
from cascade_lab.widgets.kernel_stepper import KernelStepper
from cascade_lab.widgets.kernel_text import arrivals, describe_step, numbers
from cascade_lab.widgets.kernel_trace import KernelTrace, stored_trace


@pytest.fixture(scope="module")
def trace() -> KernelTrace:
    return stored_trace()


def test_traits_can_be_set_and_heard(trace: KernelTrace):
    viewer, heard = KernelStepper(trace, row=1, column=2, group=1), []
    viewer.observe(lambda change: heard.append((change["name"], change["new"])), names=["thread", "step"])
    assert viewer.thread == trace.thread_of(1, 2, 1)
    viewer.step = 20
    viewer.thread = 3
    assert heard == [("step", 20), ("thread", 3)]
    assert viewer.panel_text() == describe_step(trace, 3, 20)


def test_the_shorter_kernel_ends_earlier(trace: KernelTrace):
    viewer = KernelStepper(trace, backward=True)
    viewer.step = viewer.last_step
    viewer.backward = False
    assert viewer.step == viewer.last_step < KernelStepper(trace, backward=True).last_step


@pytest.mark.parametrize(
    "trait, value", [("step", -1), ("step", 82), ("thread", 60), ("thread", -1), ("step", "first")]
)
def test_values_out_of_range_are_refused(trace: KernelTrace, trait: str, value: object):
    with pytest.raises(traitlets.TraitError, match=trait):
        setattr(KernelStepper(trace), trait, value)


def test_no_such_output(trace: KernelTrace):
    with pytest.raises(InputError, match="no output at row 7"):
        KernelStepper(trace, row=7)


def test_arrays_go_over_as_raw_little_endian_bytes(trace: KernelTrace):
    payload = KernelStepper(trace)._trace
    for name, values in numbers(trace).items():
        np.testing.assert_array_equal(np.frombuffer(payload["numbers"][name], "<f4"), values.ravel())
        assert (values.ndim == 2) == (name in payload["each_point"])
    for name in ("input", "output", "grad_output", "grad_input"):
        np.testing.assert_array_equal(np.frombuffer(payload[name], "<f4"), getattr(trace, name).ravel())
    for step in (one for every in payload["passes"] for one in every):
        assert 1 <= step["line"] < step["line"] + step["span"] <= len(kernel_lines()) + 1


def test_stepping_sends_only_the_step(trace: KernelTrace):
    viewer = KernelStepper(trace)
    assert len(json.dumps(viewer.get_state(["step", "thread", "backward"]))) < 60


def test_page_holds_everything_and_asks_for_nothing(trace: KernelTrace, tmp_path: Path):
    page = KernelStepper(trace, row=2, step=5).to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 2
    assert not re.search(r"""(src|href)=|@import|url\(|fetch\(|import\(""", page)
    state = json.loads(
        re.search(r'<script type="application/json" id="viewer-\d+-state">(.*?)</script>', page, re.S)[1]
    )
    assert (state["step"], state["thread"], state["backward"]) == (5, 24, False)
    assert state["_trace"]["source"] == kernel_lines()


def test_the_figure_says_what_the_viewer_says(trace: KernelTrace):
    thread = trace.thread_of(2, 3)
    figure = draw_steps(trace, thread, steps=[9, 14], backward=True)
    FigureCanvasAgg(figure).draw()
    assert [axes.get_title() for axes in figure.axes[::2]] == ["input", "dL/d input"]
    for axes, step in zip(figure.axes[1::2], (9, 14), strict=True):
        shown = " ".join(" ".join(text.get_text() for text in axes.texts).split())
        for line in describe_step(trace, thread, step, backward=True).splitlines():
            assert " ".join(line.split()) in shown
    meeting = arrivals(trace, int(trace.adds[thread, 0, 0]))
    assert f"{len(meeting)} additions by {len({one.thread for one in meeting})} threads meet" in shown


def test_the_figure_draws_points_where_they_are(trace: KernelTrace):
    thread = trace.thread_of(2, 2)
    figure = draw_steps(trace, thread, steps=[17])
    FigureCanvasAgg(figure).draw()
    every, _, point = figure.axes[0].collections
    np.testing.assert_allclose(every.get_offsets(), trace.points[thread])
    np.testing.assert_allclose(point.get_offsets(), trace.points[thread, 1:2])
