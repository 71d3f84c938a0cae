"""The parts without a network, held to what the published code answered on the same input.

All sizes come from the arrays. What the files do not store are the settings that their keys name: the
matching rules "rpn", "s0" .. "s2" and "maskrcnn_rcnn", the loss weights, and a pyramid from stride 4 up.
"""

import re
from collections.abc import Callable, Mapping

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab import losses
from cascade_lab.heads.postprocess import PostprocessConfig, pick_detections
from cascade_lab.layers.roi_pooler import level_of, pool_rois
from cascade_lab.ops import anchors, boxes, masks, nms
from cascade_lab.ops.box_coder import decode_deltas, encode_deltas
from cascade_lab.ops.roi_align_reference import roi_align_reference
from cascade_lab.structures import Instances
from cascade_lab.targets.assigner import Assigner
from cascade_lab.targets.mask_targets import mask_targets

Arrays = Mapping[str, np.ndarray]
Component = Callable[[str], Arrays]

BOX_LOSS_WEIGHT = 10.0
ASSIGNERS = {
    "rpn": Assigner(positive_iou=0.7, negative_iou=0.3, min_positive_iou=0.3, match_low_quality=True),
    "s0": Assigner(positive_iou=0.5, negative_iou=0.5, min_positive_iou=0.5, match_low_quality=False),
    "s1": Assigner(positive_iou=0.6, negative_iou=0.6, min_positive_iou=0.6, match_low_quality=False),
    "s2": Assigner(positive_iou=0.7, negative_iou=0.7, min_positive_iou=0.7, match_low_quality=False),
    "maskrcnn_rcnn": Assigner(
        positive_iou=0.5, negative_iou=0.5, min_positive_iou=0.5, match_low_quality=True
    ),
}


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


def leaf(array: np.ndarray) -> Tensor:
    return tensor(array).requires_grad_()


def unpack(packed: np.ndarray, size: tuple[int, int]) -> Tensor:
    bits = np.unpackbits(packed, axis=1)[:, : size[0] * size[1]]
    return tensor(bits.reshape(len(packed), *size)).bool()


def pair(array: np.ndarray) -> tuple[int, int]:
    return int(array[0]), int(array[1])


def names(arrays: Arrays, ending: str) -> list[str]:
    """Return what stands before "/ending" in keys of one level."""
    return sorted({key.split("/")[0] for key in arrays if re.fullmatch(rf"[^/]+/{ending}", key)})


# --- anchors.npz


def stride_of(arrays: Arrays, level: int) -> int:
    """Read the stride off two neighbouring positions; a map of one position has doubled the level before."""
    base, placed = arrays[f"base{level}"], arrays[f"anchors{level}"]
    h, w = arrays["feat_sizes"][level]
    if w > 1:
        return round(float(placed[len(base), 0] - placed[0, 0]))
    if h > 1:
        return round(float(placed[len(base), 1] - placed[0, 1]))
    return 2 * stride_of(arrays, level - 1)


def test_anchors(component: Component):
    golden = component("anchors.npz")
    pad, image = pair(golden["pad_shape"]), pair(golden["img_shape"])
    levels = []
    for level, grid in enumerate(golden["feat_sizes"]):
        base, stride, grid = tensor(golden[f"base{level}"]), stride_of(golden, level), pair(grid)
        w, h = (base[:, 2:] - base[:, :2]).double().unbind(1)
        ratios = sorted({round(value, 3) for value in (h / w).tolist()})
        scales = sorted({round(value, 3) for value in ((h * w).sqrt() / stride).tolist()})
        levels.append(anchors.grid_anchors(anchors.base_anchors(stride, scales, ratios), grid, stride))
        assert_close(anchors.base_anchors(stride, scales, ratios), base, atol=1e-5, rtol=1e-6)
        assert_close(levels[-1], tensor(golden[f"anchors{level}"]), atol=1e-4, rtol=1e-6)
        valid = anchors.on_picture(grid, pad, stride, len(base))
        assert torch.equal(valid, tensor(golden[f"valid{level}"]))

    valid = torch.cat([tensor(golden[f"valid{level}"]) for level in range(len(levels))])
    borders = [key for key in golden if key.startswith("inside_border_")]
    assert borders
    for key in borders:
        border = int(key.removeprefix("inside_border_"))
        inside = anchors.inside(torch.cat(levels), image, border) & valid
        assert torch.equal(inside, tensor(golden[key])), key


