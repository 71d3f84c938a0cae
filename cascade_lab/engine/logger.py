"""What a run leaves to read: a line on the screen, metrics.jsonl and environment.json."""

from __future__ import annotations

import json
import math
import os
import platform
import sys
import time
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cascade_lab.engine.checkpoint import write_text
from cascade_lab.engine.distributed import is_main

QUIET_SECONDS = 30.0  # between two lines where there is no terminal to draw a bar on


class RunLog:
    """The progress bar and metrics.jsonl of one run; ``step`` counts finished steps.

    Opening it for step k of an interrupted run drops the lines beyond k, so that after resuming
    there is neither a gap nor a repeat. ``seconds`` in each line is training time since step 0.
    Of several processes only the main one writes and talks.
    """

    def __init__(self, run: Path, step: int, total_steps: int, every: int) -> None:
        self.path = run / "metrics.jsonl"
        self.every = every
        self.total = total_steps
        self.first = step
        self.before = 0.0

    def __enter__(self) -> RunLog:
        self.began = self.spoke = time.perf_counter()
        if is_main():
            kept = [line for line in read_metrics(self.path.parent) if line["step"] <= self.first]
            write_text(self.path, "".join(json.dumps(line) + "\n" for line in kept))
            self.before = kept[-1]["seconds"] if kept else 0.0
        self.file = open(self.path if is_main() else os.devnull, "a", encoding="utf-8")  # noqa: SIM115
        hidden = None if is_main() else True  # None: hidden where there is no terminal
        self.bar = tqdm(total=self.total, initial=self.first, unit="step", disable=hidden, dynamic_ncols=True)
        return self

    def __exit__(self, *_: object) -> None:
        self.bar.close()
        self.file.close()

    def step(self, step: int, metrics: Mapping[str, float], important: bool = False) -> None:
        """Record finished step ``step``; the line is written every ``every`` steps, and if important."""
        self.bar.update(1)
        if not (important or step % self.every == 0 or step == self.total):
            return
        now = time.perf_counter()
        line = {"step": step} | dict(metrics) | {"seconds": round(self.before + now - self.began, 3)}
        self.file.write(json.dumps({name: _plain(value) for name, value in line.items()}) + "\n")
        self.file.flush()
        shown = {name: f"{metrics[name]:.3f}" for name in ("loss", *_largest(metrics)) if name in metrics}
        self.bar.set_postfix(shown, refresh=False)
        soon = (
            self.every <= step - self.first < 2 * self.every
        )  # the first figures, and how long it will take
        if self.bar.disable and (soon or step == self.total or now - self.spoke > QUIET_SECONDS):
            self.spoke = now
            left = (now - self.began) / (step - self.first) * (self.total - step)
            losses = ", ".join(f"{name} {value}" for name, value in shown.items())
            self.say(f"step {step} of {self.total}, {losses}, {clock(left)} left")

    def say(self, message: str) -> None:
        """Print a line without tearing the bar."""
        if is_main():
            tqdm.write(message, file=sys.stdout)
            sys.stdout.flush()

    def sync(self) -> None:
        """Wait until all lines are on the disk: a checkpoint must not be newer than its metrics."""
        self.file.flush()
        os.fsync(self.file.fileno())


def read_metrics(run: Path) -> list[dict[str, Any]]:
    """Return the lines of metrics.jsonl; what a kill left half-written at the end is passed over."""
    path = run / "metrics.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    read = []
    for line in lines:
        try:
            read.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return read


def write_environment(run: Path, **facts: Any) -> None:
    """Write environment.json: versions and machine, and whatever else ``facts`` name."""
    packages = ("cascade-lab", "torch", "torchvision", "numpy", "pycocotools", "pillow")
    environment = {
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: _version(name) for name in packages},
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "device": torch.cuda.get_device_name() if torch.cuda.is_available() else "cpu",
    }
    write_text(run / "environment.json", json.dumps(environment | facts, indent=1) + "\n")


def clock(seconds: float) -> str:
    """Return ``seconds`` as a person would say it."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def _largest(metrics: Mapping[str, float], count: int = 3) -> list[str]:
    parts = [name for name in metrics if "loss" in name and name != "loss"]
    return sorted(parts, key=lambda name: -metrics[name] if math.isfinite(metrics[name]) else 0)[:count]


def _plain(value: Any) -> Any:
    """JSON knows no NaN."""
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None
