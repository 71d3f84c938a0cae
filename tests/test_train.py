"""The loop, on a detector of 60 weights: what it computes, logs, saves, skips and refuses."""

import json
import math
import runpy
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

import cascade_lab.train
from cascade_lab.datasets.order import derive_seed
from cascade_lab.datasets.shapes import ShapesConfig, write_shapes
from cascade_lab.engine import checkpoint
from cascade_lab.engine.logger import read_metrics
from cascade_lab.engine.optim import OptimConfig
from cascade_lab.engine.schedule import ScheduleConfig
from cascade_lab.errors import InputError
from cascade_lab.recipes import nano
from cascade_lab.targets.sampler import random_choice
from tests.processes import run_together

pytestmark = pytest.mark.usefixtures("one_thread")
stand_in = SimpleNamespace(**runpy.run_path(str(Path(__file__).parent / "reliability" / "stand_in.py")))


def newest(run: Path) -> dict:
    state = checkpoint.load_newest(run / "checkpoints")
    assert state is not None
    return state


def test_one_step_is_the_closed_form(tmp_path):
    """Adam's first step has length lr in every weight, after decay, whatever the gradient."""
    torch.manual_seed(0)
    fresh = stand_in.Detector()
    optim = OptimConfig(lr=0.05, weight_decay=0.1)
    done, trained = stand_in.train(tmp_path, total=1, optim=optim, warmup_steps=0, decay="none")
    assert done == 1

    batch = next(iter(stand_in.batches(1)(0)))
    torch.manual_seed(derive_seed("step", 0, 0, 0))
    fresh(batch.images, batch.targets, random_choice(batch.seeds)).total.backward()
    for (name, before), after in zip(fresh.named_parameters(), trained.parameters(), strict=True):
        decay = 0.1 if name in ("conv.weight", "head.weight") else 0.0
        g = before.grad
        expected = before * (1 - 0.05 * decay) - 0.05 * g / (g.abs() + 1e-8)
        torch.testing.assert_close(after.detach(), expected.detach(), rtol=1e-5, atol=1e-6)


def test_metrics_hold_the_schedule_and_the_sum_of_losses(tmp_path):
    stand_in.train(tmp_path, total=5, warmup_steps=2, warmup_ratio=0.5, decay_at=(0.6,))
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == [1, 2, 3, 4, 5]
    assert [line["lr"] for line in lines] == pytest.approx([0.025, 0.0375, 0.05, 0.005, 0.005])
    for line in lines:
        assert line["loss"] == pytest.approx(line["loss_a"] + line["b.loss"], rel=1e-6)
        assert line["acc"] == pytest.approx(100 * line["loss_a"], rel=1e-6)
        assert line["gradient_norm"] > 0


def test_it_learns(tmp_path):
    stand_in.train(tmp_path, total=150, log_every=150, warmup_steps=10)
    first = stand_in.train(tmp_path / "short", total=1)[1]
    last = read_metrics(tmp_path)[-1]["loss"]
    assert last < 0.5 * read_metrics(tmp_path / "short")[0]["loss"]
    assert isinstance(first, torch.nn.Module)


def test_checkpoints_at_intervals_and_at_the_end_with_all_facts(tmp_path):
    _, detector = stand_in.train(tmp_path, total=7, checkpoint_every=3)
    assert [p.name for p in checkpoint.paths(tmp_path / "checkpoints")] == [
        "step_00000006.pt",
        "step_00000007.pt",
    ]
    state = newest(tmp_path)
    assert set(state) == {"step", "detector", "optimizer", "scaler", "ema", "recipe"}
    assert state["step"] == 7
    assert state["recipe"] == {"name": "stand-in"}
    for name, value in detector.state_dict().items():
        assert torch.equal(state["detector"][name], value)
    assert not torch.equal(state["ema"]["conv.weight"], state["detector"]["conv.weight"])


@pytest.mark.parametrize("keep", [1, 3])
def test_keeps_as_many_checkpoints_as_asked(tmp_path, keep):
    arguments = stand_in.small_recipe(tmp_path / "shapes")  # six steps, saved after every second
    arguments += ["--output", str(tmp_path / "run"), "--keep", str(keep)]
    assert cascade_lab.train.main(arguments) == 0
    kept = [path.name for path in checkpoint.paths(tmp_path / "run" / "checkpoints")]
    assert kept == [f"step_{step:08d}.pt" for step in (2, 4, 6)][-keep:]


def test_keeping_none_is_refused():
    with pytest.raises(InputError, match="--keep: 0"):
        cascade_lab.train.RunOptions(keep=0)


