"""The whole detector, part by part on the golden input of each part, and once from end to end.

Part by part, every function gets exactly what its official twin got, so rows correspond and tolerances are
those of rounding. From end to end, training runs in float64: two proposals whose scores differ by 1e-8 may
swap places in float32, and a rule such as "every third candidate" then samples other boxes altogether.
Proposals and detections are compared by matching, since equal scores may stand in any order.
"""

from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.detector import Detector, Prediction, TrainOutput
from cascade_lab.heads.rpn import RPNOutput
from cascade_lab.heads.stage_targets import StageTargets
from cascade_lab.layers.roi_pooler import boxes_to_rois, pool_rois
from cascade_lab.ops.box_coder import decode_deltas, encode_deltas
from cascade_lab.ops.masks import paste_masks
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.assigner import UNUSED
from cascade_lab.trace import ProposalTrace, StageTrace, Trace
from cascade_lab.weights import official_state_dict, to_official
from tests.oracle.golden_detector import (
    Case,
    Found,
    match,
    numbered,
    open_case,
    pair,
    tensor,
    tolerance,
    unpack,
)

pytestmark = pytest.mark.oracle_files("detector/*.json")

# A pixel whose mask value lies within rounding of one half may fall on either side. This share may.
WRONG_PIXELS = 1e-4
# From end to end, rounding moves boxes by this share of the picture's long side (0.02 px in 160).
BOX_DRIFT = 1e-4
# An NMS decision may fall on its threshold; one row in 200 may differ for it, from end to end only.
NMS_FLIPS = 0.005


@cache
def inference_detector(case: Case) -> Detector:
    return case.detector().eval()


@cache
def predicted(case: Case) -> Prediction:
    return inference_detector(case).predict(case.images(), keep_features=True)


@cache
def trained(case: Case) -> tuple[Detector, TrainOutput]:
    """One training pass in float64, with its gradients.

    The proposals are our own, in the order of the golden ones and rounded to float32 as there. Nothing flows
    back through them, but the rounding moves gradients by 1e-5, and the order decides what is sampled.
    """
    detector = case.detector(torch.float64).train()
    propose = detector.rpn.propose

    def propose_in_order(seen: RPNOutput, images: ImageBatch) -> ProposalTrace:
        found, ordered = propose(seen, images), []
        for image, boxes in enumerate(found.boxes):
            golden = golden_proposals(case.training[f"train_proposals{image}"])
            partner = match(
                own_proposals(found, image), golden, pixels=drift(images.sizes[image]), spare=NMS_FLIPS
            )
            own = boxes[partner.clamp(min=0)] if len(boxes) else golden.boxes
            ordered.append(torch.where((partner >= 0)[:, None], own.float(), golden.boxes).to(boxes))
        return replace(found, boxes=ordered)

    detector.rpn.propose = propose_in_order
    output = detector(case.images(torch.float64), case.targets(), case.choose)
    output.total.backward()
    return detector, output


def drift(size: tuple[int, int]) -> float:
    return max(1e-2, BOX_DRIFT * max(size))


def close(actual: Tensor, golden: np.ndarray | Tensor, relative: float = 1e-4, name: str = "") -> None:
    expected = golden if isinstance(golden, Tensor) else tensor(golden)
    expected = expected.to(actual.dtype).reshape(actual.shape)
    bound = tolerance(expected, relative)
    assert_close(actual, expected, atol=bound, rtol=0, msg=lambda text: f"{name}: {text}")


def stage_range(case: Case) -> range:
    return range(case.num_stages)


# --- names


def test_state_dict(oracle_file: Path):
    case = open_case(oracle_file)
    own = official_state_dict(case.detector(), case.single_stage)
    stored = case.settings.get("state_dict_keys") or [
        [key, value.shape] for key, value in case.weights.items()
    ]
    assert [[key, list(value.shape)] for key, value in own.items()] == [[k, list(s)] for k, s in stored]


# --- inference, part by part


def test_pyramid(oracle_file: Path):
    case = open_case(oracle_file)
    golden, own = case.pyramid(), predicted(case).trace.features
    assert own is not None and len(own) == len(golden)
    for level, (found, expected) in enumerate(zip(own, golden, strict=True)):
        close(found, expected, name=f"fpn{level}")


