"""The learning rate against hand-worked numbers; tests/oracle/test_optim.py has the official ones."""

import math

import pytest

from cascade_lab.engine.schedule import ScheduleConfig, lr_factor
from cascade_lab.errors import InputError


def test_warm_up_is_linear_and_ends_exactly_at_the_base_rate():
    config = ScheduleConfig(steps=100, warmup_steps=10, warmup_ratio=0.1, decay="none")
    factors = [lr_factor(step, 100, config) for step in range(12)]
    assert factors[0] == pytest.approx(0.1)
    assert factors[5] == pytest.approx(0.55)  # half-way between 0.1 and 1
    assert factors[10:] == [1.0, 1.0]


def test_drops_hold_from_the_step_they_fall_on():
    config = ScheduleConfig(steps=1000, warmup_steps=0, decay_at=(0.7, 0.9))
    assert [lr_factor(step, 1000, config) for step in (0, 699, 700, 899, 900, 999)] == pytest.approx(
        [1, 1, 0.1, 0.1, 0.01, 0.01]
    )


def test_cosine_passes_one_half_in_the_middle_and_ends_near_zero():
    config = ScheduleConfig(steps=200, warmup_steps=0, decay="cosine")
    assert lr_factor(0, 200, config) == 1
    assert lr_factor(50, 200, config) == pytest.approx((1 + math.sqrt(0.5)) / 2)
    assert lr_factor(100, 200, config) == pytest.approx(0.5)
    assert 0 < lr_factor(199, 200, config) < 1e-4


@pytest.mark.parametrize(
    "epochs, images, batch, expected",
    [(12, 117_266, 16, 87_950), (10, 12, 8, 15), (1, 3, 8, 1), (3, 16, 8, 6)],
)
def test_epochs_become_the_fewest_full_batches_that_show_every_picture(epochs, images, batch, expected):
    assert ScheduleConfig(epochs=epochs).total_steps(images, batch) == expected


def test_steps_do_not_depend_on_the_pictures():
    assert ScheduleConfig(steps=7).total_steps(117_266, 16) == 7


def test_minutes_are_a_wish_that_someone_has_to_turn_into_steps():
    with pytest.raises(InputError, match="minutes were not turned into steps"):
        ScheduleConfig(minutes=3).total_steps(10, 2)


@pytest.mark.parametrize(
    "fields, named",
    [
        ({}, "one of steps, epochs and minutes"),
        ({"steps": 1, "epochs": 1}, "one of steps, epochs and minutes"),
        ({"steps": 0}, "schedule.steps: 0"),
        ({"steps": 1, "warmup_steps": -1}, "schedule.warmup_steps: -1"),
        ({"steps": 1, "warmup_ratio": 1.5}, "schedule.warmup_ratio: 1.5"),
        ({"steps": 1, "decay_at": (8, 11)}, "schedule.decay_at"),
        ({"steps": 1, "decay_at": (0.9, 0.7)}, "schedule.decay_at"),
        ({"steps": 1, "gamma": 0}, "schedule.gamma"),
        ({"steps": 1, "ema": 0.9999}, "schedule.ema: 0.9999"),
        ({"steps": 1, "checkpoint_every": 0}, "schedule.checkpoint_every: 0"),
        ({"steps": 1, "log_every": 0}, "schedule.log_every: 0"),
    ],
)
def test_refuses_what_makes_no_sense(fields, named):
    with pytest.raises(InputError, match=named):
        ScheduleConfig(**fields)
