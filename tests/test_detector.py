"""The parts together: losses, predictions, read-outs, frames, and what chance may depend on."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.detector import Detector, DetectorConfig, on_original
from cascade_lab.errors import InputError
from cascade_lab.heads.box_head import BoxHeadConfig
from cascade_lab.heads.cascade_config import CascadeConfig
from cascade_lab.heads.mask_head import MaskHeadConfig
from cascade_lab.heads.postprocess import pick_detections
from cascade_lab.layers import conv3x3
from cascade_lab.ops.masks import paste_masks
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.sampler import random_choice
from cascade_lab.trace import DetectionTrace
from cascade_lab.weights import to_official
from tests.oracle.golden_detector import detector_config
from tests.tiny_detector import (
    BACKBONE,
    CASCADE,
    CLASSES,
    SIZE,
    config,
    objects,
    pictures,
    stages,
    tiny,
    without_gradient,
)

NOTHING = objects([], [])
IGNORED = replace(objects([[0.0, 0.0, 64.0, 64.0]]), ignore=torch.tensor([True]))
BARE = replace(objects(), masks=None)
PARTLY = replace(objects(), has_mask=torch.tensor([False, True]))


def enlarged(count: int = 2) -> ImageBatch:
    """Return pictures that were 32 high and 128 wide on disk: doubled in y, halved in x."""
    return replace(pictures(count), original_sizes=[(32, 128)] * count)


def predict(detector: Detector, images: ImageBatch, keep_features: bool = False):
    return detector.eval().predict(images, keep_features)


# --- training


def test_total_adds_up_losses_but_not_accuracies():
    output = tiny().train()(pictures(), [objects(), objects()], random_choice([1, 2]))
    expected = sum(value.item() for name, value in output.losses.items() if not name.endswith("acc"))
    assert output.total.item() == pytest.approx(expected, rel=1e-6)
    stage_names = [f"s{k}.{n}" for k in range(3) for n in ("loss_cls", "loss_bbox", "acc", "loss_mask")]
    assert list(output.losses) == ["loss_rpn_cls", "loss_rpn_bbox", *stage_names]


@pytest.mark.parametrize(
    "targets",
    [[objects()], [NOTHING], [IGNORED], [BARE], [PARTLY], [NOTHING, IGNORED]],
    ids=["objects", "none", "all ignored", "no masks", "some masks", "two poor ones"],
)
@pytest.mark.parametrize("proposals", [True, False], ids=["proposals", "no proposals"])
def test_loss_touches_every_parameter(targets: list[Instances], proposals: bool, monkeypatch):
    """Otherwise several processes would wait for each other's gradients for ever."""
    detector = tiny().train()
    if not proposals:
        propose = detector.rpn.propose

        def nothing(seen, images):
            found = propose(seen, images)
            return replace(found, boxes=[boxes[:0] for boxes in found.boxes])

        monkeypatch.setattr(detector.rpn, "propose", nothing)
    output = detector(pictures(len(targets)), targets, random_choice([1, 2]))
    output.total.backward()
    assert without_gradient(detector) == []
    assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)


@pytest.mark.parametrize("count", [1, 2, 4])
def test_any_number_of_stages_trains_and_predicts(count: int):
    detector = tiny(stages(count)).train()
    output = detector(pictures(), [objects(), NOTHING], random_choice([1, 2]))
    output.total.backward()
    assert without_gradient(detector) == []
    prediction = predict(detector, pictures())
    assert len(output.trace.stages) == len(prediction.trace.stages) == count
    assert prediction.trace.detections is not None
    assert list(prediction.trace.detections.mask_logits) == list(range(count))


def test_the_trace_is_detached():
    trace = tiny().train()(pictures(), [objects(), objects()], random_choice([1, 2])).trace
    tensors = [t for stage in trace.stages for t in (*stage.boxes, *stage.logits, *stage.deltas)]
    assert not any(t.requires_grad for t in (*tensors, *trace.proposals.boxes, *trace.proposals.scores))
    assert trace.detections is None and trace.features is None


