"""The ledger adds up, and says what a recipe changes."""

from __future__ import annotations

from dataclasses import replace

import torch

from cascade_lab.detector import Detector
from cascade_lab.ledger import parts
from cascade_lab.ledger.costs import add, ledger
from tests.tiny_detector import CASCADE, SIZE, config, stages


def test_parts_add_up():
    own = ledger(config(), SIZE)
    assert own.total.parameters == sum(p.numel() for p in Detector(config()).parameters())
    assert own.total.official == sum(row.operations for row in own.modules)
    assert own.total.full == sum(own.full_by_kind.values())
    assert [part.name for part in own.parts] == parts.part_names(Detector(config()))
    assert own.parts[0].seconds is own.total.seconds is None


def test_seconds_belong_to_their_part():
    own = ledger(config(), SIZE)
    timed = own.with_seconds({part.name: float(n) for n, part in enumerate(own.parts)})
    assert [part.seconds for part in timed.parts] == list(range(len(own.parts)))
    assert timed.total.seconds == sum(range(len(own.parts)))
    assert add("half known", (own.parts[0], timed.parts[1])).seconds is None


def test_the_detector_says_how_many_boxes():
    """Half the proposals halve the heads, but not the rest."""
    few = replace(
        config(), rpn=replace(config().rpn, inference=replace(config().rpn.inference, after_nms=15))
    )
    a, b = ledger(config(), SIZE), ledger(few, SIZE)
    heads = [2 * y.full - x.full for x, y in zip(a.parts, b.parts, strict=True) if "box head" in x.name]
    assert set(heads) == {0}
    assert [p.full for p in a.parts if "box" not in p.name] == [
        p.full for p in b.parts if "box" not in p.name
    ]


def test_a_stage_more_costs_a_stage_more():
    three, four = ledger(config(stages(3)), SIZE), ledger(config(stages(4)), SIZE)
    last = {part.name: part for part in four.parts}
    extra = add("stage 4", [last["stage 4 box head"], last["stage 4 mask head"]])
    assert four.total.official == three.total.official + extra.official
    assert four.total.full == three.total.full + extra.full
    assert four.total.kept_bytes == three.total.kept_bytes + extra.kept_bytes


def test_no_masks():
    own = ledger(config(replace(CASCADE, mask_stages=())), SIZE)
    assert not [part.name for part in own.parts if "mask" in part.name]


def test_leaves_no_trace():
    """Neither the default device nor the random numbers change."""
    torch.manual_seed(0)
    expected = torch.rand(1)
    torch.manual_seed(0)
    ledger(config(), SIZE)
    assert torch.rand(1) == expected and torch.empty(1).device.type == "cpu"
