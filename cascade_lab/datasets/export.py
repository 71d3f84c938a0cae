"""Detections written down as a COCO data set of their own, to be corrected in an annotation tool."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cascade_lab.ops.boxes import xyxy_to_xywh
from cascade_lab.ops.masks import encode_rle
from cascade_lab.structures import Instances


def coco_annotations(
    file_name: str, found: Instances, classes: Sequence[str], category_ids: Sequence[int]
) -> dict[str, Any]:
    """Return detections as a COCO data set of one picture, which annotation tools can open.

    Every annotation has a score and the name of its category besides. The area is that of the mask, or of the
    box where there are no masks.
    """
    assert found.labels is not None and found.scores is not None
    height, width = found.image_size
    annotations = []
    columns = zip(
        xyxy_to_xywh(found.boxes).tolist(), found.labels.tolist(), found.scores.tolist(), strict=True
    )
    for row, (box, label, score) in enumerate(columns):
        annotation: dict[str, Any] = {
            "id": row + 1,
            "image_id": 1,
            "category_id": int(category_ids[label]),
            "category_name": classes[label],
            "score": round(score, 5),
            "bbox": [round(value, 3) for value in box],
            "area": round(box[2] * box[3], 3),
            "iscrowd": 0,
        }
        if found.masks is not None:
            annotation["area"] = float(found.masks[row].sum())
            annotation["segmentation"] = encode_rle(found.masks[row])
        annotations.append(annotation)
    return {
        "images": [{"id": 1, "file_name": file_name, "width": width, "height": height}],
        "categories": [{"id": int(i), "name": name} for i, name in zip(category_ids, classes, strict=True)],
        "annotations": annotations,
    }
