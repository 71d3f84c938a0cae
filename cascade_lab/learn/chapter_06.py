"""The exercises of chapter 06: the pyramid level of a box, the samples and the mean of a bin, decoding.

Expected values are worked by hand.
"""

from __future__ import annotations

import torch

from cascade_lab.learn.exercise import Case, Exercise

LEVEL = Exercise(
    id="06.1",
    name="level",
    question=(
        "Return the pyramid level that a box x1, y1, x2, y2 is read from: 0 for the finest of the levels. "
        "Take the side of a square with the same area, count how many times it doubles the canonical side, "
        "round that down, and stay within 0 and levels - 1."
    ),
    cases=(
        Case(words="a square of the canonical side", inputs=([0, 0, 56, 56], 4, 56), expected=0),
        Case(words="a square of twice the canonical side", inputs=([10, 20, 122, 132], 4, 56), expected=1),
        Case(words="a square a little smaller than that", inputs=([0, 0, 110, 110], 4, 56), expected=0),
        Case(
            words="a box twice as wide and half as high as one of level 1",
            inputs=([0, 0, 224, 56], 4, 56),
            expected=1,
        ),
        Case(words="a box much smaller than the canonical side", inputs=([5, 5, 15, 15], 4, 56), expected=0),
        Case(
            words="a box that is too large even for the coarsest level",
            inputs=([0, 0, 2000, 2000], 4, 56),
            expected=3,
        ),
        Case(words="another canonical side and fewer levels", inputs=([0, 0, 70, 70], 3, 32), expected=1),
    ),
    hints=(
        "The side is the square root of width times height, so that a long, flat box is no exception.",
        "How many times does 2 fit as a factor between the canonical side and the side? This is the "
        "logarithm to the base 2 of their ratio: math.log2.",
        "The level is math.floor(math.log2(side / canonical)), cut off below at 0 and above at levels - 1 "
        "with max and min.",
    ),
    solution="""
import math


def my_level(box, levels, canonical):
    side = math.sqrt((box[2] - box[0]) * (box[3] - box[1]))
    return max(0, min(levels - 1, math.floor(math.log2(side / canonical))))
""",
)

POSITIONS = Exercise(
    id="06.2",
    name="positions",
    question=(
        "One side of a box reaches from start to end. Cut it into equal bins, and put the given number of "
        "samples into each, evenly and never on its border. Return all positions from start to end in one "
        "list."
    ),
    cases=(
        Case(words="two bins with one sample each", inputs=(0, 4, 2, 1), expected=[1, 3]),
        Case(words="two bins with two samples each", inputs=(0, 4, 2, 2), expected=[0.5, 1.5, 2.5, 3.5]),
        Case(words="a side that does not start at 0", inputs=(2, 5, 3, 1), expected=[2.5, 3.5, 4.5]),
        Case(words="a side shorter than one cell", inputs=(1, 2, 2, 1), expected=[1.25, 1.75]),
        Case(
            words="a side that starts before the map, and three samples a bin",
            inputs=(-1.5, 4.5, 2, 3),
            expected=[-1, 0, 1, 2, 3, 4],
        ),
    ),
    hints=(
        "All samples of all bins have the same distance from each other. How many are there on the side?",
        "Their distance is (end - start) / (bins * samples), and the first lies half of it behind start.",
        "step = (end - start) / (bins * samples), and sample number k lies at start + (k + 0.5) * step.",
    ),
    solution="""
def my_positions(start, end, bins, samples):
    step = (end - start) / (bins * samples)
    return [start + (k + 0.5) * step for k in range(bins * samples)]
""",
)

NINE = torch.tensor([[0.0, 1, 2], [3, 4, 5], [6, 7, 8]])
LAMP = torch.tensor([[0.0, 0, 9], [0, 0, 0], [0, 0, 0]])

