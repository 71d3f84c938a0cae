"""Put an exercise's cases to an answer, and say in words what came out; its errors are words too."""

from __future__ import annotations

import copy
import traceback
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
from torch import Tensor

from cascade_lab.learn.exercise import Case, Exercise

State = Literal["right", "wrong", "blank"]
MOST_CHARACTERS = 300  # of a value in a message


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """What became of an answer. ``failed`` holds the words of the cases that it does not pass."""

    state: State
    text: str
    failed: tuple[str, ...] = ()


def judge(exercise: Exercise, answer: Any) -> Verdict:
    """Return whether an answer is right, wrong or not attempted, and the text for the learner.

    Not attempted is an answer of ``...`` or None, and a function that in every case returns ``...``, None or
    NotImplemented, or raises NotImplementedError.
    """
    title = f"{exercise.id} {exercise.name}"
    if _is_blank(answer):
        return Verdict(state="blank", text=f"{title}: not attempted yet.")
    if not callable(answer):
        text = f"{title}: expected a function, got {show(answer)}. Pass {exercise.function} without brackets."
        return Verdict(state="wrong", text=text, failed=tuple(case.words for case in exercise.cases))
    outcomes = [_ask(answer, case) for case in exercise.cases]
    if all(outcome.blank for outcome in outcomes):
        missing = "" if outcomes[0].value is not None else " (It returns None: is a `return` missing?)"
        return Verdict(state="blank", text=f"{title}: not attempted yet.{missing}")
    faults = [
        (case, fault)
        for case, outcome in zip(exercise.cases, outcomes, strict=True)
        if (fault := outcome.error or _difference(case.expected, outcome.value, exercise.tolerance))
    ]
    if not faults:
        return Verdict(state="right", text=f"{title}: right, all {len(exercise.cases)} cases pass.")
    return Verdict(
        state="wrong",
        text=_explain(exercise, title, faults),
        failed=tuple(case.words for case, _ in faults),
    )


def show(value: Any) -> str:
    """Return a value as a learner would write it: a tensor as its numbers, a long one shortened."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray | np.generic):
        value = np.asarray(value).astype(float).round(6).tolist() if _numbers(value) is not None else value
    if isinstance(value, list | tuple):
        text = "[" + ", ".join(show(item) for item in value) + "]"
    elif isinstance(value, float):
        text = f"{value:.6g}"
    else:
        text = repr(value)
    return text if len(text) <= MOST_CHARACTERS else f"{text[:MOST_CHARACTERS]} ..."


@dataclass(frozen=True, kw_only=True)
class _Outcome:
    value: Any = None
    blank: bool = False
    error: str = ""


def _ask(function: Callable[..., Any], case: Case) -> _Outcome:
    try:
        value = function(*copy.deepcopy(case.inputs))
    except NotImplementedError:
        return _Outcome(value=..., blank=True)
    except Exception as error:  # whatever the learner's code raises is a message, not a stop
        return _Outcome(error=_describe(error, function))
    return _Outcome(value=value, blank=_is_blank(value))


def _is_blank(value: Any) -> bool:
    return value is None or value is ... or value is NotImplemented


def _describe(error: Exception, function: Callable[..., Any]) -> str:
    """Return the error with the line of the learner's function that it came from."""
    text = f"{type(error).__name__}: {error}"
    code = getattr(function, "__code__", None)
    own = [f for f in traceback.extract_tb(error.__traceback__) if code and f.filename == code.co_filename]
    return f"{text}\n    in line {own[-1].lineno} of your cell: {own[-1].line}" if own else text


def _difference(expected: Any, got: Any, tolerance: float) -> str:
    """Return what is wrong with a value; empty where it is right."""
    want, have = _numbers(expected), _numbers(got)
    assert want is not None, "an exercise expects numbers"
    if _is_blank(got):
        return f"{show(got)}  (nothing: is a `return` missing?)"
    if have is None:
        return f"{show(got)}  (a {type(got).__name__}, which holds no plain numbers)"
    if want.shape != have.shape:
        return f"{show(got)}  ({_shape(have)}, expected {_shape(want)})"
    return "" if np.allclose(have, want, rtol=tolerance, atol=tolerance) else show(got)


def _shape(values: np.ndarray) -> str:
    if values.ndim == 0:
        return "a number"
    if values.ndim > 1:
        return f"shape {values.shape}"
    return {0: "an empty list", 1: "a list of 1 value"}.get(len(values), f"a list of {len(values)} values")


def _numbers(value: Any) -> np.ndarray | None:
    """Return a number, tensor or nested list as float64; None for anything else."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    elif isinstance(value, list | tuple):
        value = [v.detach().cpu().numpy() if isinstance(v, Tensor) else v for v in value]
    try:
        found = np.asarray(value)
    except ValueError:  # rows of different lengths
        return None
    return found.astype(np.float64) if found.size == 0 or found.dtype.kind in "biuf" else None


def _explain(exercise: Exercise, title: str, faults: list[tuple[Case, str]]) -> str:
    case, fault = faults[0]
    count = len(exercise.cases)
    names = exercise.arguments
    width = max(len("expected"), *(len(name) for name in names))
    lines = [f"{title}: not right yet, {count - len(faults)} of {count} cases pass."]
    lines.append(f"This one does not: {case.words}.")
    lines += [f"  {name:<{width}}  {show(v)}" for name, v in zip(names, case.inputs, strict=True)]
    lines += [f"  {'expected':<{width}}  {show(case.expected)}", f"  {'got':<{width}}  {fault}"]
    if len(faults) > 1:
        lines.append("Nor do these: " + "; ".join(other.words for other, _ in faults[1:]) + ".")
    return "\n".join([*lines, f'A hint: hint("{exercise.id}")'])
