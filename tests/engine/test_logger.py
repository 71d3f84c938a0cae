"""metrics.jsonl without gap or repeat, environment.json, and what a screen without terminal shows."""

import json
import math

import torch

from cascade_lab.engine.logger import RunLog, clock, read_metrics, write_environment


def log_steps(run, first: int, last: int, total: int = 10, every: int = 1) -> None:
    with RunLog(run, first, total, every) as log:
        for step in range(first + 1, last + 1):
            log.step(step, {"lr": 0.1, "loss": 2.0 * step, "loss_a": 1.0 * step})


def test_one_json_object_a_line(tmp_path):
    log_steps(tmp_path, 0, 3)
    lines = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines()]
    assert [line["step"] for line in lines] == [1, 2, 3]
    assert lines[1].keys() == {"step", "lr", "loss", "loss_a", "seconds"}
    assert lines[1]["loss"] == 4.0
    assert lines[0]["seconds"] <= lines[2]["seconds"]


def test_every_so_many_steps_and_the_last(tmp_path):
    log_steps(tmp_path, 0, 10, every=4)
    assert [line["step"] for line in read_metrics(tmp_path)] == [4, 8, 10]


def test_resuming_cuts_what_came_after_and_goes_on(tmp_path):
    log_steps(tmp_path, 0, 7)
    spent = read_metrics(tmp_path)[3]["seconds"]
    log_steps(tmp_path, 4, 10)
    lines = read_metrics(tmp_path)
    assert [line["step"] for line in lines] == list(range(1, 11))
    assert lines[3]["seconds"] == spent <= lines[4]["seconds"]


def test_a_half_written_last_line_is_dropped(tmp_path):
    log_steps(tmp_path, 0, 3)
    with open(tmp_path / "metrics.jsonl", "a") as file:
        file.write('{"step": 4, "lo')
    log_steps(tmp_path, 3, 5)
    assert [line["step"] for line in read_metrics(tmp_path)] == [1, 2, 3, 4, 5]


def test_a_fresh_run_starts_an_empty_file(tmp_path):
    log_steps(tmp_path, 0, 3)
    with RunLog(tmp_path, 0, 10, 1):
        assert read_metrics(tmp_path) == []


def test_important_steps_are_always_written_and_json_stays_json(tmp_path):
    with RunLog(tmp_path, 0, 100, 50) as log:
        log.step(1, {"loss": 1.0})
        log.step(2, {"loss": math.nan, "loss_a": math.inf, "skipped": 1}, important=True)
    assert [line | {"seconds": 0} for line in read_metrics(tmp_path)] == [
        {"step": 2, "loss": None, "loss_a": None, "skipped": 1, "seconds": 0}
    ]
    assert "NaN" not in (tmp_path / "metrics.jsonl").read_text()


def test_without_a_terminal_it_prints_few_plain_lines(tmp_path, capsys):
    log_steps(tmp_path, 0, 10, every=2)
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 2
    assert printed[0].startswith("step 2 of 10, loss 4.000, loss_a 2.000, ")
    assert printed[1].startswith("step 10 of 10, loss 20.000")


def test_environment_names_versions_and_facts(tmp_path):
    write_environment(tmp_path, seed=3)
    environment = json.loads((tmp_path / "environment.json").read_text())
    assert environment["packages"]["torch"] == torch.__version__.split("+")[0]
    assert environment["threads"] == torch.get_num_threads()
    assert environment["seed"] == 3


def test_clock():
    assert [clock(s) for s in (5, 89, 100, 5000, 9000)] == ["5 s", "89 s", "2 min", "83 min", "2.5 h"]
