"""Test-time augmentation: one view is the plain detector, and merging several obeys their symmetries."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torchvision.transforms.v2 import functional

from cascade_lab import augmented
from cascade_lab.augmented import (
    AugmentedTest,
    View,
    cost,
    merge,
    merge_proposals,
    mirror_images,
    predict_augmented,
    read_out,
    see,
)
from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.ops.box_coder import decode_deltas
from cascade_lab.ops.nms import nms_reference
from cascade_lab.structures import ImageBatch
from cascade_lab.trace import ProposalTrace, Trace
from tests.tiny_detector import CASCADE, pictures, tiny

SIZES = [(64, 64), (50, 70)]  # the second is padded


def photos(mirrored: bool = False) -> list[Tensor]:
    generator = torch.Generator().manual_seed(3)
    coarse = [torch.rand(3, 8, 8, generator=generator) * 255 for _ in SIZES]
    images = [functional.resize(c, list(size)) for c, size in zip(coarse, SIZES, strict=True)]
    return [image.flip(-1) for image in images] if mirrored else images


def batch(factor: float = 1.0, mirrored: bool = False) -> ImageBatch:
    """Two pictures of different shapes, twice as large on disk."""
    images = [
        functional.resize(image, [int(h * factor), int(w * factor)]) if factor != 1 else image
        for image, (h, w) in zip(photos(mirrored), SIZES, strict=True)
    ]
    return ImageBatch.collate(images, [(2 * h, 2 * w) for h, w in SIZES])


def detector(**changes) -> Detector:
    return tiny(replace(CASCADE, **changes), seed=2).eval()


def tensors(trace: Trace) -> list[Tensor]:
    found = trace.detections
    assert found is not None
    return [
        *trace.proposals.boxes,
        *trace.proposals.scores,
        *trace.proposals.levels,
        *(t for s in trace.stages for t in (*s.proposals, *s.boxes, *s.logits, *s.deltas)),
        *(t for column in (found.rows, found.boxes, found.labels, found.scores) for t in column),
        *(m for masks in found.mask_logits.values() for m in masks),
    ]


@pytest.mark.parametrize("ensemble", ["own_rois_logits", "own_rois_probabilities", "last_rois_probabilities"])
def test_one_view_is_the_plain_prediction(ensemble):
    model = detector(postprocess=replace(CASCADE.postprocess, ensemble=ensemble))
    plain, merged = model.predict(batch()), predict_augmented(model, [batch()], flip=False)
    assert type(plain) is type(merged) and type(plain.trace) is type(merged.trace)
    for a, b in zip(tensors(plain.trace), tensors(merged.trace), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(plain.instances, merged.instances, strict=True):
        assert len(a) > 5 and a.masks is not None and b.masks is not None
        assert torch.equal(a.boxes, b.boxes) and torch.equal(a.masks, b.masks)
        assert a.scores is not None and b.scores is not None and torch.equal(a.scores, b.scores)


def test_one_view_reads_out_every_stage_as_the_plain_detector():
    model = detector()
    trace = model.predict(batch(), keep_features=True).trace
    sight = see(model, [batch()], flip=False)
    for voters in [(0,), (2,), (0, 1)]:
        for a, b in zip(model.read_out(trace, voters), read_out(model, sight, voters), strict=True):
            assert torch.equal(a.boxes, b.boxes) and torch.equal(a.masks, b.masks)  # type: ignore[arg-type]


def test_the_same_view_twice_changes_nothing_but_the_proposals():
    """Means of equal numbers: from the same proposals, two equal views say what one says."""
    model = detector()
    one = see(model, [batch()], flip=False)
    two = replace(one, views=one.views * 2)
    for voters in [(0, 1, 2), (1,)]:
        a, b = merge(model, one, voters), merge(model, two, voters)
        assert [r.tolist() for r in a.rows] == [r.tolist() for r in b.rows]
        assert_close((a.boxes, a.scores), (b.boxes, b.scores))
        for k, masks in a.mask_logits.items():
            assert_close([m.sigmoid() for m in masks], [m.sigmoid() for m in b.mask_logits[k]])


def test_training_mode_is_refused():
    with pytest.raises(InputError, match="is in training mode"):
        see(detector().train(), [batch()], flip=True)


@pytest.mark.parametrize("factors", [(1.0,), (1.0, 1.5)])
def test_a_mirrored_picture_has_mirrored_detections(factors: tuple[float, ...]):
    """Its views are the same ones in another order, whatever the network does; one alone is different."""
    model = detector()
    straight = predict_augmented(model, [batch(f) for f in factors], flip=True).instances
    mirrored = predict_augmented(model, [batch(f, mirrored=True) for f in factors], flip=True).instances
    alone = model.predict(batch(mirrored=True)).instances
    for a, b, c in zip(straight, mirrored, alone, strict=True):
        assert a.masks is not None and b.masks is not None and len(a) > 5
        back = b.boxes.clone()
        back[:, 0::2] = a.image_size[1] - b.boxes[:, [2, 0]]
        assert_close(a.boxes, back, atol=1e-3, rtol=0)
        assert_close((a.scores, a.labels), (b.scores, b.labels))
        assert (a.masks == b.masks.flip(-1)).float().mean() > 0.9999  # a pixel may lie on the line
        assert len(a) != len(c) or not torch.allclose(b.boxes, c.boxes, atol=0.1)


def test_boxes_return_from_a_view():
    size = (50, 70)
    for mirrored in (False, True):
        view = View(batch(1.5), mirrored, ())
        boxes = torch.tensor([[[10.0, 5.0, 30.0, 45.0]]])
        moved = view.enter(boxes, 1, size)  # 75 x 105
        assert moved.flatten().tolist() == ([60.0, 7.5, 90.0, 67.5] if mirrored else [15.0, 7.5, 45.0, 67.5])
        assert_close(view.leave(moved, 1, size), boxes)


def test_merged_by_the_definition(monkeypatch):
    """Boxes and scores are means over views of what each one's stages gave; the trace is the first view's."""
    model = detector()
    given = {}

    def picked(boxes, scores, config, factors):
        given[len(given)] = boxes, scores, factors
        return augmented_pick(boxes, scores, config, factors)

    augmented_pick = augmented.pick_detections
    monkeypatch.setattr(augmented, "pick_detections", picked)
    scaled = [batch(), batch(1.5)]
    sight = see(model, scaled, flip=True)
    prediction = predict_augmented(model, scaled, flip=True)
    assert [(v.images.sizes[0][0], v.mirrored) for v in sight.views] == [
        (64, False), (64, True), (96, False), (96, True),
    ]  # fmt: skip
    for i, (h, w) in enumerate(SIZES):
        means = []
        for view in sight.views:
            vh, vw = view.images.sizes[i]
            stage = view.stages[-1]
            found = decode_deltas(
                stage.deltas[i].unflatten(1, (-1, 4)), stage.proposals[i][:, None], stage.delta_std, (vh, vw)
            )
            x1, y1, x2, y2 = found.unbind(-1)
            if view.mirrored:
                x1, x2 = vw - x2, vw - x1
            means.append(torch.stack([x1 * w / vw, y1 * h / vh, x2 * w / vw, y2 * h / vh], -1))
        scores = [torch.stack([s.logits[i] for s in v.stages]).mean(0).softmax(-1) for v in sight.views]
        assert_close(given[i][0], sum(means) / 4, atol=1e-3, rtol=0)
        assert_close(given[i][1], sum(scores) / 4)
        assert given[i][2] == (0.5, 0.5)
    for stage, first in zip(prediction.trace.stages, sight.views[0].stages, strict=True):
        for a, b in zip((*stage.boxes, *stage.logits), (*first.boxes, *first.logits), strict=True):
            assert torch.equal(a, b)
    for a, b in zip(prediction.trace.proposals.boxes, prediction.trace.stages[0].proposals, strict=True):
        assert torch.equal(a, b)
    assert prediction.trace.sizes == SIZES and prediction.trace.to_original().sizes == [
        (128, 128),
        (100, 140),
    ]


def test_masks_are_the_mean_of_all_probabilities():
    model = detector()
    sight = see(model, [batch()], flip=True)
    found = merge(model, sight, (0, 1, 2))
    for i, (_, w) in enumerate(SIZES):
        boxes = [b[:0] for b in found.boxes]
        labels = [x[:0] for x in found.labels]
        boxes[i], labels[i] = found.boxes[i], found.labels[i]
        straight = model.cascade.masks_of(sight.views[0].pyramid, boxes, labels, (0, 1, 2))
        boxes[i] = torch.stack([w - boxes[i][:, 2], boxes[i][:, 1], w - boxes[i][:, 0], boxes[i][:, 3]], 1)
        turned = model.cascade.masks_of(sight.views[1].pyramid, boxes, labels, (0, 1, 2))
        for k in range(3):
            expected = (straight[k][i].sigmoid() + turned[k][i].sigmoid().flip(-1)) / 2
            assert_close(found.mask_logits[k][i].sigmoid(), expected, atol=1e-5, rtol=0)


def test_proposals_by_hand():
    """The mirrored view adds one box that the first lacks; of the double, the better score stays."""
    model = detector()
    images = pictures(1)  # 64 x 64
    views = [View(images, False, ()), View(images, True, ())]
    level = torch.tensor([0, 2])
    first = ProposalTrace(
        [torch.tensor([[0.0, 0, 20, 20], [40, 40, 60, 60]])], [torch.tensor([0.5, 0.4])], [level]
    )
    second = ProposalTrace(
        [torch.tensor([[44.0, 0, 64, 20], [54, 30, 64, 60]])], [torch.tensor([0.8, 0.3])], [level + 1]
    )
    merged = merge_proposals(views, [first, second], model)
    assert merged.boxes[0].tolist() == [[0, 0, 20, 20], [40, 40, 60, 60], [0, 30, 10, 60]]
    assert_close(merged.scores[0], torch.tensor([0.8, 0.4, 0.3]))
    assert merged.levels[0].tolist() == [1, 2, 3]
    assert merge_proposals(views[:1], [first], model) is first


def test_no_more_proposals_than_the_detector_takes():
    model = detector()
    sight = see(model, [batch(), batch(1.5), batch(2.0)], flip=True)
    limits = model.config.rpn.inference
    for boxes, scores in zip(sight.proposals.boxes, sight.proposals.scores, strict=True):
        assert 0 < len(boxes) <= limits.after_nms
        assert len(nms_reference(boxes, scores, limits.nms_iou)) == len(boxes)


def test_no_proposals(monkeypatch):
    model = detector()
    propose = model.rpn.propose

    def nothing(seen, images):
        found = propose(seen, images)
        return ProposalTrace(*([t[:0] for t in c] for c in (found.boxes, found.scores, found.levels)))

    monkeypatch.setattr(model.rpn, "propose", nothing)
    for found in predict_augmented(model, [batch(), batch(1.5)], flip=True).instances:
        assert len(found) == 0 and found.masks is not None and len(found.masks) == 0


def test_mirrored_pictures_keep_their_padding():
    images = mirror_images(batch())
    expected = batch(mirrored=True)
    assert images.sizes == expected.sizes and torch.equal(images.pixels, expected.pixels)


def test_config():
    assert AugmentedTest().plain and AugmentedTest().views == 1
    both = AugmentedTest(scales=(0.5, 1.0, 2.0), flip=True)
    assert not both.plain and both.views == 6 and both.pixels == 2 * 5.25
    assert "6 views" in cost(both) and "10.5 times that" in cost(both)
    assert not AugmentedTest(flip=True).plain and not AugmentedTest(scales=(2.0,)).plain
    for scales in [(), (0.0,), (1.0, -1.0), (float("inf"),), (float("nan"),), (1.0, 1.0)]:
        with pytest.raises(InputError, match=r"tta.scales is .* \(.*\)"):
            AugmentedTest(scales=scales)
