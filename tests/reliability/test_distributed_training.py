"""Two processes end with the weights of one: the same pictures, samples and drop paths.

The real detector on six pictures of 64 pixels, three of them without any object, four to a step.
"""

import json
import os
import runpy
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import cascade_lab.train
from cascade_lab.engine import checkpoint
from cascade_lab.engine.logger import read_metrics
from cascade_lab.overrides import override
from cascade_lab.recipes import Recipe, recipe, to_dict
from tests.processes import ROOT, run_together

stand_in = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "stand_in.py")))

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("one_thread")]
STEPS = 3
# Both processes train all recipes, and save the weights that they end with.
SCRIPT = """
    import json
    from pathlib import Path
    import cascade_lab.train as training
    from cascade_lab.recipes import from_dict
    torch.set_num_threads(1)
    ended = []

    class Detector(training.Detector):
        def __init__(self, config):
            super().__init__(config)
            ended.append(self)

    training.Detector = Detector
    folder = Path(sys.argv[1])
    for name, plain in json.loads((folder / "recipes.json").read_text()).items():
        training.train(from_dict(plain), folder / name)
        torch.save(ended[-1].state_dict(), folder / f"{name}.{d.rank()}")
"""


def small(root: Path) -> Recipe:
    """Return the recipe of the resuming tests, on pictures of which every second one is empty."""
    name, *options = stand_in.small_recipe(root, steps=STEPS)
    (found,) = override((recipe(name),), options)
    (path,) = root.rglob("*train*.json")
    annotations = json.loads(path.read_text())
    annotations["annotations"] = [a for a in annotations["annotations"] if a["image_id"] % 2]
    path.write_text(json.dumps(annotations))
    return replace(
        found,
        data=replace(found.data, images_per_batch=4, keep_empty=True),
        optim=replace(found.optim, lr=5e-4),
        schedule=replace(found.schedule, warmup_steps=0, decay="none", checkpoint_every=STEPS),
    )


def varied(plain: Recipe, *, norm="group", drop_path=0.3, checkpointing=False, **optim) -> Recipe:
    detector = plain.detector
    head = replace(detector.cascade.box_head, norm=norm)
    backbone = replace(detector.backbone, drop_path=drop_path, activation_checkpointing=checkpointing)
    cascade = replace(detector.cascade, box_head=head)
    return replace(
        plain,
        detector=replace(detector, backbone=backbone, cascade=cascade),
        optim=replace(plain.optim, **optim),
    )


def test_two_processes_are_one(tmp_path: Path):
    plain = small(tmp_path / "shapes")
    # What two processes train, and what one process trains to the same end.
    pairs = {
        "checkpointed": (
            varied(plain, checkpointing=True, channels_last=True),
            varied(plain, images_at_once=2),
        ),
        "synchronised": (varied(plain, norm="sync_batch", drop_path=0.0),) * 2,
        "parts": (varied(plain, images_at_once=1),) * 2,
    }
    asked = {name: two for name, (two, _) in pairs.items()}
    for kind in ("bfloat16", "float16"):
        asked[kind] = varied(plain, norm="sync_batch", checkpointing=True, precision=kind, images_at_once=1)
    plainly = {name: to_dict(value) for name, value in asked.items()}
    (tmp_path / "recipes.json").write_text(json.dumps(plainly))
    run_together(SCRIPT, str(tmp_path))

    for name in asked:
        first, second = (torch.load(tmp_path / f"{name}.{rank}") for rank in range(2))
        assert all(torch.equal(first[key], second[key]) for key in first), name
        assert all(value.isfinite().all() for value in first.values()), name
        assert [line["step"] for line in read_metrics(tmp_path / name)] == [1, 2, 3]
    for name, (_, one) in pairs.items():
        cascade_lab.train.train(one, tmp_path / f"{name} alone")
        same(tmp_path / name, tmp_path / f"{name} alone")


def test_torchrun_starts_the_command_and_one_process_goes_on(tmp_path: Path):
    """The same command, cut after two of four steps, goes on in a single process."""
    recipe_words = [
        *stand_in.small_recipe(tmp_path / "shapes", steps=4),
        *("--detector.cascade.box_head.norm", "sync_batch", "--optim.lr", "0.0005"),
    ]
    recipe_words[recipe_words.index("--detector.backbone.drop_path") + 1] = "0.0"
    assert cascade_lab.train.main([*recipe_words, "--output", str(tmp_path / "alone")]) == 0
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    command = [*torchrun, "-m", "cascade_lab.train", *recipe_words, "--output", str(tmp_path / "run")]
    done = subprocess.run(
        [sys.executable, *command],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("2 x cpu") == 1  # the main process alone says what begins
    assert done.stdout.count("trained.") == 1
    newest_file = checkpoint.paths(tmp_path / "run" / "checkpoints")[-1]
    newest_file.unlink()
    assert cascade_lab.train.main([*recipe_words, "--output", str(tmp_path / "run"), "--resume"]) == 0
    same(tmp_path / "run", tmp_path / "alone")


def same(run: Path, alone: Path) -> None:
    expected, found = newest(alone), newest(run)
    for part in ("detector", "ema"):
        for name, value in expected[part].items():
            difference = (found[part][name] - value).abs().max().item()
            assert difference < 1e-5, f"{run.name}: {part} {name} differs by {difference:.1e}"
    for ours, theirs in zip(read_metrics(run), read_metrics(alone), strict=True):
        assert ours["loss"] == pytest.approx(theirs["loss"], rel=1e-5)
        assert ours["gradient_norm"] == pytest.approx(theirs["gradient_norm"], rel=1e-4)


def newest(run: Path) -> dict:
    state = checkpoint.load_newest(run / "checkpoints")
    assert state is not None
    return state