def test_rpn_maps(oracle_file: Path):
    case = open_case(oracle_file)
    detector = inference_detector(case)
    with torch.no_grad():
        own = detector.rpn(case.pyramid())
    golden = case.rpn_output(detector)
    for level, _ in enumerate(golden.grids):
        close(own.logits[level], golden.logits[level], name=f"rpn_cls{level}")
        close(own.deltas[level], golden.deltas[level], name=f"rpn_reg{level}")


@pytest.mark.parametrize("training", [False, True], ids=["inference", "training"])
def test_proposals_from_golden_maps(oracle_file: Path, training: bool):
    """From the same maps come the same proposals, under the limits of training and of inference."""
    case = open_case(oracle_file)
    rpn = case.detector().rpn.train(training)
    found = rpn.propose(case.rpn_output(case.detector()), case.images())
    arrays = case.training if training else case.inference
    keys = numbered(arrays, r"train_proposals(\d+)" if training else r"proposals(\d+)")
    assert len(keys) == len(found.boxes)
    for image, key in enumerate(keys):
        match(own_proposals(found, image), golden_proposals(arrays[key]), pixels=1e-3, score=1e-6)


def test_proposals(oracle_file: Path):
    """From end to end; ``trained`` holds the training proposals to the golden ones in the same way."""
    case = open_case(oracle_file)
    found, images = predicted(case).trace.proposals, case.images()
    for image, size in enumerate(images.sizes):
        golden = golden_proposals(case.inference[f"proposals{image}"])
        match(own_proposals(found, image), golden, pixels=drift(size), spare=NMS_FLIPS)


def test_stages(oracle_file: Path):
    """Each stage answers as published on the same boxes, and hands on the same refined boxes."""
    case = open_case(oracle_file)
    golden, cascade, images = case.inference, inference_detector(case).cascade, case.images()
    for k in stage_range(case):
        boxes = case.per_image(golden[f"stage{k}/rois"])
        with torch.no_grad():
            logits, deltas = cascade.look(k, case.pyramid(), boxes)
        close(logits, golden[f"stage{k}/cls_logits"], name=f"stage {k} logits")
        close(deltas, golden[f"stage{k}/bbox_deltas"], name=f"stage {k} deltas")
        if f"stage{k + 1}/rois" in golden:
            said = tensor(golden[f"stage{k}/cls_logits"]), tensor(golden[f"stage{k}/bbox_deltas"])
            refined = cascade.refine(k, boxes, *said, images)
            close(boxes_to_rois(refined), golden[f"stage{k + 1}/rois"], 1e-6, f"stage {k} boxes")


def test_run_hands_on_what_it_refined(oracle_file: Path):
    """The cascade from the golden proposals, which stand in golden order, so that rows correspond."""
    case = open_case(oracle_file)
    golden, cascade, images = case.inference, inference_detector(case).cascade, case.images()
    with torch.no_grad():
        stages = cascade.run(case.pyramid(), images, case.per_image(golden["stage0/rois"]))
    for k, stage in enumerate(stages):
        rois, expected = boxes_to_rois(stage.proposals), tensor(golden[f"stage{k}/rois"])
        assert torch.equal(rois[:, 0], expected[:, 0])
        # A background box may take the deltas of another class when two logits are equal but for rounding.
        same = (rois - expected).abs().amax(1) <= BOX_DRIFT * max(map(max, images.sizes))
        assert (~same).sum() <= NMS_FLIPS * len(same), f"stage {k}: {int((~same).sum())} boxes lie elsewhere"
        close(torch.cat(stage.logits)[same], golden[f"stage{k}/cls_logits"][same.numpy()], 1e-3, f"stage {k}")


def test_read_out_of_golden_stages(oracle_file: Path):
    """The published answers of all stages give the published detections."""
    case = open_case(oracle_file)
    found = inference_detector(case).read_out(golden_trace(case), stage_range(case))
    for image, instances in enumerate(found):
        match(own_detections(instances), golden_detections(case, image), pixels=1e-3, score=1e-6)


