"""A whole detector of a few thousand weights, for tests of how the parts play together.

Heads without batch statistics, so that a picture's boxes do not depend on its neighbours, and offsets that
are not zero, so that every parameter matters.
"""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from cascade_lab.backbones.internimage import InternImageConfig
from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.heads.box_head import BoxHeadConfig
from cascade_lab.heads.cascade_config import THREE_STAGES, CascadeConfig
from cascade_lab.heads.mask_head import MaskHeadConfig
from cascade_lab.heads.postprocess import PostprocessConfig
from cascade_lab.heads.rpn import ProposalLimits, RPNConfig
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.assigner import Assigner
from cascade_lab.targets.sampler import Sampler

CLASSES = 3
SIZE = (64, 64)
IGNORE = Assigner(
    positive_iou=0.7, negative_iou=0.3, min_positive_iou=0.3, match_low_quality=True, ignore_ioa=0.5
)
BACKBONE = InternImageConfig(
    channels=4, depths=(1, 1, 1, 1), groups=(1, 2, 2, 4), mlp_ratio=2.0, layer_scale=1.0
)
RPN_CONFIG = RPNConfig(
    anchor_scales=(4.0,),
    allowed_border=-1,
    assigner=IGNORE,
    sampler=Sampler(num=32, positive_fraction=0.5),
    training=ProposalLimits(before_nms=40, after_nms=30),
    inference=ProposalLimits(before_nms=40, after_nms=30),
)
CASCADE = CascadeConfig(
    box_head=BoxHeadConfig(convs=0, fcs=1, fc_channels=16, pool_size=4),
    mask_head=MaskHeadConfig(convs=1, channels=4, pool_size=4),
    sampler=Sampler(num=16, positive_fraction=0.5),
    canonical_size=16.0,
    ignore_ioa=0.5,
    postprocess=PostprocessConfig(score_threshold=0.05, max_detections=20),
)


def config(cascade: CascadeConfig = CASCADE) -> DetectorConfig:
    return DetectorConfig(
        backbone=BACKBONE, num_classes=CLASSES, pyramid_channels=8, rpn=RPN_CONFIG, cascade=cascade
    )


def tiny(cascade: CascadeConfig = CASCADE, seed: int = 0, lively: bool = True) -> Detector:
    """Build the detector; ``lively`` gives the freshly zeroed or tiny layers weights that do something."""
    torch.manual_seed(seed)
    detector = Detector(config(cascade))
    if lively:
        for name, module in detector.named_modules():
            if isinstance(module, (nn.Linear, nn.Conv2d)) and name.endswith(
                ("offset", "modulation", "classifier", "regressor", "objectness")
            ):
                nn.init.normal_(module.weight, std=0.3)
    return detector


def stages(count: int) -> CascadeConfig:
    """Return a cascade of that many stages, each with a mask head."""
    last = replace(THREE_STAGES[-1], iou=0.75, loss_weight=0.125)
    chosen = (*THREE_STAGES, last)[:count]
    return replace(CASCADE, stages=chosen, mask_stages=tuple(range(count)))


def pictures(count: int = 2, seed: int = 0, size: tuple[int, int] = SIZE) -> ImageBatch:
    generator = torch.Generator().manual_seed(seed)
    images = [torch.randint(0, 256, (3, *size), generator=generator, dtype=torch.uint8) for _ in range(count)]
    return ImageBatch.collate(images)


def objects(boxes: list[list[float]] | None = None, labels: list[int] | None = None) -> Instances:
    """Return objects with masks that fill their boxes; two objects where none are given."""
    if boxes is None:
        boxes, labels = [[4.0, 6.0, 24.0, 30.0], [30.0, 20.0, 60.0, 52.0]], [0, 2]
    corners = torch.tensor(boxes, dtype=torch.float32).reshape(-1, 4)
    classes = torch.tensor(labels if labels is not None else [0] * len(corners), dtype=torch.int64)
    return Instances(SIZE, corners, classes, masks=filled(corners))


def filled(boxes: Tensor) -> Tensor:
    masks = torch.zeros(len(boxes), *SIZE, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    return masks


def without_gradient(module: nn.Module) -> list[str]:
    """Return the parameters that the last backward pass did not reach."""
    return [name for name, parameter in module.named_parameters() if parameter.grad is None]
