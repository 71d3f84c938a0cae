"""One picture and what every stage did to its detections: taken from a trace, kept in one small file."""

from __future__ import annotations

import io
import json
import zipfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from cascade_lab.errors import InputError
from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.structures import Instances
from cascade_lab.trace import Trace

FIRST_TRACE = Path(__file__).parent / "assets" / "first_trace.npz"


@dataclass(frozen=True, kw_only=True)
class View:
    """Everything the viewer shows of one picture. Row 0 of ``boxes`` and ``scores`` is the proposal.

    Shapes, for S stages, D detections and M ground truths:
        picture: JPEG or PNG bytes; size: (H, W) in pixels, the frame of all boxes.
        boxes: (S + 1, D, 4) float32 xyxy.
        scores: (S + 1, D) float32, row 0 objectness, then the softmax score of the detection's label.
        final_scores, labels, target_index: (D,); target_index is -1 where no ground truth overlaps.
        masks: (S, D, h, w) uint8, 255 = surely inside, the box's own grid; (0, D, 0, 0) without masks.
        thresholds: S IoU thresholds; mask_stages: which stages (from 1) gave a mask of their own.
        targets: (M, 4) float32; target_labels: (M,). Both empty where the ground truth is unknown.
    """

    name: str
    source: str = ""
    classes: tuple[str, ...]
    size: tuple[int, int]
    thresholds: tuple[float, ...]
    mask_stages: tuple[int, ...] = ()
    picture: bytes = field(repr=False)
    boxes: np.ndarray = field(repr=False)
    scores: np.ndarray = field(repr=False)
    final_scores: np.ndarray = field(repr=False)
    labels: np.ndarray = field(repr=False)
    masks: np.ndarray = field(repr=False)
    targets: np.ndarray = field(repr=False)
    target_labels: np.ndarray = field(repr=False)
    target_index: np.ndarray = field(repr=False)

    def __post_init__(self) -> None:
        stages, count = len(self.thresholds), len(self.labels)
        masks = (stages, count) if self.masks.shape[0] else (0, count)
        found = {
            "boxes": (self.boxes.shape, (stages + 1, count, 4)),
            "scores": (self.scores.shape, (stages + 1, count)),
            "final_scores": (self.final_scores.shape, (count,)),
            "masks": (self.masks.shape[:2], masks),
            "targets": (self.targets.shape, (len(self.target_labels), 4)),
            "target_index": (self.target_index.shape, (count,)),
        }
        for name, (shape, wanted) in found.items():
            if tuple(shape) != wanted:
                raise InputError(f"view {self.name!r}: {name} has shape {tuple(shape)}, expected {wanted}")
        if stages < 1:
            raise InputError(f"view {self.name!r}: thresholds is empty, a cascade has at least one stage")

    @property
    def stages(self) -> int:
        """Return how many stages the cascade has."""
        return len(self.thresholds)

    def __len__(self) -> int:
        return len(self.labels)


def view_from_trace(
    picture: Tensor,
    trace: Trace,
    instances: Instances,
    targets: Instances | None,
    classes: Sequence[str],
    *,
    index: int = 0,
    name: str = "",
    source: str = "",
    most: int = 100,
) -> View:
    """Collect what the ``most`` best detections of one picture went through.

    Args:
        picture: uint8 (3, H, W) RGB, the original picture.
        trace: of an inference pass; moved to the original frame if it is not there yet.
        instances: what the same pass predicted, in original pixels; boxes, labels and scores at the end.
        targets: ground truth in original pixels, or None; ignored regions are left out.
        index: which picture of the trace; source: a line for the reader: model, step, data set.

    Raises:
        InputError: picture, trace and instances do not belong together.
    """
    trace = trace.to_original()
    if trace.detections is None:
        raise InputError("trace: detections is None; use the trace of predict(), not of a training step")
    check_picture(picture, trace, index)
    rows = trace.detections.rows[index]
    if len(instances) != len(rows) or instances.scores is None or instances.labels is None:
        raise InputError(
            f"instances has {len(instances)} rows, the trace {len(rows)} detections; "
            "pass the instances, with scores and labels, of the same prediction"
        )
    best = instances.scores.argsort(descending=True, stable=True)[:most].cpu()
    kept, rows = instances.to("cpu")[best], rows.cpu()[best]
    assert kept.labels is not None and kept.scores is not None
    entering = [stage.proposals[index].cpu()[rows] for stage in trace.stages]
    boxes = torch.stack([*entering, kept.boxes]).float()  # (S + 1, D, 4)
    logits = [stage.logits[index].cpu()[rows] for stage in trace.stages]
    scores = [s.softmax(1).gather(1, kept.labels[:, None])[:, 0] for s in logits]  # S times (D,)
    masks, mask_stages = _masks(trace, index, best)
    truth = None if targets is None else targets.to("cpu").objects()
    return View(
        name=name or f"picture {index + 1}",
        source=source,
        classes=tuple(classes),
        size=trace.sizes[index],
        thresholds=tuple(float(stage.iou_threshold) for stage in trace.stages),
        mask_stages=mask_stages,
        picture=encode_picture(picture),
        boxes=boxes.numpy(),
        scores=torch.stack([_objectness(trace, index, rows), *scores]).float().numpy(),
        final_scores=kept.scores.float().numpy(),
        labels=kept.labels.numpy().astype(np.int32),
        masks=masks,
        targets=(torch.zeros(0, 4) if truth is None else truth.boxes.float()).numpy(),
        target_labels=_labels(truth),
        target_index=match_targets(boxes[-1], truth),
    )


