"""Where a layer reads, held to the layer itself: what lies at those points is what it puts out."""

import pytest
import torch
from torch.nn import functional

from cascade_lab.backbones.internimage import InternImage, InternImageConfig
from cascade_lab.errors import InputError
from cascade_lab.learn.sampling import Sampling, sampling_of
from cascade_lab.structures import ImageBatch


def backbone(**options) -> InternImage:
    torch.manual_seed(0)
    config = InternImageConfig(
        channels=8, depths=(1, 1, 2, 1), groups=(1, 2, 4, 8), layer_scale=1.0, **options
    )
    made = InternImage(config).eval()
    for parameter in made.parameters():  # a fresh layer would move nothing
        torch.nn.init.normal_(parameter, std=0.3)
    return made


PICTURE = torch.randint(0, 256, (3, 64, 96), dtype=torch.uint8, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("options", [{}, {"post_norm": True, "offset_scale": 2.0}], ids=["pre", "post"])
@pytest.mark.parametrize("level, block", [(0, 0), (1, 0), (2, 1)])
@torch.no_grad()
def test_what_lies_at_the_points_is_the_output_of_the_layer(options: dict, level: int, block: int):
    made = backbone(**options)
    found = sampling_of(made, PICTURE, level=level, block=block)
    height, width, groups, _ = found.x.shape
    assert (height * found.stride, width * found.stride) == PICTURE.shape[1:]
    # Read at x, y with PyTorch's own sampler, weigh, add, project.
    grid = torch.stack([(2 * found.x + 1) / width - 1, (2 * found.y + 1) / height - 1], dim=-1)
    read = functional.grid_sample(
        found.map.permute(2, 3, 0, 1),
        grid.permute(2, 0, 1, 3, 4).reshape(groups, height, width * 9, 2),
        align_corners=False,
    ).view(groups, -1, height, width, 9)
    summed = (read * found.modulation.permute(2, 0, 1, 3).unsqueeze(1)).sum(-1)
    mine = made.levels[level].blocks[block].dcn.output_proj(summed.permute(2, 3, 0, 1).flatten(-2))

    x = made.stem(ImageBatch.collate([PICTURE]).pixels)
    for before in range(level):
        x = made.levels[before](x)[1]
    for before in range(block):
        x = made.levels[level].blocks[before](x)
    chosen = made.levels[level].blocks[block]
    expected = chosen.dcn(x if chosen.post_norm else chosen.norm1(x))[0]
    torch.testing.assert_close(mine, expected, atol=1e-3, rtol=1e-3)


def test_a_fresh_layer_reads_the_nine_pixels_around_an_output():
    torch.manual_seed(0)
    made = InternImage(InternImageConfig(channels=8, depths=(1, 1, 1, 1), groups=(1, 2, 4, 8)))
    found = sampling_of(made, PICTURE, level=1)
    assert not found.far().any() and found.modulation.eq(1 / 9).all()
    x, y = found.on_picture(3, 5)  # 8 pixels of the picture to one of the map
    assert x[0].unique().tolist() == [36, 44, 52] and y[0].unique().tolist() == [20, 28, 36]


def test_far_counts_points_that_left_the_field():
    x = torch.zeros(2, 3, 1, 9) + torch.arange(3).view(1, 3, 1, 1)
    y = torch.zeros(2, 3, 1, 9) + torch.arange(2).view(2, 1, 1, 1)
    x[1, 2, 0, 4] += 1.6
    y[0, 0, 0, 7] -= 1.6
    y[0, 1, 0, 1] += 1.4
    found = Sampling(map=torch.rand(2, 3, 1, 4), x=x, y=y, modulation=torch.full_like(x, 1 / 9), stride=8)
    assert found.far().nonzero().tolist() == [[0, 0, 0, 7], [1, 2, 0, 4]]
    squares = found.strength(0)
    assert squares.shape == (16, 24, 3) and squares.min() == 0 and squares.max() == 255
    assert (squares[:8, :8] == squares[0, 0]).all()


@pytest.mark.parametrize("level, block", [(4, 0), (0, 1), (-1, 0), (2, -1)])
def test_layers_that_are_not_there(level: int, block: int):
    with pytest.raises(InputError, match=r"there are levels 0 to 3 with \(1, 1, 2, 1\) blocks"):
        sampling_of(backbone(), PICTURE, level=level, block=block)
