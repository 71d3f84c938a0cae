"""The kernel stepper: one thread of ``cuda_src/dcnv3.cu``, line by line. It replays a trace."""

from __future__ import annotations

from typing import Any

import traitlets

from cascade_lab.viz.palette import BLUE, ORANGE, SKY, VERMILLION
from cascade_lab.widgets.canvas import CanvasWidget, assets, float_bytes, within
from cascade_lab.widgets.kernel_moments import (
    BACKWARD_MOMENTS,
    FORWARD_MOMENTS,
    kernel_lines,
    line_of,
    moments,
)
from cascade_lab.widgets.kernel_text import describe_step, numbers
from cascade_lab.widgets.kernel_trace import KernelTrace


class KernelStepper(CanvasWidget):
    """Show a recorded launch; every trait below can be set from Python and follows what the reader does.

    Attributes:
        thread: number of the thread, see ``KernelTrace.thread_of``; backward: which of the two kernels.
        step: the moment in the thread's life, from 0; ``last_step`` is the last one.

    Raises:
        InputError: there is no such output. traitlets.TraitError: a trait is set outside its range.
    """

    _esm, _css = assets("kernel_stepper")
    _trace = traitlets.Dict().tag(sync=True)
    backward = traitlets.Bool(False).tag(sync=True)
    thread = traitlets.Int(0).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        trace: KernelTrace,
        *,
        row: int = 0,
        column: int = 0,
        group: int = 0,
        step: int = 0,
        backward: bool = False,
    ) -> None:
        self.trace = trace
        super().__init__(_trace=_payload(trace))
        self.thread = trace.thread_of(row, column, group)
        self.backward = backward
        self.step = step

    @property
    def last_step(self) -> int:
        """Return the number of the last step of the kernel on show."""
        return len(moments(self.backward)) - 1

    def panel_text(self) -> str:
        """Return what the panel tells of the step that is on show."""
        return describe_step(self.trace, self.thread, self.step, backward=self.backward)

    @traitlets.validate("thread")
    def _check_thread(self, proposal: Any) -> int:
        return within("thread", proposal["value"], 0, len(self.trace) - 1)

    @traitlets.validate("step")
    def _check_step(self, proposal: Any) -> int:
        return within("step", proposal["value"], 0, self.last_step)

    @traitlets.observe("backward")
    def _stay_in_range(self, change: Any) -> None:
        self.step = min(self.step, self.last_step)


def _payload(trace: KernelTrace) -> dict[str, Any]:
    """Return what JavaScript needs; arrays go over once, as raw little-endian bytes."""
    named = numbers(trace)
    return {
        "size": list(trace.size),
        "channels": trace.input.shape[2],
        "groups": trace.groups,
        "source": kernel_lines(),
        "colors": {"point": VERMILLION, "corner": SKY, "now": ORANGE, "thread": BLUE},
        "passes": [_moments(backward=False), _moments(backward=True)],
        "each_point": [name for name, values in named.items() if values.ndim == 2],
        "numbers": {name: float_bytes(values) for name, values in named.items()},
        "input": float_bytes(trace.input),
        "output": float_bytes(trace.output),
        "grad_output": float_bytes(trace.grad_output),
        "grad_input": float_bytes(trace.grad_input),
        "threads": trace.threads.tolist(),
        "blocks": trace.blocks.tolist(),
    }


def _moments(backward: bool) -> list[dict[str, Any]]:
    """Return one entry a step; what all points share is repeated, since it is short."""
    lines = {moment: line_of(moment) for moment in (BACKWARD_MOMENTS if backward else FORWARD_MOMENTS)}
    return [
        {
            "point": point,
            "line": lines[moment],
            "span": moment.span,
            "title": moment.title,
            "text": list(moment.text),
            "corner": moment.corner,
            "sum": moment.sum,
        }
        for moment, point in moments(backward)
    ]
