"""What is collected is what the layers read, and it lies on the picture where the picture was read."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

from cascade_lab.backbones.internimage import Level, Stem
from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.layers.dcnv3 import DCNv3
from cascade_lab.sampling import Sampling, SamplingLayer, sample_picture, walk
from tests.tiny_detector import BACKBONE, config

VARIANTS = {
    "pre-norm": BACKBONE,
    "post-norm, stretched": replace(BACKBONE, post_norm=True, offset_scale=2.0, depths=(1, 2, 1, 1)),
    "huge": replace(
        BACKBONE, layer_scale=None, res_post_norm=True, center_feature_scale=True, depthwise_kernel=5,
        depths=(1, 1, 2, 1), level2_post_norm_blocks=(0,),
    ),
}  # fmt: skip


def build(backbone=BACKBONE, seed: int = 0) -> Detector:
    """Build a detector whose offsets, zero at first, depend on the picture."""
    torch.manual_seed(seed)
    detector = Detector(replace(config(), backbone=backbone)).eval()
    for module in detector.modules():
        if isinstance(module, DCNv3):
            nn.init.normal_(module.offset.weight, std=0.5)
            nn.init.normal_(module.modulation.weight, std=0.5)
    return detector


def noise(height: int = 64, width: int = 64) -> torch.Tensor:
    random = torch.Generator().manual_seed(3)
    return torch.randint(0, 256, (3, height, width), generator=random, dtype=torch.uint8)


@pytest.fixture
def seen(monkeypatch):
    """Record what every layer hands to its operator, and what comes back, in order."""
    calls, sample = [], DCNv3.sample

    def recording(self, input, offset, logits):
        out = sample(self, input, offset, logits)
        calls.append((self, input, offset, logits, out))
        return out

    monkeypatch.setattr(DCNv3, "sample", recording)
    return calls


@pytest.mark.parametrize("backbone", VARIANTS.values(), ids=VARIANTS)
def test_points_and_modulation_are_those_of_the_forward_pass(seen, backbone):
    detector = build(backbone)
    sampling = sample_picture(detector, noise(50, 70))
    assert len(sampling.layers) == len(seen) == sum(backbone.depths)
    for layer, (_, _, offset, logits, _) in zip(sampling.layers, seen, strict=True):
        (height, width), groups = layer.size, layer.groups
        offset = offset.view(height, width, groups, 9, 2).numpy()
        for k in range(9):
            column, row = divmod(k, 3)  # down a column first
            x = np.arange(width)[None, :, None] + (column - 1 + offset[..., k, 0]) * backbone.offset_scale
            y = np.arange(height)[:, None, None] + (row - 1 + offset[..., k, 1]) * backbone.offset_scale
            np.testing.assert_allclose(layer.points[..., k, 0], x, atol=1e-5)
            np.testing.assert_allclose(layer.points[..., k, 1], y, atol=1e-5)
        powers = np.exp(logits.view(height, width, groups, 9).numpy().astype(np.float64))
        np.testing.assert_allclose(layer.modulation, powers / powers.sum(-1, keepdims=True), atol=1e-6)


def read(channel: np.ndarray, x: float, y: float) -> float:
    """Read one channel (H, W) between pixels, by hand; zero beyond the border."""
    x0, y0 = int(np.floor(x)), int(np.floor(y))
    total = 0.0
    for row, column in ((y0, x0), (y0, x0 + 1), (y0 + 1, x0), (y0 + 1, x0 + 1)):
        if 0 <= row < channel.shape[0] and 0 <= column < channel.shape[1]:
            total += (1 - abs(x - column)) * (1 - abs(y - row)) * channel[row, column]
    return total


def test_reading_at_the_points_gives_the_layers_own_answer(seen):
    sampling = sample_picture(build(VARIANTS["post-norm, stretched"]), noise())
    layer, (_, input, _, _, out) = sampling.layers[1], seen[1]
    channels = input.shape[-1] // layer.groups
    for row, column, group in ((0, 0, 0), (3, 5, 1), (7, 7, 1)):
        points, modulation = layer.points[row, column, group], layer.modulation[row, column, group]
        channel = group * channels
        values = [read(input[0, :, :, channel].numpy(), x, y) for x, y in points]
        assert np.dot(modulation, values) == pytest.approx(out[0, row, column, channel].item(), abs=1e-5)
        outside = layer.outside()[row, column, group]
        assert all(value == 0 for value, lost in zip(values, outside, strict=True) if lost)


def test_zero_offsets_are_the_regular_grid():
    detector = Detector(replace(config(), backbone=replace(BACKBONE, offset_scale=2.0))).eval()
    layer = sample_picture(detector, noise()).layers[0]
    np.testing.assert_array_equal(
        layer.points, np.broadcast_to(layer.regular()[:, :, None], layer.points.shape)
    )
    np.testing.assert_array_equal(
        layer.regular()[3, 5], [[5 + x, 3 + y] for x in (-2, 0, 2) for y in (-2, 0, 2)]
    )
    np.testing.assert_allclose(layer.modulation, 1 / 9, rtol=1e-6)
    assert layer.outside()[0, 0].sum() == 5 and not layer.outside()[5, 5].any()
    assert layer.outside().sum(-1).max() == 5, "at a corner the left column and the upper row are lost"


def test_an_output_pixel_lies_in_the_middle_of_what_it_was_made_from():
    """All weights equal: the gradient of one pixel of the stem has its centre where the layer is drawn."""
    stem = Stem(4)
    for conv in (stem.conv1, stem.conv2):
        nn.init.ones_(conv.weight)
    pixels = torch.zeros(1, 3, 64, 64, requires_grad=True)
    stem.conv2(stem.conv1(pixels))[0, 0, 5, 7].backward()
    assert pixels.grad is not None
    weight = pixels.grad[0, 0].numpy()
    rows, columns = np.nonzero(weight)
    layer = sample_picture(build(), noise()).layers[0]
    centre = layer.regular()[5, 7, 4] * layer.stride + 0.5
    middle = [np.average(places + 0.5, weights=weight[rows, columns]) for places in (columns, rows)]
    assert centre.tolist() == pytest.approx(middle)
    assert (columns.min() + columns.max() + 1) / 2 == centre[0]


def test_on_picture_is_stride_times_the_map():
    layer = sample_picture(build(), noise()).layers[2]
    assert layer.stride == 16
    np.testing.assert_allclose((layer.on_picture() - 0.5) / 16, layer.points, atol=1e-6)


def test_only_what_is_asked_for_is_kept():
    detector = build(VARIANTS["post-norm, stretched"])
    every, some = (sample_picture(detector, noise(), keep=keep) for keep in (None, {(1, 1), (3, 0)}))
    assert [(layer.level, layer.block) for layer in some.layers] == [(1, 1), (3, 0)]
    assert some.levels == (1, 3) and every.levels == (0, 1, 2, 3) and len(every.of_level(1)) == 2
    np.testing.assert_array_equal(some.layers[0].points, every.of_level(1)[1].points)


def test_boxes_picture_and_name_are_kept():
    picture, boxes = noise(40, 72), torch.tensor([[1.0, 2.0, 30.0, 31.0]])
    sampling = sample_picture(build(), picture, boxes=boxes, name="noise")
    np.testing.assert_array_equal(sampling.picture, picture.permute(1, 2, 0).numpy())
    assert sampling.boxes.tolist() == boxes.tolist() and sampling.name == "noise"
    assert sampling.layers[0].size == (16, 24), "the map is that of the padded picture, 64 x 96"


def test_walking_block_by_block_is_the_forward_pass():
    """Bit by bit: the last block's input, and what it makes of it, are those of ``forward``."""
    for backbone in VARIANTS.values():
        model = build(backbone).backbone
        pixels = torch.randn(1, 3, 64, 96, generator=torch.Generator().manual_seed(1))
        with torch.no_grad():
            places, maps = [], {}
            for level, index, block, x in walk(model, pixels):
                places.append((level, index))
                stack = model.levels[level]
                assert isinstance(stack, Level) and block is stack.blocks[index]
                maps[level], _ = stack.leave(stack.step(x, index))
            assert places == [(level, i) for level, depth in enumerate(backbone.depths) for i in range(depth)]
            for level, features in enumerate(model(pixels)):
                assert torch.equal(maps[level].permute(0, 3, 1, 2), features)


