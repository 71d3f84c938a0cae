"""Small COCO folders for the tests, made on the spot."""

import copy
import json
from pathlib import Path

import numpy as np
from PIL import Image

# Two pictures of 40x30 pixels; categories neither in order nor without gaps.
CONTENT = {
    "images": [
        {"id": 5, "file_name": "a.png", "width": 40, "height": 30},
        {"id": 3, "file_name": "b.png", "width": 40, "height": 30},
    ],
    "categories": [{"id": 7, "name": "cup"}, {"id": 2, "name": "pot"}],
    "annotations": [
        {"id": 11, "image_id": 5, "category_id": 2, "bbox": [2, 3, 10, 5], "area": 50, "iscrowd": 0,
         "segmentation": [[2, 3, 12, 3, 12, 8, 2, 8]]},
        {"id": 12, "image_id": 5, "category_id": 7, "bbox": [20, 10, 4, 6], "area": 24, "iscrowd": 0},
        {"id": 13, "image_id": 5, "category_id": 7, "bbox": [0, 0, 40, 2], "area": 80, "iscrowd": 1,
         "segmentation": {"size": [30, 40], "counts": [0] + [2, 28] * 40}},
        {"id": 14, "image_id": 3, "category_id": 7, "bbox": [1, 1, 2, 2], "area": 4, "iscrowd": 0,
         "segmentation": {"size": [30, 40], "counts": [31, 2, 28, 2, 1137]}},
    ],
}  # fmt: skip


def content() -> dict:
    return copy.deepcopy(CONTENT)


def picture(height: int = 30, width: int = 40) -> np.ndarray:
    """Return (H, W, 3) uint8 in which every pixel tells its place: red = row, green = column."""
    rows, columns = np.mgrid[:height, :width]
    return np.stack((rows, columns, np.full_like(rows, 200)), axis=2).astype(np.uint8)


def write_folder(root: Path, data: dict | str, split: str = "train", official: bool = False) -> Path:
    """Write pictures and annotations; ``data`` may be text that is not JSON at all."""
    name = f"{split}2017" if official else split
    images = root / name if official else root / "images" / split
    images.mkdir(parents=True, exist_ok=True)
    (root / "annotations").mkdir(exist_ok=True)
    for file in ("a.png", "b.png"):
        Image.fromarray(picture()).save(images / file)
    text = data if isinstance(data, str) else json.dumps(data)
    (root / "annotations" / f"instances_{name}.json").write_text(text)
    return root