# --- box_coder.npz


def test_box_coder(component: Component):
    golden = component("box_coder.npz")
    proposals, targets, size = tensor(golden["rois"]), tensor(golden["gts"]), pair(golden["max_shape"])
    tags = names(golden, "stds")
    assert tags
    for tag in tags:
        std = golden[f"{tag}/stds"].tolist()
        encoded = encode_deltas(proposals, targets, std)
        assert_close(encoded, tensor(golden[f"{tag}/encoded"]), atol=1e-5, rtol=1e-5)

        deltas = leaf(golden[f"{tag}/deltas"])
        classwise = deltas.view(len(deltas), -1, 4)
        decoded = decode_deltas(classwise, proposals[:, None], std)
        clipped = decode_deltas(classwise, proposals[:, None], std, size)
        close = {"atol": 1e-4, "rtol": 1e-5}
        assert_close(decoded.flatten(1), tensor(golden[f"{tag}/decoded_noclip"]), **close)
        assert_close(clipped.flatten(1), tensor(golden[f"{tag}/decoded_clip"]), **close)

        (decoded[:, 0] * torch.tensor([1.0, 2.0, 3.0, -1.0])).sum().backward()
        assert deltas.grad is not None
        assert_close(deltas.grad[:, :4], tensor(golden[f"{tag}/decode_grad_first4"]), atol=1e-4, rtol=1e-4)
        assert not deltas.grad[:, 4:].any()


# --- assigner.npz