def test_detections(oracle_file: Path):
    case = open_case(oracle_file)
    for image, instances in enumerate(predicted(case).instances):
        golden = golden_detections(case, image)
        partner = match(own_detections(instances), golden, pixels=drift(instances.image_size))
        size = pair(case.inference[f"meta{image}/ori_shape"])
        assert instances.image_size == size
        assert instances.masks is not None and instances.masks.shape == (len(instances), *size)
        masks = unpack(case.inference.get(f"det{image}/masks_packed"), len(golden.boxes), size)
        paired = partner >= 0
        wrong = (instances.masks[partner[paired]] != masks[paired]).sum()
        assert wrong <= WRONG_PIXELS * masks.numel(), f"{int(wrong)} of {masks.numel()} pixels"


# --- masks


def test_masks(oracle_file: Path):
    """On the golden boxes every mask head answers as published, and their mean pastes to the same masks."""
    case = open_case(oracle_file)
    golden, detector = case.inference, inference_detector(case)
    labels = torch.cat([golden_detections(case, i).labels for i in range(len(golden["image"]))]).long()
    if len(labels) == 0:
        pytest.skip("this case has no detection")
    cascade, config = detector.cascade, detector.config.cascade
    rois = tensor(golden["mask_rois"])
    read = pool_rois(
        case.pyramid()[: len(cascade.strides)], cascade.strides, rois, config.mask_head.pool_size
    )
    heads = numbered(golden, r"mask_stage(\d+)/logits_of_label")
    assert len(heads) == len(config.mask_stages)
    votes = []
    for k, key in zip(config.mask_stages, heads, strict=True):
        with torch.no_grad():
            logits = cascade.mask_heads[str(k)](read)
        own = logits[torch.arange(len(labels)), labels]
        votes.append(own.sigmoid())
        first = golden[f"mask_stage{k}/logits_first"]
        close(logits[: len(first)], first, name=f"mask head {k}")
        close(own, tensor(golden[key]).float(), 1e-3, f"mask head {k}")  # stored in half precision
    mean = torch.stack(votes).mean(0)
    close(mean, tensor(golden["mask_avg_prob_of_label"]).float(), 1e-3, "mean of the masks")

    start = 0
    for image in range(len(golden["image"])):
        boxes, size = golden_detections(case, image).boxes, pair(golden[f"meta{image}/ori_shape"])
        own = paste_masks(mean[start : start + len(boxes)], boxes, size)
        expected = unpack(golden.get(f"det{image}/masks_packed"), len(boxes), size)
        wrong = (own != expected).sum()
        assert wrong <= WRONG_PIXELS * expected.numel(), f"{int(wrong)} of {expected.numel()} pixels"
        start += len(boxes)


# --- training, part by part in float32


def test_rpn_targets(oracle_file: Path):
    case = open_case(oracle_file)
    golden, detector = case.training, case.detector()
    output, targets = case.rpn_output(detector), case.targets()
    wanted = detector.rpn.targets(output, case.images(), targets, case.choose)

    count = sum(len(level) for level in output.anchors)
    labels, used = torch.ones(len(targets), count), torch.zeros(len(targets), count)
    weights, encoded = torch.zeros(len(targets), count), torch.zeros(len(targets), count, 4)
    for image, (positive, negative) in enumerate(zip(wanted.positive, wanted.negative, strict=True)):
        labels[image, positive] = 0
        used[image, torch.cat([positive, negative])] = 1
        weights[image, positive] = 1
        encoded[image, positive] = wanted.deltas[image]
    lengths = [len(level) for level in output.anchors]
    columns = zip(*(values.split(lengths, dim=1) for values in (labels, used, weights, encoded)), strict=True)
    for level, (label, use, weight, deltas) in enumerate(columns):
        expected = tensor(golden[f"rpn_target/labels{level}"])
        assert torch.equal(label, (expected != 0).float()), f"labels of level {level}"
        assert torch.equal(use > 0, tensor(golden[f"rpn_target/label_weights{level}"]) > 0), level
        assert torch.equal(weight > 0, tensor(golden[f"rpn_target/bbox_weights{level}"]) > 0), level
        close(deltas[weight > 0], golden[f"rpn_target/pos_bbox_targets{level}"], name=f"level {level}")
    counts = [sum(max(1, len(x)) for x in part) for part in (wanted.positive, wanted.negative)]
    assert counts == golden["rpn_target/num_pos_neg"].tolist()


