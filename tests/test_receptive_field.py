"""Gradients against the whole Jacobian, supports against pencil and paper, radii by hand."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.receptive_field import (
    ReceptiveField,
    receptive_field,
    receptive_fields,
    spread,
    untrained,
)
from cascade_lab.structures import ImageBatch
from tests.test_sampling import build, noise
from tests.tiny_detector import BACKBONE, config


def jacobian(detector: Detector, picture: torch.Tensor, level: int, row: int, column: int) -> torch.Tensor:
    """Return the derivative of every channel of one output pixel by every colour and pixel, (C, 3, H, W)."""
    pixels = ImageBatch.collate([picture]).pixels.requires_grad_()
    answer = detector.backbone(pixels)[level][0, :, row, column]
    rows = [torch.autograd.grad(channel, pixels, retain_graph=True)[0][0] for channel in answer]
    return torch.stack(rows)[:, :, : picture.shape[1], : picture.shape[2]]


def test_many_directions_come_to_the_sum_over_all_channels():
    detector, picture = build(), noise(64, 64)
    whole = jacobian(detector, picture, 1, 3, 4).square().sum((0, 1)).sqrt()  # (H, W)
    field = receptive_field(detector, picture, 1, (3, 4), directions=400)
    expected = (whole / whole.sum()).numpy()
    assert np.abs(field.gradient - expected).sum() < 0.05
    assert field.radius() == pytest.approx(replace(field, gradient=expected).radius(), abs=1.5)
    few = receptive_field(detector, picture, 1, (3, 4))
    assert 0.05 < np.abs(few.gradient - expected).sum() < 0.4, "eight directions are a rough guess"


def test_the_plain_sum_of_the_channels_would_see_nothing():
    """The reason for random directions: the last layer norm gives every pixel the same sum."""
    detector, picture = untrained(config()), noise()
    whole = jacobian(detector, picture, 2, 1, 2)
    assert whole.sum(0).abs().sum() < 1e-4 * whole.abs().sum()


@pytest.mark.parametrize("scale, reach", [(1.0, 7), (2.0, 11)])
def test_a_fresh_level_sees_what_pencil_and_paper_say(scale: float, reach: int):
    """Level 0 with one block. The stem sees 3 pixels to each side, DCNv3 one map pixel more, times scale."""
    backbone = replace(BACKBONE, offset_scale=scale)
    detector = untrained(replace(config(), backbone=backbone))
    field = receptive_field(detector, noise(), 0, (8, 7))
    rows, columns = np.nonzero(field.gradient)
    assert (rows.min(), rows.max()) == (8 * 4 - reach, 8 * 4 + reach)
    assert (columns.min(), columns.max()) == (7 * 4 - reach, 7 * 4 + reach)
    assert field.gradient.sum() == pytest.approx(1, abs=1e-5)
    assert reach < field.radius(1.0) <= reach * 2**0.5


def test_radius_is_that_of_the_smallest_disc_that_holds_the_share():
    gradient = np.zeros((20, 30), np.float32)
    gradient[4, 8], gradient[4, 11], gradient[8, 8] = 0.5, 0.3, 0.2
    field = ReceptiveField(level=0, row=1, column=2, stride=4, gradient=gradient)
    assert [field.radius(share) for share in (0.4, 0.7, 0.9)] == [0.0, 3.0, 4.0]
    assert field.radius() == 4.0


def test_fields_are_those_of_single_pixels():
    detector, picture = build(), noise(40, 70)
    fields = receptive_fields(detector, picture, per_side=2, directions=3)
    assert len(fields) == 4 + 4 + 4 + 4
    assert fields[0].gradient.shape == (40, 70), "without the padding"
    for field in (fields[1], fields[6], fields[-1]):
        alone = receptive_field(detector, picture, field.level, (field.row, field.column), directions=3)
        np.testing.assert_array_equal(field.gradient, alone.gradient)
    assert (
        max(f.row for f in fields if f.level == 0) < 10 and max(f.column for f in fields if f.level == 0) < 18
    )


@pytest.mark.parametrize("length, count, expected", [(8, 4, [1, 3, 5, 7]), (3, 5, [0, 1, 2]), (9, 1, [4])])
def test_spread(length: int, count: int, expected: list[int]):
    assert spread(length, count) == expected


def test_untrained_is_reproducible_and_leaves_the_dice_alone():
    torch.manual_seed(5)
    state = torch.random.get_rng_state()
    first, second, other = untrained(config()), untrained(config()), untrained(config(), seed=1)
    assert torch.equal(torch.random.get_rng_state(), state)
    weights = [detector.backbone.stem.conv1.weight for detector in (first, second, other)]
    assert torch.equal(weights[0], weights[1]) and not torch.equal(weights[0], weights[2])
    assert not first.training


@pytest.mark.parametrize(
    "words, options",
    [
        ("level: 4 is not between 0 and 3", {"level": 4}),
        ("pixel: .2, 0. is not in the map of level 3, 2 x 2", {"level": 3, "pixel": (2, 0)}),
        ("directions: 0", {"directions": 0}),
        ("picture: shape", {"picture": torch.zeros(64, 64)}),
    ],
)
def test_mistakes_are_named(words: str, options: dict):
    given = {"picture": noise(), "level": 0, "pixel": (0, 0), "directions": 1} | options
    with pytest.raises(InputError, match=words):
        receptive_field(
            build(), given["picture"], given["level"], given["pixel"], directions=given["directions"]
        )
    with pytest.raises(InputError, match="call detector.eval"):
        receptive_field(build().train(), noise(), 0, (0, 0))
    with pytest.raises(InputError, match="per_side"):
        receptive_fields(build(), noise(), per_side=0)
