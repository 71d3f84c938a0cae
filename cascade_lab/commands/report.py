"""Write one offline HTML page about a run: figures, curves, tables, pictures stage by stage, recipe."""

from __future__ import annotations

import io
import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image

from cascade_lab.commands.report_page import Content, Sample, page
from cascade_lab.datasets import Dataset
from cascade_lab.datasets.catalog import load_dataset
from cascade_lab.datasets.transforms import prepare
from cascade_lab.detector import Prediction
from cascade_lab.engine.checkpoint import write_text
from cascade_lab.engine.logger import read_metrics
from cascade_lab.errors import InputError
from cascade_lab.overrides import override
from cascade_lab.runs import Run, load_run
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.viz.boxes import draw_detections
from cascade_lab.viz.curves import ap_curves, iou_histograms, loss_curves
from cascade_lab.viz.stages import stage_input_ious, stage_strip

USAGE = """usage: cascade-lab report RUN [options]

  RUN            folder that `cascade-lab train` and `cascade-lab evaluate` wrote
  --pictures N   pictures to show, evenly spaced over the evaluated split (default 6)
  --score S      leave out detections with a lower score in them (default 0.3)

Writes report.html into RUN: one file that needs no network."""

HISTOGRAM_PICTURES = 32


@dataclass(frozen=True, kw_only=True)
class ReportOptions:
    pictures: int = 6
    score: float = 0.3

    def __post_init__(self) -> None:
        if self.pictures < 0:
            raise InputError(f"option --pictures: {self.pictures} must be 0 or more")
        if not 0.0 <= self.score <= 1.0:
            raise InputError(f"option --score: {self.score} must be from 0 to 1")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    if arguments[0].startswith("-"):
        raise InputError(f"argument {arguments[0]!r}: name the folder of the run first, such as runs/nano")
    (options,) = override((ReportOptions(),), arguments[1:])
    written = write_report(Path(arguments[0]), options.pictures, options.score)
    print(f"report -> {written}")
    return 0


def write_report(run: Path, pictures: int = 6, score: float = 0.3) -> Path:
    """Write RUN/report.html and return its path. Where the pictures are gone, the page says so instead.

    Raises:
        InputError: the run is missing or has not been evaluated, the folder cannot be written.
    """
    results = _read_json(run / "results.json", f"measure the run first: cascade-lab evaluate {run}")
    loaded = load_run(run)
    evaluation = _read_json(run / "evaluation.json")
    losses = [row for row in read_metrics(run) if row.get("loss") is not None]
    samples: list[Sample] = []
    histograms = None
    try:
        dataset = _evaluated(loaded, evaluation)
        shown, measured = (
            evenly(len(dataset), pictures),
            evenly(len(dataset), HISTOGRAM_PICTURES if pictures else 0),
        )
        samples, histograms = look(loaded, dataset, shown, measured, score)
        note = (
            f"{len(shown)} of {len(dataset)} pictures, evenly spaced over the split and not chosen by eye; "
        )
        note += f"detections that score at least {100 * score:.0f}."
    except InputError as error:
        note = f"No pictures: {error}"
    content = Content(
        title=f"{loaded.recipe.name}, {loaded.step} steps",
        results=results,
        recipe=_read_json(run / "recipe.json"),
        evaluation=evaluation,
        environment=_read_json(run / "environment.json"),
        losses=loss_curves(losses) if losses else None,
        box_curves=ap_curves(results["stages"], "bbox"),
        mask_curves=ap_curves(results["stages"], "segm"),
        histograms=histograms,
        samples=samples,
        samples_note=note,
    )
    path = run / "report.html"
    try:
        write_text(path, page(content))
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); make room or give access") from error
    return path


def look(
    run: Run, dataset: Dataset, shown: Sequence[int], measured: Sequence[int], score: float
) -> tuple[list[Sample], Figure | None]:
    """Predict some pictures and draw them; from others take the IoU of what enters each stage."""
    run.detector.to("cuda" if torch.cuda.is_available() else "cpu")
    samples: list[Sample] = []
    ious: list[list[np.ndarray]] = []
    thresholds: list[float] = []
    for index in sorted({*shown, *measured}):
        picture, objects = dataset[index]
        image, targets = prepare(picture, objects, run.recipe.data.augment)
        size = (int(picture.shape[1]), int(picture.shape[2]))
        device = next(run.detector.parameters()).device
        prediction = run.detector.predict(ImageBatch.collate([image], [size]).to(device))
        if index in measured and len(targets.objects()):
            stages = prediction.trace.stages
            ious.append(stage_input_ious(stages, [targets]))
            thresholds = [stage.iou_threshold for stage in stages]
        if index in shown:
            pixels = picture.permute(1, 2, 0).numpy()  # (H, W, 3)
            samples.append(_sample(dataset.path(index).name, pixels, objects, prediction, run.classes, score))
    joined = [np.concatenate(one_stage) for one_stage in zip(*ious, strict=True)]
    return samples, iou_histograms(joined, thresholds) if joined else None


def evenly(length: int, count: int) -> list[int]:
    """Return up to ``count`` numbers below ``length``, evenly spaced, each from the middle of its share."""
    count = min(count, length)
    return [(2 * k + 1) * length // (2 * count) for k in range(count)]


def _sample(
    name: str,
    picture: np.ndarray,
    objects: Instances,
    prediction: Prediction,
    classes: Sequence[str],
    score: float,
) -> Sample:
    found = prediction.instances[0].to("cpu")
    assert found.scores is not None
    count = int((found.scores >= score).sum())
    strip = stage_strip(picture, prediction.trace.to_original(), classes, targets=objects, score=score)
    return Sample(
        name=name,
        drawn=_jpeg(draw_detections(picture, found, classes, score, tag_size=13), longest=900),
        strip=_jpeg(strip, longest=1600),
        caption=f"{count} detections, {len(objects.objects())} objects",
    )


def _evaluated(run: Run, evaluation: dict[str, Any]) -> Dataset:
    """Open the split that was evaluated, or else the recipe's own."""
    data = replace(run.recipe.data, root=evaluation.get("root", run.recipe.data.root))
    return load_dataset(data, evaluation.get("split", data.val_split), training=False, classes=run.classes)


def _jpeg(figure: Figure, longest: int) -> bytes:
    """Return a figure as JPEG bytes, shrunk to fit, so that a page of six pictures is a few megabytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png")
    with Image.open(buffer) as drawn:
        image = drawn.convert("RGB")
    image.thumbnail((longest, longest), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=84, subsampling=0)
    return buffer.getvalue()


def _read_json(path: Path, remedy: str | None = None) -> dict[str, Any]:
    """Return a JSON file; an absent one is empty unless there is a remedy to name."""
    if not path.parent.is_dir():
        raise InputError(f"{path.parent}: no such run folder; train one first")
    try:
        return json.loads(path.read_text("utf-8"))
    except FileNotFoundError:
        if remedy is None:
            return {}
        raise InputError(f"{path}: missing; {remedy}") from None
    except ValueError as error:
        raise InputError(f"{path}: not JSON ({error}); {remedy or 'restore it or delete it'}") from error
