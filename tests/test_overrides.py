"""Options read off dataclasses: names, types, and one helpful line for everything that is wrong."""

from dataclasses import dataclass
from typing import Literal

import pytest

from cascade_lab.errors import InputError
from cascade_lab.overrides import describe, options, override


@dataclass(frozen=True, kw_only=True)
class Stage:
    iou: float

    def __post_init__(self) -> None:
        if not 0 < self.iou <= 1:
            raise ValueError(f"iou must be in (0, 1], got {self.iou}")


@dataclass(frozen=True, kw_only=True)
class Optim:
    lr: float = 0.1
    warmup_steps: int = 5
    betas: tuple[float, float] = (0.9, 0.99)
    clip: float | None = None
    low: float = 0.0
    high: float = 1.0

    def __post_init__(self) -> None:
        if self.lr <= 0:
            raise InputError(f"optim.lr: {self.lr} must be above 0")
        if self.low > self.high:
            raise ValueError("low must not be above high")


@dataclass(frozen=True, kw_only=True)
class Recipe:
    optim: Optim = Optim()
    stages: tuple[Stage, ...] = (Stage(iou=0.5), Stage(iou=0.6))
    at: tuple[float, ...] = (0.7, 0.9)
    mode: Literal["step", "cosine"] = "step"
    masks: bool = True


@dataclass(frozen=True, kw_only=True)
class Run:
    output: str = ""
    resume: bool = False


def parse(line: str) -> tuple[Recipe, Run]:
    recipe, run = override((Recipe(), Run()), line.split())
    return recipe, run


def test_nothing_given_changes_nothing():
    recipe, run = Recipe(), Run()
    assert override((recipe, run), []) == [recipe, run]


@pytest.mark.parametrize(
    "line, field, expected",
    [
        ("--optim.lr 0.5", "optim.lr", 0.5),
        ("--optim.lr=1e-3", "optim.lr", 0.001),
        ("--optim.warmup_steps 7", "optim.warmup_steps", 7),
        ("--optim.warmup-steps 7", "optim.warmup_steps", 7),
        ("--optim.betas 0.5 0.6", "optim.betas", (0.5, 0.6)),
        ("--optim.clip 2", "optim.clip", 2.0),
        ("--optim.clip None", "optim.clip", None),
        ("--at 0.1 0.2 0.3", "at", (0.1, 0.2, 0.3)),
        ("--mode cosine", "mode", "cosine"),
        ("--no-masks", "masks", False),
        ("--no_masks", "masks", False),
        ("--optim.low 2 --optim.high 3", "optim.low", 2.0),  # each alone is refused
    ],
)
def test_values_arrive_with_their_type(line, field, expected):
    value = parse(line)[0]
    for part in field.split("."):
        value = getattr(value, part)
    assert value == expected
    assert type(value) is type(expected)


def test_members_of_tuples_go_by_number():
    assert [stage.iou for stage in parse("--stages.1.iou 0.75")[0].stages] == [0.5, 0.75]


def test_options_find_their_own_config():
    recipe, run = parse("--resume --optim.lr 2 --output somewhere")
    assert (recipe.optim.lr, run.output, run.resume) == (2.0, "somewhere", True)


@pytest.mark.parametrize(
    "line, message",
    [
        ("--optim.lrr 1", "option --optim.lrr: no such option; nearest: --optim.lr"),
        ("--lr 1", "option --lr: no such option; nearest: --optim.lr"),
        ("--xyzzy 1", "option --xyzzy: no such option; there are: --optim.lr, "),
        (
            "--stages.2.iou 1",
            "option --stages.2.iou: no such option; nearest: --stages.0.iou, --stages.1.iou",
        ),
        ("--optim.lr x", "option --optim.lr: 'x' is not a value of type float, such as 0.1"),
        ("--optim.lr", "option --optim.lr: '' is not a value of type float, such as 0.1"),
        ("--optim.lr 1 2", "option --optim.lr: '1 2' is not a value of type float, such as 0.1"),
        (
            "--optim.betas 1",
            "option --optim.betas: '1' is not a value of type tuple[float, float], such as 0.9",
        ),
        (
            "--optim.warmup_steps 1.5",
            "option --optim.warmup_steps: '1.5' is not a value of type int, such as 5",
        ),
        (
            "--mode line",
            "option --mode: 'line' is not a value of type Literal['step', 'cosine'], such as step",
        ),
        ("--masks yes", "option --masks: 'yes' was not expected: this is a switch and takes no value"),
        ("--optim.lr 1 --optim.lr 2", "option --optim.lr: given twice"),
        ("stray", "argument 'stray': no option; options begin with --, such as --optim.lr"),
        ("-l 3", "argument '-l': no option; options begin with --, such as --optim.lr"),
        ("--optim.lr -1", "optim.lr: -1.0 must be above 0"),
        ("--stages.0.iou 2", "option --stages.0.iou: '2' iou must be in (0, 1], got 2.0"),
        ("--optim.low 0.6 --optim.high 0.5", "low must not be above high"),
    ],
)
def test_one_line_for_everything_that_is_wrong(line, message, capsys):
    with pytest.raises(InputError) as caught:
        parse(line)
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)
    printed = capsys.readouterr()
    assert printed.out == printed.err == ""


def test_listing():
    assert list(options(Recipe()))[:2] == ["--optim.lr", "--optim.warmup_steps"]
    lines = describe(Recipe()).splitlines()
    assert lines[0].split() == ["--optim.lr", "float", "=", "0.1"]
    assert lines[2].split() == ["--optim.betas", "tuple[float,", "float]", "=", "0.9", "0.99"]
    assert any(line.split()[0] == "--stages.1.iou" for line in lines)
