"""The official names, both ways."""

import json
from pathlib import Path

import pytest
import torch

from cascade_lab.backbones.internimage import InternImage
from cascade_lab.detector import Detector
from cascade_lab.weights import from_official, official_state_dict, to_official
from tests.oracle.golden_detector import backbone_config, backbone_kwargs_of, detector_config

PAIRS = [
    ("backbone.stem.conv1.weight", "backbone.patch_embed.conv1.weight"),
    ("backbone.stem.norm1.bias", "backbone.patch_embed.norm1.1.bias"),
    ("backbone.stem.norm2.bias", "backbone.patch_embed.norm2.1.bias"),
    ("backbone.levels.0.blocks.10.norm1.weight", "backbone.levels.0.blocks.10.norm1.0.weight"),
    ("backbone.levels.2.blocks.3.scale2", "backbone.levels.2.blocks.3.gamma2"),
    ("backbone.levels.2.blocks.3.dcn.depthwise.weight", "backbone.levels.2.blocks.3.dcn.dw_conv.0.weight"),
    ("backbone.levels.2.blocks.3.dcn.depthwise_norm.bias", "backbone.levels.2.blocks.3.dcn.dw_conv.1.1.bias"),
    ("backbone.levels.2.blocks.3.dcn.modulation.bias", "backbone.levels.2.blocks.3.dcn.mask.bias"),
    ("backbone.levels.2.blocks.3.dcn.offset.bias", "backbone.levels.2.blocks.3.dcn.offset.bias"),
    ("backbone.levels.2.blocks.3.dcn.input_proj.bias", "backbone.levels.2.blocks.3.dcn.input_proj.bias"),
    (
        "backbone.levels.1.blocks.0.dcn.center_scale.weight",
        "backbone.levels.1.blocks.0.dcn.center_feature_scale_proj_weight",
    ),
    ("backbone.levels.1.blocks.0.res_norm2.weight", "backbone.levels.1.blocks.0.res_post_norm2.0.weight"),
    ("backbone.levels.1.blocks.0.mlp.fc1.weight", "backbone.levels.1.blocks.0.mlp.fc1.weight"),
    ("backbone.levels.1.norm.weight", "backbone.levels.1.norm.0.weight"),
    ("backbone.levels.1.downsample.conv.weight", "backbone.levels.1.downsample.conv.weight"),
    ("backbone.levels.1.downsample.norm.weight", "backbone.levels.1.downsample.norm.1.weight"),
    ("backbone.levels.2.post_norms.1.bias", "backbone.levels.2.post_norms.1.0.bias"),
    ("neck.lateral.3.bias", "neck.lateral_convs.3.conv.bias"),
    ("neck.output.0.weight", "neck.fpn_convs.0.conv.weight"),
    ("rpn.objectness.weight", "rpn_head.rpn_cls.weight"),
    ("rpn.regressor.bias", "rpn_head.rpn_reg.bias"),
    ("cascade.box_heads.2.classifier.weight", "roi_head.bbox_head.2.fc_cls.weight"),
    ("cascade.box_heads.1.convs.3.conv.weight", "roi_head.bbox_head.1.shared_convs.3.conv.weight"),
    ("cascade.box_heads.1.convs.3.norm.running_var", "roi_head.bbox_head.1.shared_convs.3.bn.running_var"),
    ("cascade.box_heads.0.fcs.0.bias", "roi_head.bbox_head.0.shared_fcs.0.bias"),
    ("cascade.mask_heads.2.convs.1.weight", "roi_head.mask_head.2.convs.1.conv.weight"),
    ("cascade.mask_heads.2.upsample.bias", "roi_head.mask_head.2.upsample.bias"),
    ("cascade.mask_heads.0.logits.bias", "roi_head.mask_head.0.conv_logits.bias"),
]
SINGLE = [
    ("cascade.box_heads.0.classifier.bias", "roi_head.bbox_head.fc_cls.bias"),
    ("cascade.box_heads.0.fcs.1.bias", "roi_head.bbox_head.shared_fcs.1.bias"),
    ("cascade.mask_heads.0.convs.2.bias", "roi_head.mask_head.convs.2.conv.bias"),
]


@pytest.mark.parametrize(("own", "official"), PAIRS)
def test_names(own: str, official: str):
    assert to_official(own) == official
    assert from_official(official) == own


@pytest.mark.parametrize(("own", "official"), SINGLE)
def test_names_of_a_single_stage(own: str, official: str):
    assert to_official(own, single_stage=True) == official
    assert from_official(official) == own


# --- whole models, where their lists of parameters are at hand


def layout(path: Path) -> dict[str, list[int]]:
    stored = json.loads(path.read_text(encoding="utf-8")).get("state_dict")
    if stored is None:
        pytest.skip(f"{path.name} lists no parameters")
    return {key: shape for key, (shape, _) in stored.items()}


@pytest.mark.oracle_files("state_dicts/[a-z]*.json")
def test_published_models(oracle_file: Path):
    """Every published model, built without memory: the same names, shapes and order."""
    shapes = layout(oracle_file)
    with torch.device("meta"):
        detector = Detector(detector_config({}, shapes))
    own = official_state_dict(detector, single_stage="roi_head.bbox_head.fc_cls.weight" in shapes)
    assert [(key, list(value.shape)) for key, value in own.items()] == list(shapes.items())
    assert [from_official(key) for key in shapes] == list(detector.state_dict())


def test_classification_checkpoints(oracle_dir: Path):
    """The backbone of a classification model has the same names, without "backbone." before them."""
    path = oracle_dir / "state_dicts" / "CLASSIFICATION_PRETRAINED_KEYS.json"
    if not path.is_file():
        pytest.skip(f"no {path.name}")
    for name, entry in json.loads(path.read_text(encoding="utf-8")).items():
        stored = entry.get("keys", entry.get("state_dict", {}))
        if not isinstance(stored, dict):
            stored = {row[0]: row[1:] for row in stored}
        shapes = {
            f"backbone.{key}": value[0] if value and isinstance(value[0], list) else value
            for key, value in stored.items()
            if key.startswith(("patch_embed.", "levels."))
        }
        assert shapes, name
        with torch.device("meta"):
            backbone = InternImage(backbone_config(backbone_kwargs_of(shapes)))
        own = {to_official(f"backbone.{k}"): list(v.shape) for k, v in backbone.state_dict().items()}
        assert list(own.items()) == list(shapes.items()), name


@pytest.mark.parametrize("own", [own for own, _ in PAIRS + SINGLE])
def test_our_own_names_stay(own: str):
    assert from_official(own) == own
