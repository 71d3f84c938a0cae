"""Does the machinery of the full-size recipes cost a small run its accuracy? Two arms, three seeds each.

    python -m cascade_lab.claims.full_machinery --root FOLDER --output runs/full_machinery

"plain" trains ``micro`` in float32, without averages, drop path, decay of the rate over layers, and parts.
"full" has all of it: averaged weights, drop path, layer-wise decay, two parts a batch, bfloat16. Both train
the same number of steps. Claim: the means of box AP50 are less than 3 apart.

Call it again after an interruption: finished runs are kept, an unfinished one goes on where it stopped.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import mean, stdev

from cascade_lab import evaluate, train
from cascade_lab.errors import InputError
from cascade_lab.overrides import override

ARMS = {
    "plain": ("--schedule.ema", "None", "--detector.backbone.drop_path", "0.0"),
    "full": (
        "--schedule.ema", "0.01",  # the official 0.0001 averages over more steps than such a run has
        "--detector.backbone.drop_path", "0.1",
        "--optim.layer_decay", "0.9",
        "--optim.images_at_once", "2",
        "--optim.precision", "bfloat16",
    ),
}  # fmt: skip
ALLOWED = 3.0  # box AP50


@dataclass(frozen=True, kw_only=True)
class Options:
    """``root``: pictures in COCO format, with splits train and val. ``steps``: length of every run."""

    root: str = ""
    output: str = "runs/full_machinery"
    steps: int = 400
    seeds: tuple[int, ...] = (0, 1, 2)
    threads: int = 1

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise InputError(f"option --steps: {self.steps} must be 1 or more")
        if not self.seeds:
            raise InputError("option --seeds: names none; name at least one, such as --seeds 0 1 2")


def main(arguments: Sequence[str]) -> int:
    """Train and evaluate what is missing, print the table; 0 if the claim holds, 1 if not, 130 if stopped."""
    (options,) = override((Options(),), list(arguments))
    if not options.root:
        raise InputError("option --root: missing; name a folder of pictures in COCO format")
    found: dict[str, list[float]] = {arm: [] for arm in ARMS}
    for seed in options.seeds:
        for arm in ARMS:
            run = Path(options.output) / f"{arm}_{seed}"
            if code := measure(run, arm, seed, options):
                return code
            found[arm].append(box_ap50(run))
    print(table(found, options.steps))
    return 0 if gap(found) < ALLOWED else 1


def measure(run: Path, arm: str, seed: int, options: Options) -> int:
    """Bring one run to its results; return the exit code of what was interrupted, or 0."""
    if (run / "results.json").is_file():
        return 0
    asked = [
        "micro", "--data.root", options.root, "--schedule.steps", str(options.steps),
        "--seed", str(seed), "--threads", str(options.threads), "--output", str(run), *ARMS[arm],
    ]  # fmt: skip
    if (run / "recipe.json").is_file():
        asked.append("--resume")
    return train.main(asked) or evaluate.main([str(run)])


def box_ap50(run: Path) -> float:
    """Return the box AP50 of all stages together, in percent."""
    return json.loads((run / "results.json").read_text(encoding="utf-8"))["bbox"]["AP50"]


def gap(found: dict[str, list[float]]) -> float:
    """Return by how much the mean of "full" lies below that of "plain"."""
    return mean(found["plain"]) - mean(found["full"])


def table(found: dict[str, list[float]], steps: int) -> str:
    lines = [f"box AP50 after {steps} steps"]
    for arm, values in found.items():
        spread = f" +- {stdev(values):.1f}" if len(values) > 1 else ""
        lines.append(f"  {arm:<6}{mean(values):6.1f}{spread}   ({', '.join(f'{v:.1f}' for v in values)})")
    return "\n".join([*lines, f"  full lies {gap(found):.1f} below plain (claim: less than {ALLOWED:g})"])


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print(f"full_machinery: {error}", file=sys.stderr)
        sys.exit(2)
