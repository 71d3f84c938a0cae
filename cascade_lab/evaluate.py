"""Measure a run: box and mask AP of every stage of its cascade, from one pass over the pictures.

python -m cascade_lab.evaluate runs/nano
"""

from __future__ import annotations

import json
import shlex
import sys
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cascade_lab.augmented import AugmentedTest, cost, read_out, see
from cascade_lab.datasets import Dataset
from cascade_lab.datasets.catalog import DataConfig, load_dataset
from cascade_lab.datasets.loader import evaluation_batches
from cascade_lab.datasets.transforms import at_scale
from cascade_lab.detector import Detector
from cascade_lab.engine.checkpoint import write_text
from cascade_lab.engine.precision import Precision, autocast, check_finite
from cascade_lab.errors import InputError, explain
from cascade_lab.evaluation.coco import detections_to_coco, load_ground_truth
from cascade_lab.evaluation.per_stage import score_modes, stage_modes
from cascade_lab.evaluation.table import results_table
from cascade_lab.heads.postprocess import PostprocessConfig
from cascade_lab.overrides import override
from cascade_lab.runs import Run, load_run, with_postprocess
from cascade_lab.structures import ImageBatch, Instances

USAGE = """usage: cascade-lab evaluate RUN [options]

  RUN                folder that `cascade-lab train` wrote
  --data.root DIR    folder in COCO format (default: the one that was trained on)
  --data.split NAME  split to measure (default: the recipe's validation split)
  --batch_size N     pictures at once, all of one size, so that none is padded for another's (default 8)
  --precision P      float32, bfloat16 or float16 (default: float32); half types take about half the time on
                     processors and GPUs that have instructions for them
  --tta.scales S ... look at every picture at these sizes, 1.0 being the recipe's (default: 1.0)
  --tta.flip         look at every view mirrored as well, and merge all views
  --nms KIND         hard, soft_linear or soft_gaussian; also --nms_iou, --soft_sigma, --soft_min_score,
                     --score_threshold, --max_detections, --ensemble (default: what the recipe says)

The stages are measured with test-time augmentation as without: each is read out in every view and merged.
Writes results.json, evaluation.json, detections_bbox.json and detections_segm.json into RUN, over those of an
earlier evaluation; evaluation.json says which views and which NMS they are of."""


@dataclass(frozen=True, kw_only=True)
class DataChoice:
    """Which pictures; None is what the recipe says."""

    root: str | None = None
    split: str | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """What the command line says beside the rules of post-processing."""

    data: DataChoice = field(default_factory=DataChoice)
    batch_size: int = 8
    tta: AugmentedTest = AugmentedTest()
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"option --batch_size: {self.batch_size} must be 1 or more")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    if arguments[0].startswith("-"):
        raise InputError(f"argument {arguments[0]!r}: name the folder of the run first, such as runs/nano")
    # Twice: wrong options are refused before the run is loaded, and only its recipe knows the defaults.
    override((EvaluateOptions(), PostprocessConfig()), arguments[1:])
    run = load_run(arguments[0])
    kept = run.recipe.detector.cascade.postprocess
    options, postprocess = override((EvaluateOptions(), kept), arguments[1:])
    run = run if postprocess == kept else with_postprocess(run, postprocess)
    root = None if options.data.root is None else Path(options.data.root)
    evaluate(run, root, options.data.split, options.batch_size, options.tta, options.precision)
    print(f"next:\n  cascade-lab report {shlex.quote(arguments[0])}")
    return 0


def evaluate(
    run: Run,
    data_root: Path | None = None,
    split: str | None = None,
    batch_size: int = 8,
    tta: AugmentedTest | None = None,
    precision: Precision = "float32",
) -> dict[str, Any]:
    """Measure a run on a split and write the figures into its folder, all at the end.

    Raises:
        InputError: the split is missing or broken, lacks a class, or the network overflows.
    """
    data = run.recipe.data if data_root is None else replace(run.recipe.data, root=str(data_root))
    split, tta = split or data.val_split, tta or AugmentedTest()
    dataset = load_dataset(data, split, training=False, classes=run.classes)
    if not len(dataset):
        raise InputError(f"{dataset.annotation_path}: images is empty; name a split that has pictures")
    run.detector.to("cuda" if torch.cuda.is_available() else "cpu")
    if not tta.plain:
        print(cost(tta))
    began = time.monotonic()
    batches = scaled_batches(dataset, data, tta, batch_size, one_size=True)
    with autocast(precision, next(run.detector.parameters()).device):
        detections = collect_detections(run.detector, batches, dataset.image_ids, dataset.category_ids, tta)
    results = score_modes(load_ground_truth(dataset.annotation_path), detections, dataset.category_ids)
    about = {
        "split": split,
        "root": data.root,
        "pictures": len(dataset),
        "step": run.step,
        "tta": None if tta.plain else {"scales": list(tta.scales), "flip": tta.flip},
        "precision": precision,
        "nms": run.recipe.detector.cascade.postprocess.nms,
        "seconds": round(time.monotonic() - began, 1),
    }
    write_results(run.path, results, list(detections.values())[-1], about)
    print(results_table(results))
    print(f"\n{len(dataset)} pictures of {split}, step {run.step}, {about['seconds']:.0f} s -> {run.path}")
    return results


