"""The operator and the layer round it, on numbers that can be worked by hand."""

import pytest
import torch
from torch import nn
from torch.nn import functional
from torch.testing import assert_close

from cascade_lab.layers.dcnv3 import DCNv3
from cascade_lab.ops.dcnv3 import dcnv3, modulate
from cascade_lab.ops.dcnv3_reference import dcnv3_reference, output_size

ONE_POINT = {"groups": 1, "kernel": 1, "padding": 0}


def lively(layer: DCNv3) -> DCNv3:
    for linear in (layer.offset, layer.modulation):
        nn.init.normal_(linear.weight, std=0.5)
    return layer


def test_reads_between_pixels():
    """A point 0.25 right and 0.5 down of pixel (0, 0) of [[0, 1], [2, 3]]: 0.25 + 0.5 * 2 = 1.25."""
    picture = torch.tensor([[0.0, 1.0], [2.0, 3.0]]).view(1, 2, 2, 1)
    offset = torch.zeros(1, 2, 2, 2)
    offset[0, 0, 0] = torch.tensor([0.25, 0.5])
    out = dcnv3_reference(picture, offset, torch.full((1, 2, 2, 1), 2.0), **ONE_POINT)
    assert out[0, :, :, 0].tolist() == [[2.5, 2.0], [4.0, 6.0]]


@pytest.mark.parametrize(
    ("shift", "value", "slope"),
    [
        (0.0, 10.0, 20.0 - 10.0),  # whole position: the slope to the right
        (0.5, 15.0, 10.0),
        (1.0, 20.0, 0.0 - 20.0),  # last pixel: zero lies to its right
        (1.5, 10.0, -20.0),
        (-0.5, 5.0, 10.0),  # half-way to the zero on the left
        (-1.0, 0.0, 0.0),  # a whole pixel outside: dropped
        (2.0, 0.0, 0.0),
        (9.0, 0.0, 0.0),
    ],
)
def test_values_and_slopes_at_the_border(shift: float, value: float, slope: float):
    """The pixel row [10, 20], read by its first pixel at x = shift."""
    picture = torch.tensor([10.0, 20.0]).view(1, 1, 2, 1)
    offset = torch.tensor([shift, 0.0, 100.0, 100.0]).view(1, 1, 2, 2).requires_grad_()
    out = dcnv3_reference(picture, offset, torch.ones(1, 1, 2, 1), **ONE_POINT)
    out[0, 0, 0, 0].backward()
    assert out[0, 0, 0, 0].item() == value
    assert offset.grad is not None and offset.grad[0, 0, 0, 0].item() == slope


def test_points_run_down_a_column_first():
    """Modulation on point 1 alone gives the pixel straight left: column 0, row 1 of the grid."""
    picture = torch.arange(9.0).view(1, 3, 3, 1)
    modulation = torch.zeros(1, 3, 3, 9)
    modulation[..., 1] = 1.0
    out = dcnv3_reference(picture, torch.zeros(1, 3, 3, 18), modulation, groups=1)
    assert out[0, 1, 1, 0].item() == 3.0


def test_zero_offsets_are_a_convolution():
    """Group by group, fixed modulation is the kernel of an ordinary convolution, stride and dilation too."""
    torch.manual_seed(0)
    kernel = torch.randn(2, 3, 3)  # (G, y, x)
    picture = torch.randn(2, 7, 9, 4)
    settings = {"kernel": 3, "stride": 2, "dilation": 2, "padding": 1}
    ho, wo = output_size((7, 9), **settings)
    modulation = kernel.transpose(1, 2).reshape(1, 1, 1, 18).expand(2, ho, wo, 18)
    out = dcnv3_reference(picture, torch.zeros(2, ho, wo, 36), modulation, groups=2, **settings)
    weight = kernel.repeat_interleave(2, dim=0)[:, None]
    expected = functional.conv2d(
        picture.permute(0, 3, 1, 2), weight, stride=2, padding=1, dilation=2, groups=4
    )
    assert_close(out.permute(0, 3, 1, 2), expected)


