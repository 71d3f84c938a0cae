"""Box AP of some detections, and whether two ways to read the same pictures really differ."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

import numpy as np
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from cascade_lab.evaluation.coco import Summary, coco_scores, detections_to_coco, load_ground_truth
from cascade_lab.evaluation.truth import truth_to_coco
from cascade_lab.laboratory.interval import Interval, bounds, resamples
from cascade_lab.structures import Instances

COLUMNS = ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90")


@dataclass(frozen=True, kw_only=True, eq=False)
class BoxAP:
    """AP in percent by the rules of COCO, as ``cascade-lab evaluate`` gives it, and what it is made of."""

    summary: Summary
    truth: COCO = field(repr=False)
    found: list[dict[str, Any]] = field(repr=False)

    def __getitem__(self, column: str) -> float:
        """Return one column, "AP75"; NaN where there is nothing to find."""
        value = self.summary[column]
        return float("nan") if value is None else value

    def row(self, columns: Sequence[str] = COLUMNS) -> str:
        return "".join(f"{self[column]:7.1f}" for column in columns)


def truth_of(targets: Sequence[Instances], classes: int) -> COCO:
    """Index ground truth for scoring; picture i of the list gets the id i + 1, class c the id c + 1."""
    return load_ground_truth(truth_to_coco(targets, [str(label) for label in range(classes)]))


def box_ap(found: Sequence[Instances], truth: COCO) -> BoxAP:
    """Score the detections of the pictures of ``truth_of``, in the same order and frame."""
    ids = sorted(truth.getCatIds())
    rows = [
        row
        for number, instances in enumerate(found, start=1)
        for row in detections_to_coco(number, instances.to("cpu"), ids)
    ]
    scores = coco_scores(truth, rows, "bbox")
    assert scores is not None  # only masks can be missing
    return BoxAP(summary=scores.summary, truth=truth, found=rows)


def gain(after: BoxAP, before: BoxAP, column: str = "AP", draws: int = 200, seed: int = 0) -> Interval:
    """Return ``after`` minus ``before`` with its 95 % interval, both scored on the same resampled pictures.

    Both must have been scored against one and the same ground truth. NaN where there is nothing to find.
    """
    assert after.truth is before.truth, "a paired difference needs one and the same ground truth"
    differences = _resampled(after, column, draws, seed) - _resampled(before, column, draws, seed)
    low, high = bounds(differences[:, None])[:, 0]
    return Interval(value=after[column] - before[column], low=float(low), high=float(high))


@lru_cache(maxsize=64)
def _resampled(scored: BoxAP, column: str, draws: int, seed: int) -> np.ndarray:
    """Return a column on each of the resamples (draws,); kept, since one score is compared with several."""
    matched = _Matched(scored, column)
    return np.array([matched.ap(rows) for rows in resamples(len(scored.truth.getImgIds()), draws, seed)])


class _Matched:
    """One column of pycocotools on any pictures: matched once, then added up for the pictures asked for."""

    def __init__(self, scored: BoxAP, column: str) -> None:
        found = COCO()
        about = {key: scored.truth.dataset[key] for key in ("images", "categories")}
        rows = [
            {**row, "id": number, "area": row["bbox"][2] * row["bbox"][3], "iscrowd": 0}
            for number, row in enumerate(scored.found, start=1)
        ]
        content: Any = {**about, "annotations": rows}
        found.dataset = content
        with contextlib.redirect_stdout(io.StringIO()):
            found.createIndex()
            self.evaluation = COCOeval(scored.truth, found, "bbox")
            self.evaluation.params.areaRng, self.evaluation.params.areaRngLbl = [[0, 1e10]], ["all"]
            self.evaluation.params.maxDets = [100]
            if column != "AP":
                self.evaluation.params.iouThrs = np.array([int(column.removeprefix("AP")) / 100])
            self.evaluation.evaluate()
        # evalImgs runs over classes, areas, pictures; with one area that is a table (classes, pictures)
        pictures = len(self.evaluation.params.imgIds)
        self.matches = np.array(self.evaluation.evalImgs, dtype=object).reshape(-1, pictures)

    def ap(self, rows: np.ndarray) -> float:
        self.evaluation.evalImgs = list(self.matches[:, rows].flatten())
        with contextlib.redirect_stdout(io.StringIO()):
            self.evaluation.accumulate()
        precision = self.evaluation.eval["precision"]  # -1 where undefined
        return 100 * float(precision[precision > -1].mean()) if (precision > -1).any() else float("nan")
