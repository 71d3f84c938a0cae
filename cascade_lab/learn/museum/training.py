"""Fifth room: mistakes that only training shows."""

from __future__ import annotations

import numpy as np
import torch
from torch import nn

from cascade_lab.engine.ema import Ema
from cascade_lab.engine.optim import OptimConfig, build_optimizer
from cascade_lab.heads.box_head import BoxHeadConfig
from cascade_lab.heads.stage_losses import box_losses
from cascade_lab.heads.stage_targets import StageTargets
from cascade_lab.learn.museum.exhibit import Choice, Exhibit
from cascade_lab.learn.museum.specimens import model
from cascade_lab.structures import ImageBatch
from cascade_lab.viz.museum import Curve

ROWS = 64  # boxes that a stage samples of a picture


def _sampled(positives: int) -> StageTargets:
    """Return 64 equal boxes, the first few of them positives that fit exactly."""
    boxes = torch.tensor([[0.0, 0.0, 10.0, 10.0]]).expand(ROWS, 4)
    labels = torch.full((ROWS,), 1)
    labels[:positives] = 0
    index = torch.arange(positives)
    return StageTargets(
        boxes=[boxes],
        is_target=[torch.zeros(ROWS, dtype=torch.bool)],
        iou=[torch.ones(ROWS)],
        target_index=[torch.zeros(positives, dtype=torch.int64)],
        sampled=[(index, torch.arange(positives, ROWS))],
        labels=labels,
        matched=boxes[:positives],
    )


def _loss_by_positives() -> Curve:
    """Return the classification loss of a head that knows nothing, by the number of positives."""
    counts = np.arange(1, 17)
    logits, deltas = torch.zeros(ROWS, 2), torch.zeros(ROWS, 4)
    losses = [
        float(box_losses(logits, deltas, _sampled(n), BoxHeadConfig(), (0.1, 0.1, 0.2, 0.2))["loss_cls"])
        for n in counts.tolist()
    ]
    return Curve(
        x=counts.astype(float),
        y=np.array(losses),
        x_label="positives among the 64 boxes of a picture",
        y_label="classification loss",
        value=max(losses) / min(losses),
        words="largest loss over smallest",
    )


BY_POSITIVES = Exhibit(
    title="Pictures with one object shout",
    story=(
        "The loss jumps by a factor of ten from step to step, and clipping the gradients helps only a little."
        " The head here has learned nothing yet, so every box should cost the same: log 2, about 0.69."
    ),
    function=box_losses,
    right="sampled = divisor(logits.new_tensor(float(len(logits)))).clamp(min=1)",
    wrong="sampled = divisor(logits.new_tensor(float(len(wanted.positive_rows())))).clamp(min=1)",
    symptom=_loss_by_positives,
    worse="higher",
    choices=(
        Choice(words="The loss is divided by the number of positives, not by that of all sampled boxes.",
               why="A picture with a single positive has 64 boxes in the sum and 1 below the line. This"
                   " model divides both losses of a stage by all sampled boxes."),
        Choice(words="The learning rate is too high.",
               why="No step is taken here. The loss is that of constant answers."),
        Choice(words="The classes are not balanced.",
               why="With answers of one half, positives and negatives cost the same."),
    ),
    answer=0,
    lesson=(
        "Work out the loss of a head that knows nothing. If the first line of your log differs, stop there."
    ),
    test="tests/heads/test_stage_losses.py::test_class_loss_is_a_mean_over_all_boxes",
)  # fmt: skip


def _rate_by_depth() -> Curve:
    """Return the learning rate of every layer of the course's detector, for a decay of 0.8 a layer."""
    detector = model().detector
    optimizer = build_optimizer(detector, OptimConfig(lr=1.0, layer_decay=0.8))
    rates = {
        detector.layer_of(name): group["lr"]
        for group in optimizer.param_groups
        for name in group["param_names"]
    }
    layers = np.array(sorted(rates))
    return Curve(
        x=layers,
        y=np.array([rates[layer] for layer in layers.tolist()]),
        x_label="layer: 0 is the stem, the last one the heads",
        y_label="learning rate",
        value=rates[int(layers[-1])],
        words="rate of the heads",
    )


