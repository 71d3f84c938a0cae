"""Test-time augmentation: look at a picture larger, smaller and mirrored as well, and merge the answers.

    proposals   of all views together, thinned by one NMS
    stages      every view runs its own cascade, on the same proposals moved into its frame
    boxes       row by row the mean over the views; scores likewise; then the usual NMS
    masks       every view looks at the merged boxes; the mean of all probabilities

So row r is the same object in every view, and nothing has to be matched. N views take N times the work, and
the pyramids of all of them stay in memory until the masks are read.

Source: mmdet 2.28, ``CascadeRoIHead.aug_test`` and ``merge_augs.py``. Different here: any number of pictures
goes through at once, proposals are merged in network pixels of the first view (there in original pixels), and
the ensemble may be any of `heads/postprocess.py`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from cascade_lab.detector import Detector, Prediction, on_original
from cascade_lab.errors import InputError
from cascade_lab.heads.postprocess import decode_classwise, ensemble_scores, pick_detections
from cascade_lab.ops.boxes import mirror, scale
from cascade_lab.ops.nms import nms
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.trace import DetectionTrace, ProposalTrace, StageTrace, Trace

SURE = 1e-6  # merged mask probabilities stay this far from 0 and 1, so that their logits are finite


@dataclass(frozen=True, kw_only=True)
class AugmentedTest:
    """Which views of a picture are looked at; the default is the plain one alone.

    Args:
        scales: factors on the size that the recipe tests at. The trace is that of the first.
        flip: look at the mirror image of each as well.
    """

    scales: tuple[float, ...] = (1.0,)
    flip: bool = False

    def __post_init__(self) -> None:
        if not self.scales or not all(0 < factor < float("inf") for factor in self.scales):
            raise InputError(
                f"tta.scales is {self.scales} (must be factors above 0), for instance 0.8 1.0 1.25"
            )
        if len(set(self.scales)) < len(self.scales):
            raise InputError(f"tta.scales is {self.scales} (one is there twice); name every factor once")

    @property
    def views(self) -> int:
        return len(self.scales) * (2 if self.flip else 1)

    @property
    def plain(self) -> bool:
        """Whether this is no augmentation at all."""
        return self.scales == (1.0,) and not self.flip

    @property
    def pixels(self) -> float:
        """How many times the pixels of the plain view all views have together."""
        return sum(factor**2 for factor in self.scales) * (2 if self.flip else 1)


def cost(tta: AugmentedTest) -> str:
    """Say in one line what the views cost."""
    return (
        f"test-time augmentation: {tta.views} views of every picture take {tta.views} times the work of the "
        f"heads and {tta.pixels:.1f} times that of the backbone"
    )


@dataclass(frozen=True)
class View:
    """One way to look at a batch, and what was seen. ``stages`` are in its own frame."""

    images: ImageBatch
    mirrored: bool
    pyramid: Sequence[Tensor]
    stages: tuple[StageTrace, ...] = ()

    def enter(self, boxes: Tensor, i: int, size: tuple[int, int]) -> Tensor:
        """Move boxes (..., 4) of picture i from a frame of ``size`` (H, W) into this view."""
        moved = scale(boxes, _factors(size, self.images.sizes[i]))
        return mirror(moved, self.images.sizes[i][1]) if self.mirrored else moved

    def leave(self, boxes: Tensor, i: int, size: tuple[int, int]) -> Tensor:
        """Move boxes (..., 4) of picture i from this view into a frame of ``size`` (H, W)."""
        moved = mirror(boxes, self.images.sizes[i][1]) if self.mirrored else boxes
        return scale(moved, _factors(self.images.sizes[i], size))


@dataclass(frozen=True)
class Sight:
    """All views of a batch, run through the cascade but not yet read out. The frame is that of the first."""

    views: tuple[View, ...]
    proposals: ProposalTrace

    @property
    def images(self) -> ImageBatch:
        return self.views[0].images


def predict_augmented(detector: Detector, scaled: Sequence[ImageBatch], flip: bool) -> Prediction:
    """Return the merged detections of the same pictures at several sizes, and mirrored if ``flip``.

    In the trace, proposals and detections are the merged ones. Its stages are those of the first view alone,
    a record of one real pass: a detection's row there started from the same proposal, but the detection's box
    and score are means over all views and not what these stages lead to. Its features are of that view too.
    """
    sight = see(detector, scaled, flip)
    found = merge(detector, sight, range(len(detector.config.cascade.stages)))
    images = sight.images
    first = sight.views[0]
    trace = Trace(
        images.sizes, images.original_sizes, sight.proposals, first.stages, found, tuple(first.pyramid)
    )
    return Prediction(on_original(found, images.sizes, images.original_sizes), trace)


def read_out(detector: Detector, sight: Sight, voters: Sequence[int]) -> list[Instances]:
    """Return what the merged detections would be if only these stages (0-based) voted."""
    found = merge(detector, sight, voters)
    return on_original(found, sight.images.sizes, sight.images.original_sizes)


@torch.no_grad()
def see(detector: Detector, scaled: Sequence[ImageBatch], flip: bool) -> Sight:
    """Look at every view: pyramid, proposals, and with the proposals of all views the stages.

    Raises InputError where the detector is in training mode.
    """
    detector.require_eval()
    views, proposed = [], []
    for images in scaled:
        for mirrored in (False, True) if flip else (False,):
            shown = mirror_images(images) if mirrored else images
            pyramid = detector.neck(detector.backbone(shown.pixels))
            views.append(View(shown, mirrored, pyramid))
            proposed.append(detector.rpn.propose(detector.rpn(pyramid), shown))
    proposals = merge_proposals(views, proposed, detector)
    return Sight(tuple(_run(detector, view, proposals, views[0].images) for view in views), proposals)


def merge_proposals(
    views: Sequence[View], proposed: Sequence[ProposalTrace], detector: Detector
) -> ProposalTrace:
    """Put the proposals of all views into the frame of the first, and thin them by NMS.

    The levels are not kept apart: a larger view finds the same object on a higher level. One view has nothing
    to merge, and its proposals stay as they are. The level of each is that in the view it came from.
    """
    if len(views) == 1:
        return proposed[0]
    limits = detector.config.rpn.inference
    boxes, scores, levels = [], [], []
    for i, size in enumerate(views[0].images.sizes):
        seen = [view.leave(found.boxes[i], i, size) for view, found in zip(views, proposed, strict=True)]
        box, score = torch.cat(seen), torch.cat([found.scores[i] for found in proposed])
        keep = nms(box, score, limits.nms_iou)[: limits.after_nms]
        boxes.append(box[keep])
        scores.append(score[keep])
        levels.append(torch.cat([found.levels[i] for found in proposed])[keep])
    return ProposalTrace(boxes, scores, levels)


@torch.no_grad()
def merge(detector: Detector, sight: Sight, voters: Sequence[int]) -> DetectionTrace:
    """Return the detections if only the stages ``voters`` voted, in the frame of the first view."""
    config, images = detector.config.cascade.postprocess, sight.images
    picked = []
    for i, size in enumerate(images.sizes):
        scores = [ensemble_scores(view.stages, voters, i, config.ensemble) for view in sight.views]
        boxes = [
            view.leave(decode_classwise(view.stages[voters[-1]], i, view.images.sizes[i]), i, size)
            for view in sight.views
        ]
        mean_boxes, mean_scores = torch.stack(boxes).mean(0), torch.stack(scores).mean(0)
        picked.append(pick_detections(mean_boxes, mean_scores, config, images.scale(i)))
    rows, boxes, labels, scores = (list(column) for column in zip(*picked, strict=True))
    return DetectionTrace(rows, boxes, labels, scores, merge_masks(detector, sight, boxes, labels, voters))


def merge_masks(
    detector: Detector, sight: Sight, boxes: list[Tensor], labels: list[Tensor], voters: Sequence[int]
) -> dict[int, list[Tensor]]:
    """Return by stage the logits (D, 28, 28) of the mean probability that the views give to each pixel."""
    seen: list[dict[int, list[Tensor]]] = []
    for view in sight.views:
        moved = [
            view.enter(b, i, size) for i, (b, size) in enumerate(zip(boxes, sight.images.sizes, strict=True))
        ]
        logits = detector.cascade.masks_of(view.pyramid, moved, labels, voters)
        seen.append({k: [m.flip(-1) if view.mirrored else m for m in found] for k, found in logits.items()})
    if len(seen) == 1:
        return seen[0]
    return {k: [_mean(views) for views in zip(*(found[k] for found in seen), strict=True)] for k in seen[0]}


def mirror_images(images: ImageBatch) -> ImageBatch:
    """Mirror every picture left to right within its own width; the padding stays at the right."""
    pixels = images.pixels.clone()
    for row, (h, w) in zip(pixels, images.sizes, strict=True):
        row[:, :h, :w] = row[:, :h, :w].flip(-1)
    return replace(images, pixels=pixels)


def _run(detector: Detector, view: View, proposals: ProposalTrace, frame: ImageBatch) -> View:
    boxes = [
        view.enter(b, i, size) for i, (b, size) in enumerate(zip(proposals.boxes, frame.sizes, strict=True))
    ]
    return replace(view, stages=detector.cascade.run(view.pyramid, view.images, boxes))


def _mean(logits: Sequence[Tensor]) -> Tensor:
    return torch.stack(list(logits)).sigmoid().mean(0).logit(eps=SURE)


def _factors(old: tuple[int, int], new: tuple[int, int]) -> tuple[float, float]:
    return new[0] / old[0], new[1] / old[1]
