"""The loop over the stages, its switches, and that every parameter learns whatever the picture."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.heads.cascade import Cascade, scale_gradient
from cascade_lab.heads.cascade_config import CascadeConfig
from cascade_lab.structures import Instances
from cascade_lab.targets.sampler import first
from tests.tiny_detector import CASCADE, CLASSES, objects, pictures, stages, tiny, without_gradient

STRIDES = (4, 8, 16, 32)


def build(config: CascadeConfig = CASCADE, seed: int = 0) -> Cascade:
    return tiny(config, seed).cascade


def maps(count: int = 2, requires_grad: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(5)
    sizes = [64 // stride for stride in STRIDES]
    return [torch.randn(count, 8, s, s, generator=generator).requires_grad_(requires_grad) for s in sizes]


def boxes(count: int = 2, rows: int = 12, seed: int = 1) -> list[Tensor]:
    """Return random boxes, and two near the objects of ``objects()``, so that there are positives."""
    generator = torch.Generator().manual_seed(seed)
    corner = torch.rand(count, rows, 2, generator=generator) * 40
    side = 6 + torch.rand(count, rows, 2, generator=generator) * 18
    near = objects().boxes + torch.tensor([1.0, 0.0, 1.0, 1.0])
    return [torch.cat([near, row]) for row in torch.cat([corner, corner + side], dim=2)]


def train(
    cascade: Cascade,
    targets: list[Instances],
    proposals: list[Tensor] | None = None,
    requires_grad: bool = False,
):
    pyramid = maps(len(targets), requires_grad)
    proposals = boxes(len(targets)) if proposals is None else proposals
    losses, traces = cascade.train()(pyramid, pictures(len(targets)), proposals, targets, first)
    return losses, traces, pyramid


# --- training


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_stages(count: int):
    cascade = build(stages(count))
    losses, traces, _ = train(cascade, [objects(), objects()])
    names = [f"s{k}.{name}" for k in range(count) for name in ("loss_cls", "loss_bbox", "acc", "loss_mask")]
    assert list(losses) == names
    assert [trace.iou_threshold for trace in traces] == [0.5, 0.6, 0.7, 0.75][:count]
    torch.stack([value for name, value in losses.items() if "loss" in name]).sum().backward()
    assert without_gradient(cascade) == []


def test_each_stage_gets_the_refined_boxes_of_the_last():
    """Candidates of stage k + 1 are the objects, then what stage k refined, without the added objects."""
    targets = [objects(), objects([], [])]
    _, traces, _ = train(build(), targets)
    for before, after in zip(traces, traces[1:], strict=False):
        for image, target in enumerate(targets):
            handed_on = before.boxes[image][~before.is_target[image]]
            candidates = torch.cat([target.boxes, handed_on])
            assert after.sampled is not None
            rows = torch.cat(after.sampled[image])
            assert torch.equal(after.proposals[image], candidates[rows])
            assert torch.equal(after.is_target[image], rows < len(target))


def test_positives_move_by_the_deltas_of_their_class():
    """All deltas zero but those of class 2 (right by 0.1 of the width) and class 1 (left)."""
    cascade = build(stages(1))
    logits = torch.tensor([[0.0, 9.0, 0.0, 0.0], [0.0, 9.0, 0.0, 99.0], [9.0, 0.0, 0.0, 0.0]])
    deltas = torch.zeros(3, 3 * 4)
    deltas[:, 4], deltas[:, 8] = -1.0, 1.0
    box = [torch.tensor([[10.0, 10.0, 30.0, 20.0]] * 3)]
    images = pictures(1)
    inferred = cascade.refine(0, box, logits, deltas, images)[0]
    assert inferred[:, 0].tolist() == [8.0, 8.0, 10.0]  # the likeliest object class, also of background
    taught = cascade.refine(0, box, logits, deltas, images, torch.tensor([2, CLASSES, 2]))[0]
    assert taught[:, 0].tolist() == [12.0, 8.0, 12.0]


def test_a_later_stage_decodes_with_its_own_std():
    """The same answer, 1 for dx: stage 1 moves the box by 0.1 of its width, stage 3 by 0.033."""
    cascade, deltas, box = build(), torch.zeros(1, 12), [torch.tensor([[10.0, 10.0, 30.0, 20.0]])]
    deltas[:, 0::4] = 1.0
    moved = [cascade.refine(k, box, torch.zeros(1, 4), deltas, pictures(1))[0][0, 0] for k in range(3)]
    assert_close(torch.stack(moved), torch.tensor([12.0, 11.0, 10.66]))


def test_refined_boxes_are_clipped_and_carry_no_gradient():
    cascade, deltas = build(stages(1)), torch.zeros(1, 12, requires_grad=True)
    box = [torch.tensor([[50.0, -5.0, 80.0, 20.0]])]
    refined = cascade.refine(0, box, torch.zeros(1, 4), deltas, pictures(1))[0]
    assert refined.tolist() == [[50.0, 0.0, 64.0, 20.0]] and not refined.requires_grad


def test_class_agnostic_heads():
    config = replace(CASCADE, box_head=replace(CASCADE.box_head, class_aware=False))
    cascade = build(config)
    losses, traces, pyramid = train(cascade, [objects(), objects()])
    assert all(deltas.shape[1] == 4 for trace in traces for deltas in trace.deltas)
    torch.stack([value for name, value in losses.items() if "loss" in name]).sum().backward()
    assert without_gradient(cascade) == []
    found = cascade.eval().run(pyramid, pictures(2), boxes())
    assert [len(b) for b in found[-1].boxes] == [14, 14]


def test_later_stages_on_all_boxes():
    """Two objects, room for one positive of 8: stage 1 sees an object and 7 negatives.

    They and both objects are 9 boxes. Sampling again leaves 8 of them, "all" keeps 9.
    """
    few = replace(CASCADE, sampler=replace(CASCADE.sampler, num=8, positive_fraction=0.125))
    targets = [objects(), objects()]
    _, sampled, _ = train(build(few), targets)
    _, kept, _ = train(build(replace(few, later_sampling="all")), targets)
    for image in range(2):
        assert [len(stage.proposals[image]) for stage in sampled] == [8, 8, 8]
        assert [len(stage.proposals[image]) for stage in kept] == [8, 9, 9]
        assert [int(stage.is_target[image].sum()) for stage in sampled] == [1, 1, 1]
        assert [int(stage.is_target[image].sum()) for stage in kept] == [1, 2, 2]


@pytest.mark.parametrize("mask_stages", [(), (0,), (2,), (0, 2)])
def test_masks_in_any_subset_of_stages(mask_stages: tuple[int, ...]):
    cascade = build(replace(CASCADE, mask_stages=mask_stages))
    assert list(cascade.mask_heads) == [str(k) for k in mask_stages]
    losses, _, _ = train(cascade, [objects()])
    assert [name for name in losses if "mask" in name] == [f"s{k}.loss_mask" for k in mask_stages]
    pyramid, images = maps(1), pictures(1)
    traces = cascade.eval().run(pyramid, images, boxes(1))
    found = cascade.read_out(pyramid, images, traces, (0, 1, 2))
    assert tuple(found.mask_logits) == mask_stages
    # Where no voter has a mask head, all heads there are vote.
    found = cascade.read_out(pyramid, images, traces, (1,))
    assert tuple(found.mask_logits) == mask_stages


# --- the weights of the stages


def gradients(loss_weights, weighted_stage: int) -> tuple[dict[str, Tensor], list[Tensor], dict[str, Tensor]]:
    """Return the gradients of heads and pyramid from one stage's losses, and the losses."""
    cascade = build(replace(CASCADE, loss_weights=loss_weights))
    losses, _, pyramid = train(cascade, [objects(), objects()], requires_grad=True)
    mine = [v for n, v in losses.items() if n.startswith(f"s{weighted_stage}.loss")]
    torch.stack(mine).sum().backward()
    heads = {name: p.grad for name, p in cascade.named_parameters() if p.grad is not None}
    return heads, [features.grad for features in pyramid], losses


