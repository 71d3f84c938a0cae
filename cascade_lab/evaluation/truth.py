"""Ground truth in the form in which COCO's evaluation reads it, without a file."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade_lab.ops.boxes import xyxy_to_xywh
from cascade_lab.structures import Instances


def truth_to_coco(
    targets: Sequence[Instances], classes: Sequence[str], category_ids: Sequence[int] = (), *, first: int = 1
) -> dict[str, Any]:
    """Return an annotation file's content for some pictures, boxes only; ignored regions are crowds.

    Pictures are numbered from ``first`` on. ``category_ids`` are those of label 0, 1, ...; without them 1, 2,
    and so on.
    """
    ids = category_ids or range(1, len(classes) + 1)
    rows: list[dict[str, Any]] = []
    for image_id, target in enumerate(targets, first):
        assert target.labels is not None
        crowd = [False] * len(target) if target.ignore is None else target.ignore.tolist()
        columns = zip(xyxy_to_xywh(target.boxes).tolist(), target.labels.tolist(), crowd, strict=True)
        for box, label, ignored in columns:
            row = {"image_id": image_id, "category_id": ids[label], "bbox": box, "area": box[2] * box[3]}
            rows.append({"id": len(rows) + 1, "iscrowd": int(ignored), **row})
    return {
        "images": [
            {"id": image_id, "height": target.image_size[0], "width": target.image_size[1]}
            for image_id, target in enumerate(targets, first)
        ],
        "categories": [{"id": id, "name": name} for id, name in zip(ids, classes, strict=True)],
        "annotations": rows,
    }
