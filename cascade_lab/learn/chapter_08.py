"""The exercises of chapter 08: the target of the mask head, its way back, votes, and runs.

Expected values are worked by hand.
"""

from __future__ import annotations

import torch

from cascade_lab.learn.exercise import Case, Exercise

STAIRS = torch.tensor([[1, 1, 1, 1], [1, 1, 1, 1], [1, 1, 0, 0], [1, 0, 0, 0]])

MASK_TARGET = Exercise(
    id="08.1",
    name="mask_target",
    question=(
        "Return what the mask head should answer for a box: a table of size x size cells, 1 where at least "
        "half of the pixels in the cell belong to the object, else 0. The mask is a tensor of zeros and "
        "ones, the box x1, y1, x2, y2 has whole numbers, and its sides can be divided by size."
    ),
    cases=(
        Case(
            words="a box of the whole mask, with cells of two by two pixels",
            inputs=(STAIRS, [0, 0, 4, 4], 2),
            expected=[[1, 1], [1, 0]],  # 4, 4, 3 and 0 pixels of 4
        ),
        Case(
            words="cells of a single pixel, in a box that does not start at 0",
            inputs=(STAIRS, [2, 1, 4, 3], 2),
            expected=[[1, 1], [0, 0]],
        ),
        Case(
            words="a cell that is covered by exactly half",
            inputs=(STAIRS, [2, 0, 3, 4], 1),
            expected=[[1]],  # 2 pixels of 4
        ),
        Case(
            words="a cell that is covered by less than half",
            inputs=(STAIRS, [1, 2, 3, 4], 1),
            expected=[[0]],  # 1 of 4
        ),
        Case(
            words="cells that are wider than high",
            inputs=(torch.tensor([[0, 1, 0, 0], [0, 1, 1, 1]]), [0, 0, 4, 2], 2),
            expected=[[1, 0], [1, 1]],  # 1 of 2, 0 of 2, 1 of 2, 2 of 2
        ),
    ),
    hints=(
        "Cut the part of the mask under the box out first: rows y1 to y2, columns x1 to x2.",
        "Every cell is (y2 - y1) / size pixels high and (x2 - x1) / size wide. The mean of its zeros and "
        "ones is the share that is covered; compare it with a half, and let an exact half count.",
        "After part = mask[y1:y2, x1:x2].float(), part.reshape(size, height, size, width) has a cell in "
        "the second and fourth direction; .mean(dim=(1, 3)) averages over both.",
    ),
    solution="""
def my_mask_target(mask, box, size):
    x1, y1, x2, y2 = box
    part = mask[y1:y2, x1:x2].float()
    height, width = (y2 - y1) // size, (x2 - x1) // size
    covered = part.reshape(size, height, size, width).mean(dim=(1, 3))
    return (covered >= 0.5).int()
""",
)

MASK_VALUE = Exercise(
    id="08.2",
    name="mask_value",
    question=(
        "Return the value that a pixel of the picture reads from a mask. The mask is a square list of "
        "rows, it is stretched over the box x1, y1, x2, y2, and the pixel in row y and column x asks at "
        "its centre. Read between the four nearest cell centres, in proportion to how near they are; cells "
        "outside the mask are 0."
    ),
    cases=(
        Case(
            words="a pixel that lies on the centre of a cell, the box as large as the mask",
            inputs=([[0.1, 0.2], [0.3, 0.4]], [0, 0, 2, 2], 1, 0),
            expected=0.2,
        ),
        Case(
            words="a pixel in the middle of a box, between four cells",
            inputs=([[0.0, 1.0], [0.0, 0.6]], [0, 0, 3, 3], 1, 1),
            expected=0.4,  # the mean of the four
        ),
        Case(
            words="a pixel between two cells, nearer to the second",
            inputs=([[0.0, 1.0], [0.0, 1.0]], [0, 0, 8, 2], 4, 0),
            expected=0.625,  # at 4.5 of 8 pixels; cell centres at 2 and 6
        ),
        Case(
            words="a box that lies between the pixels",
            inputs=([[0.0, 1.0], [0.0, 1.0]], [0.5, 0, 8.5, 2], 4, 0),
            expected=0.5,
        ),
        Case(
            words="a pixel inside the box and beyond the last cell centre, where the mask fades to 0",
            inputs=([[1.0, 1.0], [1.0, 1.0]], [0, 0, 8, 2], 7, 0),
            expected=0.625,  # 1.5 pixels of 4 beyond the last centre
        ),
        Case(
            words="a pixel far outside the box",
            inputs=([[1.0, 1.0], [1.0, 1.0]], [0, 0, 4, 4], 20, 1),
            expected=0.0,
        ),
    ),
    hints=(
        "The centre of the pixel is at x + 0.5 and y + 0.5. How many cells is it away from the left edge "
        "of the box?",
        "In cells, counted from the centre of the first one, it lies at u = (x + 0.5 - x1) / (x2 - x1) * "
        "size - 0.5. Take floor(u) and the cell after it; the second gets the share u - floor(u), the "
        "first gets the rest. The same with y and v.",
        "Sum mask[j][i] * (1 - abs(u - i)) * (1 - abs(v - j)) over i in (floor(u), floor(u) + 1) and over "
        "j likewise, leaving out any i or j that is not in range(size).",
    ),
    solution="""
from math import floor


def my_mask_value(mask, box, x, y):
    size, (x1, y1, x2, y2) = len(mask), box
    u = (x + 0.5 - x1) / (x2 - x1) * size - 0.5
    v = (y + 0.5 - y1) / (y2 - y1) * size - 0.5
    value = 0.0
    for i in (floor(u), floor(u) + 1):
        for j in (floor(v), floor(v) + 1):
            if i in range(size) and j in range(size):
                value += mask[j][i] * (1 - abs(u - i)) * (1 - abs(v - j))
    return value
""",
)

