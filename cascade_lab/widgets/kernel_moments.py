"""The moments at which the stepper stops in a thread of ``cuda_src/dcnv3.cu``: a line, and what it computes.

A moment's text is a template that names numbers, see ``kernel_text.py``.
"""

from __future__ import annotations

from dataclasses import dataclass

from cascade_lab.kernels import source
from cascade_lab.widgets.kernel_trace import POINTS

CORNERS = ("upper left", "upper right", "lower left", "lower right")


@dataclass(frozen=True, kw_only=True)
class Moment:
    """One stop of every thread, or of every point of every thread.

    Attributes:
        part: "before" the loop over the points, "point" for once a point, "after" the loop.
        scope, line: what is marked is the first line with ``line`` after the first one with ``scope``, and in
            all ``span`` lines.
        text: one template a line; {name:3} is a number with up to 3 decimals, {name} a whole one.
        corner: 0 to 3, the pixel that is read or added to; 4 for all four, -1 for none.
        sum: name of the number that the thread's sum is at this moment.
    """

    part: str
    scope: str
    line: str
    title: str
    text: tuple[str, ...]
    span: int = 1
    corner: int = -1
    sum: str = ""


PLACE, FORWARD, BACKWARD = "__device__ Place(", "void dcnv3_forward(", "void dcnv3_backward("
_WHO = (
    Moment(
        part="before", scope=PLACE, line="const unsigned thread =", title="Which thread am I, along x?",
        text=(
            "thread = blockIdx.y * blockDim.x + threadIdx.x = {block_y} * {across} + {thread_x} = {thread_x}",
        ),
    ),
    Moment(
        part="before", scope=PLACE, line="int here =",
        title="And along y? That is the number of my output pixel",
        text=("here = blockIdx.x * blockDim.y + threadIdx.y = {block_x} * {down} + {thread_y} = {here}",),
    ),
    Moment(
        part="before", scope=PLACE, line="lane = thread % LANES", title="Which group of channels is mine?",
        text=(
            "The groups are so narrow here that one thread holds a whole one: LANES = 1.",
            "lane = thread % 1 = 0, group = thread / 1 = {group}",
        ),
    ),
    Moment(
        part="before", scope=PLACE, line="row = here /", title="Where is my output pixel?",
        text=("row = {here} / {width} = {row}, column = {here} % {width} = {column}",),
    ),
    Moment(
        part="before", scope=PLACE, line="at_points =", title="Where do my nine modulations begin in memory?",
        text=(
            "at_points = (pixel * groups + group) * points = ({here} * {groups} + {group}) * 9 = {at_points}",
            "A point has two offsets, x and y, so mine begin at 2 * {at_points} = {at_offset}.",
        ),
    ),
    Moment(
        part="before", scope=PLACE, line="at_output =", title="Where does my output go?",
        text=(
            "at_output = (pixel * groups + group) * channels = ({here} * {groups} + {group}) * {channels}"
            " = {at_output}",
        ),
    ),
    Moment(
        part="before", scope=PLACE, line="+ group * layout.group_step",
        title="Where do the channels of my group begin?",
        text=("at_input = picture 0 + group * group_step = {group} * {channels} = {at_input}",),
    ),
)  # fmt: skip
_POSITION = Moment(
    part="point", scope="void sampling_points(", line="x = multiply_add(multiply_add(column", span=2,
    title="Where does this point lie? The regular grid, plus the learned offset",
    text=(
        "x = (kernel column + offset x) * offset_scale + start = ({kernel_x} + {offset_x:2}) * {scale:2}"
        " + {start_x:2} = {x:2}",
        "y = (kernel row + offset y) * offset_scale + start = ({kernel_y} + {offset_y:2}) * {scale:2}"
        " + {start_y:2} = {y:2}",
    ),
)  # fmt: skip
_AXIS = (
    "left column {left}, upper row {above}; kept inside, so that all four pixels exist",
    "The point lies {past_x:2} to the right of the left column and {past_y:2} below the upper row.",
    "A column or row counts 1 - distance, and nothing from a distance of 1 on:",
    "left {share_left:2}, right {share_right:2}, upper {share_upper:2}, lower {share_lower:2}",
)


def _common(scope: str) -> tuple[Moment, Moment]:
    return (
        Moment(
            part="before", scope=scope, line="const int step = layout.pixel_step",
            title="How far apart are neighbours in memory?",
            text=(
                "step = all channels of a pixel = {step}: to the next pixel on the right",
                "line = width * step = {width} * {step} = {line}: to the next one below",
            ),
        ),
        Moment(
            part="before", scope=scope, line="modulation(logits, place.points);",
            title="Softmax: my nine logits become weights m that add up to 1",
            text=(
                "m = exp(logit - largest logit) / sum of all nine; see the table",
                "largest logit {largest:2}",
            ),
        ),
    )  # fmt: skip


def _axis(scope: str) -> Moment:
    return Moment(
        part="point", scope=scope, line="const Wholes<P> left(", corner=4, sum="sum_before",
        title="Which four pixels surround it, and how near is each?", text=_AXIS,
    )  # fmt: skip