def test_samples_do_not_depend_on_the_neighbours():
    """Seed by picture: one batch of three, or one picture at a time, or the other way round."""
    detector = tiny(seed=1).train()
    images, targets = pictures(3, seed=4), [objects(), NOTHING, objects([[8.0, 8, 40, 44]], [1])]
    seeds = [11, 12, 13]

    def sampled(order: list[int]) -> dict[int, list[Tensor]]:
        batch = ImageBatch(
            images.pixels[order], [SIZE] * len(order), [SIZE] * len(order), [SIZE] * len(order)
        )
        choose = random_choice([seeds[i] for i in order])
        trace = detector(batch, [targets[i] for i in order], choose).trace
        found: dict[int, list[Tensor]] = {i: [] for i in order}
        for stage in trace.stages:
            assert stage.sampled is not None
            for position, i in enumerate(order):
                found[i] += [*stage.sampled[position], stage.proposals[position]]
        return found

    together = sampled([0, 1, 2])
    for order in ([0], [1], [2], [2, 0]):
        for i, expected in sampled(order).items():
            for own, other in zip(expected, together[i], strict=True):
                assert_close(own, other, atol=1e-4, rtol=1e-5)
    assert len({len(rows) for rows in together[0]}) > 1


def test_a_few_steps_teach_objectness():
    """Only the RPN's task stands still while the detector learns; stages get other boxes as it goes."""
    detector = tiny(lively=False).train()
    optimizer = torch.optim.Adam(detector.parameters(), lr=0.01)
    losses = []
    for _ in range(12):
        output = detector(pictures(), [objects(), objects()], random_choice([1, 2]))
        optimizer.zero_grad()
        output.total.backward()
        optimizer.step()
        losses.append(output.losses["loss_rpn_cls"].item())
    assert losses[0] == pytest.approx(0.693, abs=0.01)  # log 2: nothing known yet
    assert losses[-1] < 0.6 * losses[0]


# --- prediction


def test_predict_is_deterministic_and_needs_no_gradient():
    detector = tiny()
    once, again = predict(detector, pictures()), predict(detector, pictures())
    for a, b in zip(once.instances, again.instances, strict=True):
        assert len(a) > 0
        assert all(torch.equal(getattr(a, n), getattr(b, n)) for n in ("boxes", "labels", "scores", "masks"))
        assert a.scores is not None and not a.scores.requires_grad


def test_predict_refuses_training_mode():
    """There, batch norms would learn from the pictures, and drop path would leave out branches at random."""
    detector = tiny().train()
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    with pytest.raises(InputError, match="call detector.eval"):
        detector.predict(pictures())
    assert all(torch.equal(value, before[name]) for name, value in detector.state_dict().items())


def test_predict_is_the_read_out_of_all_stages():
    detector = tiny()
    prediction = predict(detector, enlarged(), keep_features=True)
    for a, b in zip(prediction.instances, detector.read_out(prediction.trace, (0, 1, 2)), strict=True):
        assert len(a) > 0 and a.image_size == b.image_size
        assert torch.equal(a.boxes, b.boxes) and torch.equal(a.labels, b.labels)
        assert torch.equal(a.scores, b.scores) and torch.equal(a.masks, b.masks)


