"""The type that products come out in, what stays float32 in a training step, and the scale of the loss."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor, nn

from cascade_lab.detector import Detector, TrainOutput
from cascade_lab.engine.precision import Precision, autocast, loss_scaler, overflowed
from cascade_lab.targets.sampler import evenly, random_choice
from tests.tiny_detector import CASCADE, objects, pictures, tiny

HALF: dict[Precision, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16}
halves = pytest.mark.parametrize("precision", HALF)


def test_float32_is_the_plain_computation():
    a = torch.rand(4, 4)
    with autocast("float32", "cpu"):
        assert torch.equal(a @ a, torch.mm(a, a))
        assert (a @ a).dtype == torch.float32


@halves
def test_half_types_only_inside_and_only_for_products(precision: Precision):
    a = torch.rand(4, 4)
    with autocast(precision, torch.device("cpu")):
        assert (a @ a).dtype == HALF[precision]
        assert (a + a).dtype == torch.float32
    assert (a @ a).dtype == torch.float32


# --- a training step of the whole detector


def detector(checkpointing: bool = False) -> Detector:
    model = tiny(replace(CASCADE, box_head=replace(CASCADE.box_head, convs=1, conv_channels=8, norm="batch")))
    for level in model.backbone.levels:
        level.activation_checkpointing = checkpointing
    return model.train()


def step(model: Detector, precision: Precision) -> TrainOutput:
    with autocast(precision, "cpu"):
        return model(pictures(), [objects(), objects([[8.0, 8.0, 40.0, 44.0]], [1])], random_choice([1, 2]))


@halves
@pytest.mark.parametrize("checkpointing", [False, True])
def test_boxes_logits_and_losses_are_float32_and_everything_is_finite(
    precision: Precision, checkpointing: bool
):
    model = detector(checkpointing)
    inner: list[torch.dtype] = []
    model.neck.register_forward_hook(lambda _m, _i, maps: inner.extend(level.dtype for level in maps))
    output = step(model, precision)
    assert set(inner) == {HALF[precision]}  # otherwise the test would look at float32 only
    trace = output.trace
    boxes = [*trace.proposals.boxes, *trace.proposals.scores]
    for stage in trace.stages:
        assert stage.matched_iou is not None
        boxes += [*stage.proposals, *stage.boxes, *stage.deltas, *stage.logits, *stage.matched_iou]
    assert {value.dtype for value in [*boxes, *output.losses.values(), output.total]} == {torch.float32}
    assert all(value.isfinite().all() for value in [*boxes, *output.losses.values()])
    (1024.0 * output.total).backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in model.parameters())
    assert {p.grad.dtype for p in model.parameters() if p.grad is not None} == {torch.float32}


def test_a_box_of_a_large_picture_keeps_its_place():
    """x = 1333 is 1336 in bfloat16, and the area of 300 x 300 pixels is infinite in float16."""
    model = detector().eval()
    box = torch.tensor([[1333.0, 700.0, 1633.0, 1000.0]])
    images = replace(pictures(1), sizes=[(1024, 2048)], padded_sizes=[(1024, 2048)])
    for precision in HALF:
        with autocast(precision, "cpu"), torch.no_grad():
            pyramid = model.neck(model.backbone(images.pixels))
            logits, _ = model.cascade.look(0, pyramid, [box])
            (stayed,) = model.cascade.refine(0, [box], logits, torch.zeros(1, 12), images)
        assert torch.equal(stayed, box)


@pytest.mark.parametrize(("precision", "off"), [("bfloat16", 0.05), ("float16", 0.01)])
def test_losses_are_near_those_of_float32(precision: Precision, off: float):
    """RPN and first stage on given proposals: later boxes may fall to the other side of a threshold."""
    model = detector()
    given = [torch.tensor([[2.0, 4.0, 22.0, 28.0], [28.0, 22.0, 58.0, 50.0], [0.0, 30.0, 20.0, 60.0]])] * 2
    images, targets = pictures(), [objects()] * 2

    def losses(kind: Precision) -> dict[str, Tensor]:
        with autocast(kind, "cpu"):
            pyramid = model.neck(model.backbone(images.pixels))
            seen = model.rpn(pyramid)
            found = model.rpn.losses(seen, model.rpn.targets(seen, images, targets, evenly))
            return found | model.cascade(pyramid, images, given, targets, evenly)[0]

    wide, half = losses("float32"), losses(precision)
    for name in ("loss_rpn_cls", "loss_rpn_bbox", "s0.loss_cls", "s0.loss_bbox", "s0.loss_mask"):
        assert half[name].item() == pytest.approx(wide[name].item(), rel=off), name
        assert half[name] != wide[name], name


# --- the scale of the loss


def test_small_gradients_survive_float16_only_scaled():
    """A gradient of 1e-8 is below the smallest float16 of 6e-8."""
    for precision, kept in (("float32", False), ("float16", True)):
        weight = nn.Parameter(torch.zeros(1))
        optimizer = torch.optim.SGD([weight], lr=1.0)
        scaler = loss_scaler(precision, "cpu")
        scaler.scale((weight.half() * 1.0).float().sum() * 1e-8).backward()
        scaler.unscale_(optimizer)
        assert weight.grad is not None
        assert (weight.grad.item() == pytest.approx(1e-8, rel=1e-3)) == kept
        assert weight.grad.any() == kept


def test_only_float16_is_scaled():
    for precision in ("float32", "bfloat16"):
        scaler = loss_scaler(precision, "cpu")
        assert not scaler.is_enabled() and scaler.state_dict() == {}
        assert not overflowed(scaler, 1.0)


def test_an_overflow_is_no_failure_while_the_loss_is_finite_and_the_scale_can_fall():
    scaler = loss_scaler("float16", "cpu")
    assert overflowed(scaler, 2.5)
    assert not overflowed(scaler, float("nan")) and not overflowed(scaler, float("inf"))
    scaler.scale(torch.zeros(()))  # the scale comes to life with its first use
    scaler.load_state_dict(scaler.state_dict() | {"scale": 0.5})
    assert not overflowed(scaler, 2.5)
