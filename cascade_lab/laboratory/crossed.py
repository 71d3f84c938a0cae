"""Every head on the boxes of every stage, computed once; then any reading of the cascade takes milliseconds.

A head of the cascade was trained on the boxes that reach its own stage. Nothing keeps us from showing it the
boxes of another stage, and that is how figure 6 of Cascade R-CNN finds out what a head is good at.
Figure 5 b of Cascade R-CNN adds the ground truth to the proposals, as boxes that are perfect. Both are here:

    crossed = cross(detector, pictures)                        # one forward pass a picture, and every head
    read(crossed, crossed.plain)                               # what detector.predict finds
    read(crossed, replace(crossed.plain, stages=2))            # if there were only two stages
    read(crossed, replace(crossed.plain, foreign=(2, 0)))      # the last head, on the proposals
    read(crossed, replace(crossed.plain, targets_added=True))  # if the RPN had found every object exactly

Source: Cascade R-CNN, figures 5 b and 6, tables 2 and 4.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import torch
from torch import Tensor
from tqdm import tqdm

from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.heads.postprocess import (
    Ensemble,
    PostprocessConfig,
    decode_classwise,
    ensemble_scores,
    pick_detections,
)
from cascade_lab.ops.boxes import at_least_float32
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.trace import StageTrace

ROWS = ("proposals", "boxes", "logits", "deltas", "is_target")  # the fields of a look that are known here


@dataclass(frozen=True, kw_only=True)
class Choice:
    """One way to read what the heads said. Start from ``Crossed.plain`` and vary it with ``replace``.

    Args:
        stages: only the first so many stages run; all of them vote, and the last of them places the boxes.
        ensemble: how they vote, see `heads/postprocess.py`.
        score_threshold, nms_iou: of the postprocessing.
        foreign: (h, k), both from 0: head h alone, on the boxes that enter stage k. ``stages`` and
            ``ensemble`` then say nothing. (k, k) is stage k by itself, as in table 2 of
            Cascade R-CNN.
        targets_added: append the ground truth to the proposals of the RPN.
    """

    stages: int
    ensemble: Ensemble
    score_threshold: float
    nms_iou: float
    foreign: tuple[int, int] | None = None
    targets_added: bool = False

    def __post_init__(self) -> None:
        if self.stages < 1:
            raise InputError(f"choice.stages is {self.stages}; a cascade has 1 or more")
        for name in ("score_threshold", "nms_iou"):
            if not 0.0 <= getattr(self, name) <= 1.0:
                raise InputError(f"choice.{name} is {getattr(self, name)}; it lies between 0 and 1")

    @property
    def cell(self) -> tuple[int, int]:
        """Return (h, k), from 0: head h places the boxes of this reading, from those that enter stage k."""
        return (self.stages - 1, self.stages - 1) if self.foreign is None else self.foreign


@dataclass(frozen=True, kw_only=True)
class Crossed:
    """What every head said about the boxes of every stage, for some pictures. Immutable, on the CPU.

    ``looks[h][k]`` is head h on the boxes that enter stage k, as a `StageTrace` of all pictures: those boxes
    as ``proposals`` (R, 4), and what the head made of them: ``logits`` (R, K + 1), ``deltas`` (R, 4 K) or
    (R, 4), and ``boxes`` (R, 4), those of the likeliest class. `decoded` gives the box of every class.
    ``looks[k][k]`` is stage k of the plain cascade.

    Row r is the same object in all looks. Rows are the proposals of the RPN, then the ground truths, which
    ``is_target`` marks; each ground truth went through the cascade as if the RPN had proposed it.

    Attributes:
        pictures: uint8 (3, H, W), as they were given.
        truth: the ground truth of every picture, in pixels; all boxes here are in the frame of the picture.
        postprocess: of the detector; a `Choice` replaces three of its values.
    """

    pictures: tuple[Tensor, ...] = field(repr=False)
    truth: tuple[Instances, ...] = field(repr=False)
    looks: tuple[tuple[StageTrace, ...], ...] = field(repr=False)
    postprocess: PostprocessConfig

    def __len__(self) -> int:
        return len(self.truth)

    @property
    def stages(self) -> int:
        return len(self.looks)

    @property
    def plain(self) -> Choice:
        """Return the choice that reads what ``detector.predict`` finds."""
        config = self.postprocess
        return Choice(
            stages=self.stages,
            ensemble=config.ensemble,
            score_threshold=config.score_threshold,
            nms_iou=config.nms_iou,
        )

    def decoded(self, head: int, boxes: int, picture: int) -> Tensor:
        """Return where a head moves the boxes that enter stage ``boxes``: (R, K, 4) or (R, 1, 4), clipped."""
        return decode_classwise(self.looks[head][boxes], picture, self.truth[picture].image_size)


@torch.no_grad()
def cross(detector: Detector, pictures: Sequence[tuple[Tensor, Instances]]) -> Crossed:
    """Show every head the boxes of every stage, with and without the ground truth among the proposals.

    S stages cost one prediction without masks and S (S - 1) further looks of a box head. A picture takes
    S * S * R * (5 K + 9) numbers, for the small models 0.2 MB.

    Args:
        detector: in eval mode.
        pictures: uint8 (3, H, W) with their ground truth, at the size that the detector looks at, as those of
            ``course_pictures`` are; `datasets/transforms.prepare` resizes others. Ignored regions are left
            out.

    Raises:
        InputError: the detector is in training mode, there is no picture, or picture and ground truth do not
            have the same size.
    """
    detector.require_eval()
    if not pictures:
        raise InputError("pictures: none given; pass at least one")
    for number, (picture, truth) in enumerate(pictures):
        if tuple(picture.shape[1:]) != tuple(truth.image_size):
            raise InputError(
                f"pictures[{number}] is {tuple(picture.shape[1:])} high and wide, its ground truth is for "
                f"{tuple(truth.image_size)}; resize both with datasets.transforms.prepare"
            )
    bar = tqdm(pictures, unit="picture", desc="cross", disable=None)
    single = [_cross_one(detector, picture, truth.objects()) for picture, truth in bar]
    count = len(detector.config.cascade.stages)
    looks = [[_join([one[h][k] for one in single]) for k in range(count)] for h in range(count)]
    for k in range(count):  # what `ensemble_scores` asks for where all heads judge the last boxes
        looks[k][k] = replace(looks[k][k], earlier_logits=[looks[j][k].logits for j in range(k)])
    return Crossed(
        pictures=tuple(picture.cpu() for picture, _ in pictures),
        truth=tuple(replace(truth.objects(), masks=None, has_mask=None).to("cpu") for _, truth in pictures),
        looks=tuple(tuple(row) for row in looks),
        postprocess=detector.config.cascade.postprocess,
    )


def read(crossed: Crossed, choice: Choice) -> list[Instances]:
    """Return the detections of every picture, without masks, if the cascade were read as ``choice`` says.

    Raises:
        InputError: the choice names a stage or a head that the cascade does not have.
    """
    config = replace(
        crossed.postprocess,
        ensemble=choice.ensemble,
        score_threshold=choice.score_threshold,
        nms_iou=choice.nms_iou,
    )
    found = []
    for i, truth in enumerate(crossed.truth):
        boxes, scores = vote(crossed, choice, i)
        _, box, label, score = pick_detections(boxes, scores, config, (1.0, 1.0))
        found.append(Instances(truth.image_size, box, label, score))
    return found


def vote(crossed: Crossed, choice: Choice, picture: int) -> tuple[Tensor, Tensor]:
    """Return what ``read`` picks from: boxes (R, K, 4) or (R, 1, 4), and probabilities (R, K + 1).

    The rows of the ground truth, which come last, are left out unless the choice adds them.

    Raises:
        InputError: the choice names a stage or a head that the cascade does not have.
    """
    if not all(0 <= k < crossed.stages for k in choice.cell):
        raise InputError(f"choice: {choice} asks for more than the {crossed.stages} stages of this cascade")
    h, k = choice.cell
    boxes = crossed.decoded(h, k, picture)
    if choice.foreign is None:
        own = [crossed.looks[j][j] for j in range(choice.stages)]
        scores = ensemble_scores(own, range(choice.stages), picture, choice.ensemble)
    else:
        scores = crossed.looks[h][k].logits[picture].softmax(-1)
    rows = slice(None) if choice.targets_added else ~crossed.looks[h][k].is_target[picture]
    return boxes[rows], scores[rows]


def _cross_one(detector: Detector, picture: Tensor, truth: Instances) -> list[list[StageTrace]]:
    """Return the looks at one picture.

    The ground truths run by themselves: so the proposals are computed to the last bit as without them.
    """
    device = next(detector.parameters()).device
    images = ImageBatch.collate([picture]).to(device)
    pyramid = detector.neck(detector.backbone(images.pixels))
    proposals = detector.rpn.propose(detector.rpn(pyramid), images).boxes
    targets = [at_least_float32(truth.boxes).to(proposals[0])]
    proposed = _look_all(detector, pyramid, images, proposals, is_target=False)
    added = _look_all(detector, pyramid, images, targets, is_target=True)
    return [
        [_append(*pair) for pair in zip(*rows, strict=True)] for rows in zip(proposed, added, strict=True)
    ]


def _look_all(
    detector: Detector, pyramid: Sequence[Tensor], images: ImageBatch, boxes: list[Tensor], is_target: bool
) -> list[list[StageTrace]]:
    cascade, mark = detector.cascade, [torch.full((len(boxes[0]),), is_target)]
    own = cascade.run(pyramid, images, boxes)
    looks = (
        [stage if h == k else cascade.ask(h, pyramid, images, stage.proposals) for k, stage in enumerate(own)]
        for h in range(len(own))
    )
    return [[replace(look, is_target=mark) for look in row] for row in looks]


def _append(first: StageTrace, second: StageTrace) -> StageTrace:
    """Put the rows of one picture one after the other, on the CPU."""
    rows = {n: [torch.cat([getattr(first, n)[0], getattr(second, n)[0]]).cpu()] for n in ROWS}
    return replace(first, earlier_logits=None, **rows)


def _join(single: Sequence[StageTrace]) -> StageTrace:
    """Make one look at all pictures of one look at each."""
    return replace(single[0], **{n: [getattr(one, n)[0] for one in single] for n in ROWS})
