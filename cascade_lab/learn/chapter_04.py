"""The exercises of chapter 04: sizes of the levels, weights of a block, stacking rules, reach of the points.

Expected values are worked by hand.
"""

from __future__ import annotations

from cascade_lab.learn.exercise import Case, Exercise

LEVEL_SIZES = Exercise(
    id="04.1",
    name="level_sizes",
    question=(
        "A convolution with stride 2 turns n pixels into n / 2, rounded up. The stem has two of them, and "
        "one stands between each level and the next. Return [height, width] of the four maps, as a list of "
        "four lists."
    ),
    cases=(
        Case(
            words="a square picture of the course",
            inputs=(128, 128),
            expected=[[32, 32], [16, 16], [8, 8], [4, 4]],
        ),
        Case(
            words="a picture that is wider than high",
            inputs=(800, 1280),
            expected=[[200, 320], [100, 160], [50, 80], [25, 40]],
        ),
        Case(
            words="a picture whose sides are not multiples of 32",
            inputs=(33, 70),  # 33 -> 17 -> 9 -> 5 -> 3 -> 2; 70 -> 35 -> 18 -> 9 -> 5 -> 3
            expected=[[9, 18], [5, 9], [3, 5], [2, 3]],
        ),
        Case(words="a single pixel", inputs=(1, 1), expected=[[1, 1], [1, 1], [1, 1], [1, 1]]),
    ),
    hints=(
        "How often is a side halved before the first map? And how often between one map and the next?",
        "(n + 1) // 2 is half of n, rounded up. Halve both sides twice, note them, and halve once more for "
        "each of the other three.",
        "Start with an empty list. For halvings in (2, 1, 1, 1): halve both sides that many times, then "
        "append [height, width].",
    ),
    solution="""
def my_level_sizes(height, width):
    sizes = []
    for halvings in (2, 1, 1, 1):
        for _ in range(halvings):
            height, width = (height + 1) // 2, (width + 1) // 2
        sizes.append([height, width])
    return sizes
""",
)

BLOCK_PARAMETERS = Exercise(
    id="04.2",
    name="block_parameters",
    question=(
        "Return how many parameters one block has, with 3 x 3 points, a feed-forward layer four times as "
        "wide as the block, and a layer scale. Count weights and biases."
    ),
    cases=(
        Case(
            words="one channel in one group",
            inputs=(1, 1),
            # depth-wise 10, its norm 2, offsets 36, modulation 18, projections 4, norms 4, feed-forward 13,
            # scales 2
            expected=89,
        ),
        Case(
            words="two channels in one group",
            inputs=(2, 1),
            # 20 + 4 + 54 + 27 + 12 + 8 + 42 + 4
            expected=171,
        ),
        Case(
            words="two channels in two groups, which doubles offsets and modulation",
            inputs=(2, 2),
            # 20 + 4 + 108 + 54 + 12 + 8 + 42 + 4
            expected=252,
        ),
        Case(words="a block of InternImage-T, first level", inputs=(64, 4), expected=49_580),
    ),
    hints=(
        "The table above has one line for each part. A layer from a to b channels has a * b weights and b "
        "biases; a norm has two numbers a channel. If your sum is off, print your parts for (64, 4) and "
        "compare each with the cell above.",
        "Depth-wise: 9 weights and a bias a channel. Offsets: from C channels to 18 numbers a group; "
        "modulation: to 9 a group. Feed-forward: from C to 4 * C, and back.",
        "depthwise = 10 * C; norms = 3 * 2 * C; points = 27 * groups * (C + 1); projections = 2 * C * (C + "
        "1); feed_forward = 8 * C * C + 5 * C; scales = 2 * C. Add them up.",
    ),
    solution="""
def my_block_parameters(channels, groups):
    depthwise, norms, scales = 10 * channels, 3 * 2 * channels, 2 * channels
    points = 27 * groups * (channels + 1)
    projections = 2 * channels * (channels + 1)
    feed_forward = 8 * channels * channels + 5 * channels
    return depthwise + norms + scales + points + projections + feed_forward
""",
)

