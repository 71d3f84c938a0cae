"""What the README tells a newcomer to type or open is really there."""

import os
import re
import subprocess
import sys
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
LINES = [line for block in re.findall(r"```bash\n(.*?)```", README, re.S) for line in block.splitlines()]
COMMANDS = [line.split() for line in LINES if line.startswith("cascade-lab ")]


@cache
def help_of(*words: str) -> str:
    command = [Path(sys.executable).parent / "cascade-lab", *words, "--help"]
    wide = {**os.environ, "COLUMNS": "200"}
    run = subprocess.run(command, capture_output=True, text=True, timeout=120, env=wide)
    assert run.returncode == 0, f"{words}: {run.stderr}"
    return run.stdout


def test_make_targets_exist():
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.M))
    named = {line.split()[1] for line in LINES if line.startswith("make ")}
    assert {"demo", "lab", "test", "check", "test-all"} <= named
    assert named <= targets, f"README.md names make targets that the Makefile lacks: {named - targets}"


def test_named_files_exist():
    named = re.findall(r"`((?:cascade_lab|tests)/[\w/.]+)`|\]\((?!http)([^)]+)\)", README)
    missing = [path for pair in named for path in pair if path and not (ROOT / path).exists()]
    assert not missing, f"README.md sends its reader to files that are not there: {missing}"


def test_commands_exist():
    known = set(re.findall(r"[a-z]+", help_of()))
    named = {words[1] for words in COMMANDS}
    assert {"train", "evaluate", "predict", "report"} <= named
    assert named <= known, f"README.md names commands that `cascade-lab --help` lacks: {named - known}"


@pytest.mark.slow
@pytest.mark.parametrize("words", COMMANDS, ids=lambda words: words[1])
def test_options_exist(words: list[str]):
    of_what = words[2:3] if words[1] in ("train", "weights") else []  # their help is that of the next word
    shown = help_of(words[1], *of_what)
    missing = [word for word in words if word.startswith("--") and word not in shown]
    assert not missing, f"`cascade-lab {words[1]} --help` lacks {missing}: mend README.md"
