"""Detect objects in pictures of your own: drawn, as COCO annotations, and stage by stage.

python -m cascade_lab.predict runs/nano photo.jpg --output found
"""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from cascade_lab.augmented import AugmentedTest, cost, predict_augmented
from cascade_lab.datasets.export import coco_annotations
from cascade_lab.datasets.picture import read_picture
from cascade_lab.datasets.transforms import AugmentConfig, at_scale, prepare
from cascade_lab.detector import Prediction
from cascade_lab.engine.checkpoint import write_bytes, write_text
from cascade_lab.engine.precision import Precision, autocast, check_finite
from cascade_lab.errors import InputError, explain
from cascade_lab.heads.postprocess import PostprocessConfig
from cascade_lab.overrides import override, split_named
from cascade_lab.runs import Run, load_run, with_postprocess
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.viz.boxes import draw_detections
from cascade_lab.viz.stages import stage_strip

USAGE = """usage: cascade-lab predict RUN IMAGE... --output DIR [options]

  RUN           folder that `cascade-lab train` wrote
  IMAGE...      pictures: JPEG, PNG or WebP
  --output DIR  folder for the results, made if it is not there
  --score S     leave out detections with a lower score, 0 to 1 (default 0.3)
  --tta.scales S ...  look at every picture at these sizes, 1.0 being the recipe's (default: 1.0)
  --tta.flip    look at every view mirrored as well, and merge all views
  --nms KIND    hard, soft_linear or soft_gaussian (default: what the recipe says)
  --precision P float32, bfloat16 or float16 (default: float32); half types take about half the time on
                processors and GPUs that have instructions for them
  --batch_size N  pictures at once, where neighbours on the command line have the same size (default: 1)

For every picture: NAME_drawn.jpg or .png, NAME.json (COCO annotations), NAME_stages.png. With --tta, the
stages are those of the first scale alone, on the proposals of all views."""


@dataclass(frozen=True, kw_only=True)
class PredictOptions:
    """What the command line says beside the rules of post-processing."""

    output: str = ""
    score: float = 0.3
    tta: AugmentedTest = AugmentedTest()
    precision: Precision = "float32"
    batch_size: int = 1

    def __post_init__(self) -> None:
        if self.batch_size < 1:
            raise InputError(f"option --batch_size: {self.batch_size} must be 1 or more")
        if not 0.0 <= self.score <= 1.0:
            raise InputError(f"option --score: {self.score} must be from 0 to 1")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    named, rest = split_named(arguments)
    options, _ = override((PredictOptions(), PostprocessConfig()), rest)  # again below, over the run's own
    if len(named) < 2:
        raise InputError("arguments: name the run folder and at least one picture, before the options")
    if not options.output:
        raise InputError("option --output: missing; name a folder for the results, such as --output found")
    images, output = [Path(word) for word in named[1:]], Path(options.output)
    check_pictures(images, output)  # before the model is loaded, which takes longer
    run = load_run(named[0])
    kept = run.recipe.detector.cascade.postprocess
    _, postprocess = override((PredictOptions(), kept), rest)
    run = run if postprocess == kept else with_postprocess(run, postprocess)
    if not options.tta.plain:
        print(cost(options.tta))
    written = predict_images(
        run, images, output, options.score, options.tta, options.precision, options.batch_size
    )
    print(f"{len(images)} pictures, {len(written)} files -> {output}")
    return 0


def predict_images(
    run: Run,
    images: Sequence[Path],
    output: Path,
    score: float = 0.3,
    tta: AugmentedTest | None = None,
    precision: Precision = "float32",
    batch_size: int = 1,
) -> list[Path]:
    """Write a drawing, a COCO file and a strip of stages for every picture; return the files.

    All pictures are decoded once before anything is written, so a broken one leaves nothing behind.

    Raises:
        InputError: a picture cannot be read, two would get the same name, the folder cannot be written.
    """
    check_pictures(images, output)
    run.detector.to("cuda" if torch.cuda.is_available() else "cpu")
    written: list[Path] = []
    try:
        output.mkdir(parents=True, exist_ok=True)
        with tqdm(total=len(images), unit="picture", desc="predict", disable=None) as bar:
            for group in batches(images, batch_size):
                prediction = detect(run, [picture for _, picture in group], tta, precision)
                for index, (path, picture) in enumerate(group):
                    written += write_prediction(path, picture, prediction, run, output, score, index)
                    bar.update()
    except OSError as error:
        raise InputError(f"{output}: cannot write there ({error.strerror}); name another folder") from error
    return written


