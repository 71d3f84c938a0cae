"""Made-up annotations and detections with every kind of mistake in them, as COCO dictionaries."""

from __future__ import annotations

import numpy as np

CLASSES = ("cup", "fork", "spoon")


def truth(*rows: dict, images: int = 1) -> dict:
    """Return ground truth of 100 x 100 pictures 1, 2, ... and categories 1 cup, 2 fork, 3 spoon."""
    return {
        "images": [{"id": i + 1, "width": 100, "height": 100} for i in range(images)],
        "categories": [{"id": k + 1, "name": name} for k, name in enumerate(CLASSES)],
        "annotations": [
            {
                "id": n + 1,
                "image_id": 1,
                "category_id": 1,
                "iscrowd": 0,
                "area": row["bbox"][2] * row["bbox"][3],
            }
            | row
            for n, row in enumerate(rows)
        ],
    }


def box(x: float, y: float, w: float, h: float, **more) -> dict:
    return {"bbox": [x, y, w, h], **more}


def found(x: float, y: float, w: float, h: float, score: float = 0.9, **more) -> dict:
    return {"image_id": 1, "category_id": 1, "bbox": [x, y, w, h], "score": score, **more}


def random_scene(seed: int, images: int = 6) -> tuple[dict, list[dict]]:
    """Return annotations, some of them crowds, and detections around and beside them, in no order."""
    random = np.random.default_rng(seed)
    objects = [
        box(
            *random.uniform(0, 60, 2), *random.uniform(10, 40, 2), image_id=image + 1,
            category_id=int(random.integers(1, 4)), iscrowd=int(random.random() < 0.1),
        )
        for image in range(images)
        for _ in range(random.integers(0, 6))
    ]  # fmt: skip
    detections = []
    for row in objects * 4:
        jitter = random.normal(0, random.choice([1, 6, 15]), 4)
        x, y, w, h = np.array(row["bbox"]) + jitter
        named = row["category_id"] if random.random() < 0.7 else int(random.integers(1, 4))
        detections.append(
            found(
                x,
                y,
                max(w, 2),
                max(h, 2),
                float(random.random()),
                image_id=row["image_id"],
                category_id=named,
            )
        )
    for _ in range(10):
        place = (*random.uniform(0, 70, 2), *random.uniform(5, 30, 2))
        detections.append(
            found(
                *place,
                float(random.random()),
                image_id=int(random.integers(1, images + 1)),
                category_id=int(random.integers(1, 4)),
            )
        )
    return truth(*objects, images=images), [detections[i] for i in random.permutation(len(detections))]
