"""The exercises of chapter 02: reading between pixels, nine points, softmax, and one output of DCNv3.

Expected values are worked by hand.
"""

from __future__ import annotations

from cascade_lab.learn.exercise import Case, Exercise

SQUARE = [[0, 10], [20, 40]]
NINE = [[1, 2, 3], [4, 5, 6], [7, 8, 9]]
STILL = [[0, 0]] * 9

BILINEAR = Exercise(
    id="02.1",
    name="bilinear",
    question=(
        "Return the value of a map at x, y, where whole numbers are pixel centres: the pixels around the "
        "position, each times 1 - its distance in x times 1 - its distance in y. What lies outside of the "
        "map is 0."
    ),
    cases=(
        Case(words="a position exactly on a pixel", inputs=(SQUARE, 1, 0), expected=10.0),
        Case(words="half way between two pixels of a row", inputs=(SQUARE, 0.5, 0), expected=5.0),
        Case(words="a quarter of the way down a column", inputs=(SQUARE, 0, 0.25), expected=5.0),
        Case(
            words="a position among four pixels",
            inputs=(SQUARE, 0.5, 0.25),
            expected=11.25,  # .375 * 0 + .375 * 10 + .125 * 20 + .125 * 40 = 3.75 + 2.5 + 5
        ),
        Case(words="a position in the middle of a larger map", inputs=(NINE, 1.5, 1.25), expected=6.25),
        Case(words="half a pixel outside on the left", inputs=(SQUARE, -0.5, 1), expected=10.0),
        Case(words="half a pixel outside below", inputs=(SQUARE, 1, 1.5), expected=20.0),
        Case(words="a position far outside", inputs=(SQUARE, 7, -3), expected=0.0),
    ),
    hints=(
        "Which whole numbers surround x? math.floor(x) is the one on the left, also where x is negative.",
        "Go over the four pixels: left and left + 1, top and top + 1. Skip those outside of the map, so that "
        "Python's picture[-1] cannot bite you. The weight of a pixel is (1 - abs(x - column)) * "
        "(1 - abs(y - row)).",
        "Start with total = 0, and in two loops over row in (top, top + 1) and column in (left, left + 1) "
        "add weight * picture[row][column] if 0 <= row < len(picture) and 0 <= column < len(picture[0]).",
    ),
    solution="""
import math


def my_bilinear(picture, x, y):
    left, top, total = math.floor(x), math.floor(y), 0.0
    for row in (top, top + 1):
        for column in (left, left + 1):
            if 0 <= row < len(picture) and 0 <= column < len(picture[0]):
                total += (1 - abs(x - column)) * (1 - abs(y - row)) * picture[row][column]
    return total
""",
)

POINTS = Exercise(
    id="02.2",
    name="points",
    question=(
        "Return the nine points [x, y] that one output reads, in DCNv3's order: down the left column of the "
        "kernel first, then down the middle one, then down the right one. A point is the output's own place, "
        "plus scale times (its place in the regular grid, plus its offset)."
    ),
    cases=(
        Case(
            words="no offsets: the regular grid, and its order",
            inputs=(5, 8, STILL, 1),
            expected=[[4, 7], [4, 8], [4, 9], [5, 7], [5, 8], [5, 9], [6, 7], [6, 8], [6, 9]],
        ),
        Case(
            words="one offset, of the point below the centre",
            inputs=(5, 8, [[0, 0]] * 5 + [[0.5, -2]] + [[0, 0]] * 3, 1),
            expected=[[4, 7], [4, 8], [4, 9], [5, 7], [5, 8], [5.5, 7], [6, 7], [6, 8], [6, 9]],
        ),
        Case(
            words="no offsets and a scale of 2, which stretches the grid",
            inputs=(0, 0, STILL, 2),
            expected=[[-2, -2], [-2, 0], [-2, 2], [0, -2], [0, 0], [0, 2], [2, -2], [2, 0], [2, 2]],
        ),
        Case(
            words="offsets that are all the same, and a scale of 2",
            inputs=(1, 3, [[1, 0.5]] * 9, 2),
            expected=[[1, 2], [1, 4], [1, 6], [3, 2], [3, 4], [3, 6], [5, 2], [5, 4], [5, 6]],
        ),
    ),
    hints=(
        "Two loops make the regular grid: -1, 0, 1 in x and -1, 0, 1 in y. Which of them has to be the outer "
        "one?",
        "Point number k lies in kernel column k // 3 and kernel row k % 3, so its place in the grid is "
        "(k // 3 - 1, k % 3 - 1).",
        "x of point k is column + scale * (k // 3 - 1 + offsets[k][0]), and y is the same with row, k % 3 "
        "and offsets[k][1].",
    ),
    solution="""
def my_points(column, row, offsets, scale):
    return [
        [column + scale * (k // 3 - 1 + offsets[k][0]), row + scale * (k % 3 - 1 + offsets[k][1])]
        for k in range(9)
    ]
""",
)

