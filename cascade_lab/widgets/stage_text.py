"""What the viewer says in words and numbers: IoU of every box at every stage, a table, a sentence a box."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch

from cascade_lab.errors import InputError
from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.widgets.stored_trace import View


def stage_names(view: View) -> list[str]:
    """Return ["proposal", "stage 1", ...], one name per row of ``view.boxes``."""
    return ["proposal", *(f"stage {k + 1}" for k in range(view.stages))]


def stage_ious(view: View, threshold: float = 0.0) -> np.ndarray:
    """Return (S + 1, D') IoUs of the detections that score at least ``threshold``, from the proposal on.

    A detection is compared with the same ground truth at every stage: the one that its final box overlaps
    best. Where it overlaps none, or the ground truth is unknown, the IoU is NaN.
    """
    shown = view.final_scores >= threshold
    index = view.target_index[shown]
    ious = np.full((view.stages + 1, len(index)), np.nan, np.float32)
    matched = index >= 0
    for row, boxes in zip(ious, view.boxes[:, shown][:, matched], strict=True):
        overlaps = pairwise_iou(torch.from_numpy(boxes), torch.from_numpy(view.targets)).numpy()  # (D', M)
        row[matched] = np.take_along_axis(overlaps, index[matched, None], axis=1)[:, 0]
    return ious


def stage_table(views: Sequence[View], threshold: float = 0.3) -> str:
    """Return a text table with one line a stage: mean IoU, its gain, and the share at IoU .5, .75 and .9.

    Counts the detections of all ``views`` that score at least ``threshold`` and overlap an object. Views
    have to come from one cascade, since stage by stage is what is averaged.
    """
    if len({view.thresholds for view in views}) != 1:
        raise InputError("views: not from one cascade (IoU thresholds differ); make one table for each")
    ious = np.concatenate([stage_ious(view, threshold) for view in views], axis=1)
    ious = ious[:, ~np.isnan(ious).any(0)]
    if not ious.shape[1]:
        return f"no detection with a score of {threshold:g} or more overlaps an object"
    lines = ["             boxes  mean IoU    gain   IoU>=.50  IoU>=.75  IoU>=.90"]
    means = ious.mean(1)
    for k, name in enumerate(stage_names(views[0])):
        gain = f"{means[k] - means[k - 1]:+.3f}" if k else ""
        shares = "".join(f"{100 * (ious[k] >= limit).mean():9.0f}%" for limit in (0.5, 0.75, 0.9))
        lines.append(f"{name:<12} {ious.shape[1]:5d} {means[k]:9.3f} {gain:>7} {shares}")
    return "\n".join(lines)


def describe_box(view: View, box: int) -> str:
    """Return the story of one detection as the viewer's panel tells it: a headline, then a line a stage."""
    if not 0 <= box < len(view):
        raise InputError(f"box: {box} is not in view {view.name!r}, which has {len(view)}; pass 0 or more")
    target = int(view.target_index[box])
    truth = "overlaps no known object"
    if target >= 0:
        truth = f"compared with object {target + 1} ({_class_name(view, view.target_labels[target])})"
    kind = _class_name(view, view.labels[box])
    lines = [f"Box {box + 1}, {kind}: final score {view.final_scores[box]:.2f}, {truth}."]
    ious = stage_ious(view)[:, box]
    for k, name in enumerate(stage_names(view)):
        score = f"{'score' if k else 'objectness'} {view.scores[k, box]:.2f}"
        corners = " ".join(f"{value:.1f}" for value in view.boxes[k, box])
        lines.append(f"{name}: {score}, IoU {'unknown' if target < 0 else f'{ious[k]:.2f}'}, box {corners}")
    if target >= 0:
        gains = np.diff(ious)
        best = int(gains.argmax())
        lines.append(
            f"Stage {best + 1} raised the IoU most ({gains[best]:+.2f})."
            if gains[best] > 0.005
            else "No stage raised the IoU."
        )
    return "\n".join(lines)


def _class_name(view: View, label: int) -> str:
    return view.classes[label] if 0 <= label < len(view.classes) else "object"
