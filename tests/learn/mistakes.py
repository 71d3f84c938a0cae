"""What is asked of every mistake that a learner may make."""

from __future__ import annotations

from typing import Any

from cascade_lab.learn.exercise import Exercise
from cascade_lab.learn.judge import judge


def assert_caught(exercise: Exercise, answer: Any, words: str) -> None:
    """Assert that an answer is wrong, and that the verdict names the one case with these words."""
    verdict = judge(exercise, answer)
    assert verdict.state == "wrong"
    caught = [failed for failed in verdict.failed if words in failed]
    assert len(caught) == 1, verdict.text
    assert caught[0] in verdict.text