def test_rpn_losses(oracle_file: Path):
    case = open_case(oracle_file)
    detector = case.detector()
    output = case.rpn_output(detector)
    wanted = detector.rpn.targets(output, case.images(), case.targets(), case.choose)
    for name, value in detector.rpn.losses(output, wanted).items():
        assert float(value.detach()) == pytest.approx(case.loss(name), abs=1e-4), name


def test_stage_targets(oracle_file: Path):
    """From the boxes that entered the official stage come its samples, in its order, and their answers."""
    case = open_case(oracle_file)
    golden, classes = case.training, case.config.num_classes
    for k in stage_range(case):
        wanted = stage_answers(case, k)
        close(boxes_to_rois(wanted.boxes), golden[f"s{k}/rois"], 1e-6, f"stage {k} rois")
        assert torch.equal(wanted.labels, tensor(golden[f"s{k}/target_labels"])), k
        for image, (positive, negative) in enumerate(wanted.sampled):
            expected = {name: tensor(golden[f"s{k}/img{image}/{name}"]) for name in ("pos_inds", "neg_inds")}
            assert torch.equal(positive, expected["pos_inds"]), (k, image)
            assert torch.equal(negative, expected["neg_inds"]), (k, image)
            known = wanted.is_target[image][: len(positive)]
            assert torch.equal(known, tensor(golden[f"s{k}/img{image}/pos_is_gt"]).bool()), (k, image)
            assert not wanted.is_target[image][len(positive) :].any()
            index = tensor(golden[f"s{k}/img{image}/pos_assigned_gt_inds"])
            assert torch.equal(wanted.target_index[image], index), (k, image)

        rows = wanted.positive_rows()
        assert torch.equal(rows, (wanted.labels < classes).nonzero().squeeze(1))
        assert torch.equal(rows, tensor(golden[f"s{k}/target_box_weights"]).nonzero().squeeze(1))
        matched = wanted.matched
        if case.config.cascade.box_head.box_loss != "decoded_giou":  # that loss compares deltas
            std = case.config.cascade.stages[k].delta_std
            matched = encode_deltas(torch.cat(wanted.boxes)[rows], matched, std)
        close(matched, tensor(golden[f"s{k}/target_boxes"])[rows], 1e-5, f"stage {k} target boxes")


def test_mask_targets(oracle_file: Path):
    case = open_case(oracle_file)
    side = case.config.cascade.mask_head.mask_size
    for k in case.config.cascade.mask_stages:
        _, labels, masks = stage_answers(case, k).for_masks(case.targets(), side)
        packed = case.training.get(f"s{k}/mask_targets_packed")
        assert torch.equal(masks.bool(), unpack(packed, len(labels), (side, side))), k


def test_stage_heads_in_training(oracle_file: Path):
    """With the statistics of the batch; and the losses of the golden answers, before and after weights."""
    case = open_case(oracle_file)
    golden, cascade = case.training, case.detector().cascade.train()
    for k in stage_range(case):
        wanted = stage_answers(case, k)
        boxes = case.per_image(golden[f"s{k}/rois"])
        with torch.no_grad():
            logits, deltas = cascade.look(k, case.pyramid(), boxes)
            close(logits, golden[f"s{k}/cls_logits"], name=f"stage {k} logits")
            close(deltas, golden[f"s{k}/bbox_deltas"], name=f"stage {k} deltas")
            said = tensor(golden[f"s{k}/cls_logits"]), tensor(golden[f"s{k}/bbox_deltas"])
            losses = cascade.losses(k, *said, wanted)
            losses |= cascade.mask_loss(k, case.pyramid(), wanted, case.targets())
            for name, value in losses.items():
                weight = case.config.cascade.stages[k].loss_weight if "loss" in name else 1.0
                plain = golden.get(f"s{k}/unweighted/{name.removeprefix(f's{k}.')}")
                plain = None if plain is None else weight * float(plain.reshape(()))
                for expected in (plain, case.loss(name)):
                    if expected is not None:
                        bound = 1e-4 * max(1.0, abs(expected))
                        assert float(value) == pytest.approx(expected, abs=bound), name