def check_pictures(images: Sequence[Path], output: Path) -> None:
    """Raise InputError unless every picture can be decoded and gets a name of its own in ``output``."""
    if not images:
        raise InputError("IMAGE: none given; name one or more pictures")
    if os.path.exists(output) and not os.path.isdir(output):
        raise InputError(f"{output}: is a file; name a folder for the results")
    stems: dict[str, Path] = {}
    for path in images:
        if os.path.isdir(path):
            raise InputError(f"{path}: is a folder; name the pictures in it, such as {path}/*.jpg")
        if path.stem in stems:
            raise InputError(f"{path}: {stems[path.stem]} has the same name; predict them into two folders")
        stems[path.stem] = path
        read_picture(path)
    inputs = {path.resolve() for path in images}
    for path in images:
        if lost := inputs & {file.resolve() for file in files_for(path, output)}:
            raise InputError(f"{lost.pop()}: would be overwritten; name another folder for the results")


def files_for(path: Path, output: Path) -> tuple[Path, Path, Path]:
    """Return where drawing, strip and annotations of a picture go."""
    kind = "jpg" if path.suffix.lower() in (".jpg", ".jpeg") else "png"
    names = (f"{path.stem}_drawn.{kind}", f"{path.stem}_stages.png", f"{path.stem}.json")
    return output / names[0], output / names[1], output / names[2]


def batches(images: Sequence[Path], count: int) -> Iterator[list[tuple[Path, Tensor]]]:
    """Read pictures and yield neighbours of the same size, at most ``count`` of them at once.

    So none is padded for another's sake, and what is found does not depend on the batch but for rounding.
    """
    group: list[tuple[Path, Tensor]] = []
    for path in images:
        picture = read_picture(path)
        if group and (len(group) == count or group[0][1].shape != picture.shape):
            yield group
            group = []
        group.append((path, picture))
    if group:
        yield group


def detect(
    run: Run,
    pictures: Sequence[Tensor],
    tta: AugmentedTest | None = None,
    precision: Precision = "float32",
) -> Prediction:
    """Predict pictures, uint8 (3, H, W), resized as the recipe does for testing, or merged over views.

    Raises InputError where the features of the network are not finite.
    """
    original = [(int(picture.shape[1]), int(picture.shape[2])) for picture in pictures]
    device = next(run.detector.parameters()).device
    tta, scaled = tta or AugmentedTest(), []
    for config in (at_scale(run.recipe.data.augment, factor) for factor in tta.scales):
        resized = [resize_for_test(picture, config) for picture in pictures]
        scaled.append(ImageBatch.collate(resized, original).to(device))
    with autocast(precision, device):
        if tta.plain:
            prediction = run.detector.predict(scaled[0], keep_features=True)
        else:
            prediction = predict_augmented(run.detector, scaled, tta.flip)
    check_finite(prediction.trace.features or ())
    return Prediction(prediction.instances, replace(prediction.trace, features=None))  # they are large


def resize_for_test(picture: Tensor, config: AugmentConfig) -> Tensor:
    """Return the picture at the size that the recipe tests at."""
    size = (int(picture.shape[1]), int(picture.shape[2]))
    nothing = Instances(size, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
    return prepare(picture, nothing, config)[0]


def write_prediction(
    path: Path,
    picture: Tensor,
    prediction: Prediction,
    run: Run,
    output: Path,
    score: float,
    index: int = 0,
) -> list[Path]:
    """Write the three files about one picture, number ``index`` of its batch, and return their paths."""
    pixels = picture.permute(1, 2, 0).numpy()  # (H, W, 3)
    found = prediction.instances[index].to("cpu")
    assert found.scores is not None
    found = found[found.scores >= score]
    drawn, stages, annotations = files = files_for(path, output)
    strip = stage_strip(pixels, prediction.trace.to_original(), run.classes, index, score=score)
    write_bytes(drawn, encoded(draw_detections(pixels, found, run.classes), drawn.suffix[1:]))
    write_bytes(stages, encoded(strip, "png"))
    content = coco_annotations(path.name, found, run.classes, run.category_ids)
    write_text(annotations, json.dumps(content, indent=1, allow_nan=False) + "\n")
    return list(files)


def encoded(figure: Figure, kind: str) -> bytes:
    """Return a figure as the bytes of a "png" or "jpg" file."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format=kind, pil_kwargs={"quality": 90} if kind == "jpg" else None)
    return buffer.getvalue()


if __name__ == "__main__":
    try:
        sys.exit(main(sys.argv[1:]))
    except InputError as error:
        print(f"predict: {explain(error)}", file=sys.stderr)
        sys.exit(2)
