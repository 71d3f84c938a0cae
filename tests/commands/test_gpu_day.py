"""``cascade-lab gpu-day``: without a GPU one clear line; with one, parts that cannot hurt each other."""

import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from cascade_lab import cli
from cascade_lab.commands.gpu_day import command, training
from cascade_lab.commands.gpu_day.page import Outcome, Part, page
from cascade_lab.kernels import cupy_backend

ROOT = Path(__file__).parents[2]


def part(name: str, code: str, **more) -> Part:
    return Part(name=name, purpose="a test", command=(sys.executable, "-c", code), **{"minutes": 1, **more})


@pytest.mark.skipif(not cupy_backend.why_not(), reason="there is a GPU, so the day would begin")
def test_without_a_gpu_one_line_and_exit_code_2(capsys, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    assert cli.main(["gpu-day"]) == 2
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1
    assert printed.err.startswith("cascade-lab gpu-day: this needs a GPU that CuPy can use")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "line, named",
    [
        ("--output x.pdf", "must end in .html"),
        ("--minutes 0", "must be above 0"),
        ("--minute 3", "--minutes"),
    ],
)
def test_bad_usage(capsys, line, named):
    assert cli.main(["gpu-day", *line.split()]) == 2
    assert named in capsys.readouterr().err


def test_one_part_that_fails_or_hangs_does_not_stop_the_others(tmp_path, capsys):
    parts = [
        part("crash", "import os; print('half', flush=True); os.abort()"),
        part("hang", "import time; time.sleep(600)", minutes=0.5 / 60),
        part("idle", "print('all skipped')", must_print=" passed"),
        part("good", "print('3 passed in 1 s')", must_print=" passed"),
    ]
    code, report = command.spend(parts, tmp_path, seconds=60)
    assert code == 1
    said = capsys.readouterr().out.splitlines()
    assert said[-1] == "failed: crash, hang, idle"
    verdicts = dict(re.findall(r"<tr><td>(\w+)</td><td>([^<]+)</td>", report))
    assert verdicts == {
        "crash": "FAILED with exit code -6",
        "hang": "OUT OF TIME",
        "idle": "FAILED: it did nothing",
        "good": "passed",
    }
    assert "3 of 4 parts failed." in report and "half" in report and "took longer than 0 s" in report


def test_all_passed_and_no_time_left(tmp_path):
    good = part("good", "print(1)")
    assert command.spend([good], tmp_path, seconds=60)[0] == 0
    code, report = command.spend([good], tmp_path, seconds=0)
    assert code == 1 and "no time was left for it" in report


def test_the_day_is_shorter_than_half_an_hour_and_its_commands_exist(tmp_path):
    parts = command.parts(tmp_path)
    assert sum(part.minutes for part in parts) <= command.GpuDayOptions().minutes < 30
    for one in parts:
        assert one.command[0] == sys.executable and one.command[1] == "-m"
        assert importlib.util.find_spec(one.command[2]), one.command
    assert [part.name for part in parts if "pytest" in part.command] == ["gpu tests", "goldens"]
    assert all(part.must_print for part in parts if "pytest" in part.command)


def test_a_whole_day_writes_one_page_that_needs_nothing_else(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(cupy_backend, "why_not", lambda: "")
    monkeypatch.setattr(command, "parts", lambda folder: [part("good", "print('fine <b>')")])
    report = tmp_path / "new" / "day.html"
    assert cli.main(["gpu-day", "--output", str(report)]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == f"report -> {report}"
    text = report.read_text()
    assert "fine &lt;b&gt;" in text and command.commit() in text
    assert not re.search(r"(src|href)=\"(?!data:)", text) and "<script" not in text


def test_results_are_shown_as_tables(tmp_path):
    losses = [{"step": k, "loss": 9.0 - k, "seconds": float(k)} for k in range(1, 7)]
    told = {
        "training": training.compare(losses, losses),
        "memory": {
            "what": "a model",
            "rows": [
                {"precision": "float32", "checkpointing": False, "peak_gib": None, "seconds": None},
                {"precision": "bfloat16", "checkpointing": True, "peak_gib": 7.25, "seconds": 0.5},
            ],
        },
    }
    outcomes = [Outcome(part(name, ""), 0, 1.0, json.dumps(value), "") for name, value in told.items()]
    picture = tmp_path / "bench.png"
    picture.write_bytes(b"\x89PNG")
    outcomes.append(Outcome(part("bench dcnv3", "", picture=picture), 1, 1.0, '{"rows": [', "out of memory"))
    text = page(outcomes, "0123abc")
    assert "<td>1</td><td>8.0000</td><td>8.0000</td><td>0.00 %</td>" in text
    assert "<td>bfloat16</td><td>yes</td><td>7.25</td><td>0.5</td>" in text and "does not fit" in text
    assert 'src="data:image/png;base64,iVBORw=="' in text
    assert "out of memory" in text and "0123abc" in text


def test_losses_that_agree_and_losses_that_do_not():
    def losses(*values: float | None) -> list[dict]:
        return [{"step": k + 1, "loss": v, "seconds": float(k)} for k, v in enumerate(values)]

    cpu = losses(10.0, 9.0, 8.0, 7.0, 6.0, 5.0)
    assert training.compare(cpu, losses(10.1, 9.0, 8.0, 9.0, 9.0, 9.0))["agree"], "later steps may differ"
    assert not training.compare(cpu, losses(10.3, 9.0, 8.0, 7.0, 6.0, 5.0))["agree"]
    assert not training.compare(cpu, losses(10.0, 9.0, 8.0, 7.0, 6.0, None))["agree"], "not finite"
    told = training.compare(cpu, losses(10.1, 9.0, 8.0, 7.0, 6.0, 5.0))
    assert told["steps"][0]["apart"] == pytest.approx(0.01)
    assert "1.000 s a step" in told["verdict"]


def test_make_gpu_day_installs_what_the_doctor_says():
    rule = re.search(r"^gpu-day:.*\n((?:\t.*\n)+)", (ROOT / "Makefile").read_text(), re.M)
    assert rule
    first, second = rule[1].index("cascade-lab doctor --extra"), rule[1].index("cascade-lab gpu-day")
    assert first < second