BIN_MEAN = Exercise(
    id="06.3",
    name="bin_mean",
    question=(
        "values is one channel of a feature map, with rows and columns; position 0 is the middle of its "
        "first cell. A bin takes a sample at every one of the given rows together with every one of the "
        "columns. Read each sample as the bilinear mix of the four nearest cells, and return the mean."
    ),
    cases=(
        Case(words="one sample in the middle of a cell", inputs=(NINE, [1], [2]), expected=5.0),
        Case(words="one sample halfway between two columns", inputs=(NINE, [0], [0.5]), expected=0.5),
        Case(
            words="one sample between four cells, a quarter of the way to the right",
            inputs=(torch.tensor([[0.0, 4], [8, 100]]), [0.5], [0.25]),
            expected=16.0,  # above 1, below 31
        ),
        Case(
            words="two rows and two columns, hence four samples",
            inputs=(LAMP, [0, 1], [1.5, 2]),
            expected=3.375,  # 4.5, 9, 0 and 0
        ),
        Case(words="samples in the last row and the last column", inputs=(NINE, [2], [1, 2]), expected=7.5),
    ),
    hints=(
        "Write a bilinear read of one place first, as in chapter 02: the cell before the place and the one "
        "after it, in both directions, each weighted by how near it is.",
        "With y0 = int(y) and fy = y - y0, the row above counts 1 - fy and the row below counts fy. In the "
        "last row there is none below: take the last row again with min(y0 + 1, rows - 1).",
        "Collect the reads in two nested loops, for y in rows: for x in columns, and divide their sum by "
        "len(rows) * len(columns).",
    ),
    solution="""
def my_bin_mean(values, rows, columns):
    total = 0.0
    for y in rows:
        for x in columns:
            y0, x0 = int(y), int(x)
            y1, x1 = min(y0 + 1, values.shape[0] - 1), min(x0 + 1, values.shape[1] - 1)
            fy, fx = y - y0, x - x0
            above = values[y0, x0] * (1 - fx) + values[y0, x1] * fx
            below = values[y1, x0] * (1 - fx) + values[y1, x1] * fx
            total += above * (1 - fy) + below * fy
    return total / (len(rows) * len(columns))
""",
)

DECODE = Exercise(
    id="06.4",
    name="decode",
    question=(
        "A head answers with four deltas that were divided by std. Return the box x1, y1, x2, y2 to which "
        "they move the proposal."
    ),
    cases=(
        Case(
            words="deltas of zero leave the proposal where it is",
            inputs=([4, 4, 8, 10], [0, 0, 0, 0], [0.1, 0.1, 0.2, 0.2]),
            expected=[4, 4, 8, 10],
        ),
        Case(
            words="a move of half a width to the right, with stds of 1",
            inputs=([0, 0, 20, 10], [0.5, 0, 0, 0], [1, 1, 1, 1]),
            expected=[10, 0, 30, 10],
        ),
        Case(
            words="twice the width and half the height, with stds of 1",
            inputs=([0, 0, 20, 40], [0, 0, 0.693147, -0.693147], [1, 1, 1, 1]),
            expected=[-10, 10, 30, 30],
        ),
        Case(
            words="the stds of the first stage",
            inputs=([0, 0, 20, 40], [1, -1, 0, 0], [0.1, 0.1, 0.2, 0.2]),
            expected=[2, -4, 22, 36],
        ),
        Case(
            words="a move and a change of size at once, with stds that differ",
            inputs=([10, 10, 30, 30], [5, 10, 3.465736, -6.931472], [0.1, 0.05, 0.2, 0.1]),
            expected=[10, 25, 50, 35],  # centre 20 + 10 each way; width 20 * 2, height 20 / 2
        ),
    ),
    hints=(
        "It is exercise 01.3 backwards, so undo its last step first: multiply every delta by its std.",
        "The new centre is the old one plus dx widths of the proposal. The new width is the old one times "
        "math.exp(dw).",
        "With centre x, y and size w, h of the proposal: x + dx * w, y + dy * h, w * exp(dw), h * exp(dh). "
        "Go back to corners with half of the new size.",
    ),
    solution="""
import math


def my_decode(proposal, deltas, std):
    x1, y1, x2, y2 = proposal
    dx, dy, dw, dh = [delta * s for delta, s in zip(deltas, std)]
    x, y = (x1 + x2) / 2 + dx * (x2 - x1), (y1 + y2) / 2 + dy * (y2 - y1)
    w, h = (x2 - x1) * math.exp(dw), (y2 - y1) * math.exp(dh)
    return [x - w / 2, y - h / 2, x + w / 2, y + h / 2]
""",
)

CHAPTER_06 = (LEVEL, POSITIONS, BIN_MEAN, DECODE)
