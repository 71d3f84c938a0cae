"""The recipes of a laptop: minutes on two CPU cores."""

from __future__ import annotations

from dataclasses import replace

from cascade_lab.backbones.internimage import InternImageConfig
from cascade_lab.datasets.catalog import DataConfig
from cascade_lab.datasets.transforms import AugmentConfig
from cascade_lab.detector import DetectorConfig
from cascade_lab.engine.optim import OptimConfig
from cascade_lab.engine.schedule import ScheduleConfig
from cascade_lab.heads.box_head import BoxHeadConfig
from cascade_lab.heads.cascade_config import CascadeConfig
from cascade_lab.heads.mask_head import MaskHeadConfig
from cascade_lab.heads.postprocess import PostprocessConfig
from cascade_lab.heads.rpn import ProposalLimits, RPNConfig
from cascade_lab.recipes.recipe import Recipe
from cascade_lab.targets.assigner import Assigner
from cascade_lab.targets.sampler import Sampler

# A backbone, heads and samples small enough for a laptop's CPU. Pre-norm with layer scale, as InternImage-T.
TINY = InternImageConfig(
    channels=16, depths=(1, 1, 2, 1), groups=(2, 4, 8, 16), layer_scale=1.0, offset_scale=1.0
)
SMALL_CASCADE = CascadeConfig(
    box_head=BoxHeadConfig(convs=2, conv_channels=32, norm="batch", fcs=1, fc_channels=64),
    mask_head=MaskHeadConfig(convs=2, channels=32),
    sampler=Sampler(num=64, positive_fraction=0.25),
    canonical_size=32.0,
    sampling_ratio=0,
    ignore_ioa=0.5,
    postprocess=PostprocessConfig(score_threshold=0.01),  # late stages score low: a higher cut costs AP
)
SMALL_RPN = RPNConfig(
    anchor_scales=(4.0,),
    allowed_border=-1,
    assigner=Assigner(
        positive_iou=0.7, negative_iou=0.3, min_positive_iou=0.3, match_low_quality=True, ignore_ioa=0.5
    ),
    sampler=Sampler(num=128, positive_fraction=0.5),
    training=ProposalLimits(before_nms=250, after_nms=150),
    inference=ProposalLimits(before_nms=250, after_nms=150),
)


def nano() -> Recipe:
    """Return the demo: 128 px synthetic shapes, minutes on two CPU cores."""
    return Recipe(
        name="nano",
        detector=DetectorConfig(
            backbone=TINY, num_classes=4, pyramid_channels=32, rpn=SMALL_RPN, cascade=SMALL_CASCADE
        ),
        data=DataConfig(root="data/shapes", images_per_batch=4, augment=AugmentConfig(vertical_flip=0.5)),
        optim=OptimConfig(lr=1.5e-3, clip_norm=10.0),
        schedule=ScheduleConfig(steps=1450, warmup_steps=50, decay="cosine", ema=0.01, ema_warmup=100),
    )


def pico() -> Recipe:
    """Return the model of the course: nano, trained for nearly three times as long."""
    return replace(nano(), name="pico", schedule=replace(nano().schedule, steps=4000))


def micro() -> Recipe:
    """Return the recipe for real pictures on a laptop, of twice the width; ``fit.py`` sets what depends on
    the pictures."""
    small = nano().detector
    wider = replace(
        small,
        backbone=replace(TINY, channels=32, groups=(4, 8, 16, 32)),
        pyramid_channels=48,
        cascade=replace(SMALL_CASCADE, box_head=replace(SMALL_CASCADE.box_head, fc_channels=128)),
    )
    augment = AugmentConfig(colour=0.3, min_visible=0.3)
    return replace(
        nano(),
        name="micro",
        detector=wider,
        data=DataConfig(root="data/pictures", images_per_batch=4, augment=augment, keep_empty=True),
        schedule=replace(nano().schedule, steps=None, minutes=20.0),
        fit_to_data=True,
    )
