"""Every official optimizer and schedule is ours: the rate of each parameter, iteration and block.

Files of ``optim/`` with a list of parameters are optimizers; those with schedules hold them by config name.
"""

import json
import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

from cascade_lab.backbones.internimage import InternImageConfig
from cascade_lab.engine.ema import Ema, momentum
from cascade_lab.engine.optim import OptimConfig, build_optimizer
from cascade_lab.engine.schedule import ScheduleConfig, lr_factor
from cascade_lab.recipes import RECIPES, recipe
from cascade_lab.recipes.published import COCO_PICTURES, cascade_3x
from tests.oracle.golden_recipes import (
    built_config,
    is_recipe,
    is_single_stage,
    name_of,
    official_parameters,
    without_memory,
)

FILES = "optim/*.json"
EXACT = {"rel": 1e-12, "abs": 0.0}  # float64 rounding of the same formula


def optimizer_file(path: Path) -> dict[str, Any]:
    golden = json.loads(path.read_text(encoding="utf-8"))
    if "params" not in golden:
        pytest.skip(f"{path.name} is not about one optimizer")
    if "build" not in golden and not is_recipe(golden):
        pytest.skip(f"{path.name}: {name_of(golden)!r} is no recipe, and no build says what it is")
    return golden


def optim_config(golden: Mapping[str, Any]) -> OptimConfig:
    """Return the golden settings in our words."""
    settings = golden["optimizer"]
    defaults = golden.get("torch_optimizer_defaults", {})
    return OptimConfig(
        lr=settings["lr"],
        weight_decay=settings["weight_decay"],
        betas=tuple(settings.get("betas") or defaults.get("betas") or (0.9, 0.999)),
        layer_decay=settings.get("paramwise_cfg", {}).get("layer_decay_rate", 1.0),
    )


@pytest.mark.oracle_files(FILES)
def test_every_parameter(oracle_file: Path):
    """Names in order; for each its layer, its share of the rate, its rate and its weight decay.

    Recipes are compared with the published settings first, so that the numbers are theirs too.
    """
    golden = optimizer_file(oracle_file)
    named = golden["params"]
    if is_recipe(golden):
        chosen = recipe(name_of(golden))
        # What the file leaves out too: no clipping, float32. How weights lie in memory is our affair.
        ours = replace(chosen.optim, lr_for_batch=None, channels_last=False)
        assert ours == optim_config(golden)
        assert chosen.optim.lr_for_batch == chosen.data.images_per_batch
        detector = without_memory(chosen.detector)
    else:
        detector = without_memory(built_config(golden, named))
    assert golden["optimizer"]["type"] == "AdamW"
    assert list(detector.config.backbone.depths) == golden["optimizer"]["paramwise_cfg"]["depths"]
    own = official_parameters(detector, is_single_stage(named))
    assert list(own) == list(named)
    assert detector.num_layers == golden["optimizer"]["paramwise_cfg"]["num_layers"]
    optimizer = build_optimizer(detector, optim_config(golden))
    assert optimizer.defaults["eps"] == golden.get("torch_optimizer_defaults", {"eps": 1e-8})["eps"]
    groups = optimizer.param_groups
    group_of = {name: group for group in groups for name in group["param_names"]}
    assert sum(len(group["params"]) for group in groups) == len(named)
    for official, (name, _) in own.items():
        expected, group = named[official], group_of[name]
        assert detector.layer_of(name) == expected["layer_id"], official
        assert group["lr_scale"] == pytest.approx(expected["lr_scale"], **EXACT), official
        assert group["lr"] == pytest.approx(expected["lr"], **EXACT), official
        assert group["weight_decay"] == expected["weight_decay"], official


def test_extra_norms_of_h_and_g_count_as_the_block_of_their_own_number():
    """The official rule reads the k-th extra norm of level 2 as block k, whichever block it follows."""
    backbone = InternImageConfig(
        channels=16, depths=(2, 3, 6, 2), groups=(1, 2, 4, 8), level2_post_norm_blocks=(2, 5)
    )
    nano = recipe("nano").detector
    detector = without_memory(type(nano)(backbone=backbone, num_classes=4, cascade=nano.cascade))
    found = {n: detector.layer_of(n) for n, _ in detector.named_parameters() if "post_norms" in n}
    assert found == {
        f"backbone.levels.2.post_norms.{k}.{kind}": 1 + 2 + 3 + k
        for k in range(2)
        for kind in ("weight", "bias")
    }


# --- schedules


