"""Seconds by part, with a clock that only moves when told to."""

from __future__ import annotations

import torch

from cascade_lab.ledger import parts
from cascade_lab.ledger.clock import multiply_accumulates_per_second, seconds_by_part
from tests.tiny_detector import pictures, tiny


def test_every_part_is_timed_and_told():
    detector, ticks, told = tiny().eval(), iter(range(1000)), []
    before = torch.get_num_threads()
    found = seconds_by_part(detector, pictures(1).pixels, 9, 4, told.append, lambda: float(next(ticks) ** 2))
    assert torch.get_num_threads() == before
    assert list(found) == told
    assert set(told) == set(parts.part_names(detector))
    # Two looks at the clock a part: (2 n + 1)^2 - (2 n)^2
    assert list(found.values()) == [4 * n + 1 for n in range(len(told))]


def test_the_speed_of_a_product_is_a_speed():
    assert multiply_accumulates_per_second(64) > 1e6
