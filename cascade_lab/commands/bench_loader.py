"""The loader measured: pictures a second in the published pipelines, and what each step of them takes."""

from __future__ import annotations

import math
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm

from cascade_lab.commands.bench_timing import machine, short
from cascade_lab.datasets import Dataset
from cascade_lab.datasets.catalog import DataConfig, load_dataset
from cascade_lab.datasets.loader import training_batches
from cascade_lab.datasets.picture import read_picture
from cascade_lab.datasets.shapes import ShapesConfig, write_shapes
from cascade_lab.datasets.transforms import augment
from cascade_lab.recipes import recipe
from cascade_lab.structures import ImageBatch

PIPELINES = {
    "1x": "cascade_internimage_l_fpn_1x_coco",
    "3x": "cascade_internimage_l_fpn_3x_coco",
}
SHARE = 2  # pictures of one process, as in all published runs
WANTED = 16 / 0.73  # pictures a second of InternImage-L 1x: 16 a step, 0.73 s (the official model zoo)
# About as many pixels as a picture of COCO, and as many objects.
LIKE_COCO = ShapesConfig(size=560, objects=(5, 9), radius=(15.0, 120.0), max_overlap=0.3)
PARTS = ("decode", "decode masks", "resize", "resize masks", "normalise, pad")


@dataclass(frozen=True, kw_only=True)
class Amount:
    """How much is measured: pictures drawn where none are given, pictures by step, batches by rate."""

    drawn: int = 24
    pictures: int = 48
    batches: int = 60
    workers: tuple[int, ...] = (0, 1, 2)


FULL, QUICK = Amount(), Amount(drawn=8, pictures=16, batches=12)


def bench_loader(
    data: str = "",
    amount: Amount = FULL,
    clock: Callable[[], float] = time.perf_counter,
    cpu: Callable[[], float] = time.process_time,
) -> dict[str, Any]:
    """Measure the training split in ``data`` (COCO format), or drawn shapes where it is empty.

    Returns {"rows": [...], "machine": {...}, "data": {...}}. Raises InputError where ``data`` cannot be read.
    """
    with tempfile.TemporaryDirectory(prefix="cascade-lab-") as folder:
        if not data:
            _draw(Path(folder) / "shapes", amount.drawn)
        root = data or str(Path(folder) / "shapes")
        configs = {
            name: replace(recipe(full).data, root=root, cache=False, images_per_batch=SHARE)
            for name, full in PIPELINES.items()
        }
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # as in a worker
        rows = []
        try:
            with tqdm(
                total=len(configs) * (1 + len(amount.workers)), disable=None, desc="bench loader"
            ) as bar:
                for name, config in configs.items():
                    dataset = load_dataset(config, config.train_split, training=True)
                    found = parts(dataset, config, amount.pictures, cpu)
                    bar.update()
                    rates = {}
                    for count in amount.workers:
                        rates[count] = rate(dataset, replace(config, workers=count), amount.batches, clock)
                        bar.update()
                    rows.append(_row(name, found, rates))
        finally:
            torch.set_num_threads(threads)
        told = {"root": data or "drawn shapes", "pictures": len(dataset), "median_size": _median(dataset)}
    return {"rows": rows, "machine": machine("cpu"), "data": told, "wanted_per_second": short(WANTED)}


def parts(
    dataset: Dataset, config: DataConfig, pictures: int, cpu: Callable[[], float] = time.process_time
) -> dict[str, float]:
    """Return the processor's milliseconds for a picture, by step (``PARTS``)."""
    spent: dict[str, float] = dict.fromkeys(PARTS, 0.0)
    last = cpu()

    def lap(part: str) -> None:
        nonlocal last
        spent[part] += cpu() - last
        last = cpu()

    numbers = [number % len(dataset) for number in range(math.ceil(pictures / SHARE) * SHARE)]
    for start in range(0, len(numbers), SHARE):
        loaded = []
        for index in numbers[start : start + SHARE]:
            draws = [torch.Generator().manual_seed(start + index) for _ in range(2)]
            last = cpu()
            image = read_picture(dataset.path(index), dataset.sizes[index])
            lap("decode")
            targets = dataset.targets(index)
            lap("decode masks")
            augment(image, replace(targets, masks=None), config.augment, draws[0])
            lap("resize")
            loaded.append(augment(image, targets, config.augment, draws[1])[0])
            lap("resize masks")  # and the pixels again: taken off below
        ImageBatch.collate(loaded)
        lap("normalise, pad")
    spent["resize masks"] -= spent["resize"]
    return {part: 1e3 * max(seconds, 0.0) / len(numbers) for part, seconds in spent.items()}


def rate(
    dataset: Dataset, config: DataConfig, batches: int, clock: Callable[[], float] = time.perf_counter
) -> float:
    """Return the pictures a second that arrive, on the wall, once the workers are warm."""
    warm_up = 1 + 2 * config.workers  # until every worker has given a batch, and torch's queue is as it stays
    started = 0.0
    for number, _ in enumerate(training_batches(dataset, config, 0, 0, warm_up + batches), start=1):
        if number == warm_up:
            started = clock()
    return batches * config.images_per_batch / (clock() - started)


def as_text(found: Mapping[str, Any]) -> str:
    """Return a table of the steps, the rates, and how many workers keep up with a published run."""
    width, height = found["data"]["median_size"]
    lines = [
        f"{found['data']['root']}: {found['data']['pictures']} pictures, medians {width} wide, {height} high",
        "Processor time for a picture, by step. Pictures a second on the wall: other programs disturb them.",
    ]
    for row in found["rows"]:
        lines += ["", f"{row['pipeline']} pipeline"]
        for part, milliseconds in row["parts_ms"].items():
            share = f"{100 * milliseconds / row['sum_ms']:5.0f} %"
            lines.append(f"  {part:<16}{milliseconds:8.2f} ms{share}")
        lines.append(f"  {'together':<16}{row['sum_ms']:8.2f} ms")
        rates = ", ".join(f"{told['per_second']:.1f} with {told['workers']}" for told in row["rates"])
        lines.append(f"  pictures a second by workers: {rates}")
        needed = row["workers_needed"]
        lines.append(
            f"  a published run uses {found['wanted_per_second']:.1f} a second on 8 GPUs together: "
            f"{needed} worker{'s' if needed > 1 else ''}"
        )
    return "\n".join(lines)


def _row(name: str, found: Mapping[str, float], rates: Mapping[int, float]) -> dict[str, Any]:
    total = sum(found.values())
    one = rates.get(1) or 1e3 / total
    return {
        "pipeline": name,
        "parts_ms": {part: short(milliseconds) for part, milliseconds in found.items()},
        "sum_ms": short(total),
        "rates": [{"workers": count, "per_second": short(value)} for count, value in rates.items()],
        "workers_needed": math.ceil(WANTED / one),
    }


def _draw(root: Path, pictures: int) -> None:
    with tqdm(total=pictures + 1, disable=None, desc="draw shapes", unit="picture") as bar:

        def advance(done: int, _: int) -> None:
            bar.update(done - bar.n)

        write_shapes(root, LIKE_COCO, seed=0, train=pictures, val=1, progress=advance)


def _median(dataset: Dataset) -> tuple[int, int]:
    """Return the median width and the median height."""
    heights, widths = (sorted(sides) for sides in zip(*dataset.sizes, strict=True))
    return widths[len(dataset) // 2], heights[len(dataset) // 2]
