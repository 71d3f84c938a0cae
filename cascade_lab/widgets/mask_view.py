"""One picture, its detections, and the mask that every stage gave each of them: taken from a trace."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from cascade_lab.errors import InputError
from cascade_lab.ops.masks import paste_masks
from cascade_lab.structures import Instances
from cascade_lab.trace import Trace
from cascade_lab.widgets.stored_trace import check_picture, encode_picture, match_targets

Average = Literal["sigmoids", "logits"]


@dataclass(frozen=True, kw_only=True)
class MaskView:
    """Everything the mask viewer shows of one picture.

    Shapes, for V stages with a mask head, D detections, M ground truths and masks of S x S cells:
        picture: JPEG bytes; size: (H, W) in pixels, the frame of ``boxes`` and ``target_masks``.
        stages: which stages gave a mask, from 1; logits: (V, D, S, S) float32, before the sigmoid.
        boxes: (D, 4) float32 xyxy; labels, scores: (D,), best first.
        target_masks: (M, H, W) bool; target_index: (D,), -1 where no ground truth overlaps.
    """

    name: str
    classes: tuple[str, ...]
    size: tuple[int, int]
    stages: tuple[int, ...]
    picture: bytes = field(repr=False)
    boxes: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    logits: np.ndarray = field(repr=False)
    target_masks: np.ndarray = field(repr=False)
    target_index: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        count, side = len(self.labels), self.logits.shape[-1]
        found = {
            "boxes": (self.boxes.shape, (count, 4)),
            "scores": (self.scores.shape, (count,)),
            "logits": (self.logits.shape, (len(self.stages), count, side, side)),
            "target_index": (self.target_index.shape, (count,)),
            "target_masks": (self.target_masks.shape[1:], self.size),
        }
        for name, (shape, wanted) in found.items():
            if tuple(shape) != tuple(wanted):
                raise InputError(f"view {self.name!r}: {name} has shape {tuple(shape)}, expected {wanted}")
        if not self.stages or not count:
            raise InputError(f"view {self.name!r}: no detection with a mask; choose another picture or model")

    def __len__(self) -> int:
        return len(self.labels)

    def class_name(self, detection: int) -> str:
        """Return the class of a detection in words."""
        label = int(self.labels[detection])
        return self.classes[label] if 0 <= label < len(self.classes) else "object"


def mask_view(
    picture: Tensor,
    trace: Trace,
    targets: Instances | None,
    classes: Sequence[str],
    *,
    index: int = 0,
    name: str = "",
    most: int = 20,
) -> MaskView:
    """Collect the masks of the ``most`` best detections of one picture.

    Args:
        picture: uint8 (3, H, W) RGB, the original picture.
        trace: of ``predict``; moved to the original frame if it is not there yet.
        targets: ground truth in original pixels, or None. index: which picture of the trace.

    Raises:
        InputError: the trace has no detections or no masks, or belongs to another picture.
    """
    trace = trace.to_original()
    found = trace.detections
    if found is None or not found.mask_logits:
        raise InputError("trace: it holds no masks; use that of predict() of a detector with mask heads")
    check_picture(picture, trace, index)
    scores = found.scores[index].cpu()
    best = scores.argsort(descending=True, stable=True)[:most]
    boxes = found.boxes[index].cpu()[best].float()
    logits = [rows[index].cpu()[best].float() for _, rows in sorted(found.mask_logits.items())]
    truth = None if targets is None else targets.to("cpu").objects()
    masks = torch.zeros(0, *trace.sizes[index], dtype=torch.bool)
    if truth is not None and truth.masks is not None:
        masks = truth.masks
    return MaskView(
        name=name or f"picture {index + 1}",
        classes=tuple(classes),
        size=trace.sizes[index],
        stages=tuple(k + 1 for k in sorted(found.mask_logits)),
        picture=encode_picture(picture),
        boxes=boxes.numpy(),
        labels=found.labels[index].cpu()[best].numpy().astype(np.int32),
        scores=scores[best].float().numpy(),
        logits=torch.stack(logits).numpy(),
        target_masks=masks.numpy(),
        target_index=match_targets(boxes, truth if len(masks) else None),
    )


def averaged(view: MaskView, detection: int, votes: Sequence[int], average: Average = "sigmoids") -> Tensor:
    """Return the mask (S, S) in [0, 1] that the stages ``votes`` (from 1) give together.

    ``"sigmoids"`` averages after the sigmoid, as the official code and ``detector.on_original`` do;
    ``"logits"`` averages before it.
    """
    rows = [view.stages.index(stage) for stage in votes]
    logits = torch.from_numpy(view.logits[rows, detection])  # (V', S, S)
    return logits.sigmoid().mean(0) if average == "sigmoids" else logits.mean(0).sigmoid()


def pasted(
    view: MaskView,
    detection: int,
    votes: Sequence[int] | None = None,
    threshold: float = 0.5,
    average: Average = "sigmoids",
) -> np.ndarray:
    """Return the mask of a detection in the picture, (H, W) bool; without ``votes`` all stages vote."""
    scores = averaged(view, detection, votes or view.stages, average)[None]
    boxes = torch.from_numpy(view.boxes[detection])[None]
    return paste_masks(scores, boxes, view.size, threshold)[0].numpy()


def mask_iou(view: MaskView, detection: int, mask: np.ndarray) -> float:
    """Return the IoU of a mask (H, W) with the object of a detection; NaN where there is none."""
    target = int(view.target_index[detection])
    if target < 0:
        return float("nan")
    truth = view.target_masks[target]
    return float((mask & truth).sum() / max(1, (mask | truth).sum()))


def mask_table(view: MaskView, threshold: float = 0.5, least: float = 0.3) -> str:
    """Return a table of mask IoU: a line for each detection above ``least``, a column for who votes."""
    single = [(f"stage {stage}", [stage]) for stage in view.stages]
    columns = [*single, ("all", list(view.stages))]
    lines = [f"{'detection':<22}" + "".join(f"{name:>9}" for name, _ in columns)]
    for detection in range(len(view)):
        if view.scores[detection] < least or view.target_index[detection] < 0:
            continue
        ious = [mask_iou(view, detection, pasted(view, detection, votes, threshold)) for _, votes in columns]
        head = f"{detection + 1} {view.class_name(detection)} {view.scores[detection]:.2f}"
        lines.append(f"{head:<22}" + "".join(f"{iou:9.3f}" for iou in ious))
    return "\n".join(lines)
