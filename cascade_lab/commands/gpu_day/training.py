"""A short training on the GPU, and the same on the CPU: do the first losses agree?

    python -m cascade_lab.commands.gpu_day.training FOLDER

Prints JSON. Both begin with the same weights, pictures and draws. Later they part: two proposals whose scores
differ by a rounding change places, and with them a sample.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cascade_lab.datasets.shapes import LEVELS, write_shapes
from cascade_lab.engine.logger import read_metrics

STEPS, COMPARED, ALLOWED = 60, 3, 0.02  # of the loss


def main(folder: Path) -> int:
    """Train twice into ``folder``, print what came out, and return 1 where that differs too much."""
    write_shapes(folder / "shapes", LEVELS["moderate"], seed=0, train=64, val=4)
    hidden = {"cpu": {"CUDA_VISIBLE_DEVICES": ""}, "cuda": {}}
    rows = {device: train(folder, device, more) for device, more in hidden.items()}
    told = compare(rows["cpu"], rows["cuda"])
    print(json.dumps(told, indent=1))
    return 0 if told["agree"] else 1


def train(folder: Path, name: str, environment: Mapping[str, str]) -> list[dict[str, Any]]:
    """Train in a process of its own, because CUDA_VISIBLE_DEVICES is read once, and return its metrics."""
    command = [
        sys.executable, "-m", "cascade_lab.train", "nano", "--data.root", str(folder / "shapes"),
        "--output", str(folder / name), "--schedule.steps", str(STEPS), "--schedule.log_every", "1",
    ]  # fmt: skip
    subprocess.run(command, check=True, env={**os.environ, **environment}, stdout=sys.stderr)
    return read_metrics(folder / name)


def compare(cpu: Sequence[Mapping[str, Any]], cuda: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the losses side by side, and whether the first few agree and all are finite."""
    steps = []
    for a, b in zip(cpu, cuda, strict=True):
        loss = math.nan if b["loss"] is None else b["loss"]  # metrics.jsonl has null for what is not finite
        apart = abs(a["loss"] - loss) / a["loss"]
        steps.append({"step": a["step"], "cpu": a["loss"], "cuda": loss, "apart": apart})
    first, finite = steps[:COMPARED], all(math.isfinite(row["cuda"]) for row in steps)
    worst = max(row["apart"] for row in first)
    each = (cuda[-1]["seconds"] - cuda[COMPARED]["seconds"]) / (len(cuda) - COMPARED - 1)
    verdict = (
        f"The first {len(first)} losses are at most {100 * worst:.2f} % apart (allowed: {100 * ALLOWED:g} %),"
        f" {'all are finite' if finite else 'NOT all are finite'}; {each:.3f} s a step on the GPU."
    )
    return {"steps": steps, "agree": finite and worst < ALLOWED, "verdict": verdict}


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
