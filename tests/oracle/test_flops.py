"""The ledger's official count against the official counter: parameters, parts, types, every module.

``flops/<name>_<H>x<W>.json`` and ``..._modules.csv``. What the model is, is read off its parameters in
``state_dicts/<name>.json``; where there is none, ``optim/<name>.json`` tells (``build``, ``backbone_extra``).
"""

from __future__ import annotations

import csv
import json
import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from cascade_lab.commands.flops_text import by_part_and_layer_type, official_parts
from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.ledger.official import DCNV3, Counted, official_count
from cascade_lab.recipes import RECIPES, recipe
from tests.oracle.golden_detector import detector_config

# What the official L configuration says of a backbone, for models that tell only where they differ from it.
LARGE = {"post_norm": True, "layer_scale": 1.0, "offset_scale": 2.0, "mlp_ratio": 4.0, "drop_path_rate": 0.0}


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def size_of(path: Path) -> tuple[int, int]:
    """Return H and W, which the file names give."""
    found = re.search(r"_(\d+)x(\d+)(_modules)?$", path.stem)
    assert found, f"{path.name} names no size"
    return int(found[1]), int(found[2])


def config_of(path: Path) -> DetectorConfig:
    """Return the model of a file of the folder ``flops``."""
    name = re.sub(r"_\d+x\d+(_modules)?$", "", path.stem)
    oracle = path.parents[1]
    listed = oracle / "state_dicts" / f"{name}.json"
    if listed.is_file() and "state_dict" in read(listed):
        settings = read(listed)
        return detector_config(settings, {key: shape for key, (shape, _) in settings["state_dict"].items()})
    described = oracle / "optim" / f"{name}.json"
    if not described.is_file():
        pytest.skip(f"neither state_dicts nor optim tells what {name} is")
    settings = read(described)
    build = settings["build"]
    backbone = {"channels": build["ch"], "depths": build["depths"], "groups": build["groups"]}
    shapes = {"neck.lateral_convs.0.conv.weight": (build["fpn"],)}
    classifiers = [key for key in settings["params"] if key.endswith("fc_cls.weight")]
    shapes |= dict.fromkeys(classifiers, (build["nc"] + 1, build["fc"]))
    return detector_config(settings | {"backbone_kwargs": LARGE | backbone}, shapes)


@cache
def counted(config: DetectorConfig, size: tuple[int, int]) -> tuple[int, list[Counted]]:
    """Return parameters and rows, built without memory."""
    with torch.device("meta"):
        detector = Detector(config)
    return sum(p.numel() for p in detector.parameters()), official_count(detector, size)


@pytest.mark.oracle_files("flops/*x*[0-9].json")
def test_totals_and_parts(oracle_file: Path):
    golden = read(oracle_file)
    assert list(size_of(oracle_file)) == golden["input_shape"][1:]
    parameters, rows = counted(config_of(oracle_file), size_of(oracle_file))
    assert parameters == golden["params"]
    terms = [row.operations for row in rows if row.kind == DCNV3]
    assert terms == golden["dcnv3_term_per_stage"] and sum(terms) == golden["dcnv3_term"]
    assert sum(row.operations for row in rows) == golden["total_flops"]
    assert official_parts(rows) == golden["parts"]
    assert sum(official_parts(rows).values()) == golden["counter_flops_without_dcnv3_term"]
    assert by_part_and_layer_type(rows) == golden["by_part_and_layer_type"]


@pytest.mark.oracle_files("flops/*_modules.csv")
def test_every_module(oracle_file: Path):
    with oracle_file.open(encoding="utf-8", newline="") as lines:
        golden = {row["module"]: (row["type"], int(row["flops"])) for row in csv.DictReader(lines)}
    rows = counted(config_of(oracle_file), size_of(oracle_file))[1]
    own = [row for row in rows if row.kind != DCNV3]
    assert len(own) == len({row.name for row in own})
    assert {row.name: (row.kind, row.operations) for row in own} == golden


@pytest.mark.oracle_files("flops/*x*[0-9].json")
def test_recipes_of_that_name_are_the_model(oracle_file: Path):
    """The model is read off its parameters above; the recipe by that name must be as large."""
    golden = read(oracle_file)
    name = golden["config"]
    if name not in RECIPES:
        pytest.skip(f"{name} is no recipe")
    parameters, rows = counted(recipe(name).detector, size_of(oracle_file))
    assert (parameters, sum(row.operations for row in rows)) == (golden["params"], golden["total_flops"])