@pytest.mark.parametrize("voters", [(0,), (1,), (2,), (0, 1), (0, 2)])
def test_read_out_of_some_stages(voters: tuple[int, ...]):
    """Scores are those of the voters, boxes those of the last of them, masks theirs too."""
    detector = tiny()
    trace = predict(detector, pictures(1), keep_features=True).trace
    found = detector.read_out(trace, voters)[0]
    last = trace.stages[voters[-1]]
    scores = torch.stack([trace.stages[k].logits[0] for k in voters]).mean(0).softmax(-1)
    deltas = last.deltas[0].view(-1, CLASSES, 4)
    refined = detector.cascade.refine  # moves by the deltas of one class; ask for each in turn
    moved = [
        refined(voters[-1], last.proposals, 9.0 * torch.eye(CLASSES + 1)[k].expand(len(deltas), -1),
                last.deltas[0], pictures(1))[0]
        for k in range(CLASSES)
    ]  # fmt: skip
    expected = pick_detections(torch.stack(moved, 1), scores, CASCADE.postprocess, (1.0, 1.0))
    assert len(found) > 0
    assert_close(found.boxes, expected[1])
    assert torch.equal(found.labels, expected[2])
    assert_close(found.scores, expected[3])
    detections = detector.cascade.read_out(trace.features, pictures(1), trace.stages, voters)
    assert tuple(detections.mask_logits) == voters
    mean = torch.stack([logits[0].sigmoid() for logits in detections.mask_logits.values()]).mean(0)
    assert torch.equal(found.masks, paste_masks(mean, found.boxes, SIZE))


def test_read_out_needs_features():
    detector = tiny()
    with pytest.raises(ValueError, match="keep_features=True"):
        detector.read_out(predict(detector, pictures()).trace, (0,))


def test_read_out_refuses_boxes_of_another_frame():
    """The features are those of the network's input; under the boxes of the original they tell nothing."""
    detector = tiny()
    trace = predict(detector, enlarged(), keep_features=True).trace
    with pytest.raises(ValueError, match="holds no features"):
        detector.read_out(trace.to_original(), (0,))


@pytest.mark.parametrize("voters", [(), (3,), (-1,), (1, 0), (0, 0)])
def test_voters_are_stages_in_their_order(voters: tuple[int, ...]):
    """The last one places the boxes, so (1, 0) would read the boxes of stage 1."""
    detector = tiny()
    trace = predict(detector, pictures(1), keep_features=True).trace
    with pytest.raises(ValueError, match=r"voters .* 3 stages"):
        detector.read_out(trace, voters)


def test_detections_are_in_original_pixels():
    """The picture is doubled in y and halved in x; so y is halved and x doubled on the way back."""
    prediction = predict(tiny(), enlarged())
    detections = prediction.trace.detections
    assert detections is not None
    for image, found in enumerate(prediction.instances):
        assert found.image_size == (32, 128) and len(found) > 0
        assert found.masks is not None and found.masks.shape == (len(found), 32, 128)
        assert_close(found.boxes, detections.boxes[image] * torch.tensor([2.0, 0.5, 2.0, 0.5]))
        assert (found.boxes >= 0).all() and (found.boxes <= torch.tensor([128.0, 32, 128, 32])).all()
        assert torch.equal(found.labels, detections.labels[image])
        assert torch.equal(found.scores, detections.scores[image])


def test_masks_are_averaged_after_the_sigmoid():
    """Logits 9, -2, -2: the mean logit 1.67 would say yes, the mean of 0.9999, 0.1192, 0.1192 says no."""
    box, label = torch.tensor([[0.0, 0.0, 4.0, 4.0]]), torch.zeros(1, dtype=torch.int64)
    yes, no = torch.full((1, 2, 2), 9.0), torch.full((1, 2, 2), -2.0)
    for votes, covered in (((yes, no), True), ((yes, no, no), False)):
        logits = {k: [vote] for k, vote in enumerate(votes)}
        found = DetectionTrace([label], [box], [label], [torch.ones(1)], logits)
        (instances,) = on_original(found, [(4, 4)], [(4, 4)])
        assert instances.masks is not None
        assert instances.masks[0, 1:3, 1:3].all() == covered and instances.masks.any() == covered


def test_masks_lie_in_their_boxes():
    for found in predict(tiny(), enlarged()).instances:
        for mask, (x1, y1, x2, y2) in zip(found.masks, found.boxes.tolist(), strict=True):
            rows, columns = mask.nonzero(as_tuple=True)
            if len(rows):
                assert columns.min() >= x1 - 1.5 and columns.max() <= x2 + 0.5
                assert rows.min() >= y1 - 1.5 and rows.max() <= y2 + 0.5


