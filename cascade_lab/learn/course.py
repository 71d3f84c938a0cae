"""The trained model and the pictures that the notebooks work with: offline, at once, the same for everyone.

The model was made by these commands, the last of which is the main function below:

    cascade-lab shapes
    cascade-lab train pico --threads 1 --output runs/pico
    python -m cascade_lab.learn.course runs/pico
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
import torch
from torch import Tensor
from torchvision.ops import masks_to_boxes

from cascade_lab.datasets.shapes import CLASSES, LEVELS, Scene, draw_scene, to_coco
from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.recipes import pico
from cascade_lab.runs import Run, load_run
from cascade_lab.structures import Instances
from cascade_lab.weights.write import write_safetensors

MODEL = Path(__file__).parent / "assets" / "pico.safetensors"
VALIDATION = 1  # number of the split of `cascade-lab shapes` that the model was not trained on


def course_run() -> Run:
    """Return the trained model of the course as a run, in eval mode.

    The file holds float16 numbers, since it has to be small; they are used as float32.
    """
    recipe = pico()
    detector = Detector(recipe.detector)
    detector.load_state_dict(safetensors.torch.load_file(MODEL))  # copies into the float32 of the detector
    ids = tuple(range(1, len(CLASSES) + 1))
    return Run(MODEL, recipe, CLASSES, ids, detector.eval(), recipe.schedule.steps or 0)


def course_pictures(count: int, *, first: int = 0, level: str = "moderate") -> list[tuple[Tensor, Instances]]:
    """Return pictures (3, H, W) uint8 with their ground truth, as a data set gives them.

    They are those of ``cascade-lab shapes``, validation split, from number ``first`` on. No file is written.

    Raises:
        InputError: there is no such level.
    """
    if level not in LEVELS:
        raise InputError(f"level: {level!r} does not exist; there are {', '.join(LEVELS)}")
    scenes = _scenes(count, first, level)
    return [(torch.from_numpy(scene.pixels.copy()).permute(2, 0, 1), _truth(scene)) for scene in scenes]


def course_truth(count: int, *, first: int = 0, level: str = "moderate") -> dict[str, Any]:
    """Return the COCO annotations of the same pictures, whose ids count from 1."""
    return to_coco(list(_scenes(count, first, level)))


def _scenes(count: int, first: int, level: str) -> Iterator[Scene]:
    seeds = ([0, VALIDATION, index] for index in range(first, first + count))
    return (draw_scene(LEVELS[level], np.random.default_rng(seed)) for seed in seeds)


def _truth(scene: Scene) -> Instances:
    masks = torch.from_numpy(scene.masks)
    boxes = masks_to_boxes(masks) + torch.tensor([0.0, 0.0, 1.0, 1.0])  # theirs end in the last pixel
    return Instances(
        scene.pixels.shape[:2], boxes, torch.tensor(scene.labels, dtype=torch.int64), masks=masks
    )


def main(arguments: list[str]) -> int:
    """Write the averaged weights of a run of ``pico`` into the package, as float16."""
    if len(arguments) != 1:
        raise InputError("arguments: name the run folder, such as runs/pico")
    run = load_run(arguments[0])
    if run.recipe.detector != pico().detector:
        raise InputError(f"{run.path}: its recipe is {run.recipe.name}, expected the detector of pico")
    state = run.detector.state_dict().items()
    half = {name: value.half() if value.is_floating_point() else value for name, value in state}
    write_safetensors(MODEL, half, run.classes)
    print(f"{MODEL}: {MODEL.stat().st_size:,} bytes, step {run.step}")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print(f"course: {error}", file=sys.stderr)
        sys.exit(2)
