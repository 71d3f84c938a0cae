"""Masks: cropping and pasting against pictures drawn by hand, runs against counting pixel by pixel."""

import numpy as np
import pytest
import torch
from torch import Tensor

from cascade_lab.kernels import host_compiler
from cascade_lab.ops import masks as module
from cascade_lab.ops.masks import (
    crop_masks,
    decode_rle,
    encode_rle,
    paste_masks,
    polygons_to_mask,
    sample_mask,
)

needs_compiler = pytest.mark.skipif(host_compiler.find() is None, reason="no C++ compiler on the PATH")


def drawing(text: str) -> Tensor:
    return torch.tensor([[cell == "#" for cell in line.strip()] for line in text.strip().splitlines()])


STEPS = drawing(
    """
    ##......
    ####....
    ######..
    ########
    """
)


def test_crop_of_the_whole_mask_is_the_mask():
    square = STEPS[:, :4]
    cropped = crop_masks(square[None], torch.tensor([[0.0, 0, 4, 4]]), torch.tensor([0]), 4)
    assert cropped.dtype == torch.float32
    assert torch.equal(cropped[0].bool(), square)


def test_a_half_covered_cell_counts():
    cropped = crop_masks(STEPS[None], torch.tensor([[0.0, 0, 8, 2]]), torch.tensor([0]), 2)
    # Cells of 1 x 4 pixels: 2 of 4 set; none; all; none.
    assert cropped[0].tolist() == [[1, 0], [1, 0]]


def test_boxes_are_clipped_to_the_mask_before_the_crop():
    rows = torch.zeros(2, dtype=torch.int64)
    inside, outside = crop_masks(STEPS[None], torch.tensor([[0.0, 0, 8, 4], [-90, -5, 800, 40]]), rows, 5)
    assert torch.equal(inside, outside)


def test_rows_pick_masks_whatever_the_chunk(monkeypatch: pytest.MonkeyPatch):
    generator = torch.Generator().manual_seed(0)
    stack = torch.rand(7, 12, 9, generator=generator) > 0.5
    corner = torch.rand(20, 2, generator=generator) * 6
    boxes = torch.cat([corner, corner + 3], dim=1)
    rows = torch.randint(0, 7, (20,), generator=generator)
    together = crop_masks(stack, boxes, rows, 4)
    monkeypatch.setattr(module, "CHUNK_PIXELS", 2 * 12 * 9)
    assert torch.equal(crop_masks(stack, boxes, rows, 4), together)
    alone = [
        crop_masks(stack[r, None], b[None], torch.tensor([0]), 4)[0] for r, b in zip(rows, boxes, strict=True)
    ]
    assert torch.equal(together, torch.stack(alone))


def test_crop_of_nothing():
    none = torch.zeros(0, dtype=torch.int64)
    assert crop_masks(STEPS[None], torch.zeros(0, 4), none, 28).shape == (0, 28, 28)
    assert crop_masks(STEPS[None][:0], torch.zeros(0, 4), none, 28).shape == (0, 28, 28)


def test_paste_onto_whole_pixels_is_a_copy():
    square = STEPS[:, :4].float()
    pasted = paste_masks(square[None], torch.tensor([[3.0, 2, 7, 6]]), (8, 9))
    expected = torch.zeros(8, 9, dtype=torch.bool)
    expected[2:6, 3:7] = STEPS[:, :4]
    assert torch.equal(pasted[0], expected)


def test_paste_enlarges():
    pasted = paste_masks(torch.ones(1, 28, 28), torch.tensor([[10.0, 5, 50, 25]]), (30, 60))[0]
    expected = torch.zeros(30, 60, dtype=torch.bool)
    expected[5:25, 10:50] = True
    assert torch.equal(pasted, expected)


def by_pixel(score: Tensor, box: list[float], size: tuple[int, int]) -> Tensor:
    """Interpolate every pixel of the picture with plain loops, zero outside the mask."""
    side, (x1, y1, x2, y2) = len(score), box
    values = torch.zeros(size)
    for y in range(size[0]):
        for x in range(size[1]):
            u = (x + 0.5 - x1) / (x2 - x1) * side - 0.5
            v = (y + 0.5 - y1) / (y2 - y1) * side - 0.5
            for row in range(side):
                for column in range(side):
                    weight = max(0.0, 1 - abs(v - row)) * max(0.0, 1 - abs(u - column))
                    values[y, x] += weight * float(score[row, column])
    return values


@needs_compiler
def test_kernel_equals_the_reference(monkeypatch: pytest.MonkeyPatch):
    """Boxes inside, across and beyond every edge, without width, without height, inverted."""
    generator = torch.Generator().manual_seed(0)
    centre = torch.rand(60, 2, generator=generator) * torch.tensor([90.0, 70.0])
    half = torch.rand(60, 2, generator=generator) * 40
    boxes = torch.cat([centre - half, centre + half], dim=1)
    boxes[0, 2], boxes[1, 3], boxes[2] = boxes[0, 0], boxes[1, 1], torch.tensor([60.0, 50.0, 20.0, 10.0])
    boxes[3], boxes[4] = torch.tensor([-90.0, -90, -20, -20]), torch.tensor([0.0, 0.0, 90.0, 70.0])
    scores = torch.rand(60, 28, 28, generator=generator)
    pasted = paste_masks(scores, boxes, (70, 90))
    monkeypatch.setattr(module, "machine_for", lambda device: None)
    expected = paste_masks(scores, boxes, (70, 90))
    assert pasted.any() and (pasted != expected).sum() <= 1, "one pixel in a million lies on the threshold"


