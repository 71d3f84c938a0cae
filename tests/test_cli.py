"""The command line: what it lists, and that every mistake is one line and exit code 2."""

import importlib.util
import os
import re
import subprocess
import sys

import pytest
import torch

import cascade_lab
from cascade_lab import cli, train
from cascade_lab.errors import InputError
from cascade_lab.recipes import recipe


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(arguments)
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def test_every_command_listed_exists():
    for name, (module, _) in cli.COMMANDS.items():
        assert importlib.util.find_spec(module), f"{name}: {module} is not written; take it off the list"


@pytest.mark.parametrize("arguments", [(), ("--help",), ("-h",), ("help",)])
def test_help_names_every_command_and_fits_a_screen(capsys, arguments):
    code, out, _ = run(capsys, *arguments)
    assert code == 0
    assert all(re.search(rf"^  {name} ", out, re.M) for name in cli.COMMANDS)
    assert len(out.splitlines()) < 24
    assert max(map(len, out.splitlines())) <= 80


def test_train_help_is_short_and_the_long_one_has_every_field(capsys):
    code, out, _ = run(capsys, "train", "--help")
    assert code == 0
    assert len(out.splitlines()) < 24
    assert max(map(len, out.splitlines())) <= 100
    code, out, _ = run(capsys, "train", "nano", "--help")
    assert code == 0
    assert f"--optim.lr {recipe('nano').optim.lr}" in re.sub(r" +(float = )?", " ", out)


def test_version(capsys):
    assert run(capsys, "--version") == (0, f"cascade-lab {cascade_lab.__version__}\n", "")


@pytest.mark.parametrize(
    "line, named",
    [
        ("trian nano", "command 'trian' does not exist; there is train"),
        ("train nanno --output x", "recipe 'nanno' does not exist; there is nano"),
        ("train nano", "--output: missing"),
        ("train nano --output x --optim.le 3", "--optim.le: no such option; nearest: --optim.lr"),
        ("train nano --output x --optim.lr fast", "--optim.lr: 'fast' is not a value of type float"),
        ("train nano --output x --optim.lr 0", "optim.lr: 0.0 must be above 0"),
        ("train nano --output x --schedule.steps 0", "schedule.steps: 0 must be above 0"),
        ("train nano --output x --schedule.steps 3 --schedule.epochs 3", "one of steps, epochs and minutes"),
        ("train nano --output x --threads 0", "--threads: 0"),
        ("train nano --output x --seed 1.5", "--seed: '1.5' is not a value of type int"),
        ("train nano --output x --data.root no/such/folder", "no/such/folder"),
        ("train nano --output x --resume", "x: holds no run to resume"),
    ],
)
def test_a_mistake_is_one_line_and_exit_code_2(capsys, tmp_path, monkeypatch, line, named):
    monkeypatch.chdir(tmp_path)
    code, out, err = run(capsys, *line.split())
    assert code == 2
    assert out == ""
    assert len(err.splitlines()) == 1
    assert err.startswith("cascade-lab")
    assert named in err
    assert not list(tmp_path.iterdir()), "something was half-written"


@pytest.mark.parametrize(
    "raised, code, err",
    [(InputError("a:\n  b"), 2, "cascade-lab train: a: b\n"), (KeyboardInterrupt(), 130, "stopped\n")],
)
def test_errors_from_a_command(capsys, monkeypatch, raised, code, err):
    def fail(_: object) -> int:
        raise raised

    monkeypatch.setattr(train, "main", fail)
    assert run(capsys, "train", "nano") == (code, "", err)


def test_further_faults_stand_below_the_line(capsys, monkeypatch):
    error = InputError("set.json: annotation 1: id is 0; renumber (and 2 more faults)")
    error.add_note("annotation 7: area is NaN; correct it")
    error.add_note("and 1 more")

    def fail(_: object) -> int:
        raise error

    monkeypatch.setattr(train, "main", fail)
    assert run(capsys, "train", "nano")[2].splitlines() == [
        "cascade-lab train: set.json: annotation 1: id is 0; renumber (and 2 more faults)",
        "  annotation 7: area is NaN; correct it",
        "  and 1 more",
    ]


@pytest.mark.parametrize("option, length", [("steps", 7), ("epochs", 2), ("minutes", 1.5)])
def test_a_length_on_the_command_line_takes_the_place_of_the_recipes(monkeypatch, option, length):
    seen = []
    monkeypatch.setattr(
        train, "train", lambda asked, output, resume, weights, keep: (seen.append(asked.schedule), (1, 1))[1]
    )
    assert train.main(["nano", "--output", "x", f"--schedule.{option}", str(length)]) == 0
    lengths = {name: getattr(seen[0], name) for name in ("steps", "epochs", "minutes")}
    assert lengths == dict.fromkeys(lengths) | {option: length}


def test_threads_and_the_command_that_continues(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(train, "train", lambda asked, output, resume, weights, keep: (3, 9))
    before = torch.get_num_threads()
    try:
        code = train.main(["nano", "--threads", "1", "--output", "a b"])
        assert torch.get_num_threads() == 1
    finally:
        torch.set_num_threads(before)
    assert code == 130
    assert capsys.readouterr().out.splitlines() == [
        "stopped after step 3 of 9, all saved; continue with",
        "  cascade-lab train nano --threads 1 --output 'a b' --resume",
    ]


@pytest.mark.slow
@pytest.mark.parametrize("module", ["cascade_lab", "cascade_lab.train"])
def test_as_a_module(module):
    arguments = ["train", "nanno"] if module == "cascade_lab" else ["nanno"]
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        env=os.environ | {"OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert len(done.stderr.splitlines()) == 1
    assert "nanno" in done.stderr
