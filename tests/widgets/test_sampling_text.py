"""The words of the sampling viewer, against numbers worked out from the arrays by hand."""

import re
from dataclasses import replace

import numpy as np
import pytest

from cascade_lab.errors import InputError
from cascade_lab.widgets.sampling_text import (
    choose_layer,
    describe_pixel,
    grid,
    nearest_pixel,
    radius_table,
    reach,
)
from tests.widgets.made_up_sampling import made_up_fields, made_up_sampling


def test_grid_runs_down_a_column_first():
    assert grid(3) == [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 0), (0, 1), (1, -1), (1, 0), (1, 1)]
    assert grid(1) == [(0, 0)] and grid(5)[:2] == [(-2, -2), (-2, -1)] and len(grid(5)) == 25


def test_every_point_is_told():
    sampling = made_up_sampling()
    layer = sampling.layers[2]  # level 1, stride 8, offset_scale 2
    head, *lines, last = describe_pixel(sampling, 1, 0, 2, (3, 5)).splitlines()
    assert head == "Level 1 (stride 8), block 3, group 3 of 3, output pixel in row 3, column 5."
    assert len(lines) == 9
    for k, line in enumerate(lines):
        number, gx, gy, dx, dy, x, y, modulation = map(float, re.findall(r"[-+]?\d+\.?\d*", line))
        assert number == k + 1 and (gx, gy) == grid(3)[k]
        point = layer.points[3, 5, 2, k]
        assert (x, y) == pytest.approx(point * 8 + 0.5, abs=0.051)
        assert (dx, dy) == pytest.approx((point[0] - 5 - 2 * gx, point[1] - 3 - 2 * gy), abs=0.0051)
        assert modulation == pytest.approx(layer.modulation[3, 5, 2, k], abs=0.0051)
    away = np.linalg.norm((layer.points[3, 5, 2] - (5, 3)) * 8, axis=1).max()
    assert f"is {away:.1f} picture pixels away" in last
    assert f"would be {np.hypot(16, 16):.1f}." in last, "offset_scale 2 stretches the grid as well"


def test_points_outside_are_counted():
    sampling = made_up_sampling()
    layer = sampling.layers[0]
    points = layer.points.copy()
    points[0, 0, 0] = [(-1, 5), (-0.9, 5), (24, 5), (23.9, 5), (5, -1.5), (5, 16), (5, 15.5), (0, 0), (1, 1)]
    moved = replace(sampling, layers=(replace(layer, points=points),))
    assert "4 of them read zero outside the map." in describe_pixel(moved, 0, 0, 0, (0, 0))
    points[0, 0, 0, :5] = 3
    assert "1 of them reads zero outside the map." in describe_pixel(moved, 0, 0, 0, (0, 0))
    points[0, 0, 0] = 3
    assert "All of them lie on the map." in describe_pixel(moved, 0, 0, 0, (0, 0))


def test_reach_of_a_single_far_point():
    sampling = made_up_sampling()
    layer = sampling.layers[0]
    points = layer.regular()[:, :, None].repeat(2, axis=2)
    points[4, 4, 1, 8] = (4 + 3, 4 + 4)
    layer = replace(layer, points=points)
    assert reach(layer, 1, (4, 4)) == pytest.approx((20, 4 * 2**0.5))
    assert reach(layer, 0, (4, 4)) == pytest.approx((4 * 2**0.5, 4 * 2**0.5))


@pytest.mark.parametrize("x, y, pixel", [(0, 0, (0, 0)), (1, 1, (0, 0)), (2, 5, (1, 1)), (95, 63, (15, 23))])
def test_nearest_pixel(x: int, y: int, pixel: tuple[int, int]):
    assert nearest_pixel(made_up_sampling().layers[0], x, y) == pixel


def test_table_of_radii_gives_the_median_of_each_level():
    before, after = made_up_fields(2), made_up_fields(4)
    *_, first, second = radius_table(before, after).splitlines()
    for line, level in ((first, 0), (second, 1)):
        expected = [np.median([f.radius() for f in fields if f.level == level]) for fields in (before, after)]
        assert line.startswith(f"level {level} (stride {4 << level:2d})")
        assert [float(v) for v in line.split(")")[1].split()] == [
            3,
            *(pytest.approx(e, abs=0.051) for e in expected),
        ]


@pytest.mark.parametrize(
    "words, place",
    [("level: 2", (2, 0, 0, (0, 0))), ("block: 1", (1, 1, 0, (0, 0))), ("group: 2", (0, 0, 2, (0, 0))),
     ("pixel: .16, 0.", (0, 0, 0, (16, 0)))],
)  # fmt: skip
def test_mistakes_are_named(words: str, place):
    with pytest.raises(InputError, match=words):
        describe_pixel(made_up_sampling(), *place)


def test_choose_layer_counts_the_kept_blocks():
    assert choose_layer(made_up_sampling(), 1, 0).block == 3
