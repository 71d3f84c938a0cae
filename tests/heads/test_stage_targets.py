"""What a stage should answer, on boxes whose IoUs are known by hand."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from cascade_lab.heads.stage_targets import StageTargets, stage_targets
from cascade_lab.structures import Instances
from cascade_lab.targets.assigner import Assigner
from cascade_lab.targets.sampler import Sampler, first
from tests.tiny_detector import CLASSES, SIZE, filled, objects

SAMPLER = Sampler(num=8, positive_fraction=0.5)
# Against the object (0, 0, 10, 10): IoU 1, 0.8, 0.5 and 0.
PROPOSALS = torch.tensor([[0.0, 0, 10, 10], [0, 0, 8, 10], [0, 0, 10, 5], [30, 30, 40, 40]])
ONE = [[0.0, 0.0, 10.0, 10.0]]


def assigner(iou: float = 0.5, ignore_ioa: float = -1.0) -> Assigner:
    return Assigner(
        positive_iou=iou,
        negative_iou=iou,
        min_positive_iou=iou,
        match_low_quality=False,
        ignore_ioa=ignore_ioa,
    )


def answers(
    target: Instances,
    proposals: Tensor = PROPOSALS,
    iou: float = 0.5,
    sampler: Sampler | None = SAMPLER,
    ignore_ioa: float = -1.0,
) -> StageTargets:
    return stage_targets([proposals], [SIZE], [target], assigner(iou, ignore_ioa), sampler, first, CLASSES)


def test_objects_stand_before_the_proposals():
    found = answers(objects(ONE, [1]))
    assert found.sampled[0][0].tolist() == [0, 1, 2, 3] and found.sampled[0][1].tolist() == [4]
    assert torch.equal(found.boxes[0], torch.cat([torch.tensor(ONE), PROPOSALS]))
    assert found.is_target[0].tolist() == [True, False, False, False, False]
    assert torch.allclose(found.iou[0], torch.tensor([1.0, 1.0, 0.8, 0.5, 0.0]))
    assert found.labels.tolist() == [1, 1, 1, 1, CLASSES]
    assert torch.equal(found.matched, torch.tensor(ONE).expand(4, 4))


def test_a_stricter_stage_has_fewer_positives():
    assert [len(answers(objects(ONE), iou=iou).target_index[0]) for iou in (0.5, 0.6, 0.9)] == [4, 3, 2]


def test_an_object_always_matches_itself():
    """Also where another object lies upon it, and in a stage that asks for more than any proposal offers."""
    found = answers(objects([*ONE, *ONE], [0, 2]), PROPOSALS[3:], iou=1.0)
    assert found.target_index[0].tolist() == [0, 1] and found.labels.tolist() == [0, 2, CLASSES]


def test_positives_then_negatives_picture_by_picture():
    both = [objects(ONE, [2]), objects([], [])]
    found = stage_targets(
        [PROPOSALS, PROPOSALS[:2]], [SIZE, SIZE], both, assigner(0.6), SAMPLER, first, CLASSES
    )
    assert [len(b) for b in found.boxes] == [5, 2]
    assert found.labels.tolist() == [2, 2, 2, 3, 3, 3, 3]
    assert found.positive_rows().tolist() == [0, 1, 2]
    swapped = stage_targets(
        [PROPOSALS[:2], PROPOSALS], [SIZE, SIZE], both[::-1], assigner(0.6), SAMPLER, first, CLASSES
    )
    assert swapped.labels.tolist() == [3, 3, 2, 2, 2, 3, 3]
    assert swapped.positive_rows().tolist() == [2, 3, 4]
    assert torch.equal(swapped.matched, torch.tensor(ONE).expand(3, 4))


def test_no_sampler_keeps_all():
    few = Sampler(num=2, positive_fraction=0.5)
    assert len(answers(objects(ONE), sampler=few).boxes[0]) == 2
    assert len(answers(objects(ONE), sampler=None).boxes[0]) == 5


def test_ignored_regions_are_no_background():
    """The region covers the far box whole: unused when the rule is on, a negative when it is off."""
    target = replace(objects([[25.0, 25.0, 45.0, 45.0], *ONE], [0, 1]), ignore=torch.tensor([True, False]))
    found = answers(target, ignore_ioa=0.5)
    assert found.labels.tolist() == [1, 1, 1, 1]  # the object, three proposals; label of the object's row
    assert found.matched[0].tolist() == ONE[0]
    assert answers(target, ignore_ioa=0.5, sampler=None).labels.tolist() == [1, 1, 1, 1]
    assert answers(target).labels.tolist() == [1, 1, 1, 1, CLASSES]


@pytest.mark.parametrize("label", [CLASSES, -1])
def test_labels_beyond_the_classes_are_refused(label: int):
    """Labels that count from 1 would make the last class background, and with one class all objects."""
    with pytest.raises(ValueError, match=rf"picture 0 .* labels .*{label}.* 0 to {CLASSES - 1}"):
        answers(objects([*ONE, [30.0, 30, 40, 40]], [0, label]))
    with pytest.raises(ValueError, match="no labels"):
        answers(replace(objects(ONE), labels=None))


def test_an_object_without_area_is_no_answer():
    """No deltas lead onto a box without width: it is neither a positive nor, standing there, background."""
    found = answers(objects([[5.0, 5.0, 5.0, 9.0], *ONE], [2, 1]), sampler=None)
    assert found.sampled[0][0].tolist() == [1, 2, 3, 4] and found.sampled[0][1].tolist() == [5]
    assert found.labels.tolist() == [1, 1, 1, 1, CLASSES]
    assert found.is_target[0].tolist() == [True, False, False, False, False]


def test_a_picture_without_any_box_offers_itself():
    found = answers(objects([], []), PROPOSALS[:0])
    assert found.boxes[0].tolist() == [[0.0, 0.0, SIZE[1], SIZE[0]]]
    assert found.labels.tolist() == [CLASSES] and not found.is_target[0].any()


def test_nothing_but_an_ignored_region():
    target = replace(objects([[0.0, 0.0, 64.0, 64.0]]), ignore=torch.tensor([True]))
    found = answers(target, ignore_ioa=0.5)
    assert found.boxes[0].shape == (0, 4) and found.labels.shape == (0,) and found.matched.shape == (0, 4)


# --- masks


def test_masks_are_cut_out_of_the_matched_object():
    """The object's mask fills its left half; a positive box of the whole object sees exactly that."""
    target = replace(objects(ONE), masks=filled(torch.tensor([[0.0, 0, 5, 10]])))
    boxes, labels, masks = answers(target, iou=0.9).for_masks([target], 4)
    assert [len(b) for b in boxes] == [2] and labels.tolist() == [0, 0]
    assert torch.equal(masks[0], torch.tensor([1.0, 1, 0, 0]).expand(4, 4))


