"""Readings of a crossed cascade against the detector itself, which knows nothing of them."""

from dataclasses import replace

import pytest
import torch
from torch.testing import assert_close

from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.heads.postprocess import pick_detections
from cascade_lab.laboratory.crossed import Crossed, cross, read
from cascade_lab.ops.box_coder import decode_deltas
from cascade_lab.structures import ImageBatch, Instances
from tests.tiny_detector import CASCADE, SIZE, objects, stages, tiny

ENSEMBLES = ("own_rois_logits", "own_rois_probabilities", "last_rois_probabilities")


def draw(seed: int) -> torch.Tensor:
    return torch.randint(0, 256, (3, *SIZE), generator=torch.Generator().manual_seed(seed), dtype=torch.uint8)


PICTURES = [(draw(0), objects()), (draw(1), objects([], [])), (draw(2), objects([[8, 8, 40, 44]], [1]))]


def build(cascade=CASCADE, ensemble: str = "own_rois_logits") -> Detector:
    return tiny(replace(cascade, postprocess=replace(CASCADE.postprocess, ensemble=ensemble))).eval()


@pytest.fixture(scope="module")
def detector() -> Detector:
    return build()


@pytest.fixture(scope="module")
def crossed(detector: Detector) -> Crossed:
    return cross(detector, PICTURES)


def predict(detector: Detector, voters: range | None = None) -> list[Instances]:
    """Predict picture by picture, as a sum over a batch may round otherwise."""
    found = []
    for picture, _ in PICTURES:
        prediction = detector.predict(ImageBatch.collate([picture]), keep_features=True)
        found += prediction.instances if voters is None else detector.read_out(prediction.trace, voters)
    return found


def assert_same(found: list[Instances], expected: list[Instances]):
    assert len(found) == len(expected) == len(PICTURES)
    assert sum(len(one) for one in found) > 20
    for ours, theirs in zip(found, expected, strict=True):
        assert ours.image_size == theirs.image_size
        assert torch.equal(ours.boxes, theirs.boxes)
        assert torch.equal(ours.labels, theirs.labels)
        assert torch.equal(ours.scores, theirs.scores)


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("class_aware", [True, False])
def test_plain_choice_is_what_the_detector_predicts(ensemble: str, class_aware: bool):
    head = replace(CASCADE.box_head, class_aware=class_aware)
    detector = build(replace(CASCADE, box_head=head), ensemble)
    crossed = cross(detector, PICTURES)
    assert crossed.plain.ensemble == ensemble
    assert_same(read(crossed, crossed.plain), predict(detector))


@pytest.mark.parametrize("ensemble", ENSEMBLES)
def test_another_ensemble_is_the_detector_configured_so(crossed, ensemble: str):
    assert_same(read(crossed, replace(crossed.plain, ensemble=ensemble)), predict(build(ensemble=ensemble)))


@pytest.mark.parametrize("ensemble", ENSEMBLES)
@pytest.mark.parametrize("count", [1, 2, 3])
def test_fewer_stages_are_what_the_detector_reads_out(count: int, ensemble: str):
    detector = build(ensemble=ensemble)
    crossed = cross(detector, PICTURES)
    chosen = replace(crossed.plain, stages=count)
    assert_same(read(crossed, chosen), predict(detector, range(count)))


@pytest.mark.parametrize("threshold, iou", [(0.2, 0.3), (0.0, 0.8), (0.3, 0.0)])
def test_thresholds_act_as_in_the_detector(crossed, threshold: float, iou: float):
    postprocess = replace(CASCADE.postprocess, score_threshold=threshold, nms_iou=iou)
    detector = tiny(replace(CASCADE, postprocess=postprocess)).eval()
    chosen = replace(crossed.plain, score_threshold=threshold, nms_iou=iou)
    assert_same(read(crossed, chosen), predict(detector))


@pytest.mark.parametrize("k", [0, 1, 2])
def test_a_head_on_its_own_boxes_is_that_stage_alone(crossed, detector, k: int):
    assert_same(read(crossed, replace(crossed.plain, foreign=(k, k))), predict(detector, range(k, k + 1)))