@pytest.fixture(scope="module")
def schedules(oracle_dir: Path) -> list[dict[str, Any]]:
    """Return all files about schedules; skips where there is none."""
    files = [json.loads(path.read_text("utf-8")) for path in sorted((oracle_dir / "optim").glob("*.json"))]
    found = [content for content in files if "params" not in content]
    if not found:
        pytest.skip(f"no schedules in {oracle_dir}/optim")
    return found


def entries(schedules: list[dict[str, Any]], key: str) -> dict[str, dict[str, Any]]:
    """Return name -> entry for every entry that holds ``key``."""
    named = {name: e for content in schedules for name, e in content.items()}
    found = {name: e for name, e in named.items() if isinstance(e, dict) and key in e}
    if not found:
        pytest.skip(f"no schedule tells its {key}")
    return found


def test_rate_of_every_listed_iteration(schedules: list[dict[str, Any]]):
    for name, golden in entries(schedules, "iter_epoch_lr").items():
        rule, epochs = golden["lr_config"], golden["runner"]["max_epochs"]
        assert (rule["policy"], rule["warmup"]) == ("step", "linear"), name
        by_hand = ScheduleConfig(
            epochs=epochs,
            warmup_steps=rule["warmup_iters"],
            warmup_ratio=rule["warmup_ratio"],
            decay_at=tuple(epoch / epochs for epoch in rule["step"]),
        )
        config = recipe(name).schedule if name in RECIPES else by_hand
        assert config.epochs == epochs, name
        total = epochs * golden["assumed_iters_per_epoch"]
        for step, _, lr in golden["iter_epoch_lr"]:
            found = golden["base_lr"] * lr_factor(step, total, config)
            assert found == pytest.approx(lr, **EXACT), (name, step)


def test_batch_average_and_clipping_of_the_recipes(schedules: list[dict[str, Any]]):
    for name, golden in entries(schedules, "assumed_iters_per_epoch").items():
        if name not in RECIPES:
            continue
        chosen = recipe(name)
        per_epoch = math.ceil(COCO_PICTURES / chosen.data.images_per_batch)
        assert per_epoch == golden["assumed_iters_per_epoch"], name
        assert chosen.optim.clip_norm == golden["grad_clip"], name
        assert chosen.data.workers == golden["workers_per_gpu"], name
        hooks = [h["momentum"] for h in golden["custom_hooks"] or () if h["type"] == "ExpMomentumEMAHook"]
        assert chosen.schedule.ema == (hooks[0] if hooks else None), name


def test_backbone_and_drop_path_of_every_config(schedules: list[dict[str, Any]]):
    configs = {name: e for content in schedules for name, e in content.get("per_config", {}).items()}
    if not configs:
        pytest.skip("no schedule tells the drop path of configs")
    for name, golden in configs.items():
        same = {field: golden[field] for field in ("channels", "layer_scale", "offset_scale", "post_norm")}
        backbone = InternImageConfig(
            depths=tuple(golden["depths"]),
            groups=tuple(golden["groups"]),
            drop_path=golden["drop_path_rate"],
            **same,
        )
        rates = [rate for level in backbone.block_drop_path for rate in level]
        assert rates == pytest.approx(golden["per_block"], rel=1e-6), name  # the golden ones are float32
        if name in RECIPES:
            chosen = recipe(name)
            assert chosen.detector.backbone == backbone, name
            assert (chosen.optim.lr, chosen.optim.weight_decay) == (golden["base_lr"], golden["weight_decay"])
            assert chosen.optim.layer_decay == golden["paramwise"]["layer_decay_rate"], name
            assert chosen.schedule.epochs == golden["max_epochs"], name
            drops = [at * golden["max_epochs"] for at in chosen.schedule.decay_at]
            assert drops == pytest.approx(golden["steps"]), name


def test_momentum_and_trace_of_the_average(schedules: list[dict[str, Any]]):
    """The published settings, so that the recipe is compared too."""
    schedule = cascade_3x("l").schedule
    assert schedule.ema is not None
    for golden in entries(schedules, "momentum").values():
        for step, share in zip(golden["iters"], golden["momentum"], strict=True):
            assert momentum(step, schedule.ema, schedule.ema_warmup) == pytest.approx(share, **EXACT)
        model = nn.Linear(1, 1, bias=False)
        nn.init.zeros_(model.weight)
        average = Ema(model, schedule.ema, schedule.ema_warmup)
        for step, expected in enumerate(golden["trace"]["ema_after_iter"]):
            with torch.no_grad():
                model.weight.fill_(step + 1.0)
            average.update(model, step)
            assert average.state["weight"].item() == pytest.approx(expected, rel=1e-6)
