"""The exercises of chapter 03: addresses, threads, and what the backward adds where.

Expected values are worked by hand.
"""

from __future__ import annotations

from cascade_lab.learn.exercise import Case, Exercise

ELEMENT = Exercise(
    id="03.1",
    name="element",
    question=(
        "A tensor of shape (N, H, W, C) lies in memory as one long line of numbers, the channels of a pixel "
        "side by side. Return the number of the element [n, y, x, c], counted from 0; size is [H, W, C]."
    ),
    cases=(
        Case(words="the very first element", inputs=(0, 0, 0, 0, [5, 6, 8]), expected=0),
        Case(words="the fourth channel of the first pixel", inputs=(0, 0, 0, 3, [5, 6, 8]), expected=3),
        Case(words="one pixel to the right", inputs=(0, 0, 1, 0, [5, 6, 8]), expected=8),
        Case(words="one pixel down", inputs=(0, 1, 0, 0, [5, 6, 8]), expected=48),
        Case(words="the second picture", inputs=(1, 0, 0, 0, [5, 6, 8]), expected=240),
        Case(words="all at once", inputs=(2, 3, 4, 5, [5, 6, 8]), expected=661),  # 480 + 144 + 32 + 5
        Case(words="another size", inputs=(1, 1, 1, 1, [2, 3, 4]), expected=41),  # 24 + 12 + 4 + 1
    ),
    hints=(
        "How many numbers do you skip when you go one pixel to the right? And one pixel down?",
        "One to the right skips C numbers, one down W * C, and one picture on H * W * C.",
        "Add up: n * H * W * C, y * W * C, x * C, and c.",
    ),
    solution="""
def my_element(n, y, x, c, size):
    height, width, channels = size
    return ((n * height + y) * width + x) * channels + c
""",
)

OUTPUT_OF = Exercise(
    id="03.2",
    name="output_of",
    question=(
        "Blocks of block_size = [across, down] threads share the outputs of one map: along x every thread "
        "has a group, along y the pixels are counted row by row, and block number b begins where block b - 1 "
        "ended. Return [row, column, group] of the output that thread (thread_x, thread_y) of a block makes, "
        "or [] if there is none left for it. size is [height, width]."
    ),
    cases=(
        Case(words="the first thread of all", inputs=(0, 0, 0, [2, 128], [5, 6]), expected=[0, 0, 0]),
        Case(
            words="its neighbour along x has the next group",
            inputs=(0, 1, 0, [2, 128], [5, 6]),
            expected=[0, 0, 1],
        ),
        Case(
            words="its neighbour along y has the next pixel",
            inputs=(0, 0, 1, [2, 128], [5, 6]),
            expected=[0, 1, 0],
        ),
        Case(words="a pixel in the third row", inputs=(0, 0, 14, [2, 128], [5, 6]), expected=[2, 2, 0]),
        Case(words="a thread of the second block", inputs=(1, 3, 5, [8, 32], [10, 10]), expected=[3, 7, 3]),
        Case(words="the last output", inputs=(0, 1, 29, [2, 128], [5, 6]), expected=[4, 5, 1]),
        Case(words="a thread to spare", inputs=(0, 0, 30, [2, 128], [5, 6]), expected=[]),
    ),
    hints=(
        "First find the number of the pixel, counted row by row from 0. How many pixels have the blocks "
        "before this one taken?",
        "The pixel is block * block_size[1] + thread_y. If it is height * width or more, nothing is left.",
        "divmod(pixel, width) gives row and column; the group is thread_x.",
    ),
    solution="""
def my_output_of(block, thread_x, thread_y, block_size, size):
    pixel = block * block_size[1] + thread_y
    if pixel >= size[0] * size[1]:
        return []
    return [pixel // size[1], pixel % size[1], thread_x]
""",
)

SCATTER = Exercise(
    id="03.3",
    name="scatter",
    question=(
        "In the forward pass a thread has read a map at x, y and has multiplied what it read by m. Now the "
        "gradient of its output arrives. Return what the backward adds to the gradient of the map: a table "
        "of height rows and width columns, all zero but for the pixels that were read."
    ),
    cases=(
        Case(
            words="a position exactly on a pixel, which gets all of it",
            inputs=(1, 0, 0.5, 4, 2, 3),
            expected=[[0, 2, 0], [0, 0, 0]],
        ),
        Case(
            words="half way between two pixels of a row",
            inputs=(0.5, 1, 1, 4, 2, 3),
            expected=[[0, 0, 0], [2, 2, 0]],
        ),
        Case(
            words="a position among four pixels, and a negative gradient",
            inputs=(1.25, 0.5, 1, -8, 2, 3),
            expected=[[0, -3, -1], [0, -3, -1]],
        ),
        Case(
            words="half a pixel outside on the left: half of it falls off the map",
            inputs=(-0.5, 0, 1, 4, 2, 3),
            expected=[[2, 0, 0], [0, 0, 0]],
        ),
        Case(
            words="half a pixel outside below, with a modulation",
            inputs=(2, 1.5, 0.25, 8, 2, 3),
            expected=[[0, 0, 0], [0, 0, 1]],
        ),
        Case(words="a position far outside", inputs=(9, 9, 1, 4, 2, 3), expected=[[0, 0, 0], [0, 0, 0]]),
    ),
    hints=(
        "The pixels that were read are the ones that are told. How much did each of them count in the "
        "forward pass?",
        "A pixel counted m * (1 - distance in x) * (1 - distance in y). Had it been larger by 1, the output "
        "would have been larger by that; times the gradient, this is what it gets.",
        "Make a table of zeros with a list of its own for each row, [[0.0] * width for _ in range(height)]. "
        "Go over the four pixels around x, y as in exercise 02.1, and write m * (1 - abs(x - column)) * "
        "(1 - abs(y - row)) * gradient to those inside.",
    ),
    solution="""
import math


def my_scatter(x, y, m, gradient, height, width):
    table = [[0.0] * width for _ in range(height)]
    for row in (math.floor(y), math.floor(y) + 1):
        for column in (math.floor(x), math.floor(x) + 1):
            if 0 <= row < height and 0 <= column < width:
                table[row][column] += m * (1 - abs(x - column)) * (1 - abs(y - row)) * gradient
    return table
""",
)

CHAPTER_03 = (ELEMENT, OUTPUT_OF, SCATTER)