def test_mask_heads_in_training(oracle_file: Path):
    case = open_case(oracle_file)
    cascade, config = case.detector().cascade.train(), case.config.cascade
    for k in config.mask_stages:
        expected = case.training.get(f"s{k}/mask_pred_mean")
        if expected is None or len(expected) == 0:
            continue
        boxes, _, _ = stage_answers(case, k).for_masks(case.targets(), config.mask_head.mask_size)
        read = pool_rois(
            case.pyramid()[: len(cascade.strides)],
            cascade.strides,
            boxes_to_rois(boxes),
            config.mask_head.pool_size,
        )
        with torch.no_grad():
            close(cascade.mask_heads[str(k)](read).mean((2, 3)), expected, name=f"mask head {k}")


def test_refine_in_training(oracle_file: Path):
    """Positives move by the deltas of their true class, negatives by those of their likeliest."""
    case = open_case(oracle_file)
    golden, cascade, images = case.training, case.detector().cascade, case.images()
    for k in stage_range(case):
        if f"s{k}/refine_labels" not in golden:
            continue
        wanted, boxes = stage_answers(case, k), case.per_image(golden[f"s{k}/rois"])
        logits, deltas = tensor(golden[f"s{k}/cls_logits"]), tensor(golden[f"s{k}/bbox_deltas"])
        refined = cascade.refine(k, boxes, logits, deltas, images, wanted.labels)

        chosen = deltas.view(len(deltas), -1, 4)[
            torch.arange(len(deltas)), tensor(golden[f"s{k}/refine_labels"])
        ]
        chosen = chosen.split([len(b) for b in boxes])
        std = case.config.cascade.stages[k].delta_std
        for image, size in enumerate(images.sizes):
            moved = decode_deltas(chosen[image], boxes[image], std, size)
            assert_close(refined[image], moved, atol=0, rtol=0)
            kept = refined[image][~wanted.is_target[image]]
            close(kept, golden[f"s{k}/refined_boxes{image}"], 1e-6, f"stage {k} picture {image}")


def test_losses_from_golden_proposals(oracle_file: Path):
    """The cascade in float32 on the golden proposals: the same losses, stage after stage."""
    case = open_case(oracle_file)
    cascade = case.detector().cascade.train()
    proposals = [
        golden_proposals(case.training[k]).boxes for k in numbered(case.training, r"train_proposals(\d+)")
    ]
    with torch.no_grad():
        losses, _ = cascade(case.pyramid(), case.images(), proposals, case.targets(), case.choose)
    assert losses
    check_losses(case, losses, "loss")


# --- training from end to end in float64


def test_losses(oracle_file: Path):
    case = open_case(oracle_file)
    _, output = trained(case)
    run = "loss_f64" if case.loss("loss_rpn_cls", "loss_f64") is not None else "loss"
    check_losses(case, output.losses, run)
    total = case.training.get("loss_total_f64", case.training.get("loss_total"))
    if total is not None:
        expected = float(np.asarray(total).reshape(()))
        assert float(output.total.detach()) == pytest.approx(expected, abs=1e-4 * max(1.0, abs(expected)))


def test_samples(oracle_file: Path):
    case = open_case(oracle_file)
    _, output = trained(case)
    for k, stage in enumerate(output.trace.stages):
        assert stage.sampled is not None
        for image, (positive, negative) in enumerate(stage.sampled):
            assert torch.equal(positive, tensor(case.training[f"s{k}/img{image}/pos_inds"])), (k, image)
            assert torch.equal(negative, tensor(case.training[f"s{k}/img{image}/neg_inds"])), (k, image)


def test_buffers_after_training(oracle_file: Path):
    case = open_case(oracle_file)
    stored = {k.removeprefix("buffers_after/"): v for k, v in case.training.items() if "buffers_after/" in k}
    detector, _ = trained(case)
    own = {to_official(name, case.single_stage): value for name, value in detector.named_buffers()}
    assert own.keys() == stored.keys()
    for name, expected in stored.items():
        close(own[name].double(), expected, name=name)


