"""The exercises of chapter 07: who is positive at which threshold, recall, deltas of a stage, and voting.

Expected values are worked by hand.
"""

from __future__ import annotations

import math

from cascade_lab.learn.exercise import Case, Exercise

STAGE_LABELS = Exercise(
    id="07.1",
    name="stage_labels",
    question=(
        "Row r of the table ious holds the IoU of box r with every object; labels holds the class of every "
        "object. Return a class for every box: that of the object it overlaps best, if that IoU is at least "
        "the threshold, and background otherwise."
    ),
    cases=(
        Case(words="a box that overlaps well", inputs=([[0.8]], [2], 0.5, 4), expected=[2]),
        Case(words="a box that overlaps too little", inputs=([[0.4]], [2], 0.5, 4), expected=[4]),
        Case(words="an IoU of exactly the threshold", inputs=([[0.6]], [0], 0.6, 4), expected=[0]),
        Case(
            words="two boxes that are positives of the first stage, before the last one",
            inputs=([[0.65], [0.75]], [1], 0.7, 4),
            expected=[4, 1],
        ),
        Case(
            words="a box that meets the threshold on two objects",
            inputs=([[0.55, 0.7, 0.0]], [3, 1, 0], 0.5, 4),
            expected=[1],
        ),
        Case(
            words="two boxes on one object: both are positives",
            inputs=([[0.9], [0.8]], [2], 0.5, 4),
            expected=[2, 2],
        ),
        Case(words="a picture without objects", inputs=([[], []], [], 0.5, 4), expected=[4, 4]),
    ),
    hints=(
        "Every box decides for itself, so one pass over the rows is enough. Nothing is ever taken.",
        "Of each row you need two things: the largest IoU, and where it stands. A row may be empty.",
        "best = max(range(len(row)), key=lambda m: row[m], default=None). Without a best, or with row[best] "
        "below the threshold, the answer is background; otherwise it is labels[best].",
    ),
    solution="""
def my_stage_labels(ious, labels, threshold, background):
    answers = []
    for row in ious:
        best = max(range(len(row)), key=lambda m: row[m], default=None)
        positive = best is not None and row[best] >= threshold
        answers.append(labels[best] if positive else background)
    return answers
""",
)

RECALL_AT = Exercise(
    id="07.2",
    name="recall_at",
    question=(
        "Row r of the table ious holds the IoU of box r with every object. Return, for each of the "
        "thresholds, the share of the objects (0 to 1) that some box overlaps by at least so much."
    ),
    cases=(
        Case(words="one box and one object", inputs=([[0.6]], [0.5, 0.7]), expected=[1.0, 0.0]),
        Case(
            words="two boxes on one object: the better one counts",
            inputs=([[0.4], [0.8]], [0.5, 0.75]),
            expected=[1.0, 1.0],
        ),
        Case(
            words="two objects, of which one has two boxes and the other has none",
            inputs=([[0.9, 0.0], [0.85, 0.1]], [0.5, 0.8]),
            expected=[0.5, 0.5],
        ),
        Case(words="an IoU of exactly the threshold", inputs=([[0.5]], [0.5]), expected=[1.0]),
        Case(
            words="four objects that are found more and more tightly",
            inputs=([[0.55, 0.65, 0.0, 0.0], [0.0, 0.0, 0.75, 0.95]], [0.5, 0.6, 0.7, 0.9]),
            expected=[1.0, 0.75, 0.5, 0.25],
        ),
    ),
    hints=(
        "Recall is about objects, so look at the columns of the table and not at its rows.",
        "zip(*ious) yields the columns. Of each you need only the largest number: that object's best box.",
        "With best = [max(column) for column in zip(*ious)], the answer for a threshold t is the number of "
        "entries of best that are at least t, divided by len(best).",
    ),
    solution="""
def my_recall_at(ious, thresholds):
    best = [max(column) for column in zip(*ious)]
    return [sum(iou >= t for iou in best) / len(best) for t in thresholds]
""",
)

