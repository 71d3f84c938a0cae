"""An exercise: a question, the cases that an answer has to pass, three hints and a solution."""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from cascade_lab.errors import InputError


@dataclass(frozen=True, kw_only=True)
class Case:
    """One question to the learner's function.

    Attributes:
        words: what is special about these inputs, as it would be said aloud: "two boxes that do not touch".
        inputs: the arguments, in order. Every call gets a copy of its own.
        expected: the right answer, worked out by hand: a number, a list of numbers or a tensor.
    """

    words: str
    inputs: tuple[Any, ...]
    expected: Any


@dataclass(frozen=True, kw_only=True)
class Exercise:
    """One function for the learner to write.

    Attributes:
        id: chapter and number, "01.2".
        name: ``check.<name>`` checks it, and the learner's function is called ``my_<name>``.
        question: what to write, so that nothing is left to guess. The first hint prints it.
        cases: asked in this order, the plainest first.
        hints: from "where to look" to "all but the last line".
        solution: Python text that defines ``my_<name>``; it may import what it needs.
        tolerance: how far a number may be off, absolute and relative.
    """

    id: str
    name: str
    question: str
    cases: tuple[Case, ...]
    hints: tuple[str, str, str]
    solution: str
    tolerance: float = 1e-4

    def __post_init__(self) -> None:
        where = f"exercise {self.id} {self.name}"
        if not re.fullmatch(r"\d\d\.[1-9]\d*", self.id) or not self.name.isidentifier():
            raise InputError(f'{where}: id and name (must be like "01.2" and a Python name)')
        if not self.question or not self.cases or len({case.words for case in self.cases}) < len(self.cases):
            raise InputError(f"{where}: needs a question and cases, each in words of its own")
        if len(self.hints) != 3 or not all(self.hints):
            raise InputError(f"{where}: {len(self.hints)} hints (must be three, none empty)")
        if not 0 < self.tolerance < 0.1:
            raise InputError(f"{where}: tolerance {self.tolerance} (must lie in 0..0.1, without the ends)")
        if not callable(self._namespace().get(self.function)):
            raise InputError(f"{where}: the solution defines no function {self.function}")

    @property
    def function(self) -> str:
        """Return the name of the learner's function."""
        return f"my_{self.name}"

    @property
    def chapter(self) -> str:
        """Return the chapter's number, "01"."""
        return self.id.split(".")[0]

    @property
    def arguments(self) -> tuple[str, ...]:
        """Return the names under which inputs are shown: those of the solution."""
        return tuple(inspect.signature(self.solve()).parameters)

    def solve(self) -> Callable[..., Any]:
        """Return the solution as a function."""
        return self._namespace()[self.function]

    def _namespace(self) -> dict[str, Any]:
        namespace: dict[str, Any] = {}
        exec(compile(self.solution, f"<solution {self.id}>", "exec"), namespace)
        return namespace