@pytest.mark.parametrize(("k", "weight"), [(0, 1.0), (1, 0.5), (2, 0.25)])
def test_shared_features_scales_only_what_reaches_the_pyramid(k: int, weight: float):
    """Plain weights scale losses and all gradients, shared_features the gradient of the pyramid alone."""
    plain_heads, plain_pyramid, plain = gradients("plain", k)
    heads, pyramid, losses = gradients("shared_features", k)
    for name in ("loss_cls", "loss_bbox", "loss_mask"):
        assert_close(plain[f"s{k}.{name}"], weight * losses[f"s{k}.{name}"])
    assert_close(plain[f"s{k}.acc"], losses[f"s{k}.acc"])
    assert heads.keys() == plain_heads.keys() and heads
    for name, grad in heads.items():
        assert_close(plain_heads[name], weight * grad, atol=1e-6, rtol=1e-4)
    for plain_grad, grad in zip(plain_pyramid, pyramid, strict=True):
        assert_close(plain_grad, grad, atol=1e-6, rtol=1e-4)
    assert any(grad.any() for grad in pyramid)


def test_scale_gradient():
    x = torch.tensor([3.0], requires_grad=True)
    y = scale_gradient(x, 0.25)
    (2 * y).backward()
    assert y.item() == 3.0 and x.grad is not None and x.grad.item() == 0.5


