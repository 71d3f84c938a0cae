"""A training seen at its checkpoints: the AP of every stage, and what was found in a few pictures.

    python -m cascade_lab.widgets.moments runs/demo

writes moments.jsonl into the folder of the run, a line for each checkpoint that is there. To have more than
the newest two, train with --keep. The training viewer reads it.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path

import torch

from cascade_lab.augmented import AugmentedTest
from cascade_lab.datasets import Dataset
from cascade_lab.datasets.catalog import load_dataset
from cascade_lab.engine import checkpoint
from cascade_lab.errors import InputError
from cascade_lab.evaluate import collect_detections, scaled_batches
from cascade_lab.evaluation.coco import load_ground_truth
from cascade_lab.evaluation.per_stage import score_modes, stage_modes
from cascade_lab.overrides import override, split_named
from cascade_lab.runs import Run, load_run

FILE = "moments.jsonl"
BATCH = 4
LEAST, MOST = 0.05, 40  # score and number of the detections that are kept of a picture
SECONDS = 0.5  # between two looks into the folder


@dataclass(frozen=True, kw_only=True)
class StageScores:
    """AP in percent of one way to read the cascade, as ``stage_modes`` names it; None where undefined."""

    mode: str
    ap: float | None
    ap50: float | None
    ap75: float | None
    mask_ap: float | None


@dataclass(frozen=True, kw_only=True)
class Found:
    """What was found in one picture, the surest first: boxes xyxy in its pixels, labels, scores."""

    boxes: list[list[float]] = field(repr=False)
    labels: list[int] = field(repr=False)
    scores: list[float] = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class Moment:
    """A run after ``step`` steps. The scores are of ``measured`` pictures, ``found`` is of the first few."""

    step: int
    measured: int
    scores: tuple[StageScores, ...]
    found: tuple[Found, ...]


@dataclass(frozen=True, kw_only=True)
class LookOptions:
    """How much to look at: pictures to keep detections of, pictures to measure AP on."""

    pictures: int = 3
    measure: int = 50
    threads: int = 1
    follow: bool = False

    def __post_init__(self) -> None:
        for name in ("pictures", "measure", "threads"):
            if getattr(self, name) < 1:
                raise InputError(f"option --{name}: {getattr(self, name)} must be 1 or more")


def main(arguments: Sequence[str]) -> int:
    """Look at every checkpoint; with --follow also at those to come, until the standard input is closed."""
    named, rest = split_named(arguments)
    (options,) = override((LookOptions(),), rest)
    if len(named) != 1:
        raise InputError("arguments: name the folder of the run, such as runs/demo, before the options")
    torch.set_num_threads(options.threads)
    over = threading.Event()
    if options.follow:
        threading.Thread(target=lambda: (os.read(0, 1), over.set()), daemon=True).start()
    else:
        over.set()
    for moment in look(Path(named[0]), over, options):
        first = moment.scores[-1]
        print(
            f"step {moment.step}: AP of stages {first.mode} on {moment.measured} pictures {first.ap}",
            flush=True,
        )
    return 0


def look(run: Path, over: threading.Event, options: LookOptions) -> Iterator[Moment]:
    """Yield the moment of every checkpoint that has none yet, and write it; end once ``over`` is set.

    A checkpoint that is removed before it was looked at is passed over.
    """
    dataset: Dataset | None = None
    while True:
        last = over.is_set()  # asked first: what was saved before is still looked at
        seen = {moment.step for moment in read_moments(run)}
        for step in (step for step in saved_steps(run) if step not in seen):
            try:
                opened = load_run(run, step)
            except InputError as error:
                print(f"passed over: {error}", file=sys.stderr, flush=True)
                continue
            if dataset is None:
                data = opened.recipe.data
                dataset = load_dataset(data, data.val_split, training=False, classes=opened.classes)
            moment = measure(opened, dataset, options.pictures, options.measure)
            with (run / FILE).open("a", encoding="utf-8") as file:
                file.write(json.dumps(asdict(moment), allow_nan=False) + "\n")
            yield moment
        if last:
            return
        over.wait(SECONDS)


def measure(run: Run, dataset: Dataset, pictures: int, most: int) -> Moment:
    """Return the AP of every stage on the first ``most`` pictures, and the detections of the first few.

    Pictures are looked at in batches, so the last batch may measure a few more.
    """
    plain, batches = AugmentedTest(), -(-min(most, len(dataset)) // BATCH)
    loaded = islice(scaled_batches(dataset, run.recipe.data, plain, BATCH), batches)
    ids = dataset.image_ids[: batches * BATCH]
    detections = collect_detections(run.detector, loaded, ids, dataset.category_ids, plain)
    data = json.loads(dataset.annotation_path.read_text("utf-8"))
    part = {
        **data,
        "images": [image for image in data["images"] if image["id"] in set(ids)],
        "annotations": [row for row in data["annotations"] if row["image_id"] in set(ids)],
    }
    results = score_modes(load_ground_truth(part), detections, dataset.category_ids)
    modes = list(stage_modes(len(run.recipe.detector.cascade.stages)))
    return Moment(
        step=run.step,
        measured=len(ids),
        scores=tuple(_scores(mode, results["stages"][mode]) for mode in modes),
        found=tuple(_found(detections[modes[-1]], id_, dataset.category_ids) for id_ in ids[:pictures]),
    )


def saved_steps(run: Path) -> list[int]:
    """Return the steps of the checkpoints of a run, oldest first."""
    return [int(path.stem.removeprefix("step_")) for path in checkpoint.paths(run / "checkpoints")]


def read_moments(run: Path) -> list[Moment]:
    """Return the moments of a run in the order of their steps; a half-written line is passed over."""
    path = run / FILE
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    moments: dict[int, Moment] = {}
    for line in lines:
        try:
            values = json.loads(line)
        except json.JSONDecodeError:
            break
        scores = tuple(StageScores(**one) for one in values["scores"])
        found = tuple(Found(**one) for one in values["found"])
        moments[values["step"]] = Moment(**values | {"scores": scores, "found": found})
    return [moments[step] for step in sorted(moments)]


def _scores(mode: str, both: dict) -> StageScores:
    boxes, masks = both["bbox"], both["segm"]
    return StageScores(
        mode=mode,
        ap=boxes["AP"],
        ap50=boxes["AP50"],
        ap75=boxes["AP75"],
        mask_ap=masks and masks["AP"],
    )


def _found(detections: Sequence[dict], image_id: int, category_ids: Sequence[int]) -> Found:
    rows = [row for row in detections if row["image_id"] == image_id and row["score"] >= LEAST]
    rows = sorted(rows, key=lambda row: -row["score"])[:MOST]
    boxes = [[x, y, x + w, y + h] for x, y, w, h in (row["bbox"] for row in rows)]
    return Found(
        boxes=[[round(value, 2) for value in box] for box in boxes],
        labels=[list(category_ids).index(row["category_id"]) for row in rows],
        scores=[round(row["score"], 4) for row in rows],
    )


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print(f"moments: {error}", file=sys.stderr)
        sys.exit(2)
