"""The anchor grid, counted by hand."""

import torch
from torch.testing import assert_close

from cascade_lab.ops.anchors import base_anchors, grid_anchors, inside, on_picture


def test_base_anchors_by_hand():
    # Area 32 x 32; ratio 4 (height over width) is 16 wide and 64 high.
    base = base_anchors(4, (8,), (0.25, 1, 4))
    assert_close(base, torch.tensor([[-32.0, -8, 32, 8], [-16, -16, 16, 16], [-8, -32, 8, 32]]))


def test_scales_vary_fastest():
    base = base_anchors(2, (1, 3), (1, 4))
    widths = (base[:, 2] - base[:, 0]).tolist()
    assert widths == [2, 6, 1, 3]
    assert_close((base[:, 2:] - base[:, :2]).prod(1), torch.tensor([4.0, 36, 4, 36]))


def test_grid_runs_along_the_row_first():
    base = torch.tensor([[-1.0, -1, 1, 1], [-2, -2, 2, 2]])
    anchors = grid_anchors(base, (2, 3), 10)
    assert anchors.shape == (12, 4)
    centres = ((anchors[:, :2] + anchors[:, 2:]) / 2).tolist()
    # No half stride: the first anchor is centred on the corner of the picture.
    assert centres[::2] == [[0, 0], [10, 0], [20, 0], [0, 10], [10, 10], [20, 10]]
    assert centres[::2] == centres[1::2]
    assert anchors[3].tolist() == [8, -2, 12, 2]


def test_inside_is_strict_at_the_far_edges_only():
    anchors = torch.tensor([[0.0, 0, 19, 9], [-1, 0, 5, 5], [0, 0, 20, 9], [0, 0, 19, 10], [4, 4, 21, 5]])
    assert inside(anchors, (10, 20), 0).tolist() == [True, False, False, False, False]
    assert inside(anchors, (10, 20), 1).tolist() == [True, True, True, True, False]
    assert inside(anchors, (10, 20), -1).all()


def test_on_picture_leaves_out_the_padding_of_the_batch():
    # 9 pixels high, 20 wide: 3 rows of 4 pixels begin inside (0, 4, 8), and 5 columns.
    flags = on_picture((4, 6), (9, 20), 4, shapes=2).view(4, 6, 2)
    assert flags[:3, :5].all() and not flags[3:].any() and not flags[:, 5:].any()
