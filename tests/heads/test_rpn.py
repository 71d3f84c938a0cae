"""The RPN: order of its maps, proposals, targets, ignored regions, normalisers."""

import math
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.heads.rpn import RPN, ProposalLimits, RPNConfig, RPNOutput, RPNTargets
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.sampler import Sampler, first
from tests.tiny_detector import IGNORE, objects, without_gradient

# One square anchor of side 8 a cell of 8 pixels, centred on the cell's corner.
CONFIG = RPNConfig(anchor_scales=(1.0,), anchor_ratios=(1.0,), allowed_border=-1, assigner=IGNORE)


def batch(size: tuple[int, int], padded: tuple[int, int] | None = None, count: int = 1) -> ImageBatch:
    return ImageBatch(torch.zeros(count, 3, *size), [size] * count, [size] * count, [padded or size] * count)


def answer(rpn: RPN, grid: tuple[int, int], logits: Tensor, deltas: Tensor | None = None) -> RPNOutput:
    """Return the RPN's output on one level, with these logits (N, A) in place of its own."""
    seen = rpn([torch.zeros(len(logits), 2, *grid)])
    deltas = torch.zeros(*logits.shape, 4) if deltas is None else deltas
    return RPNOutput(seen.grids, seen.anchors, [logits], [deltas])


def rpn(config: RPNConfig = CONFIG) -> RPN:
    torch.manual_seed(0)
    return RPN(config, 2, (8,)).eval()


def test_outputs_stand_in_the_order_of_the_anchors():
    """Logit and deltas of anchor a at (row, column) are channels a and 4a .. 4a + 3 of the maps there."""
    torch.manual_seed(0)
    model = RPN(replace(CONFIG, anchor_ratios=(0.5, 1.0, 2.0)), 2, (8, 16))
    maps = [torch.randn(2, 2, 3, 5), torch.randn(2, 2, 2, 3)]
    output = model(maps)
    assert output.grids == [(3, 5), (2, 3)]
    assert [len(a) for a in output.anchors] == [45, 18]
    seen = model.conv(maps[0]).relu()
    row, column, shape = 2, 1, 1
    number = (row * 5 + column) * 3 + shape
    assert_close(output.logits[0][1, number], model.objectness(seen)[1, shape, row, column])
    assert_close(
        output.deltas[0][1, number], model.regressor(seen)[1, 4 * shape : 4 * shape + 4, row, column]
    )
    assert output.anchors[0][number].tolist() == [8 - 4, 16 - 4, 8 + 4, 16 + 4]


def test_proposals_are_decoded_clipped_and_sorted():
    """Anchors of a 2x2 grid, the picture 10 x 12: a moved box, a clipped one, two without area."""
    model, deltas = rpn(), torch.zeros(1, 4, 4)
    deltas[0, 3] = torch.tensor([-0.25, 0.0, math.log(0.5), 0.0])  # centre (8, 8) to (6, 8), width 8 to 4
    deltas[0, 0] = torch.tensor([-2.0, 0.0, 0.0, 0.0])  # left of the picture
    deltas[0, 1] = torch.tensor([0.0, -5.0, 0.0, 0.0])  # above it
    output = answer(model, (2, 2), torch.tensor([[9.0, 8.0, 2.0, 3.0]]), deltas)
    found = model.propose(output, batch((10, 12)))
    assert_close(found.boxes[0], torch.tensor([[4.0, 4.0, 8.0, 10.0], [0.0, 4.0, 4.0, 10.0]]))
    assert_close(found.scores[0], torch.tensor([3.0, 2.0]).sigmoid())
    assert found.levels[0].tolist() == [0, 0]


def test_limits_before_and_after_nms():
    """Anchors of side 16 every 8 px overlap their neighbours by 1/3, so NMS at 0.2 leaves every second."""
    limits = ProposalLimits(before_nms=5, after_nms=2, nms_iou=0.2)
    config = replace(CONFIG, anchor_scales=(2.0,), inference=limits, training=replace(limits, after_nms=1))
    model, logits = rpn(config), torch.arange(8.0).flip(0)[None]
    output = answer(model, (1, 8), logits)
    found = model.propose(output, batch((64, 64)))
    # Of the best five, 0 is cut in half by the border: side 8 against 16.
    assert found.boxes[0].tolist() == [[0.0, 0.0, 8.0, 8.0], [8.0, 0.0, 24.0, 8.0]]
    assert len(model.train().propose(output, batch((64, 64))).boxes[0]) == 1


