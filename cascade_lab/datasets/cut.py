"""Resize a picture with its objects and keep a window of it."""

from __future__ import annotations

from dataclasses import replace
from typing import Literal

import torch
from torch import Tensor
from torch.nn.functional import interpolate
from torchvision.transforms.v2 import functional

from cascade_lab.structures import Instances

Resampling = Literal["antialias", "opencv"]
Window = tuple[int, int, int, int]  # top, left, bottom, right in pixels of the resized picture


def cut(
    image: Tensor, targets: Instances, size: tuple[int, int], window: Window,
    min_visible: float = 0.0, tight_boxes: bool = False, resampling: Resampling = "antialias",
) -> tuple[Tensor, Instances]:  # fmt: skip
    """Resize a picture to ``size`` (H, W) and keep the window of it.

    Objects outside the window are dropped, however thin the sliver that is left of one is kept. What
    "antialias" and "opencv" mean is said at ``resize_picture`` and ``nearest``.

    Source: mmdetection 2.28 ``Resize`` and ``RandomCrop``. With "opencv" it equals them up to one grey level.
    """
    (h, w), (new_h, new_w), (top, left, bottom, right) = targets.image_size, size, window
    if size != (h, w):
        image = resize_picture(image, size, resampling)
    # Per-axis factors, not the common one: rounding made them differ.
    boxes = targets.boxes * torch.tensor([new_w / w, new_h / h] * 2) - torch.tensor([left, top] * 2)
    whole = replace(targets, image_size=(bottom - top, right - left), boxes=boxes, masks=None)
    clipped = clip_boxes(boxes, whole.image_size)
    kept = _areas(clipped) > 0
    # Masks are the bulk of the work. They come stored by columns, and rows are fastest picked in that order.
    full = masks = None if targets.masks is None else targets.masks.mT[kept].mT
    if masks is not None and (size, window) != ((h, w), (0, 0, h, w)):
        rows = nearest(h, new_h, resampling)[top:bottom]
        columns = nearest(w, new_w, resampling)[left:right]
        masks = masks.mT.index_select(1, columns).mT.index_select(1, rows)
    cut_off = ((clipped - boxes).abs() > 1e-3).any(1)[kept]  # more than rounding
    result = replace(whole[kept], boxes=clipped[kept], masks=masks)
    if min_visible > 0 and cut_off.any():
        hidden = cut_off.clone()
        original = None if full is None else full.mT[cut_off]
        share = _visible_share(result[cut_off], boxes[kept][cut_off], original, new_h * new_w / (h * w))
        hidden[cut_off] = share < min_visible
        result = replace(result, ignore=hidden if result.ignore is None else result.ignore | hidden)
    if tight_boxes and masks is not None and cut_off.any():
        result = _tighten(result, cut_off)
    return image[:, top:bottom, left:right], result


def resize_picture(image: Tensor, size: tuple[int, int], resampling: Resampling) -> Tensor:
    """Resize a uint8 picture (3, H, W) bilinearly to ``size`` (H, W).

    "opencv" mixes the four pixels around a place, however much the picture shrinks, as ``cv2.resize`` does by
    default: at most one grey level apart, since both count in integers but round at other moments.
    "antialias" widens the filter as the picture shrinks, as Pillow does, so that no pixel is passed over.
    Where a picture grows, both are the same up to rounding.
    """
    if resampling == "opencv":
        return interpolate(image[None], size=list(size), mode="bilinear", align_corners=False)[0]
    return functional.resize(image, list(size), antialias=True)


def nearest(length: int, new_length: int, resampling: Resampling) -> Tensor:
    """Return for every new pixel along one axis the old one that a mask takes there.

    "antialias" takes the pixel under the centre of the new one. "opencv" takes the pixel under its upper left
    corner, as ``cv2.INTER_NEAREST`` does, so masks come to lie about half a pixel lower right of their boxes.
    """
    if resampling == "opencv":
        step = 1 / (new_length / length)  # not length / new_length: OpenCV divides twice, and rounding shows
        places = torch.arange(new_length, dtype=torch.float64) * step
    else:
        places = (torch.arange(new_length) + 0.5) * (length / new_length)
    return places.long().clamp(max=length - 1)


def clip(targets: Instances) -> Instances:
    """Clip boxes to the picture and drop those without area."""
    boxes = clip_boxes(targets.boxes, targets.image_size)
    kept = _areas(boxes) > 0
    return replace(targets, boxes=boxes) if kept.all() else replace(targets, boxes=boxes)[kept]


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip boxes (R, 4) to a picture of ``size`` (H, W)."""
    height, width = size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def _areas(boxes: Tensor) -> Tensor:
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    return sides[:, 0] * sides[:, 1]


def _visible_share(targets: Instances, boxes: Tensor, full: Tensor | None, growth: float) -> Tensor:
    """Return the share of every object that is left, of masks ``full`` in source pixels where it has one."""
    share = _areas(targets.boxes) / _areas(boxes)
    if targets.masks is None or full is None:
        return share
    # As bytes: torch adds up bool several times more slowly.
    before, after = (m.view(torch.uint8).sum((1, 2), dtype=torch.int32) for m in (full, targets.masks))
    by_mask = before > 0 if targets.has_mask is None else targets.has_mask & (before > 0)
    return torch.where(by_mask, after / (before * growth).clamp(min=1e-9), share)


def _tighten(targets: Instances, cut_off: Tensor) -> Instances:
    """Redraw the boxes of cut objects around their masks; drop those of which no pixel is left."""
    assert targets.masks is not None
    redrawn = cut_off if targets.has_mask is None else cut_off & targets.has_mask
    boxes, kept = targets.boxes.clone(), torch.ones(len(targets), dtype=torch.bool)
    for row in redrawn.nonzero()[:, 0].tolist():
        ys, xs = targets.masks[row].nonzero().unbind(1)
        kept[row] = len(xs) > 0
        if len(xs):
            boxes[row] = torch.stack((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)).to(boxes.dtype)
    return replace(targets, boxes=boxes)[kept]