STACKING = Exercise(
    id="04.3",
    name="stacking",
    question=(
        "Four numbers describe a whole InternImage: the channels of the first level, the channels of one "
        "group, the blocks of the first and of the third level. Return three lists of four numbers each, one "
        "number a level: [channels, groups, blocks]."
    ),
    cases=(
        Case(
            words="the smallest numbers that show every rule",
            inputs=(4, 2, 1, 3),
            expected=[[4, 8, 16, 32], [2, 4, 8, 16], [1, 1, 3, 1]],
        ),
        Case(
            words="InternImage-T",
            inputs=(64, 16, 4, 18),
            expected=[[64, 128, 256, 512], [4, 8, 16, 32], [4, 4, 18, 4]],
        ),
        Case(
            words="a group that is as wide as the first level",
            inputs=(32, 32, 2, 2),
            expected=[[32, 64, 128, 256], [1, 2, 4, 8], [2, 2, 2, 2]],
        ),
    ),
    hints=(
        "Read the four rules above once more, from left to right: each fills one list, or a part of one.",
        "Level i, counted from 0, has 2**i times the channels of level 0. It has as many groups as the width "
        "of a group fits into its channels.",
        "channels = [c1 * 2**i for i in range(4)], groups = [c // width for c in channels], and the blocks "
        "are first, first, third, first.",
    ),
    solution="""
def my_stacking(c1, width, first, third):
    channels = [c1 * 2**i for i in range(4)]
    groups = [c // width for c in channels]
    return [channels, groups, [first, first, third, first]]
""",
)

FARTHEST_POINT = Exercise(
    id="04.4",
    name="farthest_point",
    question=(
        "offsets has nine entries [dx, dy], in pixels of the map, in the order in which the points run: down "
        "the left column of the grid, then down the middle one, then down the right one; stride is that of "
        "the map, and scale the offset_scale. Return how many picture pixels the farthest of the nine points "
        "is away from the output pixel."
    ),
    cases=(
        Case(
            words="zero offsets at stride 4: the corners of the regular grid",
            inputs=([[0, 0]] * 9, 4, 1.0),
            expected=5.656854,  # 4 * sqrt(2)
        ),
        Case(
            words="zero offsets with an offset scale of 2, which stretches the grid too",
            inputs=([[0, 0]] * 9, 4, 2.0),
            expected=11.313708,
        ),
        Case(
            words="one point that went far away, from the middle of the grid",
            inputs=([[0, 0]] * 4 + [[6, 8]] + [[0, 0]] * 4, 8, 1.0),
            expected=80.0,
        ),
        Case(
            words="offsets that pull every point onto the output pixel",
            inputs=([[1, 1], [1, 0], [1, -1], [0, 1], [0, 0], [0, -1], [-1, 1], [-1, 0], [-1, -1]], 16, 1.0),
            expected=0.0,
        ),
        Case(
            words="an offset that is stretched together with its place in the grid",
            inputs=([[0, 0]] * 8 + [[2, 3]], 4, 2.0),  # (1 + 2, 1 + 3) * 2 * 4
            expected=40.0,
        ),
    ),
    hints=(
        "The regular grid has the places (-1, -1), (-1, 0), (-1, 1), (0, -1), ... in this order. What is the "
        "place of a point after its offset?",
        "The place in the map is (grid + offset) * scale, for x and for y: the scale multiplies both. One "
        "pixel of the map is stride pixels of the picture.",
        "grid = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]. For each point take math.hypot(gx + dx, gy "
        "+ dy) * scale * stride; return the max.",
    ),
    solution="""
import math


def my_farthest_point(offsets, stride, scale):
    grid = [(x, y) for x in (-1, 0, 1) for y in (-1, 0, 1)]
    return max(
        math.hypot(gx + dx, gy + dy) * scale * stride
        for (gx, gy), (dx, dy) in zip(grid, offsets)
    )
""",
)

CHAPTER_04 = (LEVEL_SIZES, BLOCK_PARAMETERS, STACKING, FARTHEST_POINT)
