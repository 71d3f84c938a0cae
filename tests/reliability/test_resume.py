"""An interrupted run ends with the same bits as an uninterrupted one: on one thread, after a stop at every
step, after kills at random moments, inside a checkpoint too, and after damage to the newest checkpoint.
"""

import json
import os
import runpy
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import cascade_lab.train
from cascade_lab.engine import checkpoint
from cascade_lab.engine.logger import read_metrics
from cascade_lab.runs import load_run

HERE = Path(__file__).parent
stand_in = SimpleNamespace(**runpy.run_path(str(HERE / "stand_in.py")))

pytestmark = [
    pytest.mark.usefixtures("one_thread"),
    pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning"),  # pycocotools
]


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    """A small nano recipe on six pictures, and the run of it that nobody interrupted."""
    folder = tmp_path_factory.mktemp("real")
    torch.set_num_threads(1)
    arguments = stand_in.small_recipe(folder / "shapes")
    assert cascade_lab.train.main([*arguments, "--output", str(folder / "whole")]) == 0
    return SimpleNamespace(arguments=arguments, whole=folder / "whole")


@pytest.mark.parametrize("stopped", range(1, 6))
def test_the_real_detector_stopped_after_every_step(shapes, tmp_path, monkeypatch, stopped):
    batches = cascade_lab.train.training_batches

    def interrupted(*arguments):
        for batch in batches(*arguments):
            if batch.step == stopped - 1:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    arguments = [*shapes.arguments, "--output", str(tmp_path)]
    with monkeypatch.context() as patch:
        patch.setattr(cascade_lab.train, "training_batches", interrupted)
        assert cascade_lab.train.main(arguments) == 130
    assert checkpoint.paths(tmp_path / "checkpoints")[-1].name == f"step_{stopped:08d}.pt"
    assert cascade_lab.train.main([*arguments, "--resume"]) == 0
    assert stand_in.bits(tmp_path) == stand_in.bits(shapes.whole)
    cut, whole = ([line | {"seconds": 0} for line in read_metrics(run)] for run in (tmp_path, shapes.whole))
    assert cut == whole


def test_what_is_opened_again_is_the_average(shapes):
    """Evaluation, prediction and report open a run with ``load_run``: they see the averaged weights."""
    state = checkpoint.load_newest(shapes.whole / "checkpoints")
    assert state is not None
    opened = load_run(shapes.whole).detector.state_dict()
    assert opened.keys() == state["ema"].keys()
    assert all(torch.equal(opened[name], value) for name, value in state["ema"].items())
    for name in ("neck.lateral.0.weight", "cascade.box_heads.0.convs.0.norm.running_var"):
        assert not torch.equal(opened[name], state["detector"][name]), name


def test_killed_before_the_first_checkpoint_starts_again(shapes, tmp_path):
    shutil.copy(shapes.whole / "recipe.json", tmp_path)
    (tmp_path / "metrics.jsonl").write_text('{"step": 1, "loss": 9, "seconds": 1}\n{"step": 2, "lo')
    arguments = [*shapes.arguments, "--output", str(tmp_path), "--resume"]
    assert cascade_lab.train.main(arguments) == 0
    assert stand_in.bits(tmp_path) == stand_in.bits(shapes.whole)


@pytest.mark.parametrize("damage", ["flip", "truncate", "no digest", "partial"])
def test_damage_to_the_newest_checkpoint_costs_one_interval_and_no_bit(tmp_path, damage, capsys):
    stand_in.train(tmp_path / "whole", 8, checkpoint_every=1)

    def first_five(first: int):
        for batch in stand_in.batches(8)(first):
            if batch.step == 4:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    run = tmp_path / "run"
    stand_in.train(run, 8, first_five, checkpoint_every=1)
    newest = checkpoint.paths(run / "checkpoints")[-1]
    content = bytearray(newest.read_bytes())
    if damage == "flip":
        content[len(content) // 2] ^= 16
        newest.write_bytes(content)
    elif damage == "truncate":
        newest.write_bytes(content[:1000])
    elif damage == "no digest":
        newest.with_suffix(".pt.sha256").unlink()
    else:  # killed in the middle of writing step 6
        newest.with_name("step_00000006.pt.partial").write_bytes(content[:1000])
    stand_in.train(run, 8, checkpoint_every=1)
    assert ("skipped" in capsys.readouterr().err) == (damage != "partial")
    assert stand_in.bits(run) == stand_in.bits(tmp_path / "whole")
    assert [line["step"] for line in read_metrics(run)] == list(range(1, 9))


@pytest.mark.slow
def test_killed_at_random_moments(tmp_path):
    found = serve(tmp_path, "kills")
    assert found["kills"] >= 5
    assert found["in_write"] >= 1
    assert set(found["ended"]) == {found["whole"]}


@pytest.mark.slow
def test_the_command_killed_interrupted_and_continued_as_it_says(tmp_path):
    found = serve(tmp_path, "command")
    assert found["codes"] == [0, 130, 0]
    assert found["again"][:3] == ["cascade-lab", "train", "nano"]
    assert found["again"][-1] == "--resume"
    assert found["steps"] == list(range(1, len(found["steps"]) + 1))
    assert found["ended"] == found["whole"]


def serve(folder: Path, experiment: str) -> dict:
    done = subprocess.run(
        [sys.executable, HERE / "kill_server.py", folder, experiment],
        env=os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(HERE.parents[1])},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)
