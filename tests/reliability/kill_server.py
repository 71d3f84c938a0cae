"""Kill trainings, resume them, and report: ``kill_server.py FOLDER EXPERIMENT`` prints one JSON object.

Importing torch takes seconds, so it is imported once and every training is a fork. A process of its own,
because forking is safe only where no thread was ever started, which a test session cannot promise.
"""

from __future__ import annotations

import json
import os
import random
import shlex
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path

import stand_in

from cascade_lab import cli
from cascade_lab.engine import checkpoint

RUNS, STEPS, BALLAST = 5, 8, 400_000  # a checkpoint of 6.4 MB a step: most of the time goes into writing


def kills(folder: Path) -> dict:
    """SIGKILL at random moments; every run is resumed until it is through."""
    wait(start(lambda: stand_in.train(folder / "whole", STEPS, ballast=BALLAST, checkpoint_every=1)))
    random.seed(0)
    count = in_write = 0
    ended = []
    for number in range(RUNS):
        run = folder / f"run{number}"
        patience = 0.1
        while True:
            began = len(checkpoint.paths(run / "checkpoints"))
            child = start(lambda: stand_in.train(run, STEPS, ballast=BALLAST, checkpoint_every=1))  # noqa: B023
            time.sleep(random.uniform(0, patience))
            os.kill(child, signal.SIGKILL)
            if wait(child) == 0:
                break
            count += 1
            in_write += any(run.rglob("*.partial"))
            if len(checkpoint.paths(run / "checkpoints")) == began:
                patience *= 1.2  # a busy machine gets more time
            checkpoint.load_newest(run / "checkpoints")  # fails where there are files and none is intact
        ended.append(stand_in.bits(run))
    return {"kills": count, "in_write": in_write, "whole": stand_in.bits(folder / "whole"), "ended": ended}


def command(folder: Path) -> dict:
    """The real command: killed twice, then Ctrl-C, then the command that it printed."""
    arguments = ["train", *stand_in.small_recipe(folder / "shapes", steps=16), "--output"]
    code = wait(start(lambda: cli.main([*arguments, str(folder / "whole")])))
    run, printed = folder / "run", folder / "printed.txt"
    for lines in (2, 4):
        more = ["--resume"] if run.exists() else []
        child = start(lambda: cli.main([*arguments, str(run), *more]))  # noqa: B023
        wait_for_lines(run / "metrics.jsonl", lines)
        os.kill(child, signal.SIGKILL)
        wait(child)
    child = start(lambda: cli.main([*arguments, str(run), "--resume"]), printed)
    wait_for_lines(run / "metrics.jsonl", 6)
    os.kill(child, signal.SIGINT)
    interrupted = wait(child)
    again = shlex.split(printed.read_text().splitlines()[-1])
    finished = wait(start(lambda: cli.main(again[1:])))
    steps = [json.loads(line)["step"] for line in (run / "metrics.jsonl").read_text().splitlines()]
    return {
        "codes": [code, interrupted, finished],
        "again": again,
        "steps": steps,
        "whole": stand_in.bits(folder / "whole"),
        "ended": stand_in.bits(run),
    }


def start(work: Callable[[], object], output: Path | None = None) -> int:
    """Fork; the child does ``work`` and exits with the number it returns, or 0."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        target = os.open(output or os.devnull, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
        os.dup2(target, 1)
        result = work()
        code = result if isinstance(result, int) else 0
        sys.stdout.flush()
    finally:
        os._exit(code)


def wait(child: int) -> int:
    """Return the exit code of a child, or minus the signal that ended it."""
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def wait_for_lines(path: Path, count: int) -> None:
    limit = time.monotonic() + 120
    while not path.is_file() or len(path.read_text().splitlines()) < count:
        if time.monotonic() > limit:
            raise TimeoutError(f"{path} has no {count} lines")
        time.sleep(0.01)


if __name__ == "__main__":
    sys.stdout.write(json.dumps({"kills": kills, "command": command}[sys.argv[2]](Path(sys.argv[1]))))
