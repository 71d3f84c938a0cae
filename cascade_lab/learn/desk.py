"""The four words of an exercise: check, hint, solution, progress."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cascade_lab.errors import InputError
from cascade_lab.learn.chapters import EXERCISES
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge
from cascade_lab.learn.record import Record

SOLUTIONS = (
    "CASCADE_LAB_SOLUTIONS"  # set to 1, every check looks at the solution and not at the learner's answer
)


class Desk:
    """Where answers are handed in. It counts the hints given, and keeps the record."""

    def __init__(self, exercises: Sequence[Exercise], record: Record) -> None:
        self.exercises = {exercise.id: exercise for exercise in exercises}
        self.names = {exercise.name: exercise.id for exercise in exercises}
        if not len(self.exercises) == len(self.names) == len(exercises):
            raise InputError("exercises: an id or a name occurs twice; give each its own")
        self._record = record
        self._hints: dict[str, int] = {}

    def check(self, id: str, answer: Any) -> None:
        """Print whether an answer is right, or else which case fails, with what was expected and what came.

        With CASCADE_LAB_SOLUTIONS=1 the solution stands in for the answer, the record stays as it is, and a
        solution that is not right raises AssertionError: this is how tests run a whole notebook.
        """
        exercise = self._find(id)
        if os.environ.get(SOLUTIONS) == "1":
            verdict = judge(exercise, exercise.solve())
            assert verdict.state == "right", f"the solution itself fails: {verdict.text}"
            print(f"{verdict.text} (The solution was used: {SOLUTIONS}=1.)")
            return
        verdict = judge(exercise, answer)
        print(verdict.text)
        if verdict.state == "right":
            self._record.add(id)
            print(self._count(exercise.chapter))

    def hint(self, id: str) -> None:
        """Print the next of an exercise's three hints, before the first the whole task; then the way out."""
        exercise = self._find(id)
        given = self._hints.get(id, 0)
        if given == len(exercise.hints):
            print(f'Those were all three hints for {id}. The answer: solution("{id}")')
            return
        if not given:
            print(f"The task of {id} {exercise.name} in full: {exercise.question}")
        self._hints[id] = given + 1
        print(f"Hint {given + 1} of {len(exercise.hints)} for {id} {exercise.name}: {exercise.hints[given]}")

    def solution(self, id: str) -> None:
        """Print the solution of an exercise. It counts for nothing until it is checked."""
        print(self._find(id).solution.strip())

    def progress(self) -> None:
        """Print how many exercises are green, that is right: all, of each chapter, and which are open."""
        green = self._record.green()
        print(f"{len(green & set(self.exercises))} of {len(self.exercises)} green.")
        for chapter in sorted({exercise.chapter for exercise in self.exercises.values()}):
            left = [f"{one.id} {one.name}" for one in self._of(chapter) if one.id not in green]
            print(self._count(chapter) + (f" Open: {', '.join(left)}." if left else ""))

    def _find(self, id: str) -> Exercise:
        if id not in self.exercises:
            raise InputError(f"exercise {id!r} is unknown; there are {', '.join(sorted(self.exercises))}")
        return self.exercises[id]

    def _of(self, chapter: str) -> list[Exercise]:
        return [exercise for exercise in self.exercises.values() if exercise.chapter == chapter]

    def _count(self, chapter: str) -> str:
        ids = {exercise.id for exercise in self._of(chapter)}
        return f"Chapter {chapter}: {len(ids & self._record.green())} of {len(ids)} green."


class Check:
    """``check("01.2", my_iou)`` by number, or ``check.iou(my_iou)`` by name, which Tab completes."""

    def __init__(self, desk: Desk) -> None:
        self._desk = desk

    def __call__(self, id: str, answer: Any) -> None:
        self._desk.check(id, answer)

    def __getattr__(self, name: str) -> Callable[[Any], None]:
        # Notebooks ask every object for _repr_html_ and the like, so this has to be an AttributeError.
        if name.startswith("_") or name not in self._desk.names:
            raise AttributeError(f"no exercise is called {name!r}; there are {', '.join(self._desk.names)}")
        return partial(self._desk.check, self._desk.names[name])

    def __dir__(self) -> list[str]:
        return list(self._desk.names)


_DESK = Desk(EXERCISES, Record())
check = Check(_DESK)
hint, solution, progress = _DESK.hint, _DESK.solution, _DESK.progress