WRONG_SIDE = Exhibit(
    title="The forgetful backbone",
    story=(
        "Fine-tuning starts from a backbone that was trained on millions of pictures. After an epoch it is no"
        " better than one that starts from nothing, and the heads have hardly moved."
    ),
    function=build_optimizer,
    right="scale = config.layer_decay ** (detector.num_layers + 1 - detector.layer_of(name))",
    wrong="scale = config.layer_decay ** detector.layer_of(name)",
    symptom=_rate_by_depth,
    worse="lower",
    choices=(
        Choice(words="The warm-up is too short.",
               why="A warm-up multiplies all rates by the same number. It cannot turn the curve around."),
        Choice(words="The rate decays towards the heads, not towards the stem.",
               why="The stem, which knows edges and colours already, is changed most; the heads, which are"
                   " random, are changed least."),
        Choice(words="Weight decay acts on the heads only.",
               why="Weight decay is not part of the learning rate, and the curve shows the rate."),
    ),
    answer=1,
    lesson="Print the rate of the first and of the last parameter before the first step.",
    test="tests/engine/test_optim.py::test_groups_by_depth_and_weight_decay",
)  # fmt: skip


def _mean_in_the_average() -> Curve:
    """Feed values around 5 to a batch norm, and return the running mean that the average of weights holds."""
    norm = nn.BatchNorm2d(1, momentum=0.1)
    average, means = Ema(norm, final=0.05, warmup=0), [0.0]
    random = torch.Generator().manual_seed(0)
    for step in range(120):
        norm(5 + torch.randn(4, 1, 8, 8, generator=random))
        average.update(norm, step)
        means.append(float(average.state["running_mean"]))
    return Curve(
        x=np.arange(len(means)),
        y=np.array(means),
        x_label="step",
        y_label="running mean",
        value=means[-1],
        words="in the average at the end (the data have 5)",
    )


NO_BUFFERS = Exhibit(
    title="A perfect run, a useless model",
    story=(
        "Every loss falls as it should. Then the running average of the weights is saved and evaluated, and"
        " AP is 0. The weights themselves, without the average, are fine."
    ),
    function=Ema.update,
    right="for name, value in model.state_dict().items():",
    wrong="for name, value in model.named_parameters():",
    symptom=_mean_in_the_average,
    worse="lower",
    choices=(
        Choice(words="The average is updated with too small a share.",
               why="It would be late then, but it would move. This one does not move at all."),
        Choice(words="The average was taken before the optimizer's step.",
               why="That makes it one step late, which nobody would notice after a hundred."),
        Choice(words="The average holds parameters only; the statistics of batch norms stay as they began.",
               why="Running means and variances are buffers, not parameters. In the average they are still"
                   " 0 and 1, so every batch norm shifts its input by the wrong amount."),
    ),
    answer=2,
    lesson="When training looks fine and evaluation does not, compare what only evaluation uses: buffers.",
    test="tests/engine/test_ema.py::test_constant_momentum_by_hand",
)  # fmt: skip


def _one_row_of_pixels() -> Curve:
    """Return the red values of one row of a grey picture that is padded from 40 to 64 pixels."""
    batch = ImageBatch.collate([torch.full((3, 40, 40), 150, dtype=torch.uint8)])
    row = batch.pixels[0, 0, 20]
    return Curve(
        x=np.arange(len(row)),
        y=row.numpy(),
        x_label="column; the picture ends at 40",
        y_label="what the network sees",
        value=float(row[40:].abs().mean()),
        words="size of the padding's values",
    )


BLACK_FRAME = Exhibit(
    title="A frame around every picture",
    story=(
        "Pictures of another shape than most have false detections along the right and the lower edge, and"
        " only when they share a batch with larger ones. One row of an even grey picture:"
    ),
    function=ImageBatch.collate.__func__,  # type: ignore[attr-defined]
    right="row[:, :h, :w].copy_(image).sub_(mean).div_(std)  # in place: 5 times faster than by copies",
    wrong="""
row[:, :h, :w].copy_(image)
row.sub_(mean).div_(std)
""".strip(),
    symptom=_one_row_of_pixels,
    worse="higher",
    choices=(
        Choice(words="The picture was padded first and normalised afterwards.",
               why="Padding of 0 becomes black minus the mean: about -2, a hard edge that looks like an"
                   " object's. Padded after normalising, it is 0, an average grey, as convolutions pad it"
                   " too."),
        Choice(words="The colours are in the order blue, green, red.",
               why="That changes the values inside the picture, and all of its pixels alike."),
        Choice(words="The picture is divided by 255 twice.",
               why="Then the values inside would be far too small; they are the same in both curves."),
    ),
    answer=0,
    lesson="Look at one row of what enters the network, border included.",
    test="tests/test_structures.py::test_padding_is_zero_after_normalising",
)  # fmt: skip

TRAINING = (BY_POSITIVES, WRONG_SIDE, NO_BUFFERS, BLACK_FRAME)
