"""Every mistake of the museum is found by the test that it names, and shows in what the visitor sees."""

import ast
import contextlib
import io
from collections.abc import Generator
from pathlib import Path

import numpy as np
import pytest

from cascade_lab.errors import InputError
from cascade_lab.learn.museum import EXHIBITS, diagnose, unmask, visit
from cascade_lab.learn.museum.exhibit import Exhibit
from cascade_lab.ops.boxes import area
from cascade_lab.viz.museum import Curve, draw_readings

ROOT = Path(__file__).parents[2]
exhibits = pytest.mark.parametrize("exhibit", EXHIBITS, ids=[exhibit.title for exhibit in EXHIBITS])


class Planter:
    """A plugin that plants a mistake around each test that is named for it, and notes how the test ended."""

    def __init__(self) -> None:
        self.exhibits = {exhibit.test: exhibit for exhibit in EXHIBITS}
        self.noticed: dict[str, list[str]] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_pyfunc_call(self, pyfuncitem: pytest.Function) -> Generator[None, object, object]:
        name = pyfuncitem.nodeid.split("[")[0]
        with self.exhibits[name].planted():
            try:
                return (yield)
            except AssertionError as error:
                self.noticed.setdefault(name, []).append(str(error))
                raise


@pytest.fixture(scope="module")
def noticed() -> dict[str, list[str]]:
    """Run all named tests, with all of their parameters, with the mistakes planted; return what they said."""
    planter, out = Planter(), io.StringIO()
    options = ["-q", "--no-header", "--tb=no", "-p", "no:cacheprovider", "--rootdir", str(ROOT)]
    with contextlib.redirect_stdout(out):
        code = pytest.main([*options, *(str(ROOT / exhibit.test) for exhibit in EXHIBITS)], plugins=[planter])
    assert code == pytest.ExitCode.TESTS_FAILED, out.getvalue()
    return planter.noticed


@exhibits
def test_an_assertion_of_the_named_test_fails_with_the_mistake(exhibit: Exhibit, noticed):
    assert exhibit.test in noticed


@exhibits
def test_named_tests_exist(exhibit: Exhibit):
    file, _, name = exhibit.test.partition("::")
    tree = ast.parse((ROOT / file).read_text(encoding="utf-8"))
    assert name in {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}


@exhibits
def test_the_symptom_is_measurable_and_goes_away(exhibit: Exhibit):
    right, wrong = exhibit.measure()
    higher, lower = (wrong, right) if exhibit.worse == "higher" else (right, wrong)
    assert higher.value > lower.value + 0.01 * abs(higher.value), (right.value, wrong.value)
    assert (right.words, type(right)) == (wrong.words, type(wrong))
    again = exhibit.symptom()
    assert again.value == right.value
    if isinstance(again, Curve) and isinstance(right, Curve):
        np.testing.assert_array_equal(again.y, right.y)
    draw_readings(right, wrong)


def test_there_are_enough_and_each_is_its_own():
    assert len(EXHIBITS) >= 12
    assert len({exhibit.title for exhibit in EXHIBITS}) == len(EXHIBITS)
    assert len({exhibit.test for exhibit in EXHIBITS}) == len(EXHIBITS)
    assert len({(exhibit.function, exhibit.right, exhibit.wrong) for exhibit in EXHIBITS}) == len(EXHIBITS)
    answers = [exhibit.answer for exhibit in EXHIBITS]
    assert all(answers.count(letter) >= 4 for letter in range(3)), "the answer is no habit"
    for exhibit in EXHIBITS:
        assert len(exhibit.choices) >= 3 and exhibit.right != exhibit.wrong
        module, line = exhibit.place()
        text = (ROOT / (module.replace(".", "/") + ".py")).read_text(encoding="utf-8").splitlines()
        assert text[line - 1].strip() == exhibit.right.splitlines()[0].strip()


def fields(**changed):
    plain = {name: getattr(EXHIBITS[0], name) for name in Exhibit.__dataclass_fields__}
    return plain | changed


def test_a_mistake_is_taken_out_again_even_after_an_error():
    exhibit = Exhibit(**fields(function=area, right="return (x2 - x1) * (y2 - y1)", wrong="return x2 - y2"))
    plain = area.__code__

    def fail() -> None:
        with exhibit.planted():
            assert area.__code__ is not plain
            raise KeyError

    with pytest.raises(KeyError):
        fail()
    assert area.__code__ is plain


@pytest.mark.parametrize(
    "changed, message",
    [
        ({"right": "boxes = nothing"}, "'boxes = nothing' stands 0 times"),
        ({"answer": 3}, r"answer 3 \(there are 3\)"),
        ({"test": "test_boxes"}, "must be tests/FILE.py::NAME"),
    ],
)
def test_an_exhibit_that_is_out_of_date_is_refused(changed, message: str):
    with pytest.raises(InputError, match=message):
        Exhibit(**fields(**changed))


# --- a visit


def test_a_visit_tells_the_story_and_not_the_answer(capsys):
    for number in (2, 11):
        exhibit = EXHIBITS[number - 1]
        figure = visit(number)
        said = capsys.readouterr().out
        assert exhibit.story in " ".join(said.split()) and all(
            choice.words in said for choice in exhibit.choices
        )
        assert exhibit.test not in said and exhibit.wrong not in said and exhibit.lesson not in said
        assert len(figure.axes) == 1


def test_a_diagnosis_is_answered(capsys):
    exhibit = EXHIBITS[0]
    right, wrong = "abc"[exhibit.answer], "abc"[exhibit.answer - 1]
    diagnose(1, None)
    assert "No diagnosis yet" in capsys.readouterr().out
    diagnose(1, wrong)
    said = capsys.readouterr().out
    assert exhibit.choices[exhibit.answer - 1].why in " ".join(said.split()) and exhibit.test not in said
    diagnose(1, right.upper())
    answered = capsys.readouterr().out
    unmask(1)
    assert answered == capsys.readouterr().out
    for told in (exhibit.right, exhibit.wrong, exhibit.test, exhibit.lesson, "cascade_lab.detector:"):
        assert " ".join(told.split()) in " ".join(answered.split())


@pytest.mark.parametrize("number", [0, 99, "1"])
def test_an_exhibit_that_does_not_exist(number):
    with pytest.raises(InputError, match="there are 1 to"):
        visit(number)


@pytest.mark.parametrize("letter", ["d", "ab", ""])
def test_a_letter_that_is_none(letter: str):
    with pytest.raises(InputError, match="is none of a, b, c"):
        diagnose(1, letter)
