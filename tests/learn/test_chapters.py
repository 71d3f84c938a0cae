"""What holds for the exercises of every chapter."""

from itertools import groupby

import pytest

from cascade_lab.learn.chapters import EXERCISES
from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge


@pytest.mark.parametrize("exercise", EXERCISES, ids=lambda exercise: exercise.id)
def test_solution_passes(exercise: Exercise):
    verdict = judge(exercise, exercise.solve())
    assert verdict.state == "right", verdict.text


def test_exercises_are_numbered_in_order():
    chapters = [list(group) for _, group in groupby(EXERCISES, key=lambda exercise: exercise.chapter)]
    assert [group[0].chapter for group in chapters] == [f"{number:02}" for number in range(1, 13)]
    for group in chapters:
        assert [one.id for one in group] == [f"{one.chapter}.{k}" for k, one in enumerate(group, start=1)]