def test_offset_scale_stretches_the_grid_too():
    """Scale 2 at zero offset is dilation 2 with the padding that keeps the centre."""
    torch.manual_seed(0)
    picture, modulation = torch.randn(1, 6, 6, 2), torch.rand(1, 6, 6, 9)
    zero = torch.zeros(1, 6, 6, 18)
    stretched = dcnv3_reference(picture, zero, modulation, groups=1, offset_scale=2.0)
    dilated = dcnv3_reference(picture, zero, modulation, groups=1, dilation=2, padding=2)
    assert_close(stretched, dilated)


def test_gradients_are_the_slopes():
    torch.manual_seed(0)
    size = {"dtype": torch.float64, "requires_grad": True}
    leaves = (
        torch.randn(1, 3, 4, 4, **size),
        torch.randn(1, 3, 4, 36, **size),
        torch.rand(1, 3, 4, 18, **size),
    )
    for backend in ("reference", "grid_sample"):
        assert torch.autograd.gradcheck(lambda *x, b=backend: dcnv3(*x, groups=2, backend=b), leaves)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_types_are_computed_in_float32(dtype: torch.dtype):
    torch.manual_seed(0)
    leaves = [torch.randn(1, 4, 4, n).to(dtype) for n in (4, 36, 18)]
    out = dcnv3(*leaves, groups=2, backend="reference")
    assert out.dtype == dtype
    assert torch.equal(out, dcnv3_reference(*(x.float() for x in leaves), groups=2).to(dtype))


def test_offset_of_another_size_is_refused():
    with pytest.raises(ValueError, match=r"offset must be \(N, 4, 4, 36\)"):
        dcnv3_reference(torch.zeros(1, 4, 4, 4), torch.zeros(1, 4, 4, 18), torch.zeros(1, 4, 4, 18), groups=2)


# --- the layer


def test_fresh_layer_is_an_average_over_the_neighbourhood():
    """Zero offsets and equal modulation: a box filter between the two projections."""
    torch.manual_seed(0)
    layer, picture = DCNv3(4, 2), torch.randn(1, 5, 6, 4)
    mean = functional.avg_pool2d(layer.input_proj(picture).permute(0, 3, 1, 2), 3, stride=1, padding=1)
    assert_close(layer(picture), layer.output_proj(mean.permute(0, 2, 3, 1)), atol=1e-5, rtol=1e-4)


def test_modulation_of_a_group_adds_up_to_one():
    torch.manual_seed(0)
    layer = lively(DCNv3(4, 2))
    offset, logits, _ = layer.look(torch.randn(2, 5, 6, 4))
    modulation = modulate(logits, 2, "softmax")
    assert offset.shape == (2, 5, 6, 36) and modulation.shape == (2, 5, 6, 18)
    assert_close(modulation.view(2, 5, 6, 2, 9).sum(-1), torch.ones(2, 5, 6, 2))


@pytest.mark.parametrize(("bias", "share"), [(-50.0, 0.0), (50.0, 1.0)])
def test_center_scale_mixes_in_the_unmoved_pixel(bias: float, share: float):
    torch.manual_seed(0)
    layer, picture = lively(DCNv3(4, 2, center_feature_scale=True)), torch.randn(1, 5, 5, 4)
    plain = lively(DCNv3(4, 2))
    plain.load_state_dict({k: v for k, v in layer.state_dict().items() if not k.startswith("center")})
    assert layer.center_scale is not None
    nn.init.constant_(layer.center_scale.bias, bias)
    unmoved = layer.output_proj(layer.input_proj(picture))
    assert_close(layer(picture), unmoved if share else plain(picture), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("depthwise", [3, 5])
@pytest.mark.parametrize("center", [False, True])
def test_every_parameter_learns(depthwise: int, center: bool):
    torch.manual_seed(0)
    layer = lively(DCNv3(4, 2, depthwise_kernel=depthwise, center_feature_scale=center, offset_scale=2.0))
    out = layer(torch.randn(2, 5, 7, 4))
    assert out.shape == (2, 5, 7, 4)
    out.square().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in layer.parameters())


def test_groups_must_divide_channels():
    with pytest.raises(ValueError, match="5 channels cannot be split into 2 groups"):
        DCNv3(5, 2)
