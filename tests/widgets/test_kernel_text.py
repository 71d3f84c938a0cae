"""What the stepper says: every equation that it writes is true, and every line that it marks is there."""

import re

import numpy as np
import pytest

from cascade_lab.widgets.kernel_moments import (
    BACKWARD_MOMENTS,
    FORWARD_MOMENTS,
    kernel_lines,
    line_of,
    moments,
)
from cascade_lab.widgets.kernel_text import arrivals, describe_step, fill, numbers
from cascade_lab.widgets.kernel_trace import KernelTrace, stored_trace


@pytest.fixture(scope="module")
def trace() -> KernelTrace:
    return stored_trace()


@pytest.mark.parametrize("backward", [False, True])
def test_every_equation_is_true(trace: KernelTrace, backward: bool):
    """The last two sides of every "... = 2 * 48 + 8 = 104" are compared."""
    checked = 0
    for thread in (trace.thread_of(2, 2), trace.thread_of(0, 5, 1), trace.thread_of(4, 0)):
        for step in range(len(moments(backward))):
            for line in describe_step(trace, thread, step, backward=backward).splitlines()[2:]:
                for part in re.split(r"[,;] ", line):
                    sides = [side.strip() for side in part.split("=")]
                    if len(sides) < 2 or not re.fullmatch(r"(element )?-?[\d.]+", sides[-1]):
                        continue
                    found = re.search(r"(?:^|  |[a-z]\s)\s*(\(?-?[\d.][-\d.()*+/% ]*)$", sides[-2])
                    if found and re.search(r"[*+/%]", found[1]):
                        value = eval(found[1].replace("/", "//"))  # rows are whole numbers
                        assert float(sides[-1].split()[-1]) == pytest.approx(value, abs=2e-3), line
                        checked += 1
    assert checked > (250 if not backward else 130)


def test_the_running_sum_is_the_kernels_own_to_the_last_bit(trace: KernelTrace):
    named = numbers(trace)
    np.testing.assert_array_equal(named["s3"], trace.sums)
    np.testing.assert_array_equal(named["sum_before"][:, 1:], trace.sums[:, :-1])


@pytest.mark.parametrize(
    "moment", [*FORWARD_MOMENTS, *BACKWARD_MOMENTS], ids=lambda moment: moment.title[:30]
)
def test_the_marked_line_is_there_once(moment):
    """What is marked is the line that is meant: no second one in the same function could be taken for it."""
    lines = kernel_lines()
    begin = next(number for number, line in enumerate(lines) if moment.scope in line)
    later = (number for number in range(begin + 1, len(lines)) if lines[number].startswith("template"))
    end = next(later, len(lines))
    marked = [number + 1 for number in range(begin, end) if moment.line in lines[number]]
    assert marked == [line_of(moment)]


def test_text_names_only_numbers_that_exist(trace: KernelTrace):
    named = numbers(trace)
    for moment in (*FORWARD_MOMENTS, *BACKWARD_MOMENTS):
        used = set(re.findall(r"\{(\w+)", "".join(moment.text)))
        assert used <= set(named)
        if moment.part != "point":  # no point yet, so no number of a point
            assert all(named[name].ndim == 1 for name in used)


@pytest.mark.parametrize(
    "value, decimals, text",
    [
        (0.125, 2, "0.13"), (-0.125, 2, "-0.13"), (2.5, 0, "3"), (1.0, 3, "1"), (10.0, 0, "10"),
        (0.0001, 2, "0"), (-0.0001, 2, "0"), (100.0, 2, "100"), (0.30000001192092896, 4, "0.3"),
    ],
)  # fmt: skip
def test_numbers_as_javascript_writes_them(value: float, decimals: int, text: str):
    assert fill(f"{{x:{decimals}}}", {"x": value}) == text


def test_arrivals_are_all_that_is_added_to_a_cell(trace: KernelTrace):
    total = 0
    for element in np.unique(trace.adds):
        found = arrivals(trace, int(element))
        assert sum(one.value for one in found) == pytest.approx(trace.grad_input.ravel()[element], abs=1e-5)
        assert all(trace.adds[one.thread, one.point, one.corner] == element for one in found)
        total += len(found)
    weighs = trace.weights * trace.grads[:, None, None]
    assert total == np.count_nonzero(weighs)


def test_a_step_in_words(trace: KernelTrace):
    thread = trace.thread_of(2, 2)
    where, title, *text = describe_step(trace, thread, 12).splitlines()
    assert re.fullmatch(r"point 0, line \d+: const T\* upper = .*", where)
    assert title == "Where do these four pixels lie in memory?"
    first = trace.reads[thread, 0]
    assert text[0].endswith(f"= element {first[0]}")
    assert (
        text[1]
        == f"one pixel to the right: element {first[1]}; one line down: elements {first[2]} and {first[3]}"
    )