def test_objects_without_a_mask_are_left_out():
    target = replace(objects([*ONE, [30.0, 30, 40, 40]], [0, 2]), has_mask=torch.tensor([False, True]))
    boxes, labels, masks = answers(target, sampler=None).for_masks([target], 4)
    assert labels.tolist() == [2, 2]  # the object and the proposal upon it
    assert boxes[0].tolist() == [[30, 30, 40, 40]] * 2 and masks.shape == (2, 4, 4) and masks.all()


def test_pictures_without_masks_are_left_out():
    bare, target = replace(objects(ONE), masks=None), objects(ONE, [1])
    found = stage_targets([PROPOSALS] * 2, [SIZE] * 2, [bare, target], assigner(0.9), SAMPLER, first, CLASSES)
    boxes, labels, masks = found.for_masks([bare, target], 4)
    assert [len(b) for b in boxes] == [0, 2] and labels.tolist() == [1, 1] and len(masks) == 2
    boxes, labels, masks = found.for_masks([bare, bare], 4)
    assert [len(b) for b in boxes] == [0, 0] and labels.dtype == torch.int64 and masks.shape == (0, 4, 4)


def test_the_row_of_an_ignored_region_shifts_no_mask():
    """The region stands first; the object's own mask, its upper half, is the one that is cut out."""
    target = replace(
        objects([[25.0, 25.0, 45.0, 45.0], *ONE]),
        masks=filled(torch.tensor([[25.0, 25, 45, 45], [0, 0, 10, 5]])),
        ignore=torch.tensor([True, False]),
        has_mask=torch.tensor([False, True]),
    )
    _, labels, masks = answers(target, iou=0.9, ignore_ioa=0.5).for_masks([target], 2)
    assert len(labels) == 2 and masks.tolist() == [[[1, 1], [0, 0]]] * 2
