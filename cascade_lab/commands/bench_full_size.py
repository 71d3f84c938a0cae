"""The published giants on this machine's CPU: a picture through L and XL, and training steps of L.

    cascade-lab bench full_size --picture FILE --output FOLDER

Every part runs in a process of its own, so that its peak of memory is its own. The weights are random: the
detections that are drawn show that the whole of the model ran, not that it finds anything.
"""

from __future__ import annotations

import json
import multiprocessing
import resource
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm

from cascade_lab.commands.bench_timing import machine, short
from cascade_lab.datasets.cut import cut
from cascade_lab.datasets.picture import read_picture
from cascade_lab.datasets.shapes import ShapesConfig, draw_scene
from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.errors import InputError
from cascade_lab.heads.cascade_config import CascadeConfig
from cascade_lab.overrides import override
from cascade_lab.recipes import recipe
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.sampler import evenly
from cascade_lab.viz.boxes import draw_detections

PICTURE = (800, 1280)
TRAINED = (256, 320)  # what a laptop's memory holds without activation checkpointing as well
LARGE, EXTRA_LARGE = "cascade_internimage_l_fpn_1x_coco", "cascade_internimage_xl_fpn_1x_coco"


@dataclass(frozen=True, kw_only=True)
class Options:
    """``picture``: a file to look at (default: drawn shapes). ``output``: where the drawings go."""

    picture: str = ""
    output: str = "runs/full_size"
    threads: int = 1

    def __post_init__(self) -> None:
        if self.threads < 1:
            raise InputError(f"option --threads: {self.threads} must be 1 or more")


def main(arguments: Sequence[str]) -> int:
    """Run everything, print JSON, leave one drawing for each model; return the exit code."""
    (options,) = override((Options(),), list(arguments))
    if options.picture and not Path(options.picture).is_file():
        raise InputError(f"option --picture: {options.picture} is no file; leave it out for drawn shapes")
    folder = Path(options.output)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(
            f"option --output: {folder} cannot be made ({error.strerror}); name another"
        ) from error
    rows = []
    with (
        tempfile.TemporaryDirectory(prefix="cascade-lab-") as scratch,
        tqdm(total=4, disable=None, desc="full size", unit="part") as bar,
    ):
        for name in (LARGE, EXTRA_LARGE):
            rows.append(alone(infer, name, options.picture, str(folder / f"{name}.png"), options.threads))
            bar.update()
        gradients = [Path(scratch) / f"{kind}.pt" for kind in ("plain", "checkpointed")]
        for checkpointing, file in zip((False, True), gradients, strict=True):
            rows.append(alone(train, LARGE, checkpointing, str(file), options.threads))
            bar.update()
        apart = difference(*gradients)
    found = {"rows": rows, "largest_gradient_difference": apart, "machine": machine("cpu")}
    print(json.dumps(found, indent=1))
    return 0


def infer(name: str, picture: str, drawing: str, threads: int) -> dict[str, Any]:
    """Send one picture of 800 x 1280 through a published model and draw its 100 best boxes."""
    torch.set_num_threads(threads)
    config = recipe(name).detector
    config = replace(config, cascade=_keep_everything(config))
    torch.manual_seed(0)
    detector = Detector(config).eval()
    pixels = resized(picture, PICTURE)
    images = ImageBatch.collate([pixels])
    wall, cpu = time.perf_counter(), time.process_time()
    found = detector.predict(images).instances[0]
    row = _row(name, "inference", wall, cpu)
    figure = draw_detections(
        pixels.permute(1, 2, 0).numpy(), found, [str(c) for c in range(config.num_classes)]
    )
    figure.savefig(drawing)
    return {**row, "detections": len(found), "drawing": drawing}


def train(name: str, checkpointing: bool, file: str, threads: int) -> dict[str, Any]:
    """Do the forward and backward of a training step, and save its gradients."""
    torch.set_num_threads(threads)
    config = recipe(name).detector
    backbone = replace(config.backbone, activation_checkpointing=checkpointing)
    torch.manual_seed(0)
    detector = Detector(replace(config, backbone=backbone)).train()
    images = ImageBatch.collate([resized("", TRAINED)])
    boxes = torch.tensor([[20.0, 30.0, 150.0, 200.0], [160.0, 40.0, 300.0, 240.0]])
    masks = torch.zeros(2, *TRAINED, dtype=torch.bool)
    for mask, (x1, y1, x2, y2) in zip(masks, boxes.int().tolist(), strict=True):
        mask[y1:y2, x1:x2] = True
    target = Instances(TRAINED, boxes, torch.tensor([1, 3]), masks=masks)
    before = _peak()
    torch.manual_seed(1)  # of drop path
    wall, cpu = time.perf_counter(), time.process_time()
    detector(images, [target], evenly).total.backward()
    row = _row(name, "training step", wall, cpu)
    gradients = {key: value.grad for key, value in detector.named_parameters()}
    torch.save(gradients, file)
    return {**row, "checkpointing": checkpointing, "gib_before": before, "size": list(TRAINED)}


def difference(plain: Path, again: Path) -> float:
    """Return the largest difference of two files of gradients, as a share of each parameter's largest."""
    a, b = (torch.load(file, weights_only=True, mmap=True) for file in (plain, again))
    shares = [float((a[key] - b[key]).abs().max() / a[key].abs().max().clamp(min=1e-12)) for key in a]
    return short(max(shares))


def resized(picture: str, size: tuple[int, int]) -> torch.Tensor:
    """Return a picture (3, H, W) uint8 of ``size``; drawn shapes where none is named."""
    if picture:
        image = read_picture(Path(picture))
    else:
        scene = draw_scene(ShapesConfig(size=max(size)), np.random.default_rng(0))
        image = torch.from_numpy(scene.pixels.copy()).permute(2, 0, 1)
    none = Instances((image.shape[1], image.shape[2]), torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    return cut(image, none, size, (0, 0, *size))[0]


def alone(part: Callable[..., dict[str, Any]], *arguments: Any) -> dict[str, Any]:
    """Return what ``part`` returns, run in a fresh process."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(part, arguments)


def _keep_everything(config: DetectorConfig) -> CascadeConfig:
    """Random weights give 80 classes a score near 1/81 each: without a threshold the best 100 are kept."""
    return replace(config.cascade, postprocess=replace(config.cascade.postprocess, score_threshold=0.0))


def _row(name: str, what: str, wall: float, cpu: float) -> dict[str, Any]:
    told = {"wall_s": time.perf_counter() - wall, "cpu_s": time.process_time() - cpu, "peak_gib": _peak()}
    return {
        "recipe": name,
        "what": what,
        "threads": torch.get_num_threads(),
        **{k: short(v) for k, v in told.items()},
    }


def _peak() -> float:
    """Return the largest memory that this process has held, in GiB."""
    return short(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