MASK_VOTE = Exercise(
    id="08.3",
    name="mask_vote",
    question=(
        "Several stages gave a logit for the same cell. Return the share that the official code compares "
        "with 0.5: the mean of what the sigmoid makes of each."
    ),
    cases=(
        Case(words="three stages that do not know", inputs=([0.0, 0.0, 0.0],), expected=0.5),
        Case(words="a single stage", inputs=([1.0],), expected=0.731059),  # 1 / (1 + exp(-1))
        Case(words="two stages of opposite opinion", inputs=([2.0, -2.0],), expected=0.5),
        Case(
            words="one stage that is very sure, against two that are a little unsure",
            inputs=([8.0, -1.0, -1.0],),
            expected=0.512515,  # (0.999665 + 2 * 0.268941) / 3
        ),
        Case(
            words="one stage that is extremely sure: its vote counts 1 and no more",
            inputs=([60.0, -2.0, -2.0],),
            expected=0.412802,  # (1 + 2 * 0.119203) / 3
        ),
    ),
    hints=(
        "A logit goes from minus to plus infinity, a vote from 0 to 1. Which of the two do you average?",
        "The sigmoid of a logit z is 1 / (1 + exp(-z)). Apply it to every stage by itself, and take the "
        "mean last.",
        "votes = [1 / (1 + math.exp(-z)) for z in logits], after import math. The last line divides their "
        "sum.",
    ),
    solution="""
import math


def my_mask_vote(logits):
    votes = [1 / (1 + math.exp(-z)) for z in logits]
    return sum(votes) / len(votes)
""",
)

MASK_FROM_RUNS = Exercise(
    id="08.4",
    name="mask_from_runs",
    question=(
        "Return the mask of some COCO runs as a list of rows with zeros and ones. The runs count pixels "
        "down the first column, then down the second, and so on: first zeros, then ones, then zeros again."
    ),
    cases=(
        Case(words="a mask of one column", inputs=([1, 2], 3, 1), expected=[[0], [1], [1]]),
        Case(
            words="runs that go on into the next column",
            inputs=([2, 3, 1], 2, 3),
            expected=[[0, 1, 1], [0, 1, 0]],
        ),
        Case(
            words="a mask that begins with a one, so that the first run is 0",
            inputs=([0, 1, 3], 2, 2),
            expected=[[1, 0], [0, 0]],
        ),
        Case(words="an empty mask", inputs=([6], 2, 3), expected=[[0, 0, 0], [0, 0, 0]]),
        Case(
            words="a mask that is higher than wide",
            inputs=([1, 1, 3, 1], 3, 2),
            expected=[[0, 0], [1, 0], [0, 1]],
        ),
    ),
    hints=(
        "Write all pixels into one long list first; each run adds as many equal values as it says.",
        "The runs take turns: those at even places are zeros, those at odd places ones. In the long list, "
        "the pixel in row y and column x stands at place x * height + y.",
        "pixels = [] and then, for place, run in enumerate(runs): pixels += [place % 2] * run. The last "
        "line picks the places for every row.",
    ),
    solution="""
def my_mask_from_runs(runs, height, width):
    pixels = []
    for place, run in enumerate(runs):
        pixels += [place % 2] * run
    return [[pixels[x * height + y] for x in range(width)] for y in range(height)]
""",
)

CHAPTER_08 = (MASK_TARGET, MASK_VALUE, MASK_VOTE, MASK_FROM_RUNS)
