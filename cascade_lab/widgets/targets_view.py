"""What a detector is asked to learn from one picture, from the anchors to NMS, as plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np


@dataclass(frozen=True, kw_only=True)
class AnchorsView:
    """Every anchor and what the assigner of the RPN says of it, level by level as in `RPNOutput`.

    Shapes, for A anchors on L levels:
        strides, grids: L numbers and L times (rows, columns); shapes: anchors per cell.
        boxes: (A, 4) float32 xyxy; iou: (A,) the best with any object.
        target_index: (A,) the object it stands for, -1 background, -2 unused.
        positive_iou, negative_iou: the two thresholds of the assigner.
    """

    strides: tuple[int, ...]
    grids: tuple[tuple[int, int], ...]
    shapes: int
    positive_iou: float
    negative_iou: float
    boxes: np.ndarray = field(repr=False)
    iou: np.ndarray = field(repr=False)
    target_index: np.ndarray = field(repr=False)

    def starts(self) -> list[int]:
        """Return the number of the first anchor of every level, and the number of all at the end."""
        sizes = [rows * columns * self.shapes for rows, columns in self.grids]
        return [0, *np.cumsum(sizes).tolist()]

    def level_boxes(self, level: int) -> slice:
        """Return where the anchors of a level stand."""
        starts = self.starts()
        return slice(starts[level], starts[level + 1])

    def best_cell(self, level: int) -> int:
        """Return the cell of a level, counted along its rows, that has the anchor with the highest IoU."""
        return int(self.iou[self.level_boxes(level)].argmax()) // self.shapes

    def level_name(self, level: int) -> str:
        """Return "1 (P3, stride 8)": as the code counts, and as FPN names the level whose stride is 2**3."""
        stride = self.strides[level]
        return f"{level} (P{stride.bit_length() - 1}, stride {stride})"


@dataclass(frozen=True, kw_only=True)
class SampleView:
    """The boxes that one loss looks at, positives first.

    Shapes, for R sampled boxes and E boxes to choose from:
        name: "RPN", "stage 1", ...; rule: the sampler in words; positive_iou, negative_iou: the assigner's.
        boxes: (R, 4); iou: (R,) with the best object; is_target: (R,) bool, a true box that was put in.
        positives: how many of the R are positive.
        entering_iou: (E,) of all boxes that could be chosen, true boxes that were put in excluded.
        available: how many of all, true boxes included, are positive, negative and unused.
    """

    name: str
    rule: str
    positive_iou: float
    negative_iou: float
    positives: int
    available: tuple[int, int, int]
    boxes: np.ndarray = field(repr=False)
    iou: np.ndarray = field(repr=False)
    is_target: np.ndarray = field(repr=False)
    entering_iou: np.ndarray = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class ReadingView:
    """Which level each box is read from, and where its bins take their samples.

    Shapes, for B boxes, L levels, S bins a side and at most P samples per bin and axis:
        names: B words; boxes: (B, 4); levels: (B,), 0 the finest.
        strides: L; canonical_size: the side in pixels from which on level 0 is read.
        maps: L arrays (H_l, W_l), the mean over the channels of the pyramid.
        rows, columns: (B, S, P) in cells, 0 the middle of the first; NaN where there is no sample.
        pooled: (B, S, S), what RoIAlign reads from those maps.
    """

    names: tuple[str, ...]
    strides: tuple[int, ...]
    canonical_size: float
    boxes: np.ndarray = field(repr=False)
    levels: np.ndarray = field(repr=False)
    maps: tuple[np.ndarray, ...] = field(repr=False)
    rows: np.ndarray = field(repr=False)
    columns: np.ndarray = field(repr=False)
    pooled: np.ndarray = field(repr=False)


@dataclass(frozen=True, kw_only=True)
class SuppressionView:
    """NMS of the best boxes of one level; row 0 is the best.

    Shapes, for C boxes: boxes (C, 4); scores (C,); by (C,), the box that each fell to, -1 where it stays.
    """

    threshold: float
    boxes: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    by: np.ndarray = field(repr=False)

    def kept(self) -> list[int]:
        """Return the boxes that stay, best first: one a step."""
        return np.flatnonzero(self.by < 0).tolist()


@dataclass(frozen=True, kw_only=True)
class TargetsView:
    """Everything the viewer shows of one picture (H, W, 3) uint8 with M objects, targets (M, 4) xyxy."""

    name: str
    classes: tuple[str, ...]
    picture: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)
    target_labels: np.ndarray = field(repr=False)
    anchors: AnchorsView
    samples: tuple[SampleView, ...]
    reading: ReadingView
    suppression: tuple[SuppressionView, ...]  # one a level

    def target_name(self, index: int) -> str:
        """Return an object in words: "object 2 (star)"."""
        label = int(self.target_labels[index])
        return f"object {index + 1} ({self.classes[label] if label < len(self.classes) else 'object'})"