# --- pictures with nothing to learn from

NOTHING = objects([], [])
IGNORED = replace(objects([[0.0, 0.0, 64.0, 64.0]]), ignore=torch.tensor([True]))
BARE = replace(objects(), masks=None)
PARTLY = replace(objects(), has_mask=torch.tensor([False, True]))
NO_MASK_AT_ALL = replace(objects(), has_mask=torch.tensor([False, False]))


@pytest.mark.parametrize(
    "targets",
    [[NOTHING], [IGNORED], [BARE], [PARTLY], [NO_MASK_AT_ALL], [NOTHING, objects()], [IGNORED, BARE]],
    ids=["no objects", "all ignored", "no masks", "some masks", "has no mask", "first empty", "both poor"],
)
@pytest.mark.parametrize("proposals", [True, False], ids=["proposals", "no proposals"])
@pytest.mark.parametrize("norm", ["none", "batch"])
def test_loss_reaches_every_parameter(targets: list[Instances], proposals: bool, norm):
    convs = replace(CASCADE.box_head, convs=1, conv_channels=4, norm=norm)
    cascade = build(replace(CASCADE, box_head=convs))
    given = boxes(len(targets)) if proposals else [torch.zeros(0, 4)] * len(targets)
    losses, _, pyramid = train(cascade, targets, given, requires_grad=True)
    assert all(value.isfinite() for value in losses.values())
    torch.stack([value for name, value in losses.items() if "loss" in name]).sum().backward()
    assert without_gradient(cascade) == []
    assert all(features.grad is not None for features in pyramid)
    assert all(p.grad.isfinite().all() for p in cascade.parameters() if p.grad is not None)
    assert all(value.isfinite().all() for value in cascade.state_dict().values())


@pytest.mark.parametrize("box_loss", ["decoded_giou", "delta_smooth_l1", "delta_l1"])
def test_boxes_without_area_spoil_no_loss(box_loss):
    """Objects and proposals without width, height or both, among others."""
    cascade = build(replace(CASCADE, box_head=replace(CASCADE.box_head, box_loss=box_loss)))
    flat = torch.tensor([[10.0, 10.0, 10.0, 30.0], [10.0, 10.0, 30.0, 10.0], [64.0, 64.0, 64.0, 64.0]])
    bare = objects(flat.tolist(), [0, 1, 2])
    for targets in ([objects(), bare], [bare, bare]):
        given = [torch.cat([flat, boxes(1)[0]]), flat]
        losses, traces, _ = train(cascade, targets, given)
        assert all(value.isfinite() for value in losses.values())
        assert all(b.isfinite().all() for trace in traces for b in trace.boxes)
        cascade.zero_grad()
        torch.stack([value for name, value in losses.items() if "loss" in name]).sum().backward()
        assert all(p.grad is not None and p.grad.isfinite().all() for p in cascade.parameters())