@pytest.mark.parametrize("name, value", [("before_nms", 0), ("after_nms", -1), ("nms_iou", -0.1)])
def test_impossible_limits(name: str, value: float):
    """Elsewhere -1 is "no limit"; as the end of a slice it would drop the worst proposal."""
    with pytest.raises(ValueError, match=f"{name} must .* got {value}"):
        replace(ProposalLimits(), **{name: value})


def test_candidates_are_what_nms_has_not_yet_seen():
    """The best of each level in order, those without area left out, however much they overlap."""
    limits = ProposalLimits(before_nms=3)
    model, deltas = rpn(), torch.zeros(1, 4, 4)
    deltas[0, 1] = torch.tensor([0.0, -5.0, 0.0, 0.0])  # above the picture
    output = answer(model, (2, 2), torch.tensor([[1.0, 8.0, 2.0, 3.0]]), deltas)
    boxes, scores, levels = model.candidates(output, 0, (10, 12), limits)
    assert_close(scores, torch.tensor([3.0, 2.0]).sigmoid())
    assert_close(boxes, torch.tensor([[4.0, 4.0, 12.0, 10.0], [0.0, 4.0, 4.0, 10.0]]))
    assert levels.tolist() == [0, 0]


def test_assignment_behind_the_targets():
    """An anchor on an object, one that it half covers, and one in the padding, which nothing looks at."""
    model, image = rpn(), ImageBatch(torch.zeros(1, 3, 24, 8), [(8, 8)], [(8, 8)], [(16, 8)])
    output = answer(model, (3, 1), torch.zeros(1, 3))
    target = Instances((8, 8), torch.tensor([[-4.0, -4.0, 4.0, 4.0]]), torch.tensor([0]))
    found = model.assign(output, image, 0, target)
    assert found.target_index.tolist() == [0, -1, -2]
    assert_close(found.iou, torch.tensor([1.0, 0.0, 0.0]))


def test_levels_do_not_suppress_each_other():
    """The same box on two levels survives twice."""
    torch.manual_seed(0)
    model = RPN(CONFIG, 2, (8, 16)).eval()
    seen = model([torch.zeros(1, 2, 1, 1), torch.zeros(1, 2, 1, 1)])
    same = [seen.anchors[0], seen.anchors[0]]
    output = RPNOutput(seen.grids, same, [torch.ones(1, 1), torch.zeros(1, 1)], [torch.zeros(1, 1, 4)] * 2)
    found = model.propose(output, batch((64, 64)))
    assert found.levels[0].tolist() == [0, 1] and torch.equal(*found.boxes[0])


def test_equal_scores_keep_their_order():
    """A saturated sigmoid makes ties; the earlier anchor goes first."""
    config = replace(CONFIG, inference=ProposalLimits(before_nms=3, after_nms=3))
    model = rpn(config)
    found = model.propose(answer(model, (1, 6), torch.full((1, 6), 200.0)), batch((64, 64)))
    assert found.boxes[0][:, 2].tolist() == [4.0, 12.0, 20.0]


def test_no_sound_box_is_no_proposal():
    model = rpn()
    output = answer(model, (2, 2), torch.zeros(1, 4), torch.tensor([-9.0, 0, 0, 0]).expand(1, 4, 4))
    found = model.propose(output, batch((16, 16)))
    assert found.boxes[0].shape == (0, 4) and found.scores[0].shape == (0,)


def test_float64_stays_float64():
    model = rpn().double()
    output = model([torch.randn(1, 2, 3, 3, dtype=torch.float64)])
    found = model.propose(output, batch((24, 24)))
    assert found.scores[0].dtype == found.boxes[0].dtype == torch.float64
    losses = model.losses(output, model.targets(output, batch((24, 24)), [objects()], first))
    assert {value.dtype for value in losses.values()} == {torch.float64}


# --- targets


def targets_of(config: RPNConfig, target: Instances, images: ImageBatch, grid=(8, 8)) -> RPNTargets:
    model = rpn(config)
    return model.targets(answer(model, grid, torch.zeros(1, grid[0] * grid[1])), images, [target], first)


def test_targets_by_hand():
    """An object on the anchor of cell (2, 3) of an 8x8 grid; the anchor beside it has IoU 0."""
    target = objects([[20.0, 12.0, 28.0, 20.0]])
    found = targets_of(CONFIG, target, batch((64, 64)))
    assert found.positive[0].tolist() == [2 * 8 + 3]
    assert len(found.negative[0]) == 63
    assert_close(found.deltas[0], torch.zeros(1, 4))


