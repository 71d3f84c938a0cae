"""What can be chosen about a cascade: its stages, and the points on which public code bases differ.

The loop that these values configure is in `heads/cascade.py`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal

from cascade_lab.errors import check_word
from cascade_lab.heads.box_head import BoxHeadConfig
from cascade_lab.heads.mask_head import MaskHeadConfig
from cascade_lab.heads.postprocess import PostprocessConfig
from cascade_lab.targets.assigner import Assigner
from cascade_lab.targets.sampler import Sampler

LossWeights = Literal["plain", "shared_features"]
LaterSampling = Literal["resample", "all"]


@dataclass(frozen=True, kw_only=True)
class Stage:
    """One refinement step.

    Args:
        iou: a proposal that overlaps an object at least this much is a positive.
        delta_std: what the deltas are divided by; smaller for later stages, whose corrections are.
        loss_weight: of this stage's losses.
        match_low_quality: give every object its best box even below ``iou`` (Mask R-CNN as published).
    """

    iou: float
    delta_std: tuple[float, float, float, float]
    loss_weight: float = 1.0
    match_low_quality: bool = False

    def __post_init__(self) -> None:
        if not 0.0 < self.iou <= 1.0:
            raise ValueError(f"iou must be in (0, 1], got {self.iou}")
        if min(self.delta_std) <= 0:
            raise ValueError(f"delta_std must be positive, got {self.delta_std}")


THREE_STAGES = (  # each stage: stricter match, finer deltas, smaller weight
    Stage(iou=0.5, delta_std=(0.1, 0.1, 0.2, 0.2), loss_weight=1.0),
    Stage(iou=0.6, delta_std=(0.05, 0.05, 0.1, 0.1), loss_weight=0.5),
    Stage(iou=0.7, delta_std=(0.033, 0.033, 0.067, 0.067), loss_weight=0.25),
)


@dataclass(frozen=True, kw_only=True)
class CascadeConfig:
    """The defaults are those of InternImage-L and -XL; the switches are where public code bases differ.

    Args:
        stages: one or more; one stage is Faster or Mask R-CNN.
        loss_weights: ``"plain"`` multiplies the losses of a stage (published InternImage models);
            ``"shared_features"`` lets the heads learn at full speed and scales only what reaches the
            pyramid (the paper's code, by learning rates of 1, 2, 4).
        later_sampling: ``"resample"`` draws again in every stage (published InternImage models);
            ``"all"`` trains later stages on all boxes of the stage before (the paper).
        mask_stages: stages with a mask head: all, the first, the last, or any subset.
        ignore_ioa: background boxes covered more than this by an ignored region are not trained on; -1
            treats such regions as background (published InternImage models on COCO).
        canonical_size: a box of this side reads the finest level, of twice the side the next, ...
        sampling_ratio: RoIAlign samples per bin and axis; 0 adapts to the size of the box.
    """

    stages: tuple[Stage, ...] = THREE_STAGES
    box_head: BoxHeadConfig = BoxHeadConfig()
    mask_head: MaskHeadConfig = MaskHeadConfig()
    mask_stages: tuple[int, ...] = (0, 1, 2)
    sampler: Sampler = Sampler(num=512, positive_fraction=0.25)
    loss_weights: LossWeights = "plain"
    later_sampling: LaterSampling = "resample"
    ignore_ioa: float = -1.0
    canonical_size: float = 56.0
    sampling_ratio: int = 0
    postprocess: PostprocessConfig = field(default_factory=PostprocessConfig)

    def __post_init__(self) -> None:
        if not self.stages:
            raise ValueError("a cascade needs at least one stage")
        beyond = [k for k in self.mask_stages if not 0 <= k < len(self.stages)]
        if beyond:
            raise ValueError(f"mask_stages {beyond} do not exist: there are {len(self.stages)} stages")
        if len(set(self.mask_stages)) < len(self.mask_stages):
            raise ValueError(f"mask_stages {self.mask_stages} name a stage more than once")
        check_word("loss_weights", self.loss_weights, LossWeights)
        check_word("later_sampling", self.later_sampling, LaterSampling)

    def assigner(self, k: int) -> Assigner:
        stage = self.stages[k]
        return Assigner(
            positive_iou=stage.iou,
            negative_iou=stage.iou,
            min_positive_iou=stage.iou,
            match_low_quality=stage.match_low_quality,
            ignore_ioa=self.ignore_ioa,
        )