def test_padding_does_not_change_a_picture_much():
    """Beside a larger neighbour a picture has the same frame, and boxes end at its own border."""
    images = ImageBatch.collate([torch.full((3, 40, 50), 90.0), torch.full((3, 64, 96), 30.0)])
    prediction = predict(tiny(), images)
    for boxes in (prediction.trace.proposals.boxes[0], *(s.boxes[0] for s in prediction.trace.stages)):
        assert (boxes <= torch.tensor([50.0, 40, 50, 40])).all()


def test_without_mask_heads_there_are_no_masks():
    detector = tiny(replace(CASCADE, mask_stages=()))
    assert all(found.masks is None for found in predict(detector, pictures()).instances)


def test_no_detection_at_all():
    postprocess = replace(CASCADE.postprocess, score_threshold=0.999)
    for found in predict(tiny(replace(CASCADE, postprocess=postprocess), lively=False), pictures()).instances:
        assert len(found) == 0
        assert found.masks is not None and found.masks.shape == (0, *SIZE)


def test_predict_without_a_proposal(monkeypatch):
    detector = tiny().eval()
    propose = detector.rpn.propose

    def nothing(seen, images):
        found = propose(seen, images)
        return replace(found, boxes=[b[:0] for b in found.boxes], scores=[s[:0] for s in found.scores])

    monkeypatch.setattr(detector.rpn, "propose", nothing)
    assert [len(found) for found in detector.predict(pictures()).instances] == [0, 0]


@pytest.mark.parametrize("rule", ["own_rois_logits", "own_rois_probabilities", "last_rois_probabilities"])
def test_every_ensemble_predicts(rule):
    cascade = replace(CASCADE, postprocess=replace(CASCADE.postprocess, ensemble=rule))
    detector = tiny(cascade)
    prediction = predict(detector, pictures(), keep_features=True)
    said = [stage.logits[0] for stage in prediction.trace.stages]
    if rule == "own_rois_logits":
        scores = torch.stack(said).mean(0).softmax(-1)
    else:
        if rule == "last_rois_probabilities":
            last = prediction.trace.stages[-1].proposals
            with torch.no_grad():
                said = [detector.cascade.look(k, prediction.trace.features, last)[0] for k in range(3)]
            said = [logits[: len(last[0])] for logits in said]
        scores = torch.stack([logits.softmax(-1) for logits in said]).mean(0)
    detections = prediction.trace.detections
    assert detections is not None and len(detections.rows[0]) > 0
    assert_close(detections.scores[0], scores[detections.rows[0], detections.labels[0]])


# --- the trace in original pixels


def test_trace_to_original():
    trace = predict(tiny(), enlarged(), keep_features=True).trace
    moved, factor = trace.to_original(), torch.tensor([2.0, 0.5, 2.0, 0.5])
    assert trace.sizes == [SIZE, SIZE] and moved.sizes == moved.original_sizes == [(32, 128)] * 2
    for before, after in zip(trace.stages, moved.stages, strict=True):
        assert_close(after.proposals[1], before.proposals[1] * factor)
        assert_close(after.boxes[1], before.boxes[1] * factor)
        assert after.logits is before.logits and after.deltas is before.deltas
    assert_close(moved.proposals.boxes[0], trace.proposals.boxes[0] * factor)
    assert moved.detections is not None and trace.detections is not None
    assert_close(moved.detections.boxes[0], trace.detections.boxes[0] * factor)
    again = moved.to_original()
    assert torch.equal(again.stages[0].boxes[0], moved.stages[0].boxes[0])


def test_rows_of_detections_lead_back_to_the_proposal():
    """Each detection is the box that the last stage made of its row, for its class."""
    detector = tiny(replace(CASCADE, box_head=replace(CASCADE.box_head, class_aware=False)))
    trace = predict(detector, pictures()).trace
    assert trace.detections is not None
    for image in range(2):
        assert_close(
            trace.detections.boxes[image], trace.stages[-1].boxes[image][trace.detections.rows[image]]
        )


