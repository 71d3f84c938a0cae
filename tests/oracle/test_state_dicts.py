"""Every official model has the same parameters as ours: names, order, shapes, types and numbers.

Detectors are built without memory, so the largest take no longer than the smallest.
"""

import json
from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from pathlib import Path
from typing import Any

import pytest
import torch

from cascade_lab.backbones.internimage import InternImage
from cascade_lab.detector import Detector
from cascade_lab.recipes.published import BACKBONES
from cascade_lab.weights import official_state_dict, to_official
from tests.oracle.golden_detector import backbone_config, backbone_kwargs_of
from tests.oracle.golden_recipes import (
    built_config,
    golden_config,
    is_single_stage,
    official_parameters,
    without_memory,
)

LISTS = "state_dicts/*.json"
# Tables over several models, told from lists of one model by what they hold.
COUNTS = ("num_keys", "num_params", "total_params", "trainable_params", "total_buffer_elements")


def read(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def listed(path: Path) -> dict[str, Any]:
    golden = read(path)
    if "state_dict" not in golden:
        pytest.skip(f"{path.name} lists no model")
    return golden


def shapes_of(golden: Mapping[str, Any]) -> dict[str, list[int]]:
    return {key: shape for key, (shape, _) in golden["state_dict"].items()}


def detector_of(golden: Mapping[str, Any]) -> Detector:
    return without_memory(golden_config(golden, shapes_of(golden)))


@pytest.mark.oracle_files(LISTS)
def test_names_order_shapes_and_types(oracle_file: Path):
    """Of the model by its name or shapes and, where the file says ``build``, of the one that this builds."""
    golden = listed(oracle_file)
    detectors = [detector_of(golden)]
    if "build" in golden:
        detectors.append(without_memory(built_config(golden, golden["state_dict"])))
    for detector in detectors:
        own = official_state_dict(detector, single_stage=is_single_stage(golden["state_dict"]))
        found = {key: [list(v.shape), str(v.dtype).removeprefix("torch.")] for key, v in own.items()}
        assert list(found) == list(golden["state_dict"])
        assert found == golden["state_dict"]


@pytest.mark.oracle_files(LISTS)
def test_counts(oracle_file: Path):
    golden = listed(oracle_file)
    check_counts(golden, detector_of(golden), is_single_stage(golden["state_dict"]))


def test_summary(oracle_dir: Path):
    """The table over all models agrees with ours, model by model."""
    files = [read(path) for path in sorted((oracle_dir / "state_dicts").glob("*.json"))]
    lists = {golden["name"]: golden for golden in files if "state_dict" in golden}
    rows = {name: row for table in files for name, row in summary_rows(table) if name in lists}
    if not rows:
        pytest.skip(f"no table of several models in {oracle_dir}/state_dicts")
    for name, row in rows.items():
        golden = lists[name]
        detector = detector_of(golden)
        check_counts(row, detector, is_single_stage(golden["state_dict"]))
        for other in row.get("same_state_dict_layout_as", ()):
            if other in lists:
                same = detector_of(lists[other])
                assert list(same.state_dict()) == list(detector.state_dict()), f"{name} and {other}"


def test_classification_weights_are_the_backbone(oracle_dir: Path):
    """What a classification file holds beside its head is our backbone: nothing missing, nothing more."""
    tables = [read(path) for path in sorted((oracle_dir / "state_dicts").glob("*.json"))]
    entries = {size: e for t in tables for size, e in t.items() if isinstance(e, dict) and "keys" in e}
    if not entries:
        pytest.skip(f"no classification models in {oracle_dir}/state_dicts")
    for size, entry in entries.items():
        head = entry["non_backbone_keys"]
        keys = {f"backbone.{key}": shape_in(value) for key, value in entry["keys"].items() if key not in head}
        config = BACKBONES.get(size) or backbone_config(backbone_kwargs_of(keys))
        with torch.device("meta"):
            backbone = InternImage(config)
        own = {to_official(f"backbone.{key}"): list(v.shape) for key, v in backbone.state_dict().items()}
        assert list(own.items()) == list(keys.items()), size
        counted = {key: shape for key, shape in head.items() if not is_buffer(key)}
        total = sum(p.numel() for p in backbone.parameters()) + sum(map(prod, counted.values()))
        assert total == entry["num_params"], size
        assert len(entry["keys"]) == entry["num_keys"], size


def check_counts(row: Mapping[str, Any], detector: Detector, single_stage: bool) -> None:
    """Compare whatever a row counts; ``total_params`` at least is there."""
    parameters = {n: p for n, (_, p) in official_parameters(detector, single_stage).items()}
    state = official_state_dict(detector, single_stage=single_stage)
    found = {
        "num_keys": len(state),
        "num_params": len(parameters),
        "total_params": sum(p.numel() for p in parameters.values()),
        "trainable_params": sum(p.numel() for p in parameters.values() if p.requires_grad),
        "total_buffer_elements": sum(v.numel() for key, v in state.items() if key not in parameters),
    }
    assert {name: found[name] for name in COUNTS if name in row} == {n: row[n] for n in COUNTS if n in row}
    assert "total_params" in row
    if "buffers" in row:
        assert sorted({key.rpartition(".")[2] for key in state if key not in parameters}) == row["buffers"]
    for table in ("by_part", "roi_parts"):
        counter: Counter[str] = Counter()
        for part in row.get(table, ()):
            counter[part] = sum(p.numel() for n, p in parameters.items() if n.startswith(f"{part}."))
        assert counter == row.get(table, {})
    assert sum(row.get("by_part", {"all": found["total_params"]}).values()) == found["total_params"]


def summary_rows(table: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for name, row in table.items():
        if isinstance(row, dict) and "total_params" in row:
            yield name, row


def shape_in(value: list[Any]) -> list[int]:
    """Return the shape of an entry, which is the shape alone or (shape, type)."""
    return value[0] if value and isinstance(value[0], list) else value


def is_buffer(key: str) -> bool:
    return key.endswith(("running_mean", "running_var", "num_batches_tracked"))
