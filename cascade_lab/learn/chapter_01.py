"""The exercises of chapter 01: boxes, IoU, deltas, runs, and which detection gets which object.

Expected values are worked by hand.
"""

from __future__ import annotations

import torch

from cascade_lab.learn.exercise import Case, Exercise

CORNERS = Exercise(
    id="01.1",
    name="corners",
    question=(
        "COCO files write a box as left, top, width and height. Return its two corners x1, y1, x2, y2 "
        "instead."
    ),
    cases=(
        Case(words="a box at the origin", inputs=([0, 0, 4, 3],), expected=[0, 0, 4, 3]),
        Case(words="a box away from the origin", inputs=([10, 20, 30, 5],), expected=[10, 20, 40, 25]),
        Case(words="a box of a single pixel", inputs=([7, 9, 1, 1],), expected=[7, 9, 8, 10]),
        Case(
            words="a box between the pixels", inputs=([0.5, 1.25, 2.5, 0.5],), expected=[0.5, 1.25, 3, 1.75]
        ),
    ),
    hints=(
        "Two of the four numbers stay as they are. Which two?",
        "The right edge lies one width to the right of the left edge. The same holds for top, height and "
        "bottom.",
        "x2 is left + width and y2 is top + height. Nothing adds or takes off 1.",
    ),
    solution="""
def my_corners(box):
    left, top, width, height = box
    return [left, top, left + width, top + height]
""",
)

IOU = Exercise(
    id="01.2",
    name="iou",
    question=(
        "Return the IoU of two boxes, each a list x1, y1, x2, y2: the area that both cover, divided by "
        "the area that at least one of them covers. If neither covers anything, return 0."
    ),
    cases=(
        Case(
            words="two equal boxes that do not start at 0",
            inputs=([2, 3, 6, 5], [2, 3, 6, 5]),
            expected=1.0,
        ),
        Case(
            words="a box shifted by half its width", inputs=([0, 0, 10, 10], [5, 0, 15, 10]), expected=1 / 3
        ),
        Case(words="a small box inside a large one", inputs=([0, 0, 10, 10], [2, 2, 7, 6]), expected=0.2),
        Case(words="two boxes that only touch", inputs=([0, 0, 10, 10], [10, 0, 20, 10]), expected=0.0),
        Case(words="two boxes apart in x alone", inputs=([0, 0, 10, 10], [15, 0, 25, 10]), expected=0.0),
        Case(words="two boxes apart in x and in y", inputs=([0, 0, 10, 10], [15, 15, 25, 25]), expected=0.0),
        Case(words="two boxes without any area", inputs=([5, 5, 5, 5], [5, 5, 5, 5]), expected=0.0),
    ),
    hints=(
        "The shared part of two boxes is again a box. Where is its left edge: at the smaller or the "
        "larger x1?",
        "The shared box goes from the larger x1 to the smaller x2. Where the boxes do not meet, that "
        "width is negative, and two negative sides would make a positive area: cut each side off at 0.",
        "The union is area a + area b - shared, since the shared part was counted twice. Return 0 when it"
        " is 0, otherwise shared / union.",
    ),
    solution="""
def my_iou(a, b):
    width = max(0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0, min(a[3], b[3]) - max(a[1], b[1]))
    shared = width * height
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared
    return shared / union if union > 0 else 0.0
""",
)

DELTAS = Exercise(
    id="01.3",
    name="deltas",
    question=(
        "Return the four deltas that move a proposal onto a target, both given as x1, y1, x2, y2, each "
        "divided by its entry of std."
    ),
    cases=(
        Case(
            words="a proposal that is right already",
            inputs=([4, 4, 8, 8], [4, 4, 8, 8], [0.1, 0.1, 0.2, 0.2]),
            expected=[0.0, 0.0, 0.0, 0.0],
        ),
        Case(
            words="a target one tenth of the width to the right, and stds of 1",
            inputs=([0, 0, 100, 50], [10, 0, 110, 50], [1, 1, 1, 1]),
            expected=[0.1, 0.0, 0.0, 0.0],
        ),
        Case(
            words="a target one tenth of the height higher up, and stds of 1",
            inputs=([0, 20, 100, 70], [0, 15, 100, 65], [1, 1, 1, 1]),
            expected=[0.0, -0.1, 0.0, 0.0],
        ),
        Case(
            words="a target of twice the width and half the height around the same centre, and stds of 1",
            inputs=([0, 0, 100, 40], [-50, 10, 150, 30], [1, 1, 1, 1]),
            expected=[0.0, 0.0, 0.693147, -0.693147],  # log 2 and log 1/2
        ),
        Case(
            words="the stds of the first stage",
            inputs=([0, 0, 100, 50], [10, 0, 110, 50], [0.1, 0.1, 0.2, 0.2]),
            expected=[1.0, 0.0, 0.0, 0.0],
        ),
        Case(
            words="a move and a change of size at once, with stds that differ",
            inputs=([0, 0, 10, 10], [0, 0, 20, 20], [0.1, 0.05, 0.2, 0.1]),
            expected=[
                5.0,
                10.0,
                3.465736,
                6.931472,
            ],  # the centre moves by half a width; log 2 / 0.2 and / 0.1
        ),
    ),
    hints=(
        "Write down the centre, the width and the height of both boxes first; the deltas need nothing else.",
        "dx is how far the centre moves, counted in widths of the proposal. dw is the natural logarithm "
        "of new width over old width. dy and dh do the same with heights.",
        "dx = (gx - px) / pw and dw = math.log(gw / pw), with p for the proposal and g for the target. At"
        " the end divide the first delta by std[0], the second by std[1], and so on.",
    ),
    solution="""
import math


def my_deltas(proposal, target, std):
    (px, py, pw, ph), (gx, gy, gw, gh) = [
        ((x1 + x2) / 2, (y1 + y2) / 2, x2 - x1, y2 - y1) for x1, y1, x2, y2 in (proposal, target)
    ]
    deltas = [(gx - px) / pw, (gy - py) / ph, math.log(gw / pw), math.log(gh / ph)]
    return [delta / s for delta, s in zip(deltas, std)]
""",
)

