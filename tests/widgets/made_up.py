"""A picture of shapes and a trace of a cascade that never ran: boxes that get better by a plain rule."""

from __future__ import annotations

import math

import torch
from PIL import Image, ImageDraw, ImageFilter
from torch import Tensor

from cascade_lab.structures import Instances
from cascade_lab.trace import DetectionTrace, ProposalTrace, StageTrace, Trace

CLASSES = ("rectangle", "ellipse", "triangle", "star")
STD = ((0.1, 0.1, 0.2, 0.2), (0.05, 0.05, 0.1, 0.1), (0.033, 0.033, 0.067, 0.067))


def made_up_prediction(
    seed: int = 0,
    *,
    objects: int = 7,
    copies: int = 3,
    size: tuple[int, int] = (240, 320),
    stages: int = 3,
    mask_stages: tuple[int, ...] = (0, 1, 2),
) -> tuple[Tensor, Trace, Instances, Instances]:
    """Return (picture, trace, instances, targets); the first copy of each object is the good detection.

    Stage k leaves a box at ``target + offset * 0.4 ** k``, so that its IoU rises and then levels off. The
    trace is in a frame 1.5 times the picture's, and its rows are shuffled, as in a real one.
    """
    height, width = size
    random = torch.Generator().manual_seed(seed)
    picture, masks, labels = _scene(seed, objects, size)
    boxes = torch.stack([_box_of(mask) for mask in masks])  # (M, 4)
    targets = Instances(size, boxes, labels, masks=masks)

    count = objects * copies
    truth = boxes.repeat(copies, 1)  # (D, 4)
    extent = (truth[:, 2:] - truth[:, :2]).repeat(1, 2)
    worse = torch.arange(copies).repeat_interleave(objects)[:, None]  # 0 for the good copy
    offset = torch.randn(count, 4, generator=random) * extent * (0.16 + 0.12 * worse)
    left = [0.4**k * (1 - worse * 0.1) + worse * 0.2 for k in range(stages + 1)]
    limit = torch.tensor([width, height, width, height])
    path = [(truth + offset * share).clamp(min=0).minimum(limit) for share in left]  # S + 1 times (D, 4)

    final_labels = labels.repeat(copies)
    logits = []
    for k in range(stages):
        values = torch.randn(count, len(CLASSES) + 1, generator=random) * 0.5
        values[torch.arange(count), final_labels] += 2.6 + 0.9 * k - 3.2 * worse[:, 0]
        logits.append(values)
    scores = torch.stack([v.softmax(1) for v in logits]).mean(0)[torch.arange(count), final_labels]

    rows = torch.randperm(count + 5, generator=random)[:count]  # five boxes led to no detection

    def scatter(values: Tensor) -> Tensor:
        out = torch.zeros(count + 5, *values.shape[1:])
        out[rows] = values
        return out

    cells = {
        k: [_mask_logits(masks.repeat(copies, 1, 1), path[k + 1], noise=1.6 / (k + 1), random=random)]
        for k in mask_stages
    }
    objectness = torch.rand(count, generator=random) * 0.4 + 0.6 - 0.15 * worse[:, 0]
    flags = torch.zeros(count + 5, dtype=torch.bool)
    trace = Trace(
        sizes=[(int(height * 1.5), int(width * 1.5))],
        original_sizes=[size],
        proposals=ProposalTrace([scatter(path[0]) * 1.5], [scatter(objectness)], [flags.long()]),
        stages=tuple(
            StageTrace(
                iou_threshold=round(0.5 + 0.1 * k, 1),
                delta_std=STD[min(k, 2)],
                proposals=[scatter(path[k]) * 1.5],
                boxes=[scatter(path[k + 1]) * 1.5],
                logits=[scatter(logits[k])],
                deltas=[torch.zeros(count + 5, 4)],
                is_target=[flags],
            )
            for k in range(stages)
        ),
        detections=DetectionTrace([rows], [path[-1] * 1.5], [final_labels], [scores], cells),
    )
    return picture, trace, Instances(size, path[-1], final_labels, scores), targets


