"""A small picture with objects whose every pixel is known."""

import torch

from cascade_lab.structures import Instances


def scene(height: int = 20, width: int = 30, boxes=((4, 5, 10, 9), (20, 8, 29, 19))) -> tuple:
    """Return a picture that tells every pixel's place, and rectangles whose masks fill their boxes."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    image = torch.stack((rows, columns, rows + columns)).to(torch.uint8)
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes, strict=True):
        mask[y1:y2, x1:x2] = True
    labels = torch.arange(len(boxes))
    return image, Instances((height, width), torch.tensor(boxes).float().reshape(-1, 4), labels, masks=masks)


def extents(masks: torch.Tensor) -> list[list[int]]:
    found = [mask.nonzero() for mask in masks]
    return [[*p.amin(0).flip(0).tolist(), *(p.amax(0) + 1).flip(0).tolist()] for p in found]