def test_ignored_regions_teach_nothing():
    """A region over the right half: with the rule on, no sampled box lies in it; with it off, some do."""
    target = replace(objects([[4.0, 6, 24, 30], [32.0, 0, 64, 64]]), ignore=torch.tensor([False, True]))
    corner = torch.tensor([40.0, 40.0, 60.0, 60.0])
    given = [torch.cat([boxes(1)[0], corner[None]])]
    for ioa, trained in ((0.5, False), (-1.0, True)):
        cascade = build(replace(stages(1), ignore_ioa=ioa, sampler=replace(CASCADE.sampler, num=64)))
        _, traces, _ = train(cascade, [target], given)
        assert (traces[0].proposals[0] == corner).all(1).any() == trained


def test_what_is_not_a_number_reaches_the_loss():
    """A step that overflows in float16 ends in a loss that the training loop can refuse, not in a crash."""
    cascade = build(stages(2))
    with torch.no_grad():
        cascade.box_heads[0].regressor.bias.fill_(torch.nan)
    losses, traces, _ = train(cascade, [objects()])
    assert not traces[0].boxes[0].isfinite().all()
    assert losses["s0.loss_bbox"].isnan()


# --- inference


def test_row_r_is_the_same_object_in_all_stages():
    cascade, images = build().eval(), pictures(2)
    found = cascade.run(maps(), images, boxes())
    assert len(found) == 3
    for before, after in zip(found, found[1:], strict=False):
        for left, right in zip(before.boxes, after.proposals, strict=True):
            assert torch.equal(left, right)
    for image in range(2):
        assert len({len(stage.logits[image]) for stage in found}) == 1
        assert torch.equal(found[0].proposals[image], boxes()[image])


def test_last_rois_ensemble_runs_all_heads_on_the_last_boxes():
    rule = replace(CASCADE.postprocess, ensemble="last_rois_probabilities")
    cascade, images, pyramid = build(replace(CASCADE, postprocess=rule)).eval(), pictures(2), maps()
    with torch.no_grad():
        found = cascade.run(pyramid, images, boxes())
        heads = [cascade.look(k, pyramid, found[2].proposals)[0].softmax(-1) for k in range(3)]
    earlier = found[2].earlier_logits
    assert earlier is not None and len(earlier) == 2
    said = [torch.cat(rows).softmax(-1) for rows in (*earlier, found[2].logits)]
    assert_close(torch.stack(said).mean(0), torch.stack(heads).mean(0))
    assert not any(rows.requires_grad for rows in cascade.run(pyramid, images, boxes())[2].earlier_logits[0])
    alone = build().eval().run(pyramid, images, boxes())
    assert all(stage.earlier_logits is None for stage in alone)


def test_no_proposal_runs_through():
    cascade, images, pyramid = build().eval(), pictures(2), maps()
    with torch.no_grad():
        found = cascade.run(pyramid, images, [torch.zeros(0, 4), boxes()[1]])
        detections = cascade.read_out(pyramid, images, found, (0, 1, 2))
        nothing = cascade.run(pyramid, images, [torch.zeros(0, 4)] * 2)
        empty = cascade.read_out(pyramid, images, nothing, (0, 1, 2))
    assert len(detections.boxes[0]) == 0 and [len(s.boxes[1]) for s in found] == [14] * 3
    assert [len(b) for b in empty.boxes] == [0, 0]
    assert empty.mask_logits[2][0].shape == (0, 8, 8)
