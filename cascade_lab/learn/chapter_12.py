"""The exercises of chapter 12: two questions that are asked again and again, answered by a calculation.

Expected values are worked by hand.
"""

from __future__ import annotations

from cascade_lab.learn.exercise import Case, Exercise

ON_PICTURE = Exercise(
    id="12.1",
    name="on_picture",
    question=(
        "A picture was resized for the network, and box is x1, y1, x2, y2 in the resized picture. size is its"
        " [height, width], and original that of the picture on disk. Return the box in pixels of the picture"
        " on disk."
    ),
    cases=(
        Case(
            words="a picture that was shrunk to a half",
            inputs=([10.0, 20.0, 30.0, 40.0], [64, 64], [128, 128]),
            expected=[20, 40, 60, 80],
        ),
        Case(
            words="a picture that was enlarged",
            inputs=([10.0, 20.0, 30.0, 40.0], [200, 200], [50, 50]),
            expected=[2.5, 5, 7.5, 10],
        ),
        Case(
            words="height and width that were resized differently",
            inputs=([10.0, 10.0, 20.0, 30.0], [100, 50], [200, 200]),
            expected=[40, 20, 80, 60],
        ),
        Case(
            words="the whole of a flat picture",
            inputs=([0.0, 0.0, 80.0, 40.0], [40, 80], [100, 160]),
            expected=[0, 0, 160, 100],
        ),
        Case(
            words="corners between the pixels",
            inputs=([1.0, 2.0, 4.0, 5.0], [6, 6], [8, 8]),
            expected=[4 / 3, 8 / 3, 16 / 3, 20 / 3],
        ),
    ),
    hints=(
        "How many pixels on disk is one pixel of the resized picture wide? And how many is it high?",
        "Both sizes name the height first. The x of a box goes with the width, which is at index 1.",
        "across = original[1] / size[1] multiplies x1 and x2. Make the other factor likewise, for y1 and y2.",
    ),
    solution="""
def my_on_picture(box, size, original):
    x1, y1, x2, y2 = box
    across, down = original[1] / size[1], original[0] / size[0]
    return [x1 * across, y1 * down, x2 * across, y2 * down]
""",
)

HEAD_COST = Exercise(
    id="12.2",
    name="head_cost",
    question=(
        "A classical head flattens a patch of 7 x 7 cells with `channels` values each, applies two fully"
        " connected layers of `width` outputs, and answers with a score for each class and the background,"
        " and with four deltas. Return its number of parameters, biases included."
    ),
    cases=(
        Case(words="one channel, one unit, one class", inputs=(1, 1, 1), expected=50 + 2 + 4 + 8),
        Case(words="two channels", inputs=(2, 1, 1), expected=99 + 2 + 4 + 8),
        Case(words="ten units", inputs=(1, 10, 1), expected=500 + 110 + 22 + 44),
        Case(words="five classes", inputs=(1, 10, 5), expected=500 + 110 + 66 + 44),
        Case(words="the head of the paper", inputs=(256, 1024, 80), expected=13_982_805),
    ),
    hints=(
        "A fully connected layer from a inputs to b outputs has a * b weights and b biases: (a + 1) * b.",
        "There are four layers: 49 * channels to width, width to width, width to classes + 1, width to 4.",
        "(49 * channels + 1) * width + (width + 1) * width is the first half; the two answers follow the same"
        " pattern.",
    ),
    solution="""
def my_head_cost(channels, width, classes):
    hidden = (49 * channels + 1) * width + (width + 1) * width
    return hidden + (width + 1) * (classes + 1) + (width + 1) * 4
""",
    tolerance=1e-9,
)

CHAPTER_12 = (ON_PICTURE, HEAD_COST)
