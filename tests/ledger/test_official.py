"""The official rules, module by module, against what the operators say where both count the same."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.heads.postprocess import PostprocessConfig
from cascade_lab.heads.rpn import ProposalLimits
from cascade_lab.ledger.costs import ledger
from cascade_lab.ledger.official import DETECTIONS, PROPOSALS, official_count, pyramid_grids
from cascade_lab.recipes import nano
from cascade_lab.weights import official_state_dict
from tests.tiny_detector import BACKBONE, CASCADE, config, stages

MULTIPLYING = {"Conv2d", "ConvTranspose2d", "Linear"}


def as_counted(given: DetectorConfig) -> DetectorConfig:
    """Let the real cascade see as many boxes as the official counter."""
    limits = ProposalLimits(after_nms=PROPOSALS)
    post = PostprocessConfig(max_detections=DETECTIONS)
    cascade = replace(given.cascade, postprocess=post)
    return replace(given, rpn=replace(given.rpn, inference=limits), cascade=cascade)


VARIANTS = {
    "pre-norm": config(),
    "one stage": config(stages(1)),
    "four stages": config(stages(4)),
    "post-norm": replace(config(), backbone=replace(BACKBONE, post_norm=True)),
    "giant": replace(
        config(),
        backbone=replace(
            BACKBONE, res_post_norm=True, layer_scale=None, depthwise_kernel=5, level2_post_norm_blocks=(0,)
        ),
    ),
    "plain convolutions": config(
        replace(CASCADE, box_head=replace(CASCADE.box_head, convs=2, norm="none", class_aware=False))
    ),
    "nano": nano().detector,
}


@pytest.mark.parametrize("size", [(64, 96), (65, 127)])
@pytest.mark.parametrize("name", VARIANTS)
def test_both_ways_agree_on_convolutions_and_linear_layers(name, size):
    """One way knows the geometry and no tensor, the other tensors and no geometry. Linear layers differ by
    their biases, which the official rules do not count: one per output element. And a batch norm, officially
    two per element, is at inference part of its convolution, as a bias: one per element."""
    own = ledger(as_counted(VARIANTS[name]), size)
    official = sum(row.operations for row in own.modules if row.kind in MULTIPLYING)
    with torch.device("meta"):
        detector = Detector(VARIANTS[name])
    linear = {n: m for n, m in detector.named_modules() if isinstance(m, torch.nn.Linear)}
    weights = {row.name: row.operations for row in own.modules if row.kind == "Linear"}
    assert len(weights) == len(linear)
    biases = sum(row // m.in_features for row, m in zip(weights.values(), linear.values(), strict=True))
    shifts = sum(row.operations for row in own.modules if row.kind == "BatchNorm2d") // 2
    assert official + biases + shifts == own.full_by_kind["convolution"] + own.full_by_kind["linear"]


@pytest.mark.parametrize("size", [(64, 96), (65, 127), (800, 1280)])
def test_grids_are_those_of_the_pyramid(size):
    with torch.device("meta"):
        detector = Detector(replace(config(), backbone=replace(BACKBONE, backend="cpu")))
        pyramid = detector.neck(detector.backbone(torch.empty(1, 3, *size)))
    assert pyramid_grids(size) == [tuple(level.shape[2:]) for level in pyramid]


def test_norms_of_the_box_head():
    """A synchronised norm is unknown to the official counter; a plain one costs 2 per element."""

    def rows(norm):
        head = replace(CASCADE.box_head, convs=1, conv_channels=8, norm=norm)
        with torch.device("meta"):
            detector = Detector(config(replace(CASCADE, box_head=head)))
        return {r.name: r.operations for r in official_count(detector, (64, 64)) if ".bn" in r.name}

    assert rows("sync_batch") == {}
    expected = {f"roi_head.bbox_head.{k}.shared_convs.0.bn": 2 * 8 * 1000 * 16 for k in range(3)}
    assert rows("batch") == rows("group") == expected


def test_the_centre_scale_is_not_counted():
    giant = replace(config(), backbone=replace(BACKBONE, center_feature_scale=True))
    with torch.device("meta"):
        detector = Detector(giant)
    assert not [row for row in official_count(detector, (64, 64)) if "center" in row.name]


def test_names_are_those_of_the_official_parameters():
    for count in (1, 3):
        with torch.device("meta"):
            detector = Detector(config(stages(count)))
        keys = official_state_dict(detector, single_stage=count == 1)
        rows = [r for r in official_count(detector, (64, 64)) if r.kind not in ("ReLU", "DCNv3")]
        assert {f"{row.name}.weight" for row in rows} <= set(keys)
        heads = {row.official_part for row in rows if "head" in row.name and "rpn" not in row.name}
        assert ("roi_head.bbox_head" in heads) == (count == 1)
        assert ("roi_head.mask_head.2" in heads) == (count == 3)