@needs_compiler
def test_pasting_nothing():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)


@pytest.mark.parametrize(
    "box", [[2.3, 1.6, 13.9, 9.2], [-4.0, -3.5, 6.2, 5.0], [9.0, 4.0, 30.0, 22.0], [5.2, 5.1, 5.9, 5.8]]
)
def test_paste_by_pixel(box: list[float]):
    score = torch.rand(4, 4, generator=torch.Generator().manual_seed(3))
    expected = by_pixel(score, box, (11, 15))
    soft = sample_mask(score, torch.tensor(box), range(11), range(15))
    torch.testing.assert_close(soft, expected, atol=1e-5, rtol=0)
    sure = (expected - 0.5).abs() > 1e-5
    pasted = paste_masks(score[None], torch.tensor([box]), (11, 15))[0]
    assert torch.equal(pasted[sure], expected[sure] >= 0.5)


def test_threshold_is_reached_by_equality():
    box = torch.tensor([[0.0, 0, 4, 4]])
    assert paste_masks(torch.full((1, 4, 4), 0.5), box, (4, 4)).all()
    assert not paste_masks(torch.full((1, 4, 4), 0.5), box, (4, 4), threshold=0.6).any()


def test_boxes_off_the_picture_and_without_width():
    boxes = torch.tensor([[50.0, 50, 60, 60], [-30, -30, -20, -20], [3, 2, 3, 6], [6, 6, 2, 2]])
    pasted = paste_masks(torch.ones(4, 28, 28), boxes, (10, 10))
    assert not pasted[0].any() and not pasted[1].any() and not pasted[3].any()
    # As published: the rim of a box without width answers with the middle of the mask.
    assert pasted[2].sum() == 2 * 4 and pasted[2, 2:6, 2:4].all()


def test_paste_of_nothing():
    assert paste_masks(torch.zeros(0, 28, 28), torch.zeros(0, 4), (5, 6)).shape == (0, 5, 6)


def test_polygon_of_a_rectangle():
    mask = polygons_to_mask([[1, 1, 5, 1, 5, 3, 1, 3]], (6, 8))
    expected = np.zeros((6, 8), dtype=bool)
    expected[1:3, 1:5] = True
    assert mask.dtype == bool and np.array_equal(mask, expected)


def test_polygons_are_united():
    left, right = [0, 0, 4, 0, 4, 4, 0, 4], [2, 2, 6, 2, 6, 6, 2, 6]
    both = polygons_to_mask([left, right], (8, 8))
    assert np.array_equal(both, polygons_to_mask([left], (8, 8)) | polygons_to_mask([right], (8, 8)))
    assert both.sum() == 16 + 16 - 4
    assert polygons_to_mask([], (3, 5)).shape == (3, 5) and not polygons_to_mask([], (3, 5)).any()


@pytest.mark.parametrize("polygon", [[], [1, 1, 5, 5], [1, 1, 5, 1, 5, 3, 1]])
def test_polygon_of_too_few_points(polygon: list[float]):
    with pytest.raises(ValueError, match="polygon 0 has"):
        polygons_to_mask([polygon], (6, 8))


@pytest.mark.parametrize(
    "runs",
    [
        [0, 8, 1, 3, 1, 3, 2, 2, 2, 2, 3, 1, 3, 1],  # STEPS, column by column, zeros first
        [0, 4, 0, 4, 1, 3, 1, 3, 2, 2, 2, 2, 3, 1, 3, 1],  # a run may be empty
    ],
)
def test_runs_go_down_the_columns(runs: list[int]):
    assert np.array_equal(decode_rle({"size": [4, 8], "counts": runs}), STEPS.numpy())


@pytest.mark.parametrize("share", [0.02, 0.5, 0.98])
def test_rle_of_noise(share: float):
    # Long and short runs, growing and shrinking: every case of the packing. encode_rle is pycocotools' own.
    noise = np.random.default_rng(0).random((53, 71)) < share
    assert np.array_equal(decode_rle(encode_rle(noise)), noise)


def test_rle_round_trip():
    packed = encode_rle(STEPS)
    assert packed["size"] == [4, 8] and isinstance(packed["counts"], str)
    assert packed == encode_rle(STEPS.numpy())
    assert np.array_equal(decode_rle(packed), STEPS.numpy())
    assert np.array_equal(decode_rle({**packed, "counts": packed["counts"].encode()}), STEPS.numpy())
    for flat in (np.zeros((3, 7), bool), np.ones((3, 7), bool)):
        assert np.array_equal(decode_rle(encode_rle(flat)), flat)


@pytest.mark.parametrize("counts", [[], [31], [33], [40, -8], "", "o0", "P2"])
def test_runs_that_do_not_fill_their_size(counts: list[int]):
    with pytest.raises(ValueError, match="do not fill 4 x 8"):
        decode_rle({"size": [4, 8], "counts": counts})
