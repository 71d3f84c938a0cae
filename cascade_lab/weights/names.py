"""The names of the parameters in official checkpoints, and ours.

The official modules carry their construction in their names (a norm wrapped between two permutations is
``norm1.1``); ours are named by what they are. The map works both ways and knows no sizes.
"""

from __future__ import annotations

import re

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


def to_official(name: str, single_stage: bool = False) -> str:
    """Return the official name of one of our detector's parameters.

    ``single_stage`` writes the Mask R-CNN layout, which numbers no stages.
    """
    if name.startswith("backbone."):
        return _translate(name, _BACKBONE, 0)
    name = _translate(name, _HEADS, 0)
    return re.sub(r"(bbox_head|mask_head)\.0\.", r"\1.", name) if single_stage else name


def from_official(name: str) -> str:
    """Return our name of an official detector parameter; a name of ours is returned as it is."""
    if name.startswith("backbone."):
        return _translate(name, _BACKBONE, 1)
    name = re.sub(r"(bbox_head|mask_head)\.(?!\d)", r"\1.0.", name)
    return _translate(name, _HEADS, 1)


def _translate(name: str, table: tuple[tuple[str, str], ...], source: int) -> str:
    """Replace the first pattern of the table that occurs in ``name``; leave other names alone."""
    for pair in table:
        pattern = re.escape(pair[source]).replace(r"\{\}", r"(\d+)")
        anchor = "" if pair[source].startswith(".") else r"(?:^|(?<=^backbone\.))"
        match = re.search(anchor + pattern, name)
        if match:
            return name[: match.start()] + pair[1 - source].format(*match.groups()) + name[match.end() :]
    return name
