"""What a reading of a crossed cascade is worth: box AP over its pictures, by the rules of COCO."""

from __future__ import annotations

from collections.abc import Sequence

from cascade_lab.evaluation.coco import CocoScores, coco_scores, detections_to_coco
from cascade_lab.laboratory.crossed import Choice, Crossed, read
from cascade_lab.ops.boxes import xyxy_to_xywh
from cascade_lab.structures import Instances


def score(crossed: Crossed, choice: Choice, classes: Sequence[str]) -> CocoScores:
    """Return box AP, AP50, AP75, ... of one reading, in percent, computed by pycocotools.

    ``classes`` names label 0, 1, ... On few pictures a single object moves AP by a point or so; what two
    readings of the same pictures differ by is steadier than either.
    """
    return score_detections(crossed.truth, read(crossed, choice), classes)


def score_detections(
    truth: Sequence[Instances], found: Sequence[Instances], classes: Sequence[str]
) -> CocoScores:
    """Return the same for any detections, one `Instances` a picture, in the frame of its ground truth."""
    ids = range(1, len(classes) + 1)  # pycocotools takes 0 for none
    annotations, detections = [], []
    for number, (objects, seen) in enumerate(zip(truth, found, strict=True), start=1):
        assert objects.labels is not None
        annotations += [
            {"image_id": number, "category_id": ids[label], "bbox": box}
            for box, label in zip(xyxy_to_xywh(objects.boxes).tolist(), objects.labels.tolist(), strict=True)
        ]
        detections += detections_to_coco(number, seen, ids)
    content = {
        "images": [{"id": number} for number in range(1, len(truth) + 1)],
        "categories": [{"id": id_, "name": name} for id_, name in zip(ids, classes, strict=True)],
        "annotations": [{"id": number, **row} for number, row in enumerate(annotations, start=1)],
    }
    scores = coco_scores(content, detections, "bbox")
    assert scores is not None  # boxes are always there
    return scores