def official_index(assigner: Assigner, candidates: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """Return the assignment with the official numbers (1-based, 0 negative, -1 unused), and the IoU."""
    found = assigner.assign(candidates, Instances((1, 1), targets))
    return found.target_index + 1, found.iou


def test_iou(component: Component):
    golden = component("assigner.npz")
    iou = boxes.pairwise_iou(tensor(golden["gts"]), tensor(golden["boxes"]))
    assert_close(iou, tensor(golden["iou"]), atol=1e-6, rtol=0)


def test_assigner(component: Component):
    golden = component("assigner.npz")
    candidates, targets = tensor(golden["boxes"]), tensor(golden["gts"])
    labels = tensor(golden["labels"])
    rules = names(golden, "max_overlaps")
    assert rules
    for rule in rules:
        index, iou = official_index(ASSIGNERS[rule], candidates, targets)
        assert torch.equal(index, tensor(golden[f"{rule}/gt_inds"])), rule
        assert_close(iou, tensor(golden[f"{rule}/max_overlaps"]), atol=1e-6, rtol=0)
        label = torch.where(index > 0, labels[(index - 1).clamp(min=0)], -1)
        assert torch.equal(label, tensor(golden[f"{rule}/labels"])), rule

        index, iou = official_index(ASSIGNERS[rule], candidates, targets[:0])
        assert torch.equal(index, tensor(golden[f"{rule}/nogt_gt_inds"])), rule
        assert torch.equal(torch.where(index > 0, 0, -1), tensor(golden[f"{rule}/nogt_labels"])), rule
        assert not iou.any()


def test_assigner_on_anchors(component: Component):
    golden, grid = component("assigner.npz"), component("anchors.npz")
    candidates = torch.cat([tensor(grid[f"anchors{level}"]) for level in range(len(grid["feat_sizes"]))])
    for rule in names(golden, "anchors_gt_inds"):
        index, _ = official_index(ASSIGNERS[rule], candidates, tensor(golden["gts"]))
        assert torch.equal(index, tensor(golden[f"{rule}/anchors_gt_inds"]).long()), rule


def test_assigner_ties(component: Component):
    golden = component("assigner.npz")
    rules = [key.split("/")[1] for key in golden if re.fullmatch(r"tie/[^/]+/gt_inds", key)]
    assert rules
    for rule in rules:
        index, _ = official_index(ASSIGNERS[rule], tensor(golden["tie/boxes"]), tensor(golden["tie/gts"]))
        assert torch.equal(index, tensor(golden[f"tie/{rule}/gt_inds"])), rule


# --- losses.npz


def test_giou_loss(component: Component):
    golden = component("losses.npz")
    target, kept = tensor(golden["giou/target"]), tensor(golden["giou/weight"]).bool().all(1)
    assert float(golden["giou/eps"]) == boxes.EPS

    pred = leaf(golden["giou/pred"])
    per_box = 1 - boxes.giou(pred, target)
    per_box.sum().backward()
    assert_close(per_box, tensor(golden["giou/per_box"]), atol=1e-6, rtol=1e-5)
    assert_close(pred.grad, tensor(golden["giou/per_box_grad"]), atol=1e-5, rtol=1e-4)

    pred = leaf(golden["giou/pred"])
    loss = BOX_LOSS_WEIGHT * losses.giou_loss(pred[kept], target[kept]) / float(golden["giou/avg_factor"])
    loss.backward()
    assert_close(loss, tensor(golden["giou/loss"]), atol=1e-6, rtol=1e-5)
    assert_close(pred.grad, tensor(golden["giou/grad"]), atol=1e-6, rtol=1e-4)


@pytest.mark.parametrize(
    "key, loss_of", [("rpn_smoothl1", losses.smooth_l1_loss), ("maskrcnn_rpn_l1", losses.l1_loss)]
)
def test_delta_losses(component: Component, key: str, loss_of: Callable[[Tensor, Tensor], Tensor]):
    golden = component("losses.npz")
    pred, target = leaf(golden[f"{key}/pred"]), tensor(golden[f"{key}/target"])
    kept = tensor(golden[f"{key}/weight"]).bool().all(1)
    loss = loss_of(pred[kept], target[kept]) / float(golden[f"{key}/avg_factor"])
    loss.backward()
    assert_close(loss, tensor(golden[f"{key}/loss"]), atol=1e-6, rtol=1e-5)
    assert_close(pred.grad, tensor(golden[f"{key}/grad"]), atol=1e-7, rtol=1e-5)


def test_objectness_loss(component: Component):
    golden = component("losses.npz")
    pred, is_object = leaf(golden["rpn_bce/pred"]), tensor(golden["rpn_bce/labels_0fg_1bg"]) == 0
    kept = tensor(golden["rpn_bce/weight"]) > 0
    loss = losses.objectness_loss(pred[kept, 0], is_object[kept]) / float(golden["rpn_bce/avg_factor"])
    loss.backward()
    assert_close(loss, tensor(golden["rpn_bce/loss"]), atol=1e-6, rtol=1e-5)
    assert_close(pred.grad, tensor(golden["rpn_bce/grad"]), atol=1e-7, rtol=1e-5)


def test_class_loss(component: Component):
    golden = component("losses.npz")
    pred, labels = leaf(golden["ce/pred"]), tensor(golden["ce/labels"])
    kept = tensor(golden["ce/weight"]) > 0
    loss = losses.class_loss(pred[kept], labels[kept]) / float(golden["ce/avg_factor"])
    loss.backward()
    assert_close(loss, tensor(golden["ce/loss"]), atol=1e-6, rtol=1e-5)
    assert_close(pred.grad, tensor(golden["ce/grad"]), atol=1e-7, rtol=1e-5)
    right = 100 * (pred.argmax(1) == labels).float().mean()
    assert_close(right, tensor(golden["ce/acc_percent"])[0], atol=1e-3, rtol=0)


def test_mask_loss(component: Component):
    golden = component("losses.npz")
    pred, labels = leaf(golden["mask_bce/pred"]), tensor(golden["mask_bce/labels"])
    own = pred[torch.arange(len(labels)), labels]
    loss = losses.mask_loss(own, tensor(golden["mask_bce/target"])) / own.numel()
    loss.backward()
    assert_close(loss, tensor(golden["mask_bce/loss"])[0], atol=1e-6, rtol=1e-5)
    assert pred.grad is not None
    per_channel = pred.grad.abs().sum((2, 3))
    assert_close(per_channel, tensor(golden["mask_bce/grad_abs_sum_per_channel"]), atol=1e-6, rtol=1e-5)


# --- bbox_head_loss_refine.npz


def test_box_head_losses(component: Component):
    golden = component("bbox_head_loss_refine.npz")
    logits, deltas = leaf(golden["cls_logits"]), leaf(golden["bbox_deltas"])
    labels, targets = tensor(golden["labels"]), tensor(golden["bbox_targets"])
    used = tensor(golden["label_weights"]) > 0
    positive = (tensor(golden["bbox_weights"]) > 0).all(1)
    assert torch.equal(positive, labels < logits.shape[1] - 1)

    own = deltas.view(len(deltas), -1, 4)[positive, labels[positive]]
    decoded = decode_deltas(own, tensor(golden["rois"])[positive, 1:], golden["stds"].tolist())
    box_loss = BOX_LOSS_WEIGHT * losses.giou_loss(decoded, targets[positive]) / len(deltas)
    class_loss = losses.class_loss(logits[used], labels[used]) / used.sum()
    (box_loss + class_loss).backward()
    assert_close(class_loss, tensor(golden["loss_cls"]), atol=1e-5, rtol=1e-5)
    assert_close(box_loss, tensor(golden["loss_bbox"]), atol=1e-5, rtol=1e-5)
    assert_close(logits.grad, tensor(golden["grad_cls"]), atol=1e-6, rtol=1e-4)
    assert_close(deltas.grad, tensor(golden["grad_bbox"]), atol=1e-5, rtol=1e-3)
    right = 100 * (logits.argmax(1) == labels).float().mean()
    assert_close(right, tensor(golden["acc"])[0], atol=1e-3, rtol=0)


def test_box_head_losses_without_positives(component: Component):
    golden = component("bbox_head_loss_refine.npz")
    logits, deltas = tensor(golden["cls_logits"]), leaf(golden["bbox_deltas"])
    background = torch.full((len(logits),), logits.shape[1] - 1)
    nobody = torch.zeros(len(logits), dtype=torch.bool)
    decoded = decode_deltas(deltas[nobody, :4], tensor(golden["rois"])[nobody, 1:], golden["stds"].tolist())
    box_loss = losses.giou_loss(decoded, tensor(golden["bbox_targets"])[nobody])
    class_loss = losses.class_loss(logits, background) / len(logits)
    assert_close(class_loss, tensor(golden["nopos/loss_cls"]), atol=1e-5, rtol=1e-5)
    assert_close(box_loss, tensor(golden["nopos/loss_bbox"]), atol=0, rtol=0)
    box_loss.backward()  # the empty sum is still part of the graph
    assert deltas.grad is not None and not deltas.grad.any()


def test_refine(component: Component):
    golden = component("bbox_head_loss_refine.npz")
    logits, rois, labels = (tensor(golden[key]) for key in ("cls_logits", "rois", "labels"))
    foreground = logits[:, :-1].argmax(1)
    own_class = torch.where(labels < logits.shape[1] - 1, labels, foreground)
    assert torch.equal(own_class, tensor(golden["refine/roi_labels"]))

    own = tensor(golden["bbox_deltas"]).view(len(rois), -1, 4)[torch.arange(len(rois)), own_class]
    images = sorted(int(key.removeprefix("refine/boxes")) for key in golden if key.startswith("refine/boxes"))
    assert images
    for image in images:
        here = rois[:, 0] == image
        size = pair(golden[f"refine/img_shape{image}"])
        refined = decode_deltas(own[here], rois[here, 1:], golden["stds"].tolist(), size)
        is_target = tensor(golden[f"refine/pos_is_gt{image}"]).bool()  # of the positives, which come first
        stays = torch.ones(len(refined), dtype=torch.bool)
        stays[: len(is_target)] = ~is_target
        assert_close(refined[stays], tensor(golden[f"refine/boxes{image}"]), atol=1e-4, rtol=1e-5)


# --- nms.npz


def test_nms(component: Component):
    golden = component("nms.npz")
    box, score = tensor(golden["batched/boxes"]), tensor(golden["batched/scores"])
    iou, keep = float(golden["single/iou_thr"]), tensor(golden["single/keep"])
    assert torch.equal(nms.nms(box, score, iou), keep)
    assert torch.equal(nms.nms_reference(box, score, iou), keep)


def test_batched_nms(component: Component):
    golden = component("nms.npz")
    box, score = tensor(golden["batched/boxes"]), tensor(golden["batched/scores"])
    keep = nms.batched_nms(box, score, tensor(golden["batched/ids"]), float(golden["batched/iou_thr"]))
    assert torch.equal(keep, tensor(golden["batched/keep"]))
    assert torch.equal(torch.cat([box[keep], score[keep, None]], 1), tensor(golden["batched/dets"]))


def test_multiclass_nms(component: Component):
    golden = component("nms.npz")
    scores = tensor(golden["multi/scores"])
    box = tensor(golden["multi/boxes"]).view(len(scores), -1, 4)
    config = PostprocessConfig(
        score_threshold=float(golden["multi/score_thr"]),
        nms_iou=float(golden["multi/iou_thr"]),
        max_detections=int(golden["multi/max"]),
    )
    runs = names(golden, "flat_inds")
    assert runs
    for run in runs:  # "multi": all boxes; "multi20": the first 20
        few = int(run.removeprefix("multi") or len(scores))
        row, kept, label, score = pick_detections(box[:few], scores[:few], config, (1.0, 1.0))
        flat = row * (scores.shape[1] - 1) + label
        assert torch.equal(flat, tensor(golden[f"{run}/flat_inds"])), run
        assert torch.equal(label, tensor(golden[f"{run}/labels"])), run
        assert_close(torch.cat([kept, score[:, None]], 1), tensor(golden[f"{run}/dets"]), atol=1e-6, rtol=0)


# --- roi_align.npz


def pyramid_of(golden: Arrays) -> list[Tensor]:
    count = sum(re.fullmatch(r"align/feat\d+", key) is not None for key in golden)
    return [leaf(golden[f"align/feat{level}"]) for level in range(count)]


def test_roi_levels(component: Component):
    golden = component("roi_align.npz")
    count = len(pyramid_of(golden))
    for part in ("level", "align"):
        levels = level_of(tensor(golden[f"{part}/rois"])[:, 1:], count)
        assert torch.equal(levels, tensor(golden[f"{part}/levels"])), part


def test_roi_align(component: Component):
    golden = component("roi_align.npz")
    rois, pyramid = tensor(golden["align/rois"]), pyramid_of(golden)
    strides = [4 * 2**level for level in range(len(pyramid))]
    outputs = {key: tensor(golden[key]) for key in golden if re.fullmatch(r"align/out\d+", key)}
    assert outputs
    detached = [features.detach() for features in pyramid]
    for key, out in outputs.items():
        assert_close(pool_rois(detached, strides, rois, out.shape[-1]), out, atol=1e-5, rtol=1e-5)
        assert_close(pool_rois(pyramid, strides, rois, out.shape[-1]), out, atol=1e-5, rtol=1e-5)
        upstream = golden.get(key.replace("out", "upstream"))
        if upstream is None:
            continue
        grads = torch.autograd.grad(
            pool_rois(pyramid, strides, rois, out.shape[-1]), pyramid, tensor(upstream)
        )
        for level, grad in enumerate(grads):
            assert_close(grad, tensor(golden[f"align/grad_feat{level}"]), atol=1e-4, rtol=1e-4)


def test_roi_align_reference(component: Component):
    golden = component("roi_align.npz")
    rois, levels = tensor(golden["align/rois"]), tensor(golden["align/levels"])
    outputs = [tensor(golden[key]) for key in golden if re.fullmatch(r"align/out\d+", key)]
    for level, features in enumerate(pyramid_of(golden)):
        here = levels == level
        for out in outputs:
            read = roi_align_reference(features.detach(), rois[here], out.shape[-1], 0.25 / 2**level)
            assert_close(read, out[here], atol=1e-4, rtol=1e-4)


# --- masks.npz


def test_mask_targets(component: Component):
    golden = component("masks.npz")
    size = pair(golden["target/hw"])
    bitmaps = unpack(golden["target/gt_masks_packed"], size)
    targets = Instances(size, torch.zeros(len(bitmaps), 4), masks=bitmaps)
    out = tensor(golden["target/out"]).float()
    assigned = tensor(golden["target/assigned"])
    found = mask_targets(targets, tensor(golden["target/proposals"]), assigned, out.shape[-1])
    assert torch.equal(found, out)


def test_paste_masks(component: Component):
    golden = component("masks.npz")
    size, box, scores = (
        pair(golden["paste/hw"]),
        tensor(golden["paste/boxes"]),
        tensor(golden["paste/probs"])[:, 0],
    )
    pasted = masks.paste_masks(scores, box, size)
    assert torch.equal(pasted, unpack(golden["paste/binary_packed"], size))
    assert torch.equal(pasted.sum((1, 2)), tensor(golden["paste/area"]))

    whole = range(size[0]), range(size[1])
    soft = torch.stack([masks.sample_mask(s, b, *whole) for s, b in zip(scores, box, strict=True)])
    first = tensor(golden["paste/soft_first4"])
    same = tensor(golden["paste/full_ge_thr_equal"])
    assert torch.equal(((soft >= 0.5) == pasted).all(2).all(1), same)
    assert_close(soft[: len(first)], first, atol=1e-5, rtol=0)
