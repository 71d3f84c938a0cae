"""A detector that knows the answer and moves every box by a known number of pixels: no network, no training.

The proposals lie 8 pixels right of the truth, and stages 1, 2, 3 leave 4, 2 and 1 of them. For a box 40 wide
a shift by s gives IoU (40 - s) / (40 + s): .667 for the proposals, then .818, .905 and .951. So AP is exactly
70, 90 and 100, whatever the score: 7, 9 and 10 of the ten IoUs .50, .55 ... .95 are met.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import SimpleNamespace

import torch

from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.trace import DetectionTrace, ProposalTrace, StageTrace, Trace

SHIFTS = (8.0, 4.0, 2.0, 1.0)
IOUS = (0.5, 0.6, 0.7)


class FakeDetector:
    """Answers by the size of the original picture, so every picture of a test has a size of its own."""

    def __init__(self, answers: Mapping[tuple[int, int], Instances], num_classes: int, masks: bool = True):
        self.answers, self.masks, self.calls = answers, masks, 0
        self.config = SimpleNamespace(
            num_classes=num_classes,
            cascade=SimpleNamespace(stages=[SimpleNamespace(iou=iou) for iou in IOUS]),
        )

    def to(self, device: str) -> FakeDetector:
        return self

    def parameters(self):
        return iter([torch.zeros(1)])

    def predict(self, images: ImageBatch, keep_features: bool = False) -> SimpleNamespace:
        self.calls += 1
        boxes, labels = [], []
        for index, size in enumerate(images.original_sizes):
            known = self.answers.get(
                size, Instances(size, torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64))
            )
            fy, fx = images.scale(index)
            boxes.append((known.boxes, torch.tensor([fx, fy, fx, fy])))
            labels.append(known.labels)

        def moved(shift: float) -> list[torch.Tensor]:
            return [(b + torch.tensor([shift, 0.0, shift, 0.0])) * f for b, f in boxes]

        def logits(stage: int) -> list[torch.Tensor]:
            rows = [torch.nn.functional.one_hot(x, self.config.num_classes + 1).float() for x in labels]
            return [(3.0 + stage) * row for row in rows]

        stages = tuple(
            StageTrace(
                iou_threshold=IOUS[k],
                delta_std=(0.1, 0.1, 0.2, 0.2),
                proposals=moved(SHIFTS[k]),
                boxes=moved(SHIFTS[k + 1]),
                logits=logits(k),
                deltas=[torch.zeros(len(x), 4) for x in labels],
                is_target=[torch.zeros(len(x), dtype=torch.bool) for x in labels],
            )
            for k in range(3)
        )
        scores = [torch.linspace(0.9, 0.6, len(x)) for x in labels]
        mask_logits = {k: [torch.full((len(x), 28, 28), 9.0) for x in labels] for k in range(3) if self.masks}
        trace = Trace(
            images.sizes,
            images.original_sizes,
            ProposalTrace(moved(8.0), scores, [torch.zeros(len(x), dtype=torch.int64) for x in labels]),
            stages,
            DetectionTrace([torch.arange(len(x)) for x in labels], moved(1.0), labels, scores, mask_logits),
            features=(images.pixels,) if keep_features else None,
        )
        return SimpleNamespace(instances=self._instances(trace, (0, 1, 2)), trace=trace)

    def read_out(self, trace: Trace, stages: Sequence[int]) -> list[Instances]:
        assert trace.features is not None, "read_out needs predict(keep_features=True)"
        return self._instances(trace, stages)

    def _instances(self, trace: Trace, voters: Sequence[int]) -> list[Instances]:
        found, moved = trace.detections, trace.to_original()
        assert found is not None
        answers = []
        for i, (h, w) in enumerate(trace.original_sizes):
            boxes = moved.stages[voters[-1]].boxes[i]
            masks = torch.zeros(len(boxes), h, w, dtype=torch.bool)
            for mask, (x1, y1, x2, y2) in zip(masks, boxes.round().int().tolist(), strict=True):
                mask[max(y1, 0) : y2, max(x1, 0) : x2] = True
            answers.append(
                Instances((h, w), boxes, found.labels[i], found.scores[i], masks if self.masks else None)
            )
        return answers