def test_without_average_there_is_none_to_save(tmp_path):
    stand_in.train(tmp_path, total=1, ema=None)
    assert newest(tmp_path)["ema"] is None


def test_a_step_that_is_not_finite_changes_no_bit_and_names_its_pictures(tmp_path, capsys):
    run, total = tmp_path / "run", 3
    stand_in.train(run, total, stand_in.batches(total, poisoned=(2,)), checkpoint_every=1)
    before = checkpoint.load(run / "checkpoints/step_00000002.pt")
    after = checkpoint.load(run / "checkpoints/step_00000003.pt")
    for part in ("detector", "ema"):
        for name, value in before[part].items():
            assert torch.equal(value, after[part][name]), (part, name)
    for number, moments in before["optimizer"]["state"].items():
        for name, value in moments.items():
            assert torch.equal(value, after["optimizer"]["state"][number][name])
    assert "skipped step 3 (pictures 1004, 1005)" in capsys.readouterr().out
    line = read_metrics(run)[-1]
    assert line["skipped"] == 1
    assert line["loss"] is None
    assert "NaN" not in (run / "metrics.jsonl").read_text()


def test_the_pictures_of_every_process_are_named(tmp_path):
    """The main process talks, and the picture at fault may be another one's."""
    said, _ = run_together(
        """
        from dataclasses import replace
        from pathlib import Path
        from tests.reliability.stand_in import batches, train
        own = batches(3, poisoned=(1,) if d.rank() else ())
        numbers = [2 * d.rank(), 2 * d.rank() + 1]
        train(Path(sys.argv[1]), 3, lambda first: (replace(batch, indices=numbers) for batch in own(first)))
        """,
        str(tmp_path / "run"),
    )
    assert "skipped step 2 (pictures 1000, 1001, 1002, 1003)" in said


def test_training_goes_on_after_two_bad_steps(tmp_path):
    poisoned = stand_in.batches(8, poisoned=(2, 3, 5, 6))
    done, detector = stand_in.train(tmp_path, 8, poisoned)
    assert done == 8
    assert all(value.isfinite().all() for value in detector.state_dict().values())


def test_three_bad_steps_in_a_row_stop_with_the_last_good_checkpoint(tmp_path):
    poisoned = stand_in.batches(9, poisoned=(4, 5, 6))
    with pytest.raises(InputError) as caught:
        stand_in.train(tmp_path, 9, poisoned, checkpoint_every=4)
    message = str(caught.value)
    assert "\n" not in message
    assert "3 times in a row" in message
    assert "5 (pictures 1008, 1009), 6 (pictures 1010, 1011), 7 (pictures 1012, 1013)" in message
    assert "step_00000004.pt is kept" in message
    assert newest(tmp_path)["step"] == 4
    assert all(value.isfinite().all() for value in newest(tmp_path)["detector"].values())


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("stopped", [1, 4, 7])
def test_a_signal_finishes_the_step_and_resuming_ends_with_the_same_bits(tmp_path, number, stopped):
    total = 8

    def interrupted(first: int):
        for batch in stand_in.batches(total)(first):
            if batch.step == stopped - 1:
                signal.raise_signal(number)
            yield batch

    stand_in.train(tmp_path / "whole", total)
    done, _ = stand_in.train(tmp_path / "cut", total, interrupted)
    assert done == stopped == newest(tmp_path / "cut")["step"]
    assert [line["step"] for line in read_metrics(tmp_path / "cut")] == list(range(1, stopped + 1))
    done, _ = stand_in.train(tmp_path / "cut", total)
    assert done == total
    assert stand_in.bits(tmp_path / "cut") == stand_in.bits(tmp_path / "whole")
    whole, cut = read_metrics(tmp_path / "whole"), read_metrics(tmp_path / "cut")
    assert [line | {"seconds": 0} for line in cut] == [line | {"seconds": 0} for line in whole]


HALF = OptimConfig(lr=0.05, precision="float16", images_at_once=1)


def test_float16_resumes_with_the_same_bits_and_the_same_scale(tmp_path):
    """Step 3 overflows, so that the scale is no longer the first one when the run is cut."""
    batches = stand_in.batches(6, steep=(2,))

    def until_four(first: int):
        for batch in batches(first):
            if batch.step == 3:
                signal.raise_signal(signal.SIGTERM)
            yield batch

    stand_in.train(tmp_path / "whole", 6, batches, optim=HALF)
    stand_in.train(tmp_path / "cut", 6, until_four, optim=HALF)
    assert newest(tmp_path / "cut")["step"] == 4
    assert newest(tmp_path / "cut")["scaler"]["scale"] == 2.0**15
    assert newest(tmp_path / "cut")["scaler"]["_growth_tracker"] == 1
    stand_in.train(tmp_path / "cut", 6, batches, optim=HALF)
    assert stand_in.bits(tmp_path / "cut") == stand_in.bits(tmp_path / "whole")


