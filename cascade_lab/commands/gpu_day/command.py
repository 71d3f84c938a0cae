"""Do all that needs a GPU in one go and write one report: ``cascade-lab gpu-day``, or ``make gpu-day``.

Every part is a process of its own with a time of its own: one that fails, hangs or takes its device down with
it leaves the others alone. Exit code 0 where all parts passed, 1 where one did not, 2 without a GPU.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cascade_lab.commands.gpu_day.page import Outcome, Part, page
from cascade_lab.engine.checkpoint import write_text
from cascade_lab.errors import InputError
from cascade_lab.kernels import cupy_backend
from cascade_lab.overrides import override

USAGE = """usage: cascade-lab gpu-day [options]

  --output FILE   the report, one HTML page that needs nothing else (default: runs/gpu_day.html)
  --minutes N     stop after these; parts that had no time are named (default: 29)

Needs a CUDA device, CuPy and a checkout with its tests. `make gpu-day` installs CuPy first."""

ROOT = Path(__file__).parents[3]
PYTHON = (sys.executable, "-m")


@dataclass(frozen=True, kw_only=True)
class GpuDayOptions:
    output: str = "runs/gpu_day.html"
    minutes: float = 29.0

    def __post_init__(self) -> None:
        if not self.output.endswith(".html"):
            raise InputError(f"option --output: {self.output!r} must end in .html")
        if self.minutes <= 0:
            raise InputError(f"option --minutes: {self.minutes:g} must be above 0")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError without a GPU, CuPy or the tests."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    (options,) = override((GpuDayOptions(),), arguments)
    if cupy_backend.why_not():
        raise InputError(
            f"this needs a GPU that CuPy can use, and {cupy_backend.why_not()}; see cascade-lab doctor"
        )
    if not (ROOT / "tests" / "gpu").is_dir():
        raise InputError(f"{ROOT}: no tests there; call this from a checkout of cascade_lab")
    with tempfile.TemporaryDirectory(prefix="gpu_day_") as folder:
        code, report = spend(parts(Path(folder)), Path(folder), 60 * options.minutes)
    try:
        Path(options.output).parent.mkdir(parents=True, exist_ok=True)
        write_text(Path(options.output), report)
    except OSError as error:
        raise InputError(
            f"{options.output}: cannot be written ({error.strerror}); name another file"
        ) from error
    print(f"report -> {options.output}")
    return code


def parts(folder: Path) -> list[Part]:
    """Return what is done, the most telling first; files go into ``folder``. The minutes add up to 29."""
    lab, tests, day = (
        (*PYTHON, "cascade_lab"),
        (*PYTHON, "pytest", "-q", "-ra"),
        "cascade_lab.commands.gpu_day",
    )
    drawn = folder / "bench.png"
    return [
        Part(
            name="doctor",
            purpose="What is here, and a first check of every backend.",
            command=(*lab, "doctor", "--json"),
            minutes=2,
        ),
        Part(
            name="gpu tests",
            purpose="The tests that are marked gpu.",
            command=(*tests, "-m", "gpu"),
            minutes=6,
            must_print=" passed",
        ),
        Part(
            name="goldens",
            purpose="DCNv3 held to its closed form, on every backend.",
            command=(*tests, "tests/oracle", "-k", "dcnv3"),
            minutes=6,
            must_print=" passed",
        ),
        Part(
            name="bench dcnv3",
            purpose="The operator against grid_sample, torchvision and the bandwidth of a copy.",
            command=(*lab, "bench", "dcnv3", "--device", "cuda", "--json", "--output", str(drawn)),
            minutes=4,
            picture=drawn,
        ),
        Part(
            name="bench backbone",
            purpose="InternImage-T at 512 x 512 against the same over grid_sample.",
            command=(*lab, "bench", "backbone", "--device", "cuda", "--json"),
            minutes=2,
        ),
        Part(
            name="bench roi_align",
            purpose="RoIAlign over a pyramid against torchvision's.",
            command=(*lab, "bench", "roi_align", "--device", "cuda", "--json"),
            minutes=1,
        ),
        Part(
            name="bench mask_paste",
            purpose="Masks put into a picture, against grid_sample mask by mask.",
            command=(*lab, "bench", "mask_paste", "--device", "cuda", "--json"),
            minutes=1,
        ),
        Part(
            name="training",
            purpose="The nano recipe on the GPU, its first losses against those of the CPU.",
            command=(*PYTHON, f"{day}.training", str(folder)),
            minutes=4,
        ),
        Part(
            name="memory",
            purpose="Peak memory of InternImage-L, one picture of 800 x 1280, forward and backward.",
            command=(*PYTHON, f"{day}.memory"),
            minutes=3,
        ),
    ]


def spend(todo: Sequence[Part], folder: Path, seconds: float) -> tuple[int, str]:
    """Do the parts one by one and return the exit code and the report."""
    until = time.monotonic() + seconds
    outcomes = []
    for part in todo:
        print(f"{part.name}: {part.purpose}", flush=True)
        outcomes.append(run(part, folder, min(60 * part.minutes, until - time.monotonic())))
        print(f"{part.name}: {outcomes[-1].verdict} after {outcomes[-1].seconds:.0f} s", flush=True)
    failed = [outcome.part.name for outcome in outcomes if not outcome.passed]
    print(f"failed: {', '.join(failed)}" if failed else "all parts passed", flush=True)
    return int(bool(failed)), page(outcomes, commit())


def run(part: Part, folder: Path, seconds: float) -> Outcome:
    """Run one part as a process of its own, for at most ``seconds``, with all that it started."""
    if seconds <= 0:
        return Outcome(part, None, 0.0, "", "no time was left for it")
    began = time.monotonic()
    said, complained = folder / "stdout.txt", folder / "stderr.txt"
    with said.open("w") as out, complained.open("w") as err:
        process = subprocess.Popen(part.command, cwd=ROOT, stdout=out, stderr=err, start_new_session=True)
        code: int | None = None
        try:
            code = process.wait(timeout=seconds)
        except subprocess.TimeoutExpired:
            err.write(f"\nstopped: it took longer than {seconds:.0f} s\n")
        finally:
            if code is None:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in (said, complained))
    return Outcome(part, code, time.monotonic() - began, *texts)


def commit() -> str:
    """Return the commit of the checkout, and whether files differ from it."""
    try:
        hash = _git("rev-parse", "HEAD")
        return f"{hash}, with changes" if _git("status", "--porcelain") else hash
    except (OSError, subprocess.CalledProcessError):
        return "unknown: not a git checkout"


def _git(*words: str) -> str:
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True, timeout=60)
    return done.stdout.strip()