MODULATION = Exercise(
    id="02.3",
    name="modulation",
    question=(
        "logits holds nine numbers for every group, one group after the other. Return the nine weights of "
        "one group, counted from 0: exp of each of its logits, divided by the sum of the nine."
    ),
    cases=(
        Case(words="nine equal logits", inputs=([0.0] * 9, 0), expected=[1 / 9] * 9),
        Case(
            words="one logit of log 4, which counts four times as much",
            inputs=([1.3862944] + [0.0] * 8, 0),
            expected=[4 / 12] + [1 / 12] * 8,
        ),
        Case(
            words="the second of two groups",
            inputs=([0.0] * 9 + [0.0] * 8 + [0.6931472], 1),
            expected=[1 / 10] * 8 + [2 / 10],
        ),
        Case(
            words="the first of two groups",
            inputs=([0.0] * 9 + [3.0] * 4 + [0.0] * 5, 0),
            expected=[1 / 9] * 9,
        ),
        Case(
            words="logits of 1000, for which exp overflows",
            inputs=([1000.0] * 3 + [0.0] * 6, 0),
            expected=[1 / 3] * 3 + [0.0] * 6,
        ),
    ),
    hints=(
        "Cut out the nine logits of the group first: they begin at 9 * group.",
        "To subtract the same number from all nine logits changes nothing, since numerator and sum shrink by "
        "the same factor. Subtract the largest, and exp can never overflow.",
        "With own = logits[9 * group : 9 * group + 9] and powers = [math.exp(v - max(own)) for v in own], "
        "divide each power by sum(powers).",
    ),
    solution="""
import math


def my_modulation(logits, group):
    own = logits[9 * group : 9 * group + 9]
    powers = [math.exp(value - max(own)) for value in own]
    return [power / sum(powers) for power in powers]
""",
)

DCNV3 = Exercise(
    id="02.4",
    name="dcnv3",
    question=(
        "Return one output of DCNv3, for one group with one channel: the sum over nine points of softmax "
        "weight times the map's value there. Use what you have written above."
    ),
    cases=(
        Case(
            words="a map of ones, away from its border",
            inputs=([[1] * 5] * 5, 2, 2, STILL, [0.0] * 9),
            expected=1.0,
        ),
        Case(
            words="the corner of a map of ones: five of the nine points lie outside",
            inputs=([[1] * 5] * 5, 0, 0, STILL, [0.0] * 9),
            expected=4 / 9,
        ),
        Case(
            words="all the weight on point 1, which is the pixel on the left",
            inputs=(NINE, 1, 1, STILL, [0.0, 90.0] + [0.0] * 7),
            expected=4.0,
        ),
        Case(
            words="all the weight on point 4, moved half a pixel to the right and half a pixel down",
            inputs=(NINE, 1, 1, [[0.5, 0.5]] * 9, [0.0] * 4 + [90.0] + [0.0] * 4),
            expected=7.0,
        ),
        Case(
            words="equal weights, all points moved one pixel to the right: the last column is empty",
            inputs=(NINE, 1, 1, [[1, 0]] * 9, [0.0] * 9),
            expected=33 / 9,
        ),
    ),
    hints=(
        "my_points gives nine positions (the scale is 1), my_modulation nine weights (the group is 0), and "
        "my_bilinear the value at one position.",
        "zip(my_points(...), my_modulation(...)) goes over both at once.",
        "sum(m * my_bilinear(picture, x, y) for (x, y), m in zip(points, weights))",
    ),
    solution="""
import math


def my_dcnv3(picture, column, row, offsets, logits):
    powers = [math.exp(value - max(logits)) for value in logits]
    total = 0.0
    for k, (dx, dy) in enumerate(offsets):
        x, y = column + k // 3 - 1 + dx, row + k % 3 - 1 + dy
        for i in (math.floor(y), math.floor(y) + 1):
            for j in (math.floor(x), math.floor(x) + 1):
                if 0 <= i < len(picture) and 0 <= j < len(picture[0]):
                    near = (1 - abs(x - j)) * (1 - abs(y - i))
                    total += powers[k] / sum(powers) * near * picture[i][j]
    return total
""",
)

CHAPTER_02 = (BILINEAR, POINTS, MODULATION, DCNV3)