def _scene(seed: int, objects: int, size: tuple[int, int]) -> tuple[Tensor, Tensor, Tensor]:
    """Draw shapes, three times too large and then shrunk, over a soft background."""
    height, width = size
    random = torch.Generator().manual_seed(seed + 1000)

    def uniform(low: float, high: float) -> float:
        return low + (high - low) * float(torch.rand((), generator=random))

    base = torch.rand(3, 3, 4, generator=random) * 90 + 60
    soft = torch.nn.functional.interpolate(base[None], size, mode="bicubic", align_corners=False)[0]
    canvas = _image(soft.clamp(0, 255)).resize((width * 3, height * 3))
    columns = math.ceil(math.sqrt(objects * width / height))
    lines = math.ceil(objects / columns)
    masks, labels = [], []
    for number in range(objects):
        label = number % len(CLASSES)
        x = (number % columns + uniform(0.35, 0.65)) * width / columns
        y = (number // columns + uniform(0.35, 0.65)) * height / lines
        radius = uniform(0.36, 0.52) * min(width / columns, height / lines)
        points = _outline(label, x, y, radius, uniform(0, 6.28), uniform(0.6, 0.95))
        color = tuple(int(uniform(40, 250)) for _ in range(3))
        ImageDraw.Draw(canvas).polygon([(a * 3, b * 3) for a, b in points], fill=color)
        mask = Image.new("L", (width, height))
        ImageDraw.Draw(mask).polygon(points, fill=255)
        masks.append(torch.tensor(list(mask.tobytes()), dtype=torch.uint8).view(height, width) > 0)
        labels.append(label)
    small = canvas.resize((width, height), Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(0.4))
    pixels = torch.tensor(list(small.tobytes()), dtype=torch.uint8).view(height, width, 3).permute(2, 0, 1)
    noisy = pixels.float() + torch.randn(pixels.shape, generator=random) * 4
    return noisy.clamp(0, 255).byte(), torch.stack(masks), torch.tensor(labels)


def _outline(label: int, x: float, y: float, r: float, turn: float, flat: float) -> list[tuple[float, float]]:
    corners = {0: 4, 1: 48, 2: 3, 3: 10}[label]
    points = []
    for i in range(corners):
        angle, reach = 2 * math.pi * i / corners, r * (0.45 if label == 3 and i % 2 else 1.0)
        a, b = reach * math.cos(angle), reach * math.sin(angle) * flat
        points.append(
            (x + a * math.cos(turn) - b * math.sin(turn), y + a * math.sin(turn) + b * math.cos(turn))
        )
    return points


def _image(pixels: Tensor) -> Image.Image:
    array = pixels.byte().permute(1, 2, 0).contiguous()
    return Image.frombytes("RGB", (array.shape[1], array.shape[0]), bytes(array.flatten().tolist()))


def _box_of(mask: Tensor) -> Tensor:
    ys, xs = mask.nonzero().unbind(1)
    return torch.stack([xs.min(), ys.min(), xs.max() + 1, ys.max() + 1]).float()


def _mask_logits(masks: Tensor, boxes: Tensor, noise: float, random: torch.Generator) -> Tensor:
    """Sample each mask (H, W) on a 28 x 28 grid over its box, blur and roughen it."""
    cells = []
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.tolist(), strict=True):
        grid = (torch.arange(28) + 0.5) / 28
        xs = (x1 + grid * (x2 - x1)).long().clamp(0, mask.shape[1] - 1)
        ys = (y1 + grid * (y2 - y1)).long().clamp(0, mask.shape[0] - 1)
        inside = mask[ys][:, xs].float()[None, None]
        rough = torch.randn(1, 1, 7, 7, generator=random) * noise
        rough = torch.nn.functional.interpolate(rough, (28, 28), mode="bicubic", align_corners=False)
        soft = torch.nn.functional.avg_pool2d(inside, 3, 1, 1, count_include_pad=False)
        cells.append((soft * 8 - 4 + rough)[0, 0])
    return torch.stack(cells)