FORWARD_MOMENTS = (
    *_WHO,
    *_common(FORWARD),
    _POSITION,
    _axis(FORWARD),
    Moment(
        part="point", scope="struct CornerWeights", line=": upper_left(m *", span=2,
        corner=4, sum="sum_before",
        title="What does each of the four pixels count?",
        text=(
            "weight = m * share of its row * share of its column",
            "upper left  {m:4} * {share_upper:2} * {share_left:2} = {w0:4}",
            "upper right {m:4} * {share_upper:2} * {share_right:2} = {w1:4}",
            "lower left  {m:4} * {share_lower:2} * {share_left:2} = {w2:4}",
            "lower right {m:4} * {share_lower:2} * {share_right:2} = {w3:4}",
        ),
    ),
    Moment(
        part="point", scope=FORWARD, line="const T* upper = picture", span=2, corner=4, sum="sum_before",
        title="Where do these four pixels lie in memory?",
        text=(
            "upper left: at_input + above * line + left * step"
            " = {at_input} + {above} * {line} + {left} * {step} = element {e0}",
            "one pixel to the right: element {e1}; one line down: elements {e2} and {e3}",
        ),
    ),
    *(
        Moment(
            part="point", scope=FORWARD, line=line, corner=corner, sum=f"s{corner}",
            title=f"Read the {CORNERS[corner]} pixel, and add it to the sum",
            text=(
                f"sum + weight * pixel = {{{f's{corner - 1}' if corner else 'sum_before'}:4}}"
                f" + {{w{corner}:4}} * {{v{corner}:2}} = {{s{corner}:4}}",
            ),
        )
        for corner, line in enumerate(
            (
                "on_top.add(weight.upper_left", "on_top.add(weight.upper_right",
                "at_bottom.add(weight.lower_left", "at_bottom.add(weight.lower_right",
            )
        )
    ),
    Moment(
        part="after", scope=FORWARD, line=".store(output + place.at_output", sum="sum_end",
        title="Write the sum down. This is the only thing that the thread leaves behind",
        text=(
            "output[{at_output}] = {sum_end:4}",
            "The other channels of the group were read, weighted and added alongside.",
        ),
    ),
)  # fmt: skip

BACKWARD_MOMENTS = (
    *_WHO,
    *_common(BACKWARD),
    _POSITION,
    _axis(BACKWARD),
    Moment(
        part="point", scope=BACKWARD, line="dots.add(k, grad", corner=4,
        title="How much would the loss grow if each pixel counted a little more?",
        text=(
            "gradient * pixel, summed over my channels:",
            "upper left {d0:2}, upper right {d1:2}, lower left {d2:2}, lower right {d3:2}",
        ),
    ),
    Moment(
        part="point", scope=BACKWARD, line="const F grad_x = over_lanes", corner=4,
        title="Should the point move?",
        text=(
            "A move takes weight from some pixels and gives it to others, so compare these four:",
            "dL/d offset x = {grad_x:4}, dL/d offset y = {grad_y:4}; both times m = {m:4} and offset_scale",
        ),
    ),
    Moment(
        part="point", scope=BACKWARD, line="grad_m = over_lanes", corner=4,
        title="Should the point count more?",
        text=("dL/d m = what lies at the point, by the same four shares = {grad_m:4}",),
    ),
    *(
        Moment(
            part="point", scope="void scatter(", line=line, corner=corner,
            title=f"Tell the {CORNERS[corner]} pixel, with an atomic addition",
            text=(
                f"grad_input[{{a{corner}}}] += weight * gradient"
                f" = {{w{corner}:4}} * {{gradient:2}} = {{c{corner}:4}}",
            ),
        )
        for corner, line in enumerate(("scaled_add_to(upper, ",) * 2 + ("scaled_add_to(lower, ",) * 2)
    ),
    Moment(
        part="after", scope=BACKWARD, line="(m * (grad_m - F(along)))",
        title="Through the softmax: if one of the nine weights grows, the others shrink",
        text=(
            "dL/d logit = m * (dL/d m - sum of all m * dL/d m), and that sum is {along:4}",
            "The table shows the nine results in its last column.",
        ),
    ),
)  # fmt: skip


def moments(backward: bool) -> list[tuple[Moment, int]]:
    """Return all stops of one thread in order, each with its point; -1 outside of the loop."""
    every = BACKWARD_MOMENTS if backward else FORWARD_MOMENTS
    inside = [moment for moment in every if moment.part == "point"]
    before, after = ([m for m in every if m.part == part] for part in ("before", "after"))
    loop = [(moment, point) for point in range(POINTS) for moment in inside]
    return [*((moment, -1) for moment in before), *loop, *((moment, -1) for moment in after)]


def kernel_lines() -> list[str]:
    """Return the lines of the kernel's source."""
    return (source.folder() / "dcnv3.cu").read_text(encoding="utf-8").splitlines()


def line_of(moment: Moment) -> int:
    """Return the number of the line that a moment marks, from 1. Raises StopIteration where there is none."""
    lines = kernel_lines()
    begin = next(number for number, line in enumerate(lines) if moment.scope in line)
    return next(number for number in range(begin, len(lines)) if moment.line in lines[number]) + 1