RENORMALISED = Exercise(
    id="07.3",
    name="renormalised",
    question=(
        "A head has answered with four deltas that were divided by old_std. Return the same move in deltas "
        "that are divided by new_std."
    ),
    cases=(
        Case(
            words="the same std twice",
            inputs=([1.0, -2.0, 0.5, 0.0], [0.1, 0.1, 0.2, 0.2], [0.1, 0.1, 0.2, 0.2]),
            expected=[1.0, -2.0, 0.5, 0.0],
        ),
        Case(
            words="from stage 1 to stage 2",
            inputs=([1.0, -1.0, 0.5, 0.0], [0.1, 0.1, 0.2, 0.2], [0.05, 0.05, 0.1, 0.1]),
            expected=[2.0, -2.0, 1.0, 0.0],
        ),
        Case(
            words="from stage 1 to stage 3",
            inputs=([0.33, 0.66, 0.67, 1.34], [0.1, 0.1, 0.2, 0.2], [0.033, 0.033, 0.067, 0.067]),
            expected=[1.0, 2.0, 2.0, 4.0],
        ),
        Case(
            words="stds that change each number in another way",
            inputs=([1.0, 1.0, 1.0, 1.0], [0.1, 0.2, 0.1, 0.2], [0.2, 0.1, 0.05, 0.5]),
            expected=[0.5, 2.0, 2.0, 0.4],
        ),
    ),
    hints=(
        "How far the box really moves does not depend on any std. Undo the old division first.",
        "The move before any division is delta times its old std. Then divide as the other stage would.",
        "Each number becomes delta * old / new, with its own entry of both stds.",
    ),
    solution="""
def my_renormalised(deltas, old_std, new_std):
    return [delta * old / new for delta, old, new in zip(deltas, old_std, new_std)]
""",
)

VOTES = Exercise(
    id="07.4",
    name="votes",
    question=(
        "Row k of logits is what stage k says about one box. Return two lists of probabilities: the softmax "
        "of the mean of the rows, and the mean of the softmax of every row."
    ),
    cases=(
        Case(
            words="a single stage, for which both are the same",
            inputs=([[math.log(3), 0.0]],),
            expected=[[0.75, 0.25], [0.75, 0.25]],
        ),
        Case(
            words="two stages that contradict each other, equally sure",
            inputs=([[math.log(9), 0.0], [0.0, math.log(9)]],),
            expected=[[0.5, 0.5], [0.5, 0.5]],
        ),
        Case(
            words="a stage that says 99 percent and one that does not know",
            inputs=([[math.log(99), 0.0], [0.0, 0.0]],),
            expected=[[0.908674, 0.091326], [0.745, 0.255]],  # sqrt(99) to 1; (0.99 + 0.5) / 2
        ),
        Case(
            words="three classes",
            inputs=([[math.log(8), 0.0, 0.0], [0.0, 0.0, math.log(8)]],),
            expected=[[0.424889, 0.150221, 0.424889], [0.45, 0.1, 0.45]],  # sqrt(8) : 1 : sqrt(8)
        ),
        Case(
            words="logits so large that their exponentials overflow",
            inputs=([[1000.0, 1000.0], [1000.0, 1000.0]],),
            expected=[[0.5, 0.5], [0.5, 0.5]],
        ),
    ),
    hints=(
        "Softmax and mean are applied in both answers; only their order differs. torch.tensor(logits) has "
        "both as methods.",
        "Stages are the rows, so the mean goes along dim 0. Classes are the columns, so the softmax goes "
        "along the last dimension, which is -1.",
        "With said = torch.tensor(logits), the first list is said.mean(0).softmax(-1). Build the second "
        "likewise, and return both in one list.",
    ),
    solution="""
import torch


def my_votes(logits):
    said = torch.tensor(logits)
    return [said.mean(0).softmax(-1), said.softmax(-1).mean(0)]
""",
)

CHAPTER_07 = (STAGE_LABELS, RECALL_AT, RENORMALISED, VOTES)
