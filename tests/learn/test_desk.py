"""Handing in: what is printed, what is remembered, and that nothing a learner does stops the notebook."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from cascade_lab.errors import InputError
from cascade_lab.learn import check as course_check
from cascade_lab.learn.desk import SOLUTIONS, Check, Desk
from cascade_lab.learn.exercise import Case, Exercise
from cascade_lab.learn.record import Record, record_file

DOUBLE = {
    "id": "09.1",
    "name": "double",
    "question": "Return twice the number.",
    "cases": (
        Case(words="a positive number", inputs=(2,), expected=4),
        Case(words="a negative number", inputs=(-3,), expected=-6),
    ),
    "hints": ("first", "second", "third"),
    "solution": "def my_double(number):\n    return 2 * number\n",
}
HALF = DOUBLE | {"id": "09.2", "name": "half", "solution": "def my_half(number):\n    return 2 * number\n"}


@pytest.fixture(autouse=True)
def own_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv(SOLUTIONS, raising=False)
    monkeypatch.setenv("CASCADE_LAB_CACHE", str(tmp_path))
    return tmp_path


def new_desk() -> Desk:
    return Desk([Exercise(**DOUBLE), Exercise(**HALF)], Record())


def test_right_by_name_and_by_number(capsys: pytest.CaptureFixture[str]):
    check = Check(new_desk())
    check.double(lambda number: number + number)
    assert capsys.readouterr().out.splitlines() == [
        "09.1 double: right, all 2 cases pass.",
        "Chapter 09: 1 of 2 green.",
    ]
    check("09.2", lambda number: 2.0 * number)
    assert "Chapter 09: 2 of 2 green." in capsys.readouterr().out


def test_wrong_names_the_case_with_inputs_expected_and_got(capsys: pytest.CaptureFixture[str]):
    Check(new_desk()).double(lambda number: 2 * abs(number))
    assert capsys.readouterr().out.splitlines() == [
        "09.1 double: not right yet, 1 of 2 cases pass.",
        "This one does not: a negative number.",
        "  number    -3",
        "  expected  -6",
        "  got       6",
        'A hint: hint("09.1")',
    ]


def test_names_complete_and_unknown_ones_are_refused():
    check = Check(new_desk())
    assert dir(check) == ["double", "half"]
    with pytest.raises(AttributeError, match="no exercise is called 'dubble'; there are double, half"):
        check.dubble  # noqa: B018
    assert not hasattr(check, "_repr_html_")  # or a notebook would hand in its own question
    with pytest.raises(InputError, match=r"exercise '09.7' is unknown; there are 09.1, 09.2"):
        check("09.7", None)
    with pytest.raises(InputError, match="an id or a name occurs twice"):
        Desk([Exercise(**DOUBLE), Exercise(**DOUBLE)], Record())


def test_three_hints_then_the_way_to_the_solution(capsys: pytest.CaptureFixture[str]):
    desk = new_desk()
    for _ in range(5):
        desk.hint("09.1")
    desk.hint("09.2")
    task, *said = capsys.readouterr().out.splitlines()
    assert task.endswith("Return twice the number.")  # once, before the first hint
    assert [line.rpartition(": ")[2] for line in said[:3]] == ["first", "second", "third"]
    assert said[3] == said[4] and 'solution("09.1")' in said[3]
    assert said[5].startswith("The task of 09.2") and said[6].startswith("Hint 1 of 3")
    desk.solution("09.1")
    assert capsys.readouterr().out == "def my_double(number):\n    return 2 * number\n"


def test_green_stays_green_and_outlives_the_process(own_record: Path, capsys: pytest.CaptureFixture[str]):
    desk = new_desk()
    desk.check("09.1", lambda number: 2 * number)
    desk.check("09.1", ...)
    new_desk().progress()
    assert capsys.readouterr().out.splitlines()[-2:] == [
        "1 of 2 green.",
        "Chapter 09: 1 of 2 green. Open: 09.2 half.",
    ]
    assert [path.name for path in record_file().parent.iterdir()] == ["exercises.json"]
    assert record_file().is_relative_to(own_record)


def test_two_notebooks_do_not_forget_for_each_other():
    one, two = Record(), Record()
    one.add("09.1")
    two.add("09.2")
    assert Record().green() == one.green() == two.green() == {"09.1", "09.2"}


@pytest.mark.parametrize("text", ["", "{", "[]", '{"green": 3}', '{"green": [1]}', '{"blue": []}'])
def test_a_broken_record_is_begun_anew(text: str):
    record_file().parent.mkdir(parents=True)
    record_file().write_text(text)
    record = Record()
    assert record.green() == set()
    record.add("09.1")
    assert Record().green() == {"09.1"}


def test_without_a_place_to_write_memory_remembers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("CASCADE_LAB_CACHE", str(tmp_path / "file"))
    record = Record()
    record.add("09.1")
    assert record.green() == {"09.1"} and Record().green() == set()


def test_a_record_that_is_put_back_does_not_make_a_session_forget():
    record = Record()
    record.add("09.1")
    record_file().write_text('{"green": ["09.2"]}')
    assert record.green() == {"09.1", "09.2"}


def test_solutions_stand_in_and_leave_the_record_alone(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv(SOLUTIONS, "1")
    new_desk().check("09.1", ...)
    assert "right, all 2 cases pass. (The solution was used" in capsys.readouterr().out
    assert not record_file().exists()
    wrong = DOUBLE | {"solution": "def my_double(number):\n    return number\n"}
    with pytest.raises(AssertionError, match="the solution itself fails: 09.1 double: not right yet, 0 of 2"):
        Desk([Exercise(**wrong)], Record()).check("09.1", ...)


def test_the_course_can_be_imported_in_one_line():
    assert "iou" in dir(course_check)
    line = "from cascade_lab.learn import check, hint, progress, solution; check.iou(...); hint('01.2')"
    run = subprocess.run(
        [sys.executable, "-c", line], capture_output=True, text=True, env=os.environ, timeout=120
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("01.2 iou: not attempted yet.\nThe task of 01.2 iou")


@pytest.mark.parametrize(
    "change, message",
    [
        ({"id": "9.1"}, "id and name"),
        ({"name": "not a name"}, "id and name"),
        ({"hints": ("a", "b")}, "2 hints"),
        ({"hints": ("a", "b", "")}, "3 hints"),
        ({"cases": ()}, "needs a question and cases"),
        ({"cases": DOUBLE["cases"][:1] * 2}, "in words of its own"),
        ({"tolerance": 0.5}, "tolerance 0.5"),
        ({"solution": "def other(): pass"}, "defines no function my_double"),
    ],
)
def test_an_exercise_is_checked_when_it_is_made(change: dict, message: str):
    with pytest.raises(InputError, match=message):
        Exercise(**(DOUBLE | change))