def scaled_batches(
    dataset: Dataset, data: DataConfig, tta: AugmentedTest, batch_size: int, one_size: bool = False
) -> Iterator[tuple[list[int], list[ImageBatch]]]:
    """Yield (numbers of the pictures, the pictures at every scale), each once, as ``evaluation_batches``.

    Every scale is resized from the picture as it lies on disk, and reads it there by itself.
    """
    per_scale = [replace(data, augment=at_scale(data.augment, factor)) for factor in tta.scales]
    every = (evaluation_batches(dataset, one, batch_size, one_size) for one in per_scale)
    for loaded in zip(*every, strict=True):
        yield loaded[0][0], [images for _, images, _ in loaded]


@torch.no_grad()
def collect_detections(
    detector: Detector,
    batches: Iterable[tuple[list[int], list[ImageBatch]]],
    image_ids: Sequence[int],
    category_ids: Sequence[int],
    tta: AugmentedTest,
) -> dict[str, list[dict[str, Any]]]:
    """Return COCO detections of every way to read the cascade; backbone and boxes are computed once.

    Args:
        batches: (numbers of the pictures, pictures at every scale), as ``scaled_batches`` yields them.
        image_ids, category_ids: ids in the annotation file of picture 0, 1, ... and label 0, 1, ...
    """
    modes = stage_modes(len(detector.config.cascade.stages))
    device = next(detector.parameters()).device
    found: dict[str, list[dict[str, Any]]] = {mode: [] for mode in modes}
    with tqdm(total=len(image_ids), unit="picture", desc="evaluate", disable=None) as bar:
        for indices, scaled in batches:
            scaled = [images.to(device) for images in scaled]
            for mode, voted in read_modes(detector, scaled, tta, modes):
                for index, instances in zip(indices, voted, strict=True):
                    found[mode] += detections_to_coco(image_ids[index], instances.to("cpu"), category_ids)
            bar.update(len(indices))
    return found


def read_modes(
    detector: Detector, scaled: list[ImageBatch], tta: AugmentedTest, modes: Mapping[str, tuple[int, ...]]
) -> Iterator[tuple[str, list[Instances]]]:
    """Yield (mode, detections of a batch in that mode). Raises InputError where features are not finite."""
    if not tta.plain:
        sight = see(detector, scaled, tta.flip)
        check_finite([level for view in sight.views for level in view.pyramid])
        yield from ((mode, read_out(detector, sight, stages)) for mode, stages in modes.items())
        return
    prediction = detector.predict(scaled[0], keep_features=True)
    check_finite(prediction.trace.features or ())
    full = list(modes)[-1]
    for mode, stages in modes.items():
        yield mode, prediction.instances if mode == full else detector.read_out(prediction.trace, stages)


def write_results(
    run: Path, results: dict[str, Any], detections: Sequence[dict[str, Any]], about: dict[str, Any]
) -> None:
    """Write the detections as COCO results, what was measured, and last of all results.json."""
    boxes = [{k: v for k, v in d.items() if k != "segmentation"} for d in detections]
    masks = [d for d in detections if "segmentation" in d]
    try:
        write_text(run / "detections_bbox.json", json.dumps(boxes, allow_nan=False))
        if masks:
            write_text(run / "detections_segm.json", json.dumps(masks, allow_nan=False))
        else:
            (run / "detections_segm.json").unlink(missing_ok=True)  # of an earlier evaluation
        write_text(run / "evaluation.json", json.dumps(about, indent=1) + "\n")
        write_text(run / "results.json", json.dumps(results, indent=1, allow_nan=False) + "\n")
    except OSError as error:
        raise InputError(
            f"{run}: cannot write the results ({error.strerror}); make room or give access"
        ) from error


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print(f"evaluate: {explain(error)}", file=sys.stderr)
        sys.exit(2)
