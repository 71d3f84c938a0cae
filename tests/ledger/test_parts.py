"""The passes by part run the same operators on the same shapes as the detector itself."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager, nullcontext
from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from cascade_lab.heads.cascade_config import CascadeConfig
from cascade_lab.heads.postprocess import PostprocessConfig
from cascade_lab.ledger import parts
from cascade_lab.targets.sampler import evenly
from tests.tiny_detector import CASCADE, objects, pictures, stages, tiny

aten = torch.ops.aten
NETWORK = {aten.convolution, aten.addmm, aten.native_layer_norm, aten.native_batch_norm, aten.gelu, aten.relu}


class Seen(TorchDispatchMode):
    """Which network operators ran on which shapes, and how often."""

    def __init__(self, operators) -> None:
        super().__init__()
        self.calls: Counter[tuple] = Counter()
        self.operators = operators

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        packet = func.overloadpacket
        if packet in self.operators or packet.__name__ in ("dcnv3", "pool_rois"):
            shapes = [tuple(a.shape) for a in args if isinstance(a, torch.Tensor)]
            self.calls[(str(packet), *shapes)] += 1
        return func(*args, **(kwargs or {}))


def nothing(name: str):
    return nullcontext()


LAST_BOXES = replace(CASCADE, postprocess=PostprocessConfig(ensemble="last_rois_probabilities"))
SOME_MASKS = replace(CASCADE, mask_stages=(1, 2))


@pytest.mark.parametrize("cascade", [CASCADE, stages(1), LAST_BOXES, SOME_MASKS])
def test_inference(cascade: CascadeConfig):
    detector, images = tiny(cascade).eval(), pictures(1)
    with Seen(NETWORK) as real:
        trace = detector.predict(images).trace
    proposals, detections = len(trace.proposals.boxes[0]), len(trace.detections.boxes[0])
    assert proposals > 0 and detections > 0
    with Seen(NETWORK) as own:
        parts.infer(detector, images.pixels, proposals, detections, nothing)
    assert own.calls == real.calls


def test_training():
    """Without mask heads: how many boxes have a mask depends on the matching, and is a bound here."""
    detector, images = tiny(replace(CASCADE, mask_stages=())).train(), pictures(2)
    with Seen(NETWORK) as real:
        trace = detector(images, [objects(), objects()], evenly).trace
    assert {len(boxes) for stage in trace.stages for boxes in stage.proposals} == {CASCADE.sampler.num}
    with Seen(NETWORK) as own:
        parts.train(detector, images.pixels, nothing)
    assert own.calls == real.calls


def test_later_stages_on_all_boxes():
    """With ``later_sampling="all"`` only the first stage samples."""
    detector = tiny(replace(CASCADE, later_sampling="all")).train()
    with Seen({aten.addmm}) as seen:
        parts.train(detector, pictures(1).pixels, nothing)
    rows = Counter({call[2][0]: n for call, n in seen.calls.items() if call[2][1:] == (8 * 16,)})
    assert rows == {CASCADE.sampler.num: 1, detector.config.rpn.training.after_nms: 2}


def test_every_parameter_belongs_to_a_part_that_runs():
    detector, entered = tiny(SOME_MASKS).eval(), []

    @contextmanager
    def enter(name: str):
        entered.append(name)
        yield

    parts.infer(detector, pictures(1).pixels, 5, 3, enter)
    assert len(entered) == len(set(entered))
    assert set(entered) == set(parts.part_names(detector)) == set(parts.parameters_by_part(detector))
    assert sum(parts.parameters_by_part(detector).values()) == sum(p.numel() for p in detector.parameters())


def test_a_module_without_a_part_is_named():
    with pytest.raises(ValueError, match=r"tail\.conv belongs to no part"):
        parts.part_of("tail.conv")
