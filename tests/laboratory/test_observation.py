"""A pass that is kept can be asked again: the same heads give the same answers."""

import pytest
import torch
from torch.testing import assert_close

from cascade_lab.errors import InputError
from cascade_lab.laboratory.observation import observe
from tests.tiny_detector import SIZE, objects, tiny


def pictures(count: int) -> list:
    draw = torch.Generator().manual_seed(0)
    made = [torch.randint(0, 256, (3, *SIZE), generator=draw, dtype=torch.uint8) for _ in range(count)]
    return [(picture, objects()) for picture in made]


@pytest.fixture(scope="module")
def seen():
    return observe(tiny().eval(), pictures(3), batch_size=2)


def test_batches(seen):
    assert [len(one.targets) for one in seen] == [2, 1]
    assert [len(one.images) for one in seen] == [2, 1]
    again = observe(seen[0].detector, pictures(3), batch_size=3)
    for a, b in zip(seen[0].trace.stages, again[0].trace.stages, strict=True):
        assert_close(a.boxes, b.boxes[:2])


def test_asking_a_stage_again_gives_its_trace(seen):
    for k, stage in enumerate(seen[0].trace.stages):
        again = seen[0].ask(k, stage.proposals)
        assert_close(again.logits, stage.logits)
        assert_close(again.deltas, stage.deltas)
        assert_close(again.boxes, stage.boxes)
        assert again.iou_threshold == stage.iou_threshold and again.delta_std == stage.delta_std


def test_labels_choose_the_deltas(seen):
    boxes = seen[0].trace.stages[0].proposals
    labels = torch.ones(sum(len(b) for b in boxes), dtype=torch.int64)
    free, told = seen[0].ask(0, boxes), seen[0].ask(0, boxes, labels)
    likeliest = torch.cat(free.logits)[:, :-1].argmax(1)
    moved = (torch.cat(free.boxes) != torch.cat(told.boxes)).any(1)
    assert moved.any() and not moved[likeliest == 1].any()


def test_detections_are_those_of_the_detector(seen):
    """Stage 2 alone, read by the detector's own read_out."""
    stage = seen[0].trace.stages[1]
    mine = seen[0].detections(stage, [logits.softmax(-1) for logits in stage.logits])
    theirs = seen[0].detector.read_out(seen[0].trace, [1])
    assert sum(len(found) for found in mine) > 5
    for a, b in zip(mine, theirs, strict=True):
        assert torch.equal(a.boxes, b.boxes) and torch.equal(a.labels, b.labels)
        assert torch.equal(a.scores, b.scores)


def test_nothing_to_observe_and_training_mode():
    with pytest.raises(InputError, match="pictures: none"):
        observe(tiny().eval(), [])
    with pytest.raises(InputError, match="call detector.eval"):
        observe(tiny().train(), pictures(1))