def test_gradients(oracle_file: Path):
    case = open_case(oracle_file)
    detector, _ = trained(case)
    own = {to_official(n, case.single_stage): p.grad for n, p in detector.named_parameters()}
    stored = {k.removeprefix("grad/"): v for k, v in case.training.items() if k.startswith("grad/")}
    assert stored
    for name, expected in stored.items():
        grad, exact = own[name], tensor(expected).double()
        assert grad is not None, f"{name} has no gradient"
        apart = float((grad - exact).norm())
        assert apart <= 1e-4 * float(exact.norm()) + 1e-8, f"{name}: {apart} of {float(exact.norm())}"


def test_gradient_norms(oracle_file: Path):
    """Every parameter, also those whose gradients are not stored."""
    case = open_case(oracle_file)
    norms = case.settings.get("grad_norms_f64")
    if not norms:
        pytest.skip("this case holds no gradient norms")
    detector, _ = trained(case)
    own = {to_official(n, case.single_stage): p.grad for n, p in detector.named_parameters()}
    assert own.keys() == norms.keys()
    for name, expected in norms.items():
        assert own[name] is not None, f"{name} has no gradient"
        assert float(own[name].norm()) == pytest.approx(expected, rel=1e-4, abs=1e-8), name


# --- helpers


def stage_answers(case: Case, k: int) -> StageTargets:
    """Return what stage k should answer for the boxes that entered the official one."""
    golden, images = case.training, case.images()
    name = "train_proposals{}" if k == 0 else f"s{k - 1}/refined_boxes{{}}"
    boxes = [tensor(golden[name.format(i)])[:, :4] for i in range(len(images))]
    found = case.detector().cascade.assign_and_sample(k, boxes, images, case.targets(), case.choose)
    assert all((index > UNUSED).all() for index in found.target_index)
    return found


def golden_trace(case: Case) -> Trace:
    """Return the trace that the official run would have left, without objectness levels."""
    golden, images = case.inference, case.images()
    stages = []
    for k in stage_range(case):
        boxes = case.per_image(golden[f"stage{k}/rois"])
        lengths = [len(b) for b in boxes]
        after = f"stage{k + 1}/rois"
        stages.append(
            StageTrace(
                iou_threshold=case.config.cascade.stages[k].iou,
                delta_std=case.config.cascade.stages[k].delta_std,
                proposals=boxes,
                boxes=case.per_image(golden[after]) if after in golden else boxes,
                logits=list(tensor(golden[f"stage{k}/cls_logits"]).split(lengths)),
                deltas=list(tensor(golden[f"stage{k}/bbox_deltas"]).split(lengths)),
                is_target=[torch.zeros(length, dtype=torch.bool) for length in lengths],
            )
        )
    found = [golden_proposals(golden[f"proposals{i}"]) for i in range(len(images))]
    levels = [torch.zeros(len(f.boxes), dtype=torch.int64) for f in found]
    proposals = ProposalTrace([f.boxes for f in found], [f.scores for f in found], levels)
    return Trace(
        images.sizes, images.original_sizes, proposals, tuple(stages), features=tuple(case.pyramid())
    )


def check_losses(case: Case, losses: dict[str, Tensor], run: str) -> None:
    for name, value in losses.items():
        expected = case.loss(name, run)
        assert expected is not None, f"{name} is not in the file"
        assert float(value.detach()) == pytest.approx(expected, abs=1e-4 * max(1.0, abs(expected))), name


def own_proposals(found: ProposalTrace, image: int) -> Found:
    return Found(found.boxes[image].float(), found.scores[image].float())


def golden_proposals(array: np.ndarray) -> Found:
    rows = tensor(array).reshape(-1, 5)
    return Found(rows[:, :4], rows[:, 4])


def own_detections(found: Instances) -> Found:
    assert found.scores is not None
    return Found(found.boxes, found.scores, found.labels)


def golden_detections(case: Case, image: int) -> Found:
    names = (f"det{image}/boxes", f"det{image}/scores", f"det{image}/labels")
    boxes, scores, labels = (tensor(case.inference[name]) for name in names)
    return Found(boxes.reshape(-1, 4), scores, labels)
