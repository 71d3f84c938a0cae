"""The box head: its two published forms, class-agnostic deltas, and the order of its numbers."""

from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from cascade_lab.heads.box_head import BoxHead, BoxHeadConfig, ConvNormReLU
from tests.tiny_detector import without_gradient

CASCADE = BoxHeadConfig(conv_channels=8, fc_channels=12)
MASK_RCNN = BoxHeadConfig(convs=0, fcs=2, fc_channels=12)


@pytest.mark.parametrize(
    "config",
    [
        CASCADE,
        MASK_RCNN,
        replace(CASCADE, class_aware=False),
        replace(CASCADE, norm="group"),
        replace(CASCADE, norm="none"),
        replace(MASK_RCNN, fcs=0),
        replace(CASCADE, fcs=0, pool_size=3),
    ],
    ids=["4 conv 1 fc", "2 fc", "class-agnostic", "group norm", "no norm", "linear", "convs only"],
)
def test_shapes_and_gradients(config: BoxHeadConfig):
    torch.manual_seed(0)
    head = BoxHead(config, in_channels=6, num_classes=3).train()
    logits, deltas = head(torch.randn(5, 6, config.pool_size, config.pool_size))
    assert logits.shape == (5, 4)
    assert deltas.shape == (5, 12 if config.class_aware else 4)
    (logits.square().sum() + deltas.square().sum()).backward()
    assert without_gradient(head) == []


@pytest.mark.parametrize("config", [CASCADE, MASK_RCNN], ids=["4 conv 1 fc", "2 fc"])
def test_no_box_still_reaches_every_parameter(config: BoxHeadConfig):
    head = BoxHead(config, in_channels=6, num_classes=3).train()
    logits, deltas = head(torch.zeros(0, 6, 7, 7))
    (logits.sum() + deltas.sum()).backward()
    assert logits.shape == (0, 4) and without_gradient(head) == []
    assert all(value.isfinite().all() for value in head.state_dict().values())


def test_published_parameters():
    """Four convolutions without bias, batch norm, one layer of 1024, in the official order of creation."""
    head = BoxHead(BoxHeadConfig(), in_channels=256, num_classes=80)
    shapes = {name: tuple(value.shape) for name, value in head.named_parameters()}
    assert list(shapes)[:2] == ["classifier.weight", "classifier.bias"]
    assert shapes["classifier.weight"] == (81, 1024) and shapes["regressor.weight"] == (320, 1024)
    assert shapes["convs.3.conv.weight"] == (256, 256, 3, 3) and "convs.3.conv.bias" not in shapes
    assert shapes["fcs.0.weight"] == (1024, 256 * 49)
    assert sum(isinstance(module, nn.BatchNorm2d) for module in head.modules()) == 4


def test_mask_rcnn_head_is_two_layers_and_two_answers():
    torch.manual_seed(0)
    head, x = BoxHead(MASK_RCNN, in_channels=6, num_classes=3), torch.randn(4, 6, 7, 7)
    first, second = head.fcs
    seen = second(first(x.reshape(4, -1)).relu()).relu()
    logits, deltas = head(x)
    assert_close(logits, seen @ head.classifier.weight.T + head.classifier.bias)
    assert_close(deltas, seen @ head.regressor.weight.T + head.regressor.bias)


def test_a_convolution_has_a_bias_only_without_norm():
    assert ConvNormReLU(2, 2, "none").conv.bias is not None
    assert ConvNormReLU(2, 2, "batch").conv.bias is None
    assert (ConvNormReLU(2, 2, "none")(torch.randn(1, 2, 3, 3)) >= 0).all()


def test_starts_as_published():
    torch.manual_seed(0)
    head = BoxHead(MASK_RCNN.__class__(convs=0, fcs=1, fc_channels=256), in_channels=64, num_classes=80)
    assert_close(head.classifier.weight.std(), torch.tensor(0.01), atol=5e-4, rtol=0)
    assert_close(head.regressor.weight.std(), torch.tensor(0.001), atol=5e-5, rtol=0)
    assert not head.classifier.bias.any() and not head.fcs[0].bias.any()


@pytest.mark.parametrize("training", [True, False])
@pytest.mark.parametrize("norm", ["batch", "group", "none"])
def test_fast_and_plain_convolutions_agree(norm, training):
    """Wide enough for Winograd's form; against the same layers one by one, statistics and gradients too."""
    torch.manual_seed(0)
    fast, plain = ConvNormReLU(128, 128, norm).train(training), ConvNormReLU(128, 128, norm).train(training)
    for value in [*fast.parameters(), *fast.buffers()]:
        if value.is_floating_point() and value.ndim == 1:
            value.data.uniform_(0.5, 1.5)
    plain.load_state_dict(fast.state_dict())
    x = torch.randn(64, 128, 7, 7)
    conv, a, b = plain.conv, x.clone().requires_grad_(), x.clone().requires_grad_()
    found = fast(a)
    expected = plain.norm(functional.conv2d(b, conv.weight, conv.bias, padding=1)).relu()
    assert_close(found, expected, atol=1e-4, rtol=1e-4)
    assert_close(fast.state_dict(), plain.state_dict(), atol=1e-5, rtol=1e-5)
    grad = torch.randn(x.shape)
    wanted = torch.autograd.grad(expected, [b, *plain.parameters()], grad)
    for got, want in zip(torch.autograd.grad(found, [a, *fast.parameters()], grad), wanted, strict=True):
        assert float((got - want).norm() / want.norm()) < 1e-3