def test_border_and_padding_leave_anchors_out():
    nothing = objects([], [])
    assert len(targets_of(CONFIG, nothing, batch((64, 64))).negative[0]) == 64
    # Inside 64 x 64 with its whole side: the first row and column stick out by 4 px, and the last reaches 60.
    inside = replace(CONFIG, allowed_border=0)
    assert len(targets_of(inside, nothing, batch((64, 64))).negative[0]) == 49
    assert len(targets_of(replace(CONFIG, allowed_border=4), nothing, batch((64, 64))).negative[0]) == 64
    # A smaller neighbour, padded to 32 x 24 alone, has 4 rows and 3 columns of cells.
    assert len(targets_of(CONFIG, nothing, batch((64, 64), padded=(32, 24))).negative[0]) == 12


def with_region(boxes: list[list[float]], ignore: list[bool]) -> Instances:
    return replace(objects(boxes), ignore=torch.tensor(ignore))


def test_ignored_regions_are_no_background():
    """The left half of the picture is a crowd: anchors with more than half of their area in it are unused."""
    target = with_region([[0.0, 0.0, 32.0, 64.0], [44.0, 4.0, 52.0, 12.0]], [True, False])
    found = targets_of(CONFIG, target, batch((64, 64)))
    assert found.positive[0].tolist() == [1 * 8 + 6]
    left = torch.tensor([row * 8 + column for row in range(8) for column in range(4)])
    # Half of the anchors of column 0 and row 0 lies outside the picture and the region: not "more than half".
    hidden = [i for i in left.tolist() if i % 8 > 0 and i // 8 > 0]
    assert set(hidden).isdisjoint(found.negative[0].tolist())
    assert len(found.negative[0]) == 64 - 1 - len(hidden)


def test_an_object_in_an_ignored_region_is_still_learned():
    target = with_region([[0.0, 0.0, 64.0, 64.0], [20.0, 12.0, 28.0, 20.0]], [True, False])
    assert targets_of(CONFIG, target, batch((64, 64))).positive[0].tolist() == [19]


def test_published_models_take_crowds_for_background():
    config = replace(CONFIG, assigner=replace(IGNORE, ignore_ioa=-1.0))
    target = with_region([[0.0, 0.0, 64.0, 64.0]], [True])
    assert len(targets_of(config, target, batch((64, 64))).negative[0]) == 64


def test_sampler_limits_both_kinds():
    config = replace(CONFIG, sampler=Sampler(num=4, positive_fraction=0.5))
    boxes = [[8.0 * i - 4, 4.0, 8.0 * i + 4, 12.0] for i in range(1, 6)]
    found = targets_of(config, objects(boxes), batch((64, 64)))
    assert found.positive[0].tolist() == [9, 10] and found.negative[0].tolist() == [0, 1]


# --- losses


@pytest.mark.parametrize(("kind", "distance"), [("l1", 0.5), ("smooth_l1", 0.5 - 1 / 18)])
def test_losses_by_hand(kind, distance: float):
    """One positive and three negatives; every logit 0 costs log 2; one delta of four is off by 0.5."""
    model = rpn(replace(CONFIG, box_loss=kind))
    output = answer(model, (2, 4), torch.zeros(1, 8))
    targets = RPNTargets([torch.tensor([5])], [torch.tensor([0, 1, 2])], [torch.tensor([[0.5, 0, 0, 0]])])
    losses = model.losses(output, targets)
    assert losses["loss_rpn_cls"].item() == pytest.approx(math.log(2))
    assert losses["loss_rpn_bbox"].item() == pytest.approx(distance / 4)


def test_a_picture_without_positives_counts_one():
    """Two pictures of four negatives each: 8 log 2 over max(1, 0) + max(1, 0) + 4 + 4 = 10."""
    model = rpn()
    none, four = torch.zeros(0, dtype=torch.int64), torch.arange(4)
    output = answer(model, (2, 2), torch.zeros(2, 4))
    losses = model.losses(output, RPNTargets([none, none], [four, four], [torch.zeros(0, 4)] * 2))
    assert losses["loss_rpn_cls"].item() == pytest.approx(0.8 * math.log(2))
    assert losses["loss_rpn_bbox"].item() == 0


@pytest.mark.parametrize("region", [None, [0.0, 0.0, 64.0, 64.0]], ids=["empty", "all ignored"])
def test_loss_reaches_every_parameter_without_objects(region):
    target = objects([], []) if region is None else with_region([region], [True])
    model = rpn().train()
    output = model([torch.randn(1, 2, 8, 8)])
    losses = model.losses(output, model.targets(output, batch((64, 64)), [target], first))
    torch.stack(list(losses.values())).sum().backward()
    assert without_gradient(model) == []
    assert all(value.isfinite() for value in losses.values())