@pytest.mark.parametrize("h, k", [(2, 0), (0, 2), (1, 2)])
def test_a_head_on_foreign_boxes(crossed, detector, h: int, k: int):
    """Done by hand: walk the cascade to stage k, then let head h look, score and place the boxes."""
    expected = []
    for picture, _ in PICTURES:
        images = ImageBatch.collate([picture])
        trace = detector.predict(images, keep_features=True).trace
        assert trace.features is not None
        boxes = trace.stages[k].proposals
        with torch.no_grad():
            logits, deltas = detector.cascade.look(h, trace.features, boxes)
        std = detector.config.cascade.stages[h].delta_std
        moved = decode_deltas(deltas.view(len(deltas), -1, 4), boxes[0][:, None], std, SIZE)
        _, *columns = pick_detections(moved, logits.softmax(1), CASCADE.postprocess, (1, 1))
        expected.append(Instances(SIZE, *columns))
    assert_same(read(crossed, replace(crossed.plain, foreign=(h, k))), expected)


@pytest.mark.parametrize("ensemble", ["own_rois_logits", "last_rois_probabilities"])
def test_added_targets_go_through_the_cascade_as_proposals(ensemble: str):
    detector = build(ensemble=ensemble)
    crossed = cross(detector, PICTURES)
    changed = False
    plain = read(crossed, crossed.plain)
    for i, found in enumerate(read(crossed, replace(crossed.plain, targets_added=True))):
        picture, truth = PICTURES[i]
        images = ImageBatch.collate([picture])
        with torch.no_grad():
            pyramid = detector.neck(detector.backbone(images.pixels))
            proposed = detector.rpn.propose(detector.rpn(pyramid), images).boxes[0]
            run = detector.cascade.run(pyramid, images, [torch.cat([proposed, truth.boxes])])
            expected = detector.cascade.read_out(pyramid, images, run, range(3))
        # all rows at once, so the last bits may differ
        assert torch.equal(found.labels, expected.labels[0])
        assert_close(found.boxes, expected.boxes[0], atol=1e-3, rtol=1e-5)
        assert_close(found.scores, expected.scores[0])
        changed |= len(found) != len(plain[i]) or not torch.equal(found.boxes, plain[i].boxes)
    assert changed


def test_rows(crossed, detector):
    """Proposals first, the ground truth last and marked; heads see the same boxes; stages hand on theirs."""
    for i, (_, truth) in enumerate(PICTURES):
        count = len(truth)
        for h in range(3):
            for k in range(3):
                look = crossed.looks[h][k]
                marked = look.is_target[i]
                assert int(marked.sum()) == count and bool(marked[len(marked) - count :].all())
                assert torch.equal(look.proposals[i], crossed.looks[0][k].proposals[i])
                assert len(look.logits[i]) == len(look.deltas[i]) == len(look.boxes[i]) == len(marked)
        assert torch.equal(crossed.looks[0][0].proposals[i][len(marked) - count :], truth.boxes)
        for k in range(2):
            assert torch.equal(crossed.looks[k][k].boxes[i], crossed.looks[0][k + 1].proposals[i])


def test_refined_boxes_are_those_of_the_likeliest_class(crossed):
    look, rows = crossed.looks[2][1], torch.arange(len(crossed.looks[2][1].logits[0]))
    likeliest = look.logits[0][:, :-1].argmax(1)
    assert torch.equal(look.boxes[0], crossed.decoded(2, 1, 0)[rows, likeliest])


def test_one_stage():
    crossed = cross(build(stages(1)), PICTURES)
    assert crossed.stages == 1
    assert_same(read(crossed, crossed.plain), read(crossed, replace(crossed.plain, foreign=(0, 0))))


@pytest.mark.parametrize(
    "name, value, words",
    [
        ("stages", 4, "3 stages"),
        ("stages", 0, "1 or more"),
        ("foreign", (3, 0), "3 stages"),
        ("foreign", (0, -1), "3 stages"),
        ("nms_iou", 1.5, "between 0 and 1"),
        ("score_threshold", float("nan"), "between 0 and 1"),
    ],
)
def test_impossible_choices(crossed, name: str, value: object, words: str):
    with pytest.raises(InputError, match=words):
        read(crossed, replace(crossed.plain, **{name: value}))


def test_pictures_that_do_not_fit():
    with pytest.raises(InputError, match="at least one"):
        cross(build(), [])
    with pytest.raises(InputError, match="call detector.eval"):
        cross(build().train(), PICTURES)
    with pytest.raises(InputError, match=r"pictures\[0\].*prepare"):
        cross(build(), [(draw(0)[:, :32], objects())])