def store_trace(
    path: str | Path,
    picture: Tensor,
    trace: Trace,
    instances: Instances,
    targets: Instances | None,
    classes: Sequence[str],
    *,
    name: str = "",
    source: str = "",
) -> View:
    """Write one picture with its trace to ``path``; for several use ``view_from_trace``, ``save_views``."""
    view = view_from_trace(picture, trace, instances, targets, classes, name=name, source=source)
    save_views(path, [view])
    return view


def save_views(path: str | Path, views: Sequence[View]) -> None:
    """Write views to one compressed .npz that loads without pickle; pictures stay JPEG or PNG inside."""
    if not views:
        raise InputError(f"{path}: no view to save; pass at least one")
    arrays: dict[str, np.ndarray] = {}
    notes: list[dict[str, object]] = []
    for number, view in enumerate(views):
        values = asdict(view)
        values["picture"] = np.frombuffer(view.picture, np.uint8)
        notes.append({k: v for k, v in values.items() if not isinstance(v, np.ndarray)})
        arrays |= {f"{number}/{k}": v for k, v in values.items() if isinstance(v, np.ndarray)}
    arrays["notes"] = np.frombuffer(json.dumps(notes).encode(), np.uint8)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # pyright: ignore[reportArgumentType]
    Path(path).write_bytes(content.getvalue())


def load_views(path: str | Path) -> list[View]:
    """Read what ``save_views`` wrote. Raises InputError where the file is absent, broken or another."""
    path = Path(path)
    if not path.is_file():
        raise InputError(f"{path}: no such stored trace; write one with store_trace()")
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            notes = json.loads(file["notes"].tobytes())
            arrays = {name: file[name] for name in file.files}
        views = []
        for number, note in enumerate(notes):
            start = f"{number}/"
            values = {k.removeprefix(start): v for k, v in arrays.items() if k.startswith(start)}
            values |= {k: tuple(v) if isinstance(v, list) else v for k, v in note.items()}
            views.append(View(**values | {"picture": values["picture"].tobytes()}))
    except (zipfile.BadZipFile, KeyError, TypeError, ValueError, EOFError, OSError) as error:
        if isinstance(error, InputError):
            raise InputError(f"{path}: {error}") from error
        raise InputError(
            f"{path}: not a stored trace ({error}); write it again with store_trace()"
        ) from error
    return views


def first_trace() -> list[View]:
    """Return the pictures that come with the package, for the first notebook: no model or data needed."""
    return load_views(FIRST_TRACE)


def _objectness(trace: Trace, index: int, rows: Tensor) -> Tensor:
    """Return (D,) scores of the RPN, NaN where its rows are not those of the first stage."""
    scores = trace.proposals.scores[index].cpu()
    aligned = len(scores) == len(trace.stages[0].proposals[index])
    return scores[rows] if aligned else torch.full((len(rows),), float("nan"))


def _masks(trace: Trace, index: int, best: Tensor) -> tuple[np.ndarray, tuple[int, ...]]:
    """Return masks of every stage, its own or else the mean of those there are, and whose were its own."""
    assert trace.detections is not None
    own = {k: m[index].cpu()[best].float().sigmoid() for k, m in trace.detections.mask_logits.items()}
    if not own:
        return np.zeros((0, len(best), 0, 0), np.uint8), ()
    mean = torch.stack(list(own.values())).mean(0)
    every = torch.stack([own.get(k, mean) for k in range(len(trace.stages))])  # (S, D, h, w)
    return (every * 255).round().byte().numpy(), tuple(k + 1 for k in sorted(own))


def _labels(truth: Instances | None) -> np.ndarray:
    if truth is None or truth.labels is None:
        return np.full(0 if truth is None else len(truth), -1, np.int32)
    return truth.labels.numpy().astype(np.int32)


def check_picture(picture: Tensor, trace: Trace, index: int) -> None:
    """Raise InputError where ``picture`` is not as large as picture ``index`` of the trace was."""
    expected = (3, *trace.sizes[index])
    if tuple(picture.shape) != expected:
        raise InputError(
            f"picture has shape {tuple(picture.shape)}, picture {index} of the trace (3, H, W) = {expected}; "
            "pass the original picture of this trace"
        )


def match_targets(boxes: Tensor, truth: Instances | None) -> np.ndarray:
    """Return (D,) int32: which ground truth each box (D, 4) overlaps best, -1 where it overlaps none."""
    if truth is None or len(truth) == 0 or len(boxes) == 0:
        return np.full(len(boxes), -1, np.int32)
    iou, target = pairwise_iou(boxes, truth.boxes.float()).max(1)
    return torch.where(iou > 0, target, -1).numpy().astype(np.int32)


def encode_picture(picture: Tensor) -> bytes:
    """Return a picture (3, H, W) uint8 as the bytes of a JPEG that no eye tells from it."""
    content = io.BytesIO()
    array = picture.permute(1, 2, 0).contiguous().cpu().numpy()  # (H, W, 3)
    Image.fromarray(array).save(content, "JPEG", quality=92, subsampling=0, optimize=True)
    return content.getvalue()
