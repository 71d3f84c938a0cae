"""The exercises of chapter 12: two questions that are asked again and again, answered by a calculation.

Expected values are worked by hand.
"""

from __future__ import annotations

from cascade_lab.learn.exercise import Case, Exercise

VOTE = Exercise(
    id="12.1",
    name="vote",
    question=(
        "Row k of the table logits is what stage k says about one box, the background last. Return two rows"
        " of scores: first the softmax of the mean logits, as mmdetection does, then the mean of the softmax"
        " of each stage, as detectron2 does."
    ),
    cases=(
        Case(words="one stage", inputs=([[0.0, 0.0]],), expected=[[0.5, 0.5], [0.5, 0.5]]),
        Case(
            words="two stages that say the opposite",
            inputs=([[1.0, 0.0], [0.0, 1.0]],),
            expected=[[0.5, 0.5], [0.5, 0.5]],
        ),
        Case(
            words="odds of 9 to 1 and of 1 to 1",
            inputs=([[2.1972246, 0.0], [0.0, 0.0]],),  # log 9; the mean logit is log 3
            expected=[[0.75, 0.25], [0.7, 0.3]],
        ),
        Case(
            words="two classes and background, three stages",
            inputs=([[0.6931472, 0.0, 0.0], [0.0, 0.0, 0.0], [-0.6931472, 0.0, 0.0]],),  # odds 2, 1 and 1/2
            expected=[[1 / 3, 1 / 3, 1 / 3], [0.3444444, 0.3277778, 0.3277778]],
        ),
        Case(words="large logits", inputs=([[1000.0, 1000.0]],), expected=[[0.5, 0.5], [0.5, 0.5]]),
    ),
    hints=(
        "torch.tensor(logits) is a table with a row for each stage. Which of its two axes counts the stages?",
        "The same two steps in both orders: a mean over the stages, axis 0, and a softmax over the classes,"
        " the last axis.",
        "The first row is table.mean(0).softmax(-1). The second has the two calls exchanged.",
    ),
    solution="""
import torch


def my_vote(logits):
    table = torch.tensor(logits)
    return torch.stack([table.mean(0).softmax(-1), table.softmax(-1).mean(0)])
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

CHAPTER_12 = (VOTE, HEAD_COST)
