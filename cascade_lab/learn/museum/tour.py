"""The words of a visit: look, diagnose, unmask. Exhibits are numbered, since a name would give them away."""

from __future__ import annotations

import textwrap

from matplotlib.figure import Figure

from cascade_lab.errors import InputError
from cascade_lab.learn.museum.boxes import BOXES
from cascade_lab.learn.museum.exhibit import Exhibit
from cascade_lab.learn.museum.operator import OPERATOR
from cascade_lab.learn.museum.stages import STAGES
from cascade_lab.learn.museum.training import TRAINING
from cascade_lab.learn.museum.votes import VOTES
from cascade_lab.viz.museum import draw_readings

EXHIBITS: tuple[Exhibit, ...] = (*BOXES, *STAGES, *OPERATOR, *VOTES, *TRAINING)
LETTERS = "abcdef"
WIDTH = 88  # of the text, in characters


def visit(number: int) -> Figure:
    """Print an exhibit's story and its diagnoses, and draw its symptom. Numbers begin at 1."""
    exhibit = _find(number)
    print(f"{number} of {len(EXHIBITS)}. {exhibit.title}\n\n{_wrapped(exhibit.story)}\n\nWhat happened?")
    for letter, choice in zip(LETTERS, exhibit.choices, strict=False):
        print(f"  {letter}  {choice.words}")
    return draw_readings(*exhibit.measure())


def diagnose(number: int, letter: str | None) -> None:
    """Print whether a diagnosis, "a", "b" or "c", is right, and why; None is no diagnosis."""
    exhibit = _find(number)
    known = LETTERS[: len(exhibit.choices)]
    if letter is None:
        print(f"No diagnosis yet: write one of {', '.join(known)}. unmask({number}) tells the answer.")
        return
    letter = letter.lower()
    if len(letter) != 1 or letter not in known:
        raise InputError(f"diagnosis {letter!r} is none of {', '.join(known)}")
    choice = exhibit.choices[known.index(letter)]
    if known.index(letter) != exhibit.answer:
        print(_wrapped(f"Not {letter}. {choice.why}"))
        return
    unmask(number)


def unmask(number: int) -> None:
    """Print the diagnosis, the line as it should be and as it was, and the test that finds it."""
    exhibit = _find(number)
    choice = exhibit.choices[exhibit.answer]
    module, line = exhibit.place()
    print(f"{LETTERS[exhibit.answer]}  {choice.words}\n{_wrapped(choice.why)}\n\n{module}:{line}")
    for title, text in (("as it should be", exhibit.right), ("as it was", exhibit.wrong)):
        print(f"  {title}:")
        print("\n".join(f"    {row}" for row in text.splitlines()))
    print(f"\n{_wrapped(exhibit.lesson)}\nThe test that fails with this mistake: {exhibit.test}")


def _find(number: int) -> Exhibit:
    if not isinstance(number, int) or not 1 <= number <= len(EXHIBITS):
        raise InputError(f"exhibit {number!r} does not exist; there are 1 to {len(EXHIBITS)}")
    return EXHIBITS[number - 1]


def _wrapped(text: str) -> str:
    return textwrap.fill(text, WIDTH, break_on_hyphens=False)
