"""Which of our detectors a golden file of ``state_dicts/`` or ``optim/`` speaks of, and its official names.

A file that carries ``build`` describes a model of its own; otherwise its name is that of a published config,
and so of a recipe; a name without a recipe is built from the shapes of its parameters.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

import torch

from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.recipes import RECIPES, recipe
from cascade_lab.weights import to_official
from tests.oracle.golden_detector import backbone_kwargs_of, detector_config

STAGE = "roi_head.bbox_head.0."


def name_of(golden: Mapping[str, Any]) -> str:
    return golden.get("name") or golden.get("config") or ""


def is_recipe(golden: Mapping[str, Any]) -> bool:
    return "build" not in golden and name_of(golden) in RECIPES


def golden_config(golden: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> DetectorConfig:
    """Return the configuration; ``shapes`` are those of the official parameters and buffers."""
    return recipe(name_of(golden)).detector if is_recipe(golden) else detector_config(golden, shapes)


def built_config(golden: Mapping[str, Any], names: Collection[str]) -> DetectorConfig:
    """Return the configuration of a golden file with ``build``, of whose parameters only the names are known.

    Sizes are those of ``build``. What else names can show, such as layer scale, is read off them, since the
    official configs that such models start from differ in it; ``backbone_extra`` has the last word.
    """
    build = golden["build"]
    shapes: dict[str, list[int]] = {name: [] for name in names}
    shapes["backbone.patch_embed.conv2.weight"] = [build["ch"]]
    shapes["neck.lateral_convs.0.conv.weight"] = [build["fpn"]]
    head = "roi_head.bbox_head." if is_single_stage(names) else STAGE
    shapes[head + "fc_cls.weight"] = [build["nc"] + 1, build["fc"]]
    for level, groups in enumerate(build["groups"]):
        block = f"backbone.levels.{level}.blocks.0."
        shapes[block + "dcn.mask.weight"] = [9 * groups]
        shapes[block + "mlp.fc1.weight"] = [4 * build["ch"] * 2**level]
        shapes[block + "dcn.dw_conv.0.weight"] = [3]
    sizes = {"channels": build["ch"], "depths": build["depths"], "groups": build["groups"]}
    read = backbone_kwargs_of(shapes)
    assert {key: read[key] for key in sizes} == sizes, "names and build speak of different models"
    extra = golden.get("backbone_extra") or {}
    return detector_config({**golden, "backbone_kwargs": read | sizes | extra}, shapes)


def without_memory(config: DetectorConfig) -> Detector:
    with torch.device("meta"):
        return Detector(config)


def is_single_stage(names: Iterable[str]) -> bool:
    """Say whether official names are those of Mask R-CNN, whose heads have no number."""
    return not any(name.startswith(STAGE) for name in names)


def official_parameters(detector: Detector, single_stage: bool) -> dict[str, tuple[str, torch.nn.Parameter]]:
    """Return official name -> (our name, parameter), in our order."""
    return {to_official(name, single_stage): (name, p) for name, p in detector.named_parameters()}
