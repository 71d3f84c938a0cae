"""What chapter 02 draws of a layer, held to the numbers that the layer itself handles."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.layers.dcnv3 import DCNv3
from cascade_lab.learn.sampling import far, strengths
from cascade_lab.sampling import SamplingLayer, sample_picture
from tests.tiny_detector import BACKBONE, config

PICTURE = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))
VARIANTS = {
    "pre-norm": replace(BACKBONE, depths=(1, 1, 2, 1)),
    "post-norm": replace(BACKBONE, depths=(1, 1, 2, 1), post_norm=True),
}


def build(backbone) -> Detector:
    torch.manual_seed(0)
    return Detector(replace(config(), backbone=backbone)).eval()


@pytest.mark.parametrize("backbone", VARIANTS.values(), ids=VARIANTS)
@pytest.mark.parametrize("level, block", [(0, 0), (1, 0), (2, 1)])
def test_strengths_are_those_of_what_the_operator_is_given(monkeypatch, backbone, level: int, block: int):
    given, sample = [], DCNv3.sample

    def recording(self, input, offset, logits):
        given.append(input)
        return sample(self, input, offset, logits)

    monkeypatch.setattr(DCNv3, "sample", recording)
    detector = build(backbone)
    sample_picture(detector, PICTURE)
    read = given[sum(backbone.depths[:level]) + block][0].numpy()
    stride, groups = backbone.strides[level], backbone.groups[level]
    drawn = strengths(detector, PICTURE, level=level, block=block)
    assert len(drawn) == groups and all(group.shape == (64, 96, 3) for group in drawn)
    for group, squares in enumerate(drawn):
        width = read.shape[-1] // groups
        norm = np.sqrt((read[..., group * width : (group + 1) * width].astype(np.float64) ** 2).sum(-1))
        expected = 255 * (norm - norm.min()) / (norm.max() - norm.min())
        for row, column in np.ndindex(*norm.shape):  # the cell of a map pixel lies around stride * j
            half, y, x = stride // 2, stride * row, stride * column
            cell = squares[max(0, y - half) : y + half, max(0, x - half) : x + half]
            assert abs(cell.astype(float) - expected[row, column]).max() <= 0.51


def test_a_fresh_layer_stays_in_the_field():
    layer = sample_picture(build(BACKBONE), PICTURE, keep={(1, 0)}).layers[0]
    assert not far(layer).any()


def test_far_counts_points_that_left_the_field():
    points = np.zeros((2, 3, 1, 9, 2), np.float32)
    points[..., 0] += np.arange(3).reshape(1, 3, 1, 1)
    points[..., 1] += np.arange(2).reshape(2, 1, 1, 1)
    points[1, 2, 0, 4, 0] += 1.6
    points[0, 0, 0, 7, 1] -= 1.6
    points[0, 1, 0, 1, 1] += 1.4
    modulation = np.full((2, 3, 1, 9), 1 / 9, np.float32)
    layer = SamplingLayer(
        level=1, block=0, stride=8, kernel=3, offset_scale=1.0, points=points, modulation=modulation
    )
    assert np.argwhere(far(layer)).tolist() == [[0, 0, 0, 7], [1, 2, 0, 4]]


@pytest.mark.parametrize("level, block", [(4, 0), (0, 1), (-1, 0), (2, -1)])
def test_layers_that_are_not_there(level: int, block: int):
    with pytest.raises(InputError, match="levels 0 to 3 have"):
        strengths(build(BACKBONE), PICTURE, level=level, block=block)
