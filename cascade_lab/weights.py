"""Official checkpoints: the names of their parameters, and ours.

The official modules carry their construction in their names (a norm wrapped between two permutations is
``norm1.1``); ours are named by what they are. The map works both ways and knows no sizes.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from torch import Tensor, nn

# (ours, official): each is a pattern of one, with {} for a number that both share.
_BACKBONE = (
    ("stem.conv{}.", "patch_embed.conv{}."),
    ("stem.norm{}.", "patch_embed.norm{}.1."),
    (".scale{}", ".gamma{}"),
    (".dcn.depthwise.", ".dcn.dw_conv.0."),
    (".dcn.depthwise_norm.", ".dcn.dw_conv.1.1."),
    (".dcn.modulation.", ".dcn.mask."),
    (".dcn.center_scale.", ".dcn.center_feature_scale_proj_"),
    (".res_norm{}.", ".res_post_norm{}.0."),
    (".downsample.norm.", ".downsample.norm.1."),
    (".post_norms.{}.", ".post_norms.{}.0."),
    (".norm{}.", ".norm{}.0."),
    (".norm.", ".norm.0."),
)
_HEADS = (
    ("neck.lateral.{}.", "neck.lateral_convs.{}.conv."),
    ("neck.output.{}.", "neck.fpn_convs.{}.conv."),
    ("rpn.conv.", "rpn_head.rpn_conv."),
    ("rpn.objectness.", "rpn_head.rpn_cls."),
    ("rpn.regressor.", "rpn_head.rpn_reg."),
    ("cascade.box_heads.{}.classifier.", "roi_head.bbox_head.{}.fc_cls."),
    ("cascade.box_heads.{}.regressor.", "roi_head.bbox_head.{}.fc_reg."),
    ("cascade.box_heads.{}.convs.{}.conv.", "roi_head.bbox_head.{}.shared_convs.{}.conv."),
    ("cascade.box_heads.{}.convs.{}.norm.", "roi_head.bbox_head.{}.shared_convs.{}.bn."),
    ("cascade.box_heads.{}.fcs.{}.", "roi_head.bbox_head.{}.shared_fcs.{}."),
    ("cascade.mask_heads.{}.convs.{}.", "roi_head.mask_head.{}.convs.{}.conv."),
    ("cascade.mask_heads.{}.upsample.", "roi_head.mask_head.{}.upsample."),
    ("cascade.mask_heads.{}.logits.", "roi_head.mask_head.{}.conv_logits."),
)


@dataclass
class LoadReport:
    """What did not fit: empty lists mean that every parameter was loaded."""

    missing: list[str] = field(default_factory=list)  # ours, absent from the file
    unexpected: list[str] = field(default_factory=list)  # in the file, unknown to the model
    other_shape: list[str] = field(default_factory=list)  # in both, with different shapes

    @property
    def is_empty(self) -> bool:
        return not (self.missing or self.unexpected or self.other_shape)

    def __str__(self) -> str:
        if self.is_empty:
            return "every parameter was loaded"
        parts = (
            ("missing", self.missing),
            ("unexpected", self.unexpected),
            ("other shape", self.other_shape),
        )
        return "; ".join(f"{name}: {', '.join(keys)}" for name, keys in parts if keys)


def to_official(name: str, single_stage: bool = False) -> str:
    """Return the official name of one of our detector's parameters.

    ``single_stage`` writes the Mask R-CNN layout, which numbers no stages.
    """
    if name.startswith("backbone."):
        return _translate(name, _BACKBONE, 0)
    name = _translate(name, _HEADS, 0)
    return re.sub(r"(bbox_head|mask_head)\.0\.", r"\1.", name) if single_stage else name


def from_official(name: str) -> str:
    """Return our name of an official detector parameter."""
    if name.startswith("backbone."):
        return _translate(name, _BACKBONE, 1)
    name = re.sub(r"(bbox_head|mask_head)\.(?!\d)", r"\1.0.", name)
    return _translate(name, _HEADS, 1)


def load_official(detector: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Copy an official state dict into a detector and report what did not fit."""
    own, report = detector.state_dict(), LoadReport()
    translated = {from_official(key): value for key, value in state.items()}
    for key, value in translated.items():
        if key not in own:
            report.unexpected.append(key)
        elif own[key].shape != value.shape:
            report.other_shape.append(key)
        else:
            own[key].copy_(value)
    report.missing = [key for key in own if key not in translated]
    return report


def official_state_dict(detector: nn.Module, single_stage: bool = False) -> dict[str, Tensor]:
    """Return the detector's state dict under official names, in the official order of modules."""
    return {to_official(key, single_stage): value for key, value in detector.state_dict().items()}


def _translate(name: str, table: tuple[tuple[str, str], ...], source: int) -> str:
    """Replace the first pattern of the table that occurs in ``name``; leave other names alone."""
    for pair in table:
        pattern = re.escape(pair[source]).replace(r"\{\}", r"(\d+)")
        anchor = "" if pair[source].startswith(".") else r"(?:^|(?<=^backbone\.))"
        match = re.search(anchor + pattern, name)
        if match:
            return name[: match.start()] + pair[1 - source].format(*match.groups()) + name[match.end() :]
    return name
