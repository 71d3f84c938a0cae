"""A training in another process: its states, and that a pause costs no bit."""

import asyncio
import runpy
import signal
import time
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

import cascade_lab.train
from cascade_lab.engine import checkpoint
from cascade_lab.engine.logger import read_metrics
from cascade_lab.errors import InputError
from cascade_lab.widgets import training_process
from cascade_lab.widgets.moments import read_moments
from cascade_lab.widgets.training_process import Training

stand_in = SimpleNamespace(**runpy.run_path(str(Path(__file__).parents[1] / "reliability" / "stand_in.py")))


AT_EXIT = []  # what would be called when Python ends


def ended(waiting: Coroutine[Any, Any, Any]) -> Any:
    """Await in a thread of its own: a browser of earlier tests keeps an event loop running in this one."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, waiting).result()


class Process:
    """A process that ends when the test says so."""

    started: list["Process"] = []  # noqa: RUF012

    def __init__(self, command, **options):
        self.command, self.options = command, options
        self.code, self.signals, self.closed = None, [], False
        self.stdin = self
        self.started.append(self)

    def poll(self):
        return self.code

    def send_signal(self, number):
        self.signals.append(int(number))

    def terminate(self):
        self.signals.append(int(signal.SIGTERM))

    def close(self):
        self.closed = True


@pytest.fixture
def processes(monkeypatch):
    Process.started = []
    monkeypatch.setattr(training_process.subprocess, "Popen", Process)
    monkeypatch.setattr(training_process.atexit, "register", AT_EXIT.append)
    AT_EXIT.clear()
    return Process.started


def test_starts_the_command_and_one_that_looks(processes, tmp_path):
    run = tmp_path / "runs" / "pico"
    training = Training(["pico", "--output", str(run), "--seed", "3"], pictures=2, measure=9)
    train, looking = processes
    assert train.command[1:] == ["-m", "cascade_lab.train", "pico", "--output", str(run), "--seed", "3"]
    assert looking.command[2:] == [
        "cascade_lab.widgets.moments", str(run), "--pictures", "2", "--measure", "9", "--follow",
    ]  # fmt: skip
    assert train.options["start_new_session"], "interrupting a kernel must not reach the training"
    assert training.state == "training" and training.looking and not looking.closed


@pytest.mark.parametrize(
    "code, state",
    [(0, "finished"), (2, "failed"), (1, "failed"), (-signal.SIGKILL, "failed"), (130, "stopped")],
)
def test_how_it_ended(processes, tmp_path, code, state):
    training = Training(["pico", f"--output={tmp_path / 'run'}"])
    processes[0].code = code
    assert training.state == state
    assert processes[1].closed, "no more checkpoints will come"
    training.pause(), training.go_on(), training.stop()
    assert training.state == state and not processes[0].signals and len(processes) == 2


def test_pause_and_go_on(processes, tmp_path):
    training = Training(["pico", "--output", str(tmp_path)])
    training.go_on()
    assert len(processes) == 2, "it is under way"
    training.pause()
    training.pause()
    assert training.state == "pausing" and processes[0].signals == [15], "one signal: a second would kill"
    processes[0].code = 130
    assert training.state == "paused" and not processes[1].closed
    (tmp_path / "recipe.json").write_text("{}")
    training.go_on()
    assert processes[2].command[-1] == "--resume" and training.state == "training"
    processes[2].code = 0
    assert training.state == "finished"


def test_a_thread_that_asks_while_it_goes_on_does_not_take_it_for_stopped(processes, tmp_path, monkeypatch):
    training = Training(["pico", "--output", str(tmp_path)])
    training.pause()
    processes[0].code = 130
    seen = []

    def start(*_, **__):
        seen.append(training.state)
        return Process([])

    monkeypatch.setattr(training_process.subprocess, "Popen", start)
    training.go_on()
    assert seen == ["paused"] and training.state == "training" and not processes[1].closed


def test_paused_before_it_began_starts_anew(processes, tmp_path):
    training = Training(["pico", "--output", str(tmp_path)])
    training.pause()
    processes[0].code = -15
    assert training.state == "paused"
    training.go_on()
    assert "--resume" not in processes[2].command


def test_stop_while_it_pauses_and_after(processes, tmp_path):
    training = Training(["pico", "--output", str(tmp_path)])
    training.pause()
    training.stop()
    assert training.state == "stopping" and processes[0].signals == [15]
    processes[0].code = 130
    assert training.state == "stopped" and processes[1].closed
    other = Training(["pico", "--output", str(tmp_path)])
    other.pause()
    processes[2].code = 130
    other.stop()
    assert other.state == "stopped" and processes[3].closed


@pytest.mark.parametrize("pausing", [False, True])
def test_when_python_ends_both_processes_are_asked_to_end_once(processes, tmp_path, pausing):
    training = Training(["pico", "--output", str(tmp_path)])
    if pausing:
        training.pause()
    (leave,) = AT_EXIT
    leave()
    assert [process.signals for process in processes] == [[15], [15]], "a second signal would kill"


def test_message_is_the_last_line_of_the_log(processes, tmp_path):
    training = Training(["pico", "--output", str(tmp_path)])
    assert training.message == ""
    training.log.write_text("step 1 of 9\ntrain: data/shapes: no such folder\n\n")
    assert training.message == "train: data/shapes: no such folder"


@pytest.mark.parametrize("arguments", [["pico"], ["pico", "--output"], ["pico", "--output="]])
def test_needs_a_folder(processes, arguments):
    with pytest.raises(InputError, match="--output: missing"):
        Training(arguments)
    assert not processes


def until(condition, seconds: float = 120) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_the_loop_has_time_for_others_while_it_waits(processes, tmp_path, capsys):
    """A kernel runs a cell that awaits and the buttons of the viewer on one loop."""
    training = Training(["pico", "--output", str(tmp_path)])

    async def press():
        training.pause()
        processes[0].code = 130
        assert training.state == "paused"
        training.stop()
        processes[1].code = 0

    async def both():
        return await asyncio.gather(training.wait(60), press())

    assert ended(both())[0] == "stopped"
    assert capsys.readouterr().out.startswith("stopped, 0 steps in the log.")


@pytest.mark.slow
def test_paused_and_continued_ends_with_the_same_bits(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)
    arguments = stand_in.small_recipe(tmp_path / "shapes", steps=40)
    assert cascade_lab.train.main([*arguments, "--output", str(tmp_path / "whole")]) == 0
    training = Training(
        [*arguments, "--output", str(tmp_path / "cut"), "--keep", "30"], pictures=1, measure=2
    )
    until(lambda: len(read_metrics(training.run)) >= 3)
    training.pause()
    until(lambda: training.state == "paused")
    (saved,) = [path.name for path in checkpoint.paths(training.run / "checkpoints")][-1:]
    assert int(saved[5:13]) == read_metrics(training.run)[-1]["step"] < 40
    training.go_on()
    capsys.readouterr()
    assert ended(training.wait(120)) == "finished"
    assert "finished, 40 steps in the log" in capsys.readouterr().out
    assert stand_in.bits(tmp_path / "cut") == stand_in.bits(tmp_path / "whole")
    assert [moment.step for moment in read_moments(training.run)][-1] == 40 and not training.looking


@pytest.mark.slow
def test_the_time_limit_stops_and_saves(tmp_path, capsys, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    arguments = stand_in.small_recipe(tmp_path / "shapes", steps=5000)
    training = Training([*arguments, "--output", str(tmp_path / "run")], pictures=1, measure=2)
    until(lambda: len(read_metrics(training.run)) >= 2)
    assert ended(training.wait(0.5)) == "stopped"
    printed = capsys.readouterr().out
    assert "stopped because 0.5 s were over" in printed and "--resume" in printed
    newest = checkpoint.load_newest(training.run / "checkpoints")
    assert newest and newest["step"] == read_metrics(training.run)[-1]["step"]


@pytest.mark.slow
def test_a_mistake_in_the_arguments_is_told(tmp_path, capsys):
    training = Training(["pico", "--data.root", str(tmp_path / "nothing"), "--output", str(tmp_path / "run")])
    assert ended(training.wait(60)) == "failed"
    assert "train: " in capsys.readouterr().out and not (tmp_path / "run" / "recipe.json").exists()
