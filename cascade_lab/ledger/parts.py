"""The parts that costs are told for, and a detector's forward pass, part by part.

The passes repeat ``Detector.predict`` and ``Detector.forward`` for given numbers of boxes, without what looks
at values (NMS, sampling, losses). So they run on the meta device too, where tensors have no memory.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager

import torch
from torch import Tensor, nn

from cascade_lab.detector import Detector

Enter = Callable[[str], AbstractContextManager[object]]  # called with a part's name, entered while it runs

STEM, FPN, RPN = "stem", "FPN", "RPN"


def level(i: int) -> str:
    """Return the name of a backbone level, 0-based; it includes the downsampling to the next."""
    return f"level {i}"


def box_head(k: int) -> str:
    """Return the name of the box head of stage k, 0-based; it includes its RoIAlign."""
    return f"stage {k + 1} box head"


def mask_head(k: int) -> str:
    """Return the name of the mask head of stage k, 0-based; it includes its RoIAlign."""
    return f"stage {k + 1} mask head"


def part_names(detector: Detector) -> list[str]:
    """Return the parts of a detector, in the order of the forward pass."""
    names = [STEM, *(level(i) for i in range(4)), FPN, RPN]
    for k in range(len(detector.config.cascade.stages)):
        names += [box_head(k), *([mask_head(k)] if k in detector.config.cascade.mask_stages else [])]
    return names


def part_of(name: str) -> str:
    """Return the part that a module or parameter belongs to, by its name in the detector."""
    match name.split("."):
        case ["backbone", "stem", *_]:
            return STEM
        case ["backbone", "levels", i, *_]:
            return level(int(i))
        case ["neck", *_]:
            return FPN
        case ["rpn", *_]:
            return RPN
        case ["cascade", "box_heads", k, *_]:
            return box_head(int(k))
        case ["cascade", "mask_heads", k, *_]:
            return mask_head(int(k))
    raise ValueError(f"{name} belongs to no part: add it to part_of")


def parameters_by_part(detector: nn.Module) -> dict[str, int]:
    """Return how many learnable numbers each part has; buffers are none."""
    found: dict[str, int] = {}
    for name, parameter in detector.named_parameters():
        found[part_of(name)] = found.get(part_of(name), 0) + parameter.numel()
    return found


@torch.no_grad()
def infer(detector: Detector, pixels: Tensor, proposals: int, detections: int, enter: Enter) -> None:
    """Run what ``predict`` runs: all stages on ``proposals`` boxes, their mask heads on ``detections``.

    Shapes: pixels (1, 3, H, W). Where the ensemble looks again at the last boxes, so does this.
    """
    config, pyramid = detector.config.cascade, _trunk(detector, pixels, enter)
    boxes = _boxes(proposals, pixels)
    for k in range(len(config.stages)):
        with enter(box_head(k)):
            detector.cascade.box_heads[k](_pool(detector, pyramid, boxes, config.box_head.pool_size))
        if config.postprocess.ensemble == "last_rois_probabilities":
            for j in range(k):
                with enter(box_head(j)):
                    detector.cascade.box_heads[j](_pool(detector, pyramid, boxes, config.box_head.pool_size))
    found, roi_features = _boxes(detections, pixels), None
    for k in config.mask_stages:
        with enter(mask_head(k)):
            if roi_features is None:  # all mask heads read the same boxes: the first one pays
                roi_features = _pool(detector, pyramid, found, config.mask_head.pool_size)
            detector.cascade.mask_heads[str(k)](roi_features)


def train(detector: Detector, pixels: Tensor, enter: Enter) -> None:
    """Run the forward pass of a training step on as many boxes as the samplers can draw, without its losses.

    Shapes: pixels (N, 3, H, W).
    """
    config, pyramid = detector.config.cascade, _trunk(detector, pixels, enter)
    positives = _boxes(int(config.sampler.num * config.sampler.positive_fraction), pixels)
    for k in range(len(config.stages)):
        keep_all = k > 0 and config.later_sampling == "all"
        boxes = _boxes(detector.config.rpn.training.after_nms if keep_all else config.sampler.num, pixels)
        with enter(box_head(k)):
            detector.cascade.box_heads[k](_pool(detector, pyramid, boxes, config.box_head.pool_size))
        if k in config.mask_stages:
            with enter(mask_head(k)):
                roi_features = _pool(detector, pyramid, positives, config.mask_head.pool_size)
                detector.cascade.mask_heads[str(k)](roi_features)


def _trunk(detector: Detector, pixels: Tensor, enter: Enter) -> Sequence[Tensor]:
    """Run backbone, pyramid and RPN; return the pyramid."""
    with enter(STEM):
        x = detector.backbone.stem(pixels)
    maps = []
    for i, stack in enumerate(detector.backbone.levels):
        with enter(level(i)):
            out, x = stack(x)
            maps.append(out.permute(0, 3, 1, 2))
    with enter(FPN):
        pyramid = detector.neck(maps)
    with enter(RPN):
        detector.rpn(pyramid)
    return pyramid


def _pool(detector: Detector, pyramid: Sequence[Tensor], boxes: Tensor, size: int) -> Tensor:
    """Read the boxes (R, 4) from each picture: (N * R, C, size, size)."""
    return detector.cascade.pool(pyramid, [boxes] * len(pyramid[0]), size)


def _boxes(count: int, pixels: Tensor) -> Tensor:
    """Return boxes (count, 4) all over the picture, sides from 16 pixels to half of it."""
    if pixels.is_meta:
        return pixels.new_empty(count, 4)
    chance = torch.rand(count, 4, generator=torch.Generator().manual_seed(0))
    extent = pixels.new_tensor([pixels.shape[3], pixels.shape[2]])  # x, y
    side = 16.0 * (extent / 32.0).clamp(min=1.0) ** chance[:, 2:]
    corner = chance[:, :2] * (extent - side).clamp(min=0.0)
    return torch.cat([corner, corner + side], dim=1)