@pytest.mark.parametrize(
    "words, call",
    [
        ("keep: there is no .level, block. .0, 1.", lambda d: sample_picture(d, noise(), keep=[(0, 1)])),
        ("picture: shape .64, 64.", lambda d: sample_picture(d, noise()[0])),
        ("call detector.eval", lambda d: sample_picture(d.train(), noise())),
        ("layers: none", lambda d: sample_picture(d, noise(), keep=[])),
        ("boxes: shape .4,.", lambda d: sample_picture(d, noise(), boxes=torch.zeros(4))),
    ],
)
def test_mistakes_are_named(words, call):
    with pytest.raises(InputError, match=words):
        call(build())


def test_shapes_are_checked():
    points, modulation = np.zeros((2, 2, 1, 9, 2), np.float32), np.zeros((2, 2, 1, 9), np.float32)
    common = {"level": 0, "block": 0, "stride": 4, "offset_scale": 1.0}
    with pytest.raises(InputError, match="points has shape"):
        SamplingLayer(kernel=3, points=points[:1], modulation=modulation, **common)
    with pytest.raises(InputError, match="points has shape"):
        SamplingLayer(kernel=5, points=points, modulation=modulation, **common)
    with pytest.raises(InputError, match="expected uint8"):
        Sampling(picture=np.zeros((4, 4, 3)), layers=())
