"""Made-up pictures as an ordinary COCO folder: the same seed and settings give the same bytes."""

from __future__ import annotations

import hashlib
import json
import tempfile
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from cascade_lab.datasets.shapes.scene import CLASSES, Scene, ShapesConfig, draw_scene, extent
from cascade_lab.errors import InputError
from cascade_lab.ops.masks import encode_rle

VERSION = 1  # raise it whenever the same settings would give other pictures


def write_shapes(
    root: str | Path, config: ShapesConfig, seed: int, train: int = 1000, val: int = 250,
    progress: Callable[[int, int], None] | None = None,
) -> bool:  # fmt: skip
    """Write the data set as a COCO folder, unless the very same one is there already.

    The folder appears whole or not at all: everything is written beside it and renamed at the end.

    Args:
        progress: called with (pictures written, pictures in all).

    Returns:
        True if it was written, False if it was there.

    Raises:
        InputError: ``root`` holds something that this function did not write, which is left alone, or cannot
            be written; or a number makes no sense.
    """
    root = Path(root)
    counts = {"train": train, "val": val}
    wanted = {
        "version": VERSION,
        "seed": seed,
        "pictures": counts,
        "config": json.loads(json.dumps(asdict(config))),
    }
    if min(train, val) < 1:
        raise InputError(f"shapes: {train} training and {val} validation pictures (must be from 1 up)")
    if seed < 0:
        raise InputError(f"shapes: seed is {seed} (must be from 0 up)")
    if _is_complete(root, wanted):
        return False
    _refuse_foreign(root)
    try:
        root.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{root.name}-", dir=root.parent) as work:
            new = Path(work, "new")
            _write_new(new, config, wanted, progress)
            if root.exists():
                root.rename(Path(work, "old"))
            new.rename(root)
    except OSError as error:
        raise InputError(
            f"{root}: cannot be written ({error.strerror}); make room or name another folder"
        ) from error
    return True


def to_coco(scenes: list[Scene]) -> dict[str, Any]:
    """Describe scenes as a COCO annotation file; boxes are tight around the visible pixels."""
    images, annotations = [], []
    for number, scene in enumerate(scenes):
        height, width = scene.pixels.shape[:2]
        images.append({"id": number + 1, "file_name": f"{number:06d}.png", "width": width, "height": height})
        for label, mask in zip(scene.labels, scene.masks, strict=True):
            x1, y1, x2, y2 = extent(mask)
            annotations.append({
                "id": len(annotations) + 1, "image_id": number + 1, "category_id": label + 1, "iscrowd": 0,
                "bbox": [x1, y1, x2 - x1, y2 - y1], "area": int(mask.sum()),
                "segmentation": encode_rle(mask),
            })  # fmt: skip
    categories = [{"id": label + 1, "name": name} for label, name in enumerate(CLASSES)]
    return {"images": images, "annotations": annotations, "categories": categories}


def _write_new(
    folder: Path,
    config: ShapesConfig,
    wanted: dict[str, Any],
    progress: Callable[[int, int], None] | None,
) -> None:
    """Write the whole data set into a folder that is not there yet."""
    counts: dict[str, int] = wanted["pictures"]
    done, digests = 0, {}
    (folder / "annotations").mkdir(parents=True)
    for number, (split, count) in enumerate(counts.items()):
        images = folder / "images" / split
        images.mkdir(parents=True)
        scenes = []
        for index in range(count):
            scene = draw_scene(config, np.random.default_rng([wanted["seed"], number, index]))
            # Noise hardly compresses, so the fastest level is the right one.
            Image.fromarray(scene.pixels).save(images / f"{index:06d}.png", compress_level=1)
            scenes.append(scene)
            done += 1
            if progress:
                progress(done, sum(counts.values()))
        text = json.dumps(to_coco(scenes)).encode()
        (folder / "annotations" / f"instances_{split}.json").write_bytes(text)
        digests[split] = hashlib.sha256(text).hexdigest()
    (folder / "shapes.json").write_text(json.dumps({**wanted, "sha256": digests}, indent=1) + "\n")


def _is_complete(root: Path, wanted: dict[str, Any]) -> bool:
    try:
        stated = json.loads((root / "shapes.json").read_text())
        digests = stated.pop("sha256")
        return stated == wanted and all(
            hashlib.sha256((root / "annotations" / f"instances_{split}.json").read_bytes()).hexdigest()
            == digests[split]
            and len(list((root / "images" / split).glob("*.png"))) == count
            for split, count in wanted["pictures"].items()
        )
    except (OSError, ValueError, KeyError, AttributeError, TypeError):
        return False


def _refuse_foreign(root: Path) -> None:
    if not root.exists():
        return
    names = {entry.name for entry in root.iterdir()} if root.is_dir() else {root.name}
    foreign = names - {"images", "annotations", "shapes.json"}
    if foreign or (names and "shapes.json" not in names):
        raise InputError(
            f"{root}: holds {sorted(foreign or names)[0]!r}, not part of a shapes set; name another folder"
        )
