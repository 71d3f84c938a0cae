"""What a recipe leaves open: the learning rate of another batch, and options that contradict it."""

from dataclasses import replace

import pytest

from cascade_lab.overrides import override
from cascade_lab.recipes import Recipe, nano
from cascade_lab.settle import make_room, scale_lr

RECIPE = replace(
    nano(),
    data=replace(nano().data, images_per_batch=16),
    optim=replace(nano().optim, lr=1e-4, lr_for_batch=16),
)


def with_options(*words: str) -> Recipe:
    (found,) = override((make_room(RECIPE, words),), words)
    return scale_lr(found)


@pytest.mark.parametrize(("batch", "lr"), [(4, 2.5e-5), (64, 4e-4)])
def test_lr_follows_the_batch_and_says_so_in_one_line(batch: int, lr: float, capsys):
    found = with_options("--data.images_per_batch", str(batch))
    assert found.optim.lr == pytest.approx(lr)
    assert found.optim.lr_for_batch == batch
    said = capsys.readouterr().out
    assert said.count("\n") == 1
    assert f"0.0001 is for batches of 16, so {lr:g} for batches of {batch}" in said
    assert scale_lr(found) == found and capsys.readouterr().out == ""  # settled once


@pytest.mark.parametrize(
    "words",
    [
        (),
        ("--data.images_per_batch", "16"),
        ("--data.images_per_batch", "4", "--optim.lr", "0.0001"),
        ("--data.images-per-batch=4", "--optim.lr=0.0001"),
        ("--data.images_per_batch", "4", "--optim.lr_for_batch", "None"),
    ],
    ids=" ".join,
)
def test_lr_stays_with_its_batch_and_as_it_is_typed(words: tuple[str, ...], capsys):
    assert with_options(*words).optim.lr == 1e-4
    assert capsys.readouterr().out == ""


def test_a_typed_lr_may_name_its_batch():
    words = ("--data.images_per_batch", "4", "--optim.lr", "0.001", "--optim.lr_for_batch", "8")
    assert with_options(*words).optim.lr == pytest.approx(0.0005)


@pytest.mark.parametrize("length", ["steps", "epochs", "minutes"])
def test_one_option_says_how_long(length: str):
    schedule = with_options(f"--schedule.{length}", "7").schedule
    lengths = {name: getattr(schedule, name) for name in ("steps", "epochs", "minutes")}
    assert lengths == {"steps": None, "epochs": None, "minutes": None} | {length: 7}