# --- depth, settings


def test_layers_of_the_whole_detector():
    detector = tiny()
    names = [name for name, _ in detector.named_parameters()]
    found = {name: detector.layer_of(name) for name in names}
    assert detector.num_layers == sum(BACKBONE.depths) == 4
    assert found["backbone.stem.conv1.weight"] == 0
    assert found["backbone.levels.3.blocks.0.norm1.weight"] == 4
    heads = [layer for name, layer in found.items() if not name.startswith("backbone.")]
    assert set(heads) == {5}


@pytest.mark.oracle_files("optim/[a-z]*.json")
def test_layers_of_published_models(oracle_file: Path):
    """The official layer of every parameter; sizes come from the list of parameters beside it."""
    layout = oracle_file.parents[1] / "state_dicts" / oracle_file.name
    if not layout.is_file():
        pytest.skip(f"no state_dicts/{layout.name}")
    stored = json.loads(layout.read_text(encoding="utf-8"))["state_dict"]
    golden = json.loads(oracle_file.read_text(encoding="utf-8"))["params"]
    shapes = {key: shape for key, (shape, _) in stored.items()}
    with torch.device("meta"):
        detector = Detector(detector_config({}, shapes))
    single = "roi_head.bbox_head.fc_cls.weight" in shapes
    own = {to_official(n, single): detector.layer_of(n) for n, _ in detector.named_parameters()}
    assert own == {name: entry["layer_id"] for name, entry in golden.items() if name in own}
    assert own.keys() == golden.keys()


def test_impossible_settings_are_refused():
    with pytest.raises(ValueError, match="num_classes must be at least 1"):
        DetectorConfig(backbone=BACKBONE, num_classes=0)


def test_defaults_are_the_published_cascade():
    default = DetectorConfig(backbone=BACKBONE)
    assert default.num_classes == 80 and default.pyramid_channels == 256
    assert default.cascade == CascadeConfig()
    assert default.cascade.sampler.num == 512 and default.rpn.training.after_nms == 2000
    assert default.cascade.loss_weights == "plain" and default.cascade.later_sampling == "resample"
    assert default.cascade.postprocess.ensemble == "own_rois_logits"
    assert config().cascade == CASCADE


# --- the fast way


def test_wide_heads_answer_like_plain_ones(monkeypatch):
    """Heads as wide as the published ones on random weights: in eval mode, from pixels to masks."""
    torch.manual_seed(0)
    wide = replace(
        CASCADE,
        box_head=BoxHeadConfig(convs=2, conv_channels=128, fc_channels=32),
        mask_head=MaskHeadConfig(convs=2, channels=128),
    )
    detector = Detector(replace(config(wide), pyramid_channels=128)).eval()
    for head in detector.cascade.box_heads:
        torch.nn.init.normal_(head.classifier.weight, std=0.3)
    images, used, pays = pictures(3), [], conv3x3.pays

    def watched(maps, weight):
        used.append(pays(maps, weight))
        return used[-1]

    monkeypatch.setattr(conv3x3, "pays", watched)
    fast = detector.predict(images)
    assert all(used) and len(used) == 3 * 2 + 3 * 2
    monkeypatch.setattr(conv3x3, "pays", lambda maps, weight: False)
    plain = detector.predict(images)
    for a, b in zip(fast.trace.stages, plain.trace.stages, strict=True):
        assert_close(a.logits, b.logits, atol=1e-4, rtol=1e-4)
        assert_close(a.boxes, b.boxes, atol=1e-3, rtol=1e-4)
    for a, b in zip(fast.instances, plain.instances, strict=True):
        assert_close((a.boxes, a.scores), (b.boxes, b.scores), atol=1e-3, rtol=1e-4)
        assert torch.equal(a.labels, b.labels) and (a.masks ^ b.masks).float().mean() < 1e-3
