"""The published models as values: InternImage T to XL with Mask R-CNN or Cascade Mask R-CNN, 1x and 3x.

Source: the detection configs of the official repository; sizes are those of InternImage, table 1. Batches are
16 pictures (8 GPUs of 2) in all of them but the 3x cascades, which take 64 (32 GPUs of 2). Rates of drop path
are those of the detectors, not those that the backbones were pre-trained with.

Where we differ: the official 3x configs of L and XL also ask for ``offset_lr_scale=0.01``. It acts on
parameters that these models do not have, so there is no field for it here.
"""

from __future__ import annotations

from dataclasses import replace

from cascade_lab.backbones.internimage import InternImageConfig
from cascade_lab.datasets.catalog import DataConfig
from cascade_lab.datasets.transforms import AugmentConfig, CropFirst
from cascade_lab.detector import DetectorConfig
from cascade_lab.engine.optim import OptimConfig
from cascade_lab.engine.schedule import ScheduleConfig
from cascade_lab.heads.box_head import BoxHeadConfig
from cascade_lab.heads.cascade_config import CascadeConfig, Stage
from cascade_lab.heads.rpn import ProposalLimits, RPNConfig
from cascade_lab.recipes.recipe import Recipe

T = InternImageConfig(
    channels=64, depths=(4, 4, 18, 4), groups=(4, 8, 16, 32), layer_scale=1.0, drop_path=0.2
)
S = InternImageConfig(
    channels=80, depths=(4, 4, 21, 4), groups=(5, 10, 20, 40), layer_scale=1.0, drop_path=0.3, post_norm=True
)
B = InternImageConfig(
    channels=112, depths=(4, 4, 21, 4), groups=(7, 14, 28, 56), layer_scale=1.0, drop_path=0.4, post_norm=True
)
L = InternImageConfig(
    channels=160, depths=(5, 5, 22, 5), groups=(10, 20, 40, 80), layer_scale=1.0, drop_path=0.4,
    post_norm=True, offset_scale=2.0,
)  # fmt: skip
XL = InternImageConfig(
    channels=192, depths=(5, 5, 24, 5), groups=(12, 24, 48, 96), layer_scale=1.0, drop_path=0.4,
    post_norm=True, offset_scale=2.0,
)  # fmt: skip
# The two giants were published with another detector (DINO); here they are backbones to build on.
H = InternImageConfig(
    channels=320, depths=(6, 6, 32, 6), groups=(10, 20, 40, 80), drop_path=0.5, res_post_norm=True,
    depthwise_kernel=5, center_feature_scale=True, level2_post_norm_blocks=(5, 11, 17, 23, 29),
)  # fmt: skip
G = InternImageConfig(
    channels=512, depths=(2, 2, 48, 4), groups=(16, 32, 64, 128), drop_path=0.5, post_norm=True,
    depthwise_kernel=5, center_feature_scale=True,
    level2_post_norm_blocks=(5, 11, 17, 23, 29, 35, 41, 47),
)  # fmt: skip
BACKBONES = {"t": T, "s": S, "b": B, "l": L, "xl": XL, "h": H, "g": G}

ONE_SIZE = AugmentConfig(resize=(1333, 800), resampling="opencv")
# As DETR trains: eleven sizes, and half of the pictures cut before that. All 3x configs have it.
MANY_SIZES = replace(ONE_SIZE, short_sides=tuple(range(480, 801, 32)), crop_first=CropFirst(probability=0.5))
COCO_PICTURES = 117_266  # of train2017, those with an object to train on
COCO = DataConfig(root="data/coco", images_per_batch=16, augment=ONE_SIZE, workers=2, group_by_aspect=True)

# Mask R-CNN is a cascade of one: its detector is stage 1 with the older head and losses.
MASK_RCNN = CascadeConfig(
    stages=(Stage(iou=0.5, delta_std=(0.1, 0.1, 0.2, 0.2), match_low_quality=True),),
    box_head=BoxHeadConfig(convs=0, norm="none", fcs=2, box_loss="delta_l1", box_loss_weight=1.0),
    mask_stages=(0,),
)
MASK_RCNN_RPN = RPNConfig(
    allowed_border=-1, box_loss="l1", training=ProposalLimits(before_nms=2000, after_nms=1000)
)


def mask_rcnn(size: str, times: int) -> Recipe:
    """Return ``mask_rcnn_internimage_{size}_fpn_{times}x_coco``; sizes t, s and b, times 1 or 3."""
    return Recipe(
        name=f"mask_rcnn_internimage_{size}_fpn_{times}x_coco",
        detector=DetectorConfig(backbone=BACKBONES[size], rpn=MASK_RCNN_RPN, cascade=MASK_RCNN),
        data=replace(COCO, augment=ONE_SIZE if times == 1 else MANY_SIZES),
        optim=OptimConfig(lr=1e-4, lr_for_batch=16, channels_last=True),
        schedule=epochs(times),
    )


def cascade_1x(size: str) -> Recipe:
    """Return ``cascade_internimage_{size}_fpn_1x_coco``; sizes l and xl."""
    return Recipe(
        name=f"cascade_internimage_{size}_fpn_1x_coco",
        detector=DetectorConfig(backbone=BACKBONES[size]),
        data=COCO,
        optim=OptimConfig(lr=1e-4, layer_decay=0.94, lr_for_batch=16, channels_last=True),
        schedule=epochs(1),
    )


def cascade_3x(size: str) -> Recipe:
    """Return ``cascade_internimage_{size}_fpn_3x_coco``; sizes l and xl.

    Against 1x: four times the batch, twice the rate, a steeper decay over the layers, averaged weights, and
    for XL more drop path.
    """
    backbone = replace(BACKBONES[size], drop_path=0.6) if size == "xl" else BACKBONES[size]
    return Recipe(
        name=f"cascade_internimage_{size}_fpn_3x_coco",
        detector=DetectorConfig(backbone=backbone),
        data=replace(COCO, images_per_batch=64, augment=MANY_SIZES),
        optim=OptimConfig(lr=2e-4, layer_decay=0.90, lr_for_batch=64, channels_last=True),
        schedule=replace(epochs(3), ema=0.0001, ema_warmup=2000),
    )


def own_cascade(size: str, times: int) -> Recipe:
    """Return ``cascade_internimage_{size}_fpn_{times}x_coco``; sizes t, s and b, times 1 or 3.

    These are ours: nobody published them, and nobody has trained them yet. The detector is the published
    cascade on a smaller backbone; drop path, batch, learning rate, its decay over the layers (none) and the
    length are those of the published Mask R-CNN on the same backbone.
    """
    return replace(
        mask_rcnn(size, times),
        name=f"cascade_internimage_{size}_fpn_{times}x_coco",
        detector=DetectorConfig(backbone=BACKBONES[size]),
    )


def epochs(times: int) -> ScheduleConfig:
    """Return 12 or 36 epochs; the rate falls to a tenth after 8 or 27 of them, and again after 11 or 33."""
    first_drop = 8 / 12 if times == 1 else 27 / 36
    return ScheduleConfig(epochs=12 * times, warmup_steps=500, decay_at=(first_drop, 11 / 12))
