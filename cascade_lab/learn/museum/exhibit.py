"""An exhibit: one line of the library, the mistake that is made in it, and how the mistake shows."""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import CodeType
from typing import Any, Literal

from cascade_lab.errors import InputError
from cascade_lab.viz.museum import Reading


@dataclass(frozen=True, kw_only=True)
class Choice:
    """A diagnosis that the visitor may give.

    Attributes:
        words: the diagnosis.
        why: what is said about it: why it is right, or how it would have looked instead.
    """

    words: str
    why: str


@dataclass(frozen=True, kw_only=True)
class Exhibit:
    """A mistake that people make.

    Attributes:
        title, story: what the visitor is told; neither gives the mistake away.
        function: of the library, in which the mistake is planted.
        right, wrong: the lines as they stand there, without indentation, and what is put in their place.
        symptom: measures; called once as things are and once with the mistake planted.
        worse: whether the mistake makes the reading's value higher or lower.
        choices: diagnoses to choose from; ``answer`` is the index of the right one.
        lesson: what to look at first when this symptom turns up.
        test: the test that fails with the mistake planted, "tests/FILE.py::NAME".
    """

    title: str
    story: str
    function: Callable[..., Any]
    right: str
    wrong: str
    symptom: Callable[[], Reading]
    worse: Literal["higher", "lower"]
    choices: tuple[Choice, ...]
    answer: int
    lesson: str
    test: str

    def __post_init__(self) -> None:
        if not 0 <= self.answer < len(self.choices):
            raise InputError(f"exhibit {self.title!r}: answer {self.answer} (there are {len(self.choices)})")
        if self.test.count("::") != 1 or not self.test.startswith("tests/"):
            raise InputError(f"exhibit {self.title!r}: test {self.test!r} (must be tests/FILE.py::NAME)")
        self.place()

    def place(self) -> tuple[str, int]:
        """Return the file's module and the number of the first of the right lines.

        Raises:
            InputError: the function does not hold exactly those lines, once.
        """
        function = inspect.unwrap(self.function)
        lines, first = inspect.getsourcelines(function)
        return function.__module__, first + _find(lines, self.right, self.title)

    def measure(self) -> tuple[Reading, Reading]:
        """Return the reading as it should be, and the one with the mistake planted."""
        right = self.symptom()
        with self.planted():
            return right, self.symptom()

    @contextmanager
    def planted(self) -> Iterator[None]:
        """Put the mistake into the library inside a ``with`` block, and take it out again after it.

        Only the code of the one function is exchanged, so whoever imported it has the mistake too.
        """
        function: Any = inspect.unwrap(self.function)
        plain = function.__code__
        function.__code__ = self._mistaken(function)
        try:
            yield
        finally:
            function.__code__ = plain

    def _mistaken(self, function: Any) -> CodeType:
        """Compile the function's own source with the wrong lines in place of the right ones."""
        lines, first = inspect.getsourcelines(function)
        start = _find(lines, self.right, self.title)
        indent = lines[start][: len(lines[start]) - len(lines[start].lstrip())]
        wrong = textwrap.indent(self.wrong.strip("\n") + "\n", indent).splitlines(keepends=True)
        lines[start : start + len(self.right.splitlines())] = wrong
        text = "\n" * (first - 1) + textwrap.dedent("".join(lines))  # so that errors name the right line
        module = compile(text, inspect.getfile(function), "exec")
        codes = [c for c in module.co_consts if isinstance(c, CodeType) and c.co_name == function.__name__]
        return codes[0]


def _find(lines: list[str], wanted: str, title: str) -> int:
    """Return the index of the first of the wanted lines."""
    plain, sought = [line.strip() for line in lines], [line.strip() for line in wanted.splitlines()]
    places = [i for i in range(len(plain)) if plain[i : i + len(sought)] == sought]
    if len(places) != 1:
        raise InputError(
            f"exhibit {title!r}: {sought[0]!r} stands {len(places)} times in its function, not once"
        )
    return places[0]
