"""A real detector with made-up eyes: its proposals are given, and each head does something known.

Head k moves a box that touches an object by the share ``moves[k]`` of the way towards it, corner by corner,
and is the surer the better the box is; a box that touches none stays, and is background.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cascade_lab.detector import Detector
from cascade_lab.ops.box_coder import encode_deltas
from cascade_lab.structures import Instances
from cascade_lab.trace import ProposalTrace
from tests.tiny_detector import CLASSES, SIZE, stages, tiny

TRUTH = Instances(SIZE, torch.tensor([[8.0, 10.0, 48.0, 50.0]]), torch.tensor([1]))


def known(
    moves: Sequence[float],
    proposals: Tensor,
    monkeypatch,
    truth: Instances = TRUTH,
) -> Detector:
    """Build it; every picture has the same truth and the same proposals (R, 4)."""
    detector = tiny(stages(len(moves))).eval()
    cascade = detector.cascade

    def look(k: int, pyramid, boxes: list[Tensor]) -> tuple[Tensor, Tensor]:
        flat = torch.cat(boxes)
        overlap, which = _iou(flat, truth.boxes).max(1)
        target = flat + moves[k] * (truth.boxes[which] - flat)
        target = torch.where(overlap[:, None] > 0, target, flat)
        deltas = encode_deltas(flat, target, cascade.config.stages[k].delta_std)
        logits = torch.zeros(len(flat), CLASSES + 1)
        logits[torch.arange(len(flat)), truth.labels[which]] = 4 + 4 * overlap
        logits[overlap == 0, -1] = 9.0
        return logits, deltas.repeat(1, CLASSES)

    def propose(output, images) -> ProposalTrace:
        count = len(images)
        return ProposalTrace(
            [proposals.clone() for _ in range(count)],
            [torch.linspace(0.9, 0.1, len(proposals)) for _ in range(count)],
            [torch.zeros(len(proposals), dtype=torch.int64) for _ in range(count)],
        )

    monkeypatch.setattr(cascade, "look", look)
    monkeypatch.setattr(detector.rpn, "propose", propose)
    return detector


def pictures(count: int, truth: Instances = TRUTH) -> list[tuple[Tensor, Instances]]:
    return [(torch.full((3, *SIZE), 90 + 10 * i, dtype=torch.uint8), truth) for i in range(count)]


def shifted(box: Sequence[float], *shifts: float) -> Tensor:
    """Return the box moved to the right by each of the shifts (R, 4)."""
    return torch.tensor([[x1 + s, y1, x2 + s, y2] for s in shifts for x1, y1, x2, y2 in [box]])


def iou_of_shift(shift: float, width: float = 40) -> float:
    return (width - abs(shift)) / (width + abs(shift))


def ap_of_iou(iou: float) -> float:
    """Return the AP of one object found with this IoU: ten for each of .50, .55 ... .95 that it meets."""
    return 10.0 * sum(iou >= percent / 100 for percent in range(50, 100, 5))


def _iou(a: Tensor, b: Tensor) -> Tensor:
    low = torch.maximum(a[:, None, :2], b[None, :, :2])
    high = torch.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = (high - low).clamp(min=0).prod(-1)
    sizes = [(x[:, 2:] - x[:, :2]).prod(-1) for x in (a, b)]
    return shared / (sizes[0][:, None] + sizes[1][None] - shared)
