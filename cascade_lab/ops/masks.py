"""Instance masks: cropped to what the mask head learns, pasted back, drawn from polygons, packed as runs."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from pycocotools import mask as coco_mask
from torch import Tensor
from torch.nn import functional

from cascade_lab.kernels import mask_paste
from cascade_lab.kernels.machines import machine_for
from cascade_lab.ops.boxes import at_least_float32, clip
from cascade_lab.ops.roi_align import roi_align

CHUNK_PIXELS = 2**24  # masks become float32 a few at a time: 64 MiB, not 4 bytes for every pixel of all


def crop_masks(masks: Tensor, boxes: Tensor, rows: Tensor, size: int) -> Tensor:
    """Cut the part under each box out of a mask and resize it to what the mask head should answer.

    Shapes:
        masks: (M, H, W) bool. boxes: (R, 4) in pixels of the masks, clipped to them first.
        rows: (R,) int64, which mask each box looks at.
        Returns (R, size, size) float32 in {0, 1}: 1 where at least half of the cell is covered.

    Source: Mask R-CNN, section 3 ("the intersection between an RoI and its ground-truth mask").
    """
    count, height, width = masks.shape
    boxes = clip(at_least_float32(boxes), (height, width)).float()
    cropped = boxes.new_zeros(len(boxes), size, size)
    step = max(1, CHUNK_PIXELS // max(1, height * width))
    for start in range(0, count, step):
        here = ((rows >= start) & (rows < start + step)).nonzero().squeeze(1)
        if len(here) == 0:
            continue
        rois = torch.cat([(rows[here] - start).to(boxes)[:, None], boxes[here]], dim=1)  # (R', 5)
        chunk = masks[start : start + step, None].float()  # (M', 1, H, W)
        # Many cells are covered by exactly half, so the sums must round as those of the published models.
        covered = roi_align(chunk, rois, size, 1.0, backend="torchvision")[:, 0]
        cropped[here] = (covered >= 0.5).float()
    return cropped


def paste_masks(scores: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5) -> Tensor:
    """Stretch each mask over its box and put it into an empty picture.

    Shapes: scores (D, S, S) in [0, 1], boxes (D, 4) in pixels of the picture, size (H, W), to (D, H, W) bool.
    Boxes are not rounded: every pixel centre looks up its place in the mask. Outside the box it finds zero,
    apart from a blend over half a cell, so only the box and a rim of one pixel are looked at.
    """
    machine = machine_for(scores.device.type)
    if machine is None:
        return paste_masks_reference(scores, boxes, size, threshold)
    boxes = boxes.to(scores.device, torch.float32)
    return mask_paste.paste(machine, scores.float().contiguous(), boxes.contiguous(), size, threshold)


def paste_masks_reference(
    scores: Tensor, boxes: Tensor, size: tuple[int, int], threshold: float = 0.5
) -> Tensor:
    """Do the same as ``paste_masks``, mask by mask, and where there is neither a GPU nor a compiler."""
    height, width = size
    picture = torch.zeros(len(boxes), height, width, dtype=torch.bool, device=scores.device)
    for mask, score, box in zip(picture, scores, at_least_float32(boxes), strict=True):
        x1, y1, x2, y2 = box.tolist()
        left, right = max(0, math.floor(x1) - 1), min(width, math.ceil(x2) + 1)
        top, bottom = max(0, math.floor(y1) - 1), min(height, math.ceil(y2) + 1)
        if left < right and top < bottom:
            value = sample_mask(score, box, range(top, bottom), range(left, right))
            mask[top:bottom, left:right] = value >= threshold
    return picture


def sample_mask(scores: Tensor, box: Tensor, rows: range, columns: range) -> Tensor:
    """Return the mask's value at the centres of some pixels of the picture: (len(rows), len(columns)).

    Shapes: scores (S, S), box (4,). Bilinear; outside the mask there is zero. A box without width answers
    with its middle column everywhere, as published, and one without height with its middle row.
    """
    scores, box = at_least_float32(scores), at_least_float32(box).to(scores.device)
    x1, y1, x2, y2 = box.unbind()
    x = torch.arange(columns.start, columns.stop, device=box.device, dtype=box.dtype) + 0.5
    y = torch.arange(rows.start, rows.stop, device=box.device, dtype=box.dtype) + 0.5
    # grid_sample has the mask from -1 to 1, edge to edge. 0 / 0 and 1 / 0 are the middle.
    x = ((x - x1) / (x2 - x1) * 2 - 1).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    y = ((y - y1) / (y2 - y1) * 2 - 1).nan_to_num(nan=0.0, posinf=0.0, neginf=0.0)
    grid = torch.stack([x.expand(len(y), -1), y[:, None].expand(-1, len(x))], dim=-1).to(scores.dtype)
    return functional.grid_sample(scores[None, None], grid[None], align_corners=False)[0, 0]


def polygons_to_mask(polygons: Sequence[Sequence[float]], size: tuple[int, int]) -> np.ndarray:
    """Return the union (H, W) bool of polygons x1, y1, x2, y2, ... in pixels; none gives an empty mask.

    Raises ValueError for a polygon that is not at least three points.
    """
    height, width = size
    for number, polygon in enumerate(polygons):
        if len(polygon) < 6 or len(polygon) % 2:
            raise ValueError(f"polygon {number} has {len(polygon)} numbers, must be an even count from 6 up")
    if not polygons:
        return np.zeros((height, width), dtype=bool)
    lists: Any = [[float(value) for value in polygon] for polygon in polygons]
    parts: Any = coco_mask.frPyObjects(lists, height, width)
    return decode_rle(dict(coco_mask.merge(parts)))


def encode_rle(mask: np.ndarray | Tensor) -> dict[str, Any]:
    """Return COCO's compressed runs of a mask (H, W): ``{"size": [H, W], "counts": str}``, fit for JSON."""
    pixels = mask.cpu().numpy() if isinstance(mask, Tensor) else np.asarray(mask)
    rle: Any = coco_mask.encode(np.asfortranarray(pixels, dtype=np.uint8))
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}


def decode_rle(rle: dict[str, Any]) -> np.ndarray:
    """Return the mask (H, W) bool of COCO runs, compressed (str or bytes) or a list of lengths.

    Lengths count pixels column by column, and begin with the zeros. Raises ValueError where they do not
    fill the size (pycocotools would read on beyond the end of its memory).
    """
    height, width = rle["size"]
    counts = rle["counts"]
    if isinstance(counts, (str, bytes)):
        counts = _unpack_counts(counts.encode("ascii") if isinstance(counts, str) else counts)
    if sum(counts) != height * width or min(counts, default=0) < 0:
        raise ValueError(f"runs of {sum(counts)} pixels do not fill {height} x {width}")
    value = np.arange(len(counts)) % 2 == 1
    return np.repeat(value, counts).reshape(width, height).T


def _unpack_counts(packed: bytes) -> list[int]:
    """Return the lengths that COCO packs into characters of 6 bits, counted from "0".

    Five bits carry the number, lowest first; the sixth says that it goes on; the top bit of the last five
    is the sign. From the fourth on, a length is written as the difference to the one two before.
    """
    counts: list[int] = []
    value, shift = 0, 0
    for byte in packed:
        bits = byte - ord("0")
        value |= (bits & 0x1F) << shift
        shift += 5
        if bits & 0x20:
            continue
        if bits & 0x10:
            value -= 1 << shift
        counts.append(value + counts[-2] if len(counts) > 2 else value)
        value, shift = 0, 0
    return counts