def test_float16_looks_for_its_scale_without_giving_up(tmp_path, capsys):
    """Three overflows in a row are no divergence: the scale halves each time and the weights stay."""
    optim = replace(HALF, images_at_once=None)
    done, _ = stand_in.train(tmp_path, 5, stand_in.batches(5, steep=(0, 1, 2)), optim=optim)
    assert done == 5
    said = capsys.readouterr().out
    for step, scale in ((1, 2**15), (2, 2**14), (3, 2**13)):
        assert f"skipped step {step}: float16 overflowed; loss scale now {scale}" in said
    assert [line.get("skipped") for line in read_metrics(tmp_path)] == [1, 1, 1, None, None]
    assert newest(tmp_path)["scaler"]["scale"] == 2.0**13


def test_float16_still_stops_where_the_loss_itself_is_not_finite(tmp_path):
    with pytest.raises(InputError, match="3 times in a row"):
        stand_in.train(tmp_path, 9, stand_in.batches(9, poisoned=(4, 5, 6)), optim=HALF)


def test_parts_of_a_batch_are_logged_as_one_step(tmp_path):
    """Without chance and batch statistics, two parts of one picture are the batch of two."""
    lines = []
    for size in (None, 1):
        optim = OptimConfig(lr=0.05, images_at_once=size)
        run = tmp_path / str(size)
        run.mkdir()
        torch.manual_seed(0)
        detector = stand_in.Detector()
        detector.norm, detector.dropout = torch.nn.Identity(), 0.0
        stand_in.loop(detector, run, 4, stand_in.batches(4), optim)
        lines.append(read_metrics(run))
    for whole, parted in zip(*lines, strict=True):
        for name in ("step", "lr", "loss", "loss_a", "b.loss", "gradient_norm"):
            assert parted[name] == pytest.approx(whole[name], rel=1e-5), name
        assert parted["acc"] == pytest.approx(whole["acc"] / 2, rel=1e-5)  # a mean; here each part has half


def test_a_finished_run_is_left_as_it_is(tmp_path):
    stand_in.train(tmp_path, 3)
    before = {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")}
    done, _ = stand_in.train(tmp_path, 3)
    assert done == 3
    assert {p: p.stat().st_mtime_ns for p in tmp_path.rglob("*")} == before


def test_the_random_numbers_of_a_step_do_not_depend_on_the_steps_before(tmp_path):
    """Whatever a caller draws between two steps, dropout draws the same."""

    def noisy(first: int):
        for batch in stand_in.batches(5)(first):
            torch.rand(batch.step + 1)
            yield batch

    stand_in.train(tmp_path / "a", 5)
    stand_in.train(tmp_path / "b", 5, noisy)
    assert stand_in.bits(tmp_path / "a") == stand_in.bits(tmp_path / "b")


@pytest.mark.parametrize("grouped, expected", [(False, 4), (True, 6)])
def test_epochs_are_as_long_as_their_batches(tmp_path, monkeypatch, grouped, expected):
    """3 epochs of 5 pictures, 4 a step: 15 in a row, or in each epoch one batch and one filled up."""
    write_shapes(tmp_path / "shapes", ShapesConfig(size=64, radius=(7.0, 14.0)), seed=0, train=5, val=1)
    asked = nano()
    asked = replace(
        asked,
        data=replace(asked.data, root=str(tmp_path / "shapes"), group_by_aspect=grouped),
        schedule=ScheduleConfig(epochs=3),
    )
    seen = []

    def loop(_, batches, *, total_steps, **others):
        seen.extend(len(batch.indices) for batch in batches(0))
        return total_steps

    monkeypatch.setattr(cascade_lab.train, "train_loop", loop)
    assert cascade_lab.train.train(asked, tmp_path / "run") == (expected, expected)
    assert seen == [4] * expected


def test_json_lines_are_plain_numbers(tmp_path):
    stand_in.train(tmp_path, 2)
    for line in (tmp_path / "metrics.jsonl").read_text().splitlines():
        assert all(isinstance(v, (int, float)) and math.isfinite(v) for v in json.loads(line).values())
