"""A crossed cascade, small enough to go to the browser once: only what some setting of the viewer can show.

What is left out, and why nothing is missed:

    boxes    of a head for a class that no reading scores above ``least``, at which the viewer's slider ends
    rows     of which nothing is left after that

Boxes are rounded to 16 bits, which moves a corner by at most 1/131070 of the picture's side. Logits stay
float32: rounded to 16 bits, detections of nearly equal score change places, and AP by some tenths of a point.
Forty pictures of 128 pixels, with 150 proposals, 3 stages and 4 classes, take about 2 MB.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import get_args

import numpy as np
import torch
from torch import Tensor

from cascade_lab.errors import InputError
from cascade_lab.heads.postprocess import Ensemble
from cascade_lab.laboratory.crossed import Choice, Crossed, vote
from cascade_lab.widgets.stored_trace import encode_picture

MARGIN = 1e-5  # the browser's softmax differs by less
ENSEMBLES: tuple[Ensemble, ...] = get_args(Ensemble)


@dataclass(frozen=True, kw_only=True)
class PackedPicture:
    """One picture, for S stages, K classes, R rows of which R' can matter, M ground truths, C boxes.

    Shapes:
        picture: JPEG bytes; size: (H, W) in pixels.
        targets: (M, 4) float32 xyxy pixels; target_labels: (M,) int32.
        logits: (S, S, R', K + 1) float32, head by stage whose boxes it sees.
        is_target: (R',) uint8, 1 for a ground truth that was added.
        counts: (S * S,) int32, how many of the C boxes each head placed from the boxes of each stage.
        rows, labels: (C,) uint16; boxes: (C, 4) uint16, 65535 at the right and lower border.
        entering: (S, R, 4) uint16, what enters every stage, the M ground truths last.
    """

    size: tuple[int, int]
    picture: bytes = field(repr=False)
    targets: np.ndarray = field(repr=False)
    target_labels: np.ndarray = field(repr=False)
    logits: np.ndarray = field(repr=False)
    is_target: np.ndarray = field(repr=False)
    counts: np.ndarray = field(repr=False)
    rows: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    boxes: np.ndarray = field(repr=False)
    entering: np.ndarray = field(repr=False)


def pack(crossed: Crossed, least: float) -> list[PackedPicture]:
    """Return every picture with what can be shown at a score threshold of ``least`` or more.

    Raises:
        InputError: the detector thins out by soft NMS, which the viewer does not know.
    """
    if crossed.postprocess.nms != "hard":
        raise InputError(f"nms is {crossed.postprocess.nms!r}; the viewer needs a detector with nms='hard'")
    return [_pack_one(crossed, i, least) for i in range(len(crossed))]


def every_reading(crossed: Crossed) -> Iterator[Choice]:
    """Yield every way to read a cascade: any number of stages, any ensemble, any head on any boxes."""
    plain = replace(crossed.plain, targets_added=True)
    for k in range(crossed.stages):
        yield from (replace(plain, stages=k + 1, ensemble=rule) for rule in ENSEMBLES)
        yield from (replace(plain, foreign=(h, k)) for h in range(crossed.stages))


def _pack_one(crossed: Crossed, i: int, least: float) -> PackedPicture:
    size, truth, stages = crossed.truth[i].image_size, crossed.truth[i], crossed.stages
    assert truth.labels is not None
    found: dict[tuple[int, int], Tensor] = {}  # (R, K) bool, whether a box can matter
    for choice in every_reading(crossed):
        wanted = vote(crossed, choice, i)[1][:, :-1] > least - MARGIN
        found[choice.cell] = found.get(choice.cell, torch.zeros_like(wanted)) | wanted
    kept = torch.stack(list(found.values())).any(0).any(1).nonzero()[:, 0]  # (R',)
    pairs, boxes = [], []
    for h, k in np.ndindex(stages, stages):
        row, label = found[h, k][kept].nonzero(as_tuple=True)  # (C of this cell,)
        decoded = crossed.decoded(h, k, i)[kept]
        pairs.append(torch.stack([row, label], 1))
        boxes.append(decoded[row, label if decoded.shape[1] > 1 else torch.zeros_like(label)])
    logits = [[look.logits[i][kept].float().numpy() for look in row] for row in crossed.looks]
    rows, labels = torch.cat(pairs).numpy().astype(np.uint16).T
    return PackedPicture(
        size=size,
        picture=encode_picture(crossed.pictures[i]),
        targets=truth.boxes.float().numpy(),
        target_labels=truth.labels.numpy().astype(np.int32),
        logits=np.array(logits),
        is_target=crossed.looks[0][0].is_target[i][kept].numpy().astype(np.uint8),
        counts=np.array([len(one) for one in pairs], np.int32),
        rows=rows,
        labels=labels,
        boxes=_shares(torch.cat(boxes), size),
        entering=np.stack([_shares(look.proposals[i], size) for look in crossed.looks[0]]),
    )


def _shares(boxes: Tensor, size: tuple[int, int]) -> np.ndarray:
    """Return boxes (..., 4) as uint16 shares of width and height; all lie inside the picture."""
    height, width = size
    shares = boxes.double() / torch.tensor([width, height, width, height])
    return (shares * 65535).round().clamp(0, 65535).numpy().astype(np.uint16)
