"""What one detector made of some pictures: computed once, so that many experiments can ask it again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from tqdm import tqdm

from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.heads.postprocess import decode_classwise, pick_detections
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.trace import StageTrace, Trace


@dataclass(frozen=True, kw_only=True)
class Observation:
    """One batch of pictures, the truth about them, and one pass of a detector over them.

    ``targets`` are in the frame of ``images.sizes``, as in training; so are all boxes. ``trace`` holds the
    pyramid, which lets ``ask`` put further boxes to a head without running the backbone again.
    """

    detector: Detector
    images: ImageBatch
    targets: list[Instances]
    trace: Trace

    @property
    def pyramid(self) -> tuple[Tensor, ...]:
        assert self.trace.features is not None
        return self.trace.features

    def ask(self, k: int, boxes: list[Tensor], labels: Tensor | None = None) -> StageTrace:
        """Return what the head of stage ``k`` (0-based) says of any boxes, N times (R, 4), and where they go.

        With class-aware deltas a box moves as its likeliest class would, or as its class in ``labels``
        (sum R,) where they are given.
        """
        return self.detector.cascade.ask(k, self.pyramid, self.images, boxes, labels)

    @torch.no_grad()
    def detections(self, stage: StageTrace, scores: Sequence[Tensor]) -> list[Instances]:
        """Read detections out of one stage's boxes and of scores, N times (R, K + 1): threshold and NMS.

        The detector's own rules apply. There are no masks.
        """
        config, found = self.detector.cascade.config.postprocess, []
        for i, size in enumerate(self.images.sizes):
            boxes = decode_classwise(stage, i, size)
            _, box, label, score = pick_detections(boxes, scores[i], config, self.images.scale(i))
            found.append(Instances(size, box, label, score))
        return found


@torch.no_grad()
def observe(
    detector: Detector, pictures: Sequence[tuple[Tensor, Instances]], batch_size: int = 8
) -> list[Observation]:
    """Run a detector over pictures with ground truth, and keep all that the experiments ask for.

    Pictures are (3, H, W) uint8 at the size that the network is to see; ``datasets.transforms.prepare``
    resizes one together with its ground truth.

    Raises:
        InputError: there is no picture, or the detector is in training mode.
    """
    if not pictures:
        raise InputError("pictures: none given; an experiment needs at least one")
    device, seen = next(detector.parameters()).device, []
    for start in tqdm(range(0, len(pictures), batch_size), unit="batch", desc="observe", disable=None):
        some = pictures[start : start + batch_size]
        images = ImageBatch.collate([picture for picture, _ in some]).to(device)
        trace = detector.predict(images, keep_features=True).trace
        targets = [target.to(device) for _, target in some]
        seen.append(Observation(detector=detector, images=images, targets=targets, trace=trace))
    return seen
