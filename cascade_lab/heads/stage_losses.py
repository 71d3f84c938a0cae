"""The losses of one stage: L = L_cls + lambda [y >= 1] L_loc + L_mask (Cascade R-CNN, eq. 8)."""

from __future__ import annotations

import torch
from torch import Tensor

from cascade_lab.heads.box_head import BoxHeadConfig
from cascade_lab.heads.stage_targets import StageTargets
from cascade_lab.losses import Divisor, class_loss, giou_loss, global_mean, l1_loss, mask_loss, smooth_l1_loss
from cascade_lab.ops.box_coder import decode_deltas, encode_deltas
from cascade_lab.ops.boxes import at_least_float32


def box_losses(
    logits: Tensor,
    deltas: Tensor,
    wanted: StageTargets,
    config: BoxHeadConfig,
    delta_std: tuple[float, float, float, float],
    divisor: Divisor = global_mean,
) -> dict[str, Tensor]:
    """Return ``loss_cls``, ``loss_bbox`` and ``acc`` (percent) of a stage, not yet weighted.

    Both losses are divided by the number of all sampled boxes, averaged over processes. The box loss
    looks at the positives only, at the deltas of their own class; decoded boxes are not clipped.
    """
    sampled = divisor(logits.new_tensor(float(len(logits)))).clamp(min=1)
    rows = wanted.positive_rows()
    proposals = torch.cat(wanted.boxes)[rows]  # (P, 4)
    deltas = deltas.unflatten(1, (-1, 4))  # (R, K, 4)
    own_class = wanted.labels[rows] if deltas.shape[1] > 1 else 0
    deltas = deltas[rows, own_class]  # (P, 4)

    if config.box_loss == "decoded_giou":
        box_loss = giou_loss(decode_deltas(deltas, proposals, delta_std), wanted.matched)
    elif config.box_loss == "delta_smooth_l1":
        box_loss = smooth_l1_loss(deltas, encode_deltas(proposals, wanted.matched, delta_std), beta=1.0)
    else:
        box_loss = l1_loss(deltas, encode_deltas(proposals, wanted.matched, delta_std))
    right = (logits.argmax(1) == wanted.labels).float()
    return {
        "loss_cls": class_loss(logits, wanted.labels) / sampled,
        "loss_bbox": config.box_loss_weight * box_loss / sampled,
        "acc": 100.0 * right.sum() / max(1, len(right)),
    }


def mask_losses(
    logits: Tensor, labels: Tensor, masks: Tensor, divisor: Divisor = global_mean
) -> dict[str, Tensor]:
    """Return ``loss_mask``: the mean over all pixels of the positives' own class maps.

    Shapes: logits (P, K, S, S), labels (P,), masks (P, S, S) in {0, 1}. Without positives it is zero,
    and still reaches every parameter.
    """
    own = logits[torch.arange(len(labels), device=labels.device), labels]  # (P, S, S)
    own = at_least_float32(own)  # float16 ends at 65504, which is the pixels of 83 masks
    pixels = divisor(own.new_tensor(float(own.numel()))).clamp(min=1)
    return {"loss_mask": mask_loss(own, masks) / pixels}