RUNS = Exercise(
    id="01.4",
    name="runs",
    question=(
        "Return the runs of a mask as COCO counts them: walk down the first column, then down the second,"
        " and so on; write how many zeros come first, then how many ones, then zeros again, to the end."
    ),
    cases=(
        Case(
            words="a mask that reads differently by rows and by columns",
            inputs=(torch.tensor([[0, 1, 1], [0, 1, 0]]),),
            expected=[2, 3, 1],
        ),
        Case(words="an empty mask", inputs=(torch.tensor([[0, 0], [0, 0]]),), expected=[4]),
        Case(
            words="a mask whose first pixel is 1, so that it begins with no zeros at all",
            inputs=(torch.tensor([[1, 0], [1, 0], [0, 0]]),),
            expected=[0, 2, 4],
        ),
        Case(words="a full mask", inputs=(torch.tensor([[1, 1, 1]]),), expected=[0, 3]),
        Case(
            words="a mask whose last pixel is 1",
            inputs=(torch.tensor([[0, 0, 0], [1, 0, 1]]),),
            expected=[1, 1, 3, 1],
        ),
    ),
    hints=(
        "Put the pixels into one long list first. mask.T swaps rows and columns, .flatten() makes the list.",
        "Keep the value that you are counting, which is 0 in the beginning, and a count, which is 0 too. "
        "Go through the list; when a pixel differs, write down the count, start again at 0, and turn the "
        "value over.",
        "The last run ends with the mask and not with a change: append the count once more after the loop.",
    ),
    solution="""
def my_runs(mask):
    counts, value, count = [], 0, 0
    for pixel in mask.T.flatten().tolist():
        if pixel != value:
            counts.append(count)
            value, count = pixel, 0
        count += 1
    return [*counts, count]
""",
)

MATCHES = Exercise(
    id="01.5",
    name="matches",
    question=(
        "Row d of the table ious holds the IoU of detection d with every object; the surest detection "
        "comes first. Go through the rows. Each detection takes, among the objects that nobody has taken,"
        " the one with the highest IoU, if that is at least the threshold. Return True or False for each "
        "detection."
    ),
    cases=(
        Case(
            words="two detections, two objects", inputs=([[0.9, 0.1], [0.0, 0.7]], 0.5), expected=[True, True]
        ),
        Case(words="a detection that is too loose", inputs=([[0.6], [0.8]], 0.75), expected=[False, True]),
        Case(
            words="two detections of one object: the second is a duplicate",
            inputs=([[0.7], [0.95]], 0.5),
            expected=[True, False],
        ),
        Case(words="an IoU of exactly the threshold", inputs=([[0.5]], 0.5), expected=[True]),
        Case(
            words="a first detection that overlaps two objects has to take the better one",
            inputs=([[0.6, 0.8], [0.7, 0.0]], 0.5),
            expected=[True, True],
        ),
        Case(
            words="a detection whose best object is taken gets the second best",
            inputs=([[0.9, 0.0], [0.8, 0.6]], 0.5),
            expected=[True, True],
        ),
        Case(words="a picture without objects", inputs=([[], []], 0.5), expected=[False, False]),
    ),
    hints=(
        "Keep a set of the objects that are taken. It starts empty and grows by at most one object a "
        "detection.",
        "For each row, list the objects that are not in the set and whose IoU is at least the threshold. "
        "If the list is empty, the detection is wrong.",
        "Of that list take max(candidates, key=lambda m: row[m]), add it to the set, and note True.",
    ),
    solution="""
def my_matches(ious, threshold):
    taken, right = set(), []
    for row in ious:
        free = [m for m, iou in enumerate(row) if m not in taken and iou >= threshold]
        if free:
            taken.add(max(free, key=lambda m: row[m]))
        right.append(bool(free))
    return right
""",
)

CHAPTER_01 = (CORNERS, IOU, DELTAS, RUNS, MATCHES)
