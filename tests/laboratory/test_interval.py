"""The bootstrap over pictures against a plain loop."""

import numpy as np
import pytest

from cascade_lab.laboratory.interval import Interval, ratio_intervals, resamples


def test_ratio_intervals_against_a_loop():
    random = np.random.default_rng(3)
    bottoms = random.integers(0, 5, (12, 3)).astype(float)
    bottoms[:, 2] = 0
    tops = bottoms * random.uniform(0, 1, (12, 3))
    low, high = ratio_intervals(tops, bottoms, draws=300, seed=7)
    for column in (0, 1):
        drawn = []
        for rows in resamples(12, 300, 7):
            drawn.append(sum(tops[r, column] for r in rows) / sum(bottoms[r, column] for r in rows))
        drawn.sort()
        # 300 sorted values: percentile 2.5 lies at place 0.025 * 299 = 7.475
        assert low[column] == pytest.approx(drawn[7] + 0.475 * (drawn[8] - drawn[7]))
        assert high[column] == pytest.approx(drawn[291] + 0.525 * (drawn[292] - drawn[291]))
    assert np.isnan([low[2], high[2]]).all()


def test_resamples_draw_with_replacement():
    drawn = resamples(50, 400, 0)
    assert drawn.shape == (400, 50) and drawn.min() == 0 and drawn.max() == 49
    kept = np.mean([len(set(rows)) for rows in drawn.tolist()]) / 50
    assert kept == pytest.approx(1 - (1 - 1 / 50) ** 50, abs=0.01)  # about 63 %


def test_an_interval_says_whether_it_decides():
    assert str(Interval(value=2.34, low=0.5, high=4.0)) == "+2.3 [+0.5, +4.0]"
    assert "not decided" in str(Interval(value=2.34, low=-0.5, high=4.0))
    assert Interval(value=-1, low=-2, high=-0.5).decided
