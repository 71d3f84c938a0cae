"""A detector of 60 weights that trains in a millisecond, and its batches; called like the real one.

It has what can go wrong in resuming: batch norm statistics, dropout, samples drawn by ``choose``, a
parameter without weight decay. A picture of NaN poisons the step that sees it.
"""

from __future__ import annotations

import hashlib

import torch
from torch import Tensor, nn

from cascade_lab.datasets.loader import Batch
from cascade_lab.datasets.order import derive_seed
from cascade_lab.datasets.shapes import ShapesConfig, write_shapes
from cascade_lab.detector import TrainOutput
from cascade_lab.engine.checkpoint import load_newest
from cascade_lab.engine.optim import OptimConfig
from cascade_lab.engine.schedule import ScheduleConfig
from cascade_lab.losses import Divisor, global_mean
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.train import train_loop


class Detector(nn.Module):
    num_layers = 1

    def __init__(self, ballast: int = 1) -> None:
        super().__init__()
        self.dropout = 0.3
        self.conv = nn.Conv2d(3, 4, 3)
        self.norm = nn.BatchNorm2d(4)
        self.head = nn.Linear(4, 3)
        self.scale = nn.Parameter(torch.ones(ballast))  # many numbers make a checkpoint slow to write

    def layer_of(self, name: str) -> int:
        return {"conv": 0, "norm": 1, "head": 2, "scale": 2}[name.split(".")[0]]

    def forward(
        self, images: ImageBatch, targets: list[Instances], choose, divisor: Divisor = global_mean
    ) -> TrainOutput:
        hidden = self.norm(self.conv(images.pixels)).relu().flatten(2)  # (N, 4, 36)
        hidden = nn.functional.dropout(hidden, self.dropout)
        losses = []
        for number, (row, target) in enumerate(zip(hidden, targets, strict=True)):
            picked = choose(torch.arange(36), 9, number)
            wanted = target.boxes[0, :3] / 10
            losses.append(((self.head(row[:, picked].T) - wanted) * self.scale.mean()).square().mean())
        loss = torch.stack(losses).sum() / divisor(torch.tensor(float(len(losses))))
        return TrainOutput({"loss_a": loss, "b.loss": loss / 2, "acc": loss.detach() * 100}, trace=None)  # type: ignore[arg-type]


def batches(total: int, seed: int = 0, poisoned: tuple[int, ...] = (), steep: tuple[int, ...] = ()):
    """Return a function of the first step, as ``train_loop`` wants it; steps count from 0."""

    def load(step: int) -> Batch:
        draw = torch.Generator().manual_seed(derive_seed("stand-in", seed, step))
        pixels = torch.rand(2, 3, 8, 8, generator=draw)
        if step in poisoned:
            pixels[1, 0, 3, 3] = torch.nan
        size = 1e8 if step in steep else 8.0  # a target far away: a gradient too large for float16
        targets = [Instances((8, 8), size * torch.rand(1, 4, generator=draw)) for _ in range(2)]
        frame = [(8, 8)] * 2
        images = ImageBatch(pixels, sizes=frame, padded_sizes=frame, original_sizes=frame)
        return Batch(step, [2 * step, 2 * step + 1], images, targets, [step, step + 1])

    return lambda first: map(load, range(first, total))


def train(run, total: int = 6, batches_of=None, ballast: int = 1, optim=None, **schedule):
    """Train the stand-in into the folder ``run``; return (finished steps, detector)."""
    run.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    detector = Detector(ballast)
    optim = optim or OptimConfig(lr=0.05, layer_decay=0.9, clip_norm=1.0)
    return loop(detector, run, total, batches_of or batches(total), optim, **schedule), detector


def loop(detector: Detector, run, total: int, batches_of, optim: OptimConfig, **schedule) -> int:
    """Train a detector that was built before; return the finished steps."""
    return train_loop(
        detector,  # type: ignore[arg-type]
        batches_of,
        optim=optim,
        schedule=ScheduleConfig(
            **{"steps": total, "warmup_steps": 3, "ema": 0.1, "ema_warmup": 2, "log_every": 1} | schedule
        ),
        total_steps=total,
        seed=0,
        run=run,
        facts={"recipe": {"name": "stand-in"}},
        image_ids=range(1000, 1000 + 2 * total),
    )


def small_recipe(root, steps: int = 6) -> list[str]:
    """Write six pictures to ``root``; return the arguments that train a small nano on them."""
    write_shapes(root, ShapesConfig(size=64, radius=(7.0, 20.0)), seed=0, train=6, val=2)
    options = {
        "data.root": root,
        "data.images_per_batch": 2,
        "detector.backbone.channels": 8,
        "detector.backbone.groups": "2 2 2 2",
        "detector.backbone.drop_path": 0.3,
        "detector.pyramid_channels": 16,
        "detector.rpn.training.after_nms": 30,
        "detector.cascade.box_head.fc_channels": 32,
        "detector.cascade.mask_head.convs": 1,
        "detector.cascade.mask_head.channels": 8,
        "detector.cascade.sampler.num": 16,
        "schedule.steps": steps,
        "schedule.warmup_steps": 2,
        "schedule.log_every": 1,
        "schedule.checkpoint_every": 2,
    }
    return ["nano", *(word for name, value in options.items() for word in f"--{name} {value}".split())]


def bits(run) -> str:
    """Return a digest of every bit of the newest checkpoint: weights, moments, averages, numbers.

    Not of the file: pickle writes an object that stands in two places once, and whether two equal tuples
    are one object says nothing.
    """
    state = load_newest(run / "checkpoints")
    assert state is not None, f"no checkpoint in {run}"
    digest = hashlib.sha256()
    for name, value in _leaves(state):
        digest.update(name.encode())
        if isinstance(value, Tensor):
            digest.update(f"{value.dtype} {tuple(value.shape)}".encode() + value.numpy().tobytes())
        else:
            digest.update(repr(value).encode())
    return digest.hexdigest()


def _leaves(value, name: str = ""):
    if isinstance(value, dict):
        for key, member in value.items():
            yield from _leaves(member, f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for index, member in enumerate(value):
            yield from _leaves(member, f"{name}/{index}")
    else:
        yield name, value
