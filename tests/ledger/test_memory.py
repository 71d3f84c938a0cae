"""What a training step keeps: on the meta device as in a real one; inputs alone with checkpointing."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.autograd.graph import saved_tensors_hooks

from cascade_lab.detector import Detector
from cascade_lab.kernels import host_compiler
from cascade_lab.ledger import parts
from cascade_lab.ledger.costs import ledger
from cascade_lab.ledger.memory import SavedBytes
from cascade_lab.ops import dcnv3, roi_align
from cascade_lab.recipes import nano
from cascade_lab.targets.sampler import evenly
from tests.tiny_detector import BACKBONE, config, objects, pictures, stages, tiny

NEEDS_COMPILER = pytest.mark.skipif(host_compiler.find() is None, reason="no C++ compiler on the PATH")
SIZE = (64, 96)


@pytest.fixture(autouse=True, scope="module")
def kernels_tried() -> None:
    """The first choice of kernels tries them on a small case, which no step keeps."""
    dcnv3.choose("cpu", torch.float32)
    roi_align.choose("cpu", torch.float32)


class Real:
    """Bytes that real tensors take which autograd saved, each address once, without weights."""

    def __init__(self, detector: nn.Module) -> None:
        self.by_part: Counter[str] = Counter()
        self.held = {p.untyped_storage().data_ptr() for p in (*detector.parameters(), *detector.buffers())}
        self.alive: list[torch.Tensor] = []

    @contextmanager
    def part(self, name: str):
        def pack(tensor):
            self.alive.append(tensor)
            address = tensor.untyped_storage().data_ptr()
            if address not in self.held:
                self.held.add(address)
                self.by_part[name] += tensor.untyped_storage().nbytes()
            return tensor

        with saved_tensors_hooks(pack, lambda tensor: tensor):
            yield


def measured(given, size=SIZE) -> dict[str, int]:
    detector = Detector(given).train()
    real = Real(detector)
    parts.train(detector, torch.rand(1, 3, *size), real.part)
    return dict(real.by_part)


@NEEDS_COMPILER
@pytest.mark.parametrize("checkpointing", [False, True])
@pytest.mark.parametrize(
    "given",
    [
        config(),
        config(stages(1)),
        replace(config(), backbone=replace(BACKBONE, post_norm=True, drop_path=0.3, depths=(1, 2, 3, 1))),
        nano().detector,
    ],
    ids=["tiny", "one stage", "post-norm", "nano"],
)
def test_meta_and_real_tensors_agree(given, checkpointing):
    own = ledger(given, SIZE)
    backbone = replace(given.backbone, activation_checkpointing=checkpointing)
    real = measured(replace(given, backbone=backbone))
    kept = {p.name: p.kept_bytes_checkpointed if checkpointing else p.kept_bytes for p in own.parts}
    assert kept == real


@NEEDS_COMPILER
def test_a_real_training_step_keeps_that_much():
    """The whole ``forward`` with losses and its own boxes: the ledger is a bound that is nearly reached."""
    detector, images = tiny(seed=1).train(), pictures(1)
    real = Real(detector)
    with real.part("all"):
        output = detector(images, [objects()], evenly)
    output.total.backward()
    own = ledger(detector.config, tuple(images.pixels.shape[2:])).total.kept_bytes
    assert 0.9 * own < real.by_part["all"] < 1.1 * own


def test_checkpointing_keeps_the_input_of_each_block():
    """Of level i that is depth * C_i * H_i * W_i floats; only its downsampling keeps something beside."""
    given = replace(config(), backbone=replace(BACKBONE, post_norm=True, depths=(2, 1, 3, 2)))
    own = {part.name: part for part in ledger(given, SIZE).parts}
    last = own[parts.level(3)]  # no downsampling, and in post-norm models no norm after the blocks
    channels, pixels = BACKBONE.channels * 8, 2 * 3
    assert last.kept_bytes_checkpointed == 2 * channels * pixels * 4 < last.kept_bytes


def test_the_block_that_is_computed_again():
    """Two models that differ by one block of the largest level differ by that block, less its input."""
    shallow, deep = (replace(BACKBONE, depths=depths) for depths in ((1, 1, 1, 1), (2, 1, 1, 1)))
    a, b = (ledger(replace(config(), backbone=backbone), SIZE) for backbone in (shallow, deep))
    level = [led.parts[1] for led in (a, b)]
    block = level[1].kept_bytes - level[0].kept_bytes
    input_bytes = level[1].kept_bytes_checkpointed - level[0].kept_bytes_checkpointed
    assert input_bytes == BACKBONE.channels * 16 * 24 * 4
    assert b.recomputed_bytes == block - input_bytes > 0


def test_a_storage_counts_once_and_weights_do_not():
    layer = nn.Linear(4, 4)
    saved = SavedBytes(layer)
    x = torch.rand(2, 4, requires_grad=True)
    with saved.part("first"):
        y = layer(x) * x
    with saved.part("second"):
        y = y * x[:1]
    assert saved.by_part["first"] == 4 * (8 + 8)  # x, and what the layer said
    assert saved.by_part["second"] == 4 * 8  # y; x is known
