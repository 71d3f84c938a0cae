"""Ground truth in the form in which COCO's evaluation reads it, without a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade_lab.ops.boxes import xyxy_to_xywh
from cascade_lab.structures import Instances


def coco_truth(targets: Sequence[Instances], classes: Sequence[str], *, first: int = 0) -> dict[str, Any]:
    """Return an annotation file's content for some pictures, boxes only.

    Pictures are numbered from ``first`` on, and the category id of a class is its label, from 0.
    """
    rows: list[dict[str, Any]] = []
    for image_id, target in enumerate(targets, first):
        objects = target.objects()
        assert objects.labels is not None
        boxes = xyxy_to_xywh(objects.boxes).tolist()
        for box, label in zip(boxes, objects.labels.tolist(), strict=True):
            row = {"image_id": image_id, "category_id": label, "bbox": box, "area": box[2] * box[3]}
            rows.append({"id": len(rows) + 1, "iscrowd": 0, **row})
    return {
        "images": [
            {"id": image_id, "height": target.image_size[0], "width": target.image_size[1]}
            for image_id, target in enumerate(targets, first)
        ],
        "categories": [{"id": label, "name": name} for label, name in enumerate(classes)],
        "annotations": rows,
    }
