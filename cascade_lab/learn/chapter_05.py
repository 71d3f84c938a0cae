"""The exercises of chapter 05: anchors, the assigner, NMS and the recall of proposals.

Expected values are worked by hand.
"""

from __future__ import annotations

from cascade_lab.learn.exercise import Case, Exercise

ANCHORS = Exercise(
    id="05.1",
    name="anchors",
    question=(
        "Return the anchors of the cell in a row and column of a level, one box x1, y1, x2, y2 for each of "
        "the ratios. Each is centred on the upper left corner of the cell, has an area of (stride * scale) "
        "squared, and is ratio times as high as it is wide."
    ),
    cases=(
        Case(
            words="a square anchor of the first cell",
            inputs=(0, 0, 8, 4, [1]),
            expected=[[-16, -16, 16, 16]],
        ),
        Case(
            words="a square anchor in row 1 and column 3",
            inputs=(1, 3, 8, 4, [1]),
            expected=[[8, -8, 40, 24]],  # centre x 24, y 8; 32 wide and high
        ),
        Case(
            words="an anchor four times as high as it is wide",
            inputs=(0, 0, 8, 4, [4]),
            expected=[[-8, -32, 8, 32]],  # 16 x 64 covers 32 squared
        ),
        Case(
            words="a wide anchor and a high one, in this order",
            inputs=(2, 1, 16, 2, [0.25, 4]),
            expected=[[-16, 24, 48, 40], [8, 0, 24, 64]],  # 64 x 16 and 16 x 64 around x 16, y 32
        ),
    ),
    hints=(
        "Where is the centre? The upper left corner of the cell in column 3 lies three strides to the right.",
        "Width times height is (stride * scale) squared, and height is ratio times width. So the width is "
        "stride * scale divided by the square root of the ratio. What is the height?",
        "With side = stride * scale: w = side / ratio**0.5, h = side * ratio**0.5, x = column * stride, "
        "y = row * stride. The box goes from x - w / 2 to x + w / 2, and in y likewise.",
    ),
    solution="""
def my_anchors(row, column, stride, scale, ratios):
    x, y, side = column * stride, row * stride, stride * scale
    sizes = [(side / ratio**0.5, side * ratio**0.5) for ratio in ratios]
    return [[x - w / 2, y - h / 2, x + w / 2, y + h / 2] for w, h in sizes]
""",
)

ASSIGN = Exercise(
    id="05.2",
    name="assign",
    question=(
        "Row a of the table ious holds the IoU of anchor a with every object. Return one number for each "
        "anchor: the object it stands for (0, 1, ...), -1 for background, -2 for neither. The best object "
        "counts from positive up; below negative the anchor is background. After that go through the "
        "objects: all anchors whose IoU with an object is its highest get that object, whatever they had, "
        "unless this IoU is below least."
    ),
    cases=(
        Case(
            words="one anchor of each kind",
            inputs=([[0.8], [0.5], [0.1]], 0.7, 0.3, 0.3),
            expected=[0, -2, -1],
        ),
        Case(
            words="an anchor that overlaps two objects takes the better one",
            inputs=([[0.72, 0.75], [0.9, 0.1], [0.1, 0.9]], 0.7, 0.3, 0.3),
            expected=[1, 0, 1],
        ),
        Case(
            words="IoUs of exactly the two thresholds",
            inputs=([[0.7], [0.3], [0.9]], 0.7, 0.3, 0.3),
            expected=[0, -2, 0],
        ),
        Case(
            words="an object that no anchor fits gets its best one",
            inputs=([[0.5], [0.4], [0.1]], 0.7, 0.3, 0.3),
            expected=[0, -2, -1],
        ),
        Case(
            words="an object whose two best anchors are equally good gets both",
            inputs=([[0.5], [0.5], [0.2]], 0.7, 0.3, 0.3),
            expected=[0, 0, -1],
        ),
        Case(
            words="an object that even its best anchor hardly touches stays without",
            inputs=([[0.2], [0.1]], 0.7, 0.3, 0.3),
            expected=[-1, -1],
        ),
        Case(
            words="the best anchor of one object overlaps another object more",
            inputs=([[0.8, 0.4], [0.75, 0.3]], 0.7, 0.3, 0.3),
            expected=[1, 0],
        ),
        Case(words="a picture without objects", inputs=([[], []], 0.7, 0.3, 0.3), expected=[-1, -1]),
    ),
    hints=(
        "Write the two steps one after the other. The first looks along the rows of the table, the second "
        "down its columns.",
        "First step: for each row find the best object and its IoU, and compare with positive, then with "
        "negative. Second step: for each object find the highest IoU of its column, and give the object "
        "every anchor that has exactly this IoU.",
        "The second step is: for m in range(objects): best = max(row[m] for row in ious); if best >= least, "
        "set answer[a] = m for every a with ious[a][m] == best. Mind the table without columns.",
    ),
    solution="""
def my_assign(ious, positive, negative, least):
    answer = []
    for row in ious:
        best = max(row, default=0.0)
        answer.append(row.index(best) if row and best >= positive else -1 if best < negative else -2)
    for m in range(len(ious[0]) if ious else 0):
        best = max(row[m] for row in ious)
        for a, row in enumerate(ious):
            if row[m] == best and best >= least:
                answer[a] = m
    return answer
""",
)

NMS = Exercise(
    id="05.3",
    name="nms",
    question=(
        "ious[i][j] is the IoU of box i with box j, scores[i] the score of box i. Keep the box with the "
        "highest score, drop all boxes whose IoU with it is above the threshold, and go on with the rest "
        "until none is left. Return the numbers of the kept boxes in this order."
    ),
    cases=(
        Case(
            words="two boxes that do not meet, the better one second",
            inputs=([[1, 0], [0, 1]], [0.5, 0.9], 0.5),
            expected=[1, 0],
        ),
        Case(
            words="two boxes on one object",
            inputs=([[1, 0.8], [0.8, 1]], [0.6, 0.9], 0.5),
            expected=[1],
        ),
        Case(
            words="an IoU of exactly the threshold is not above it",
            inputs=([[1, 0.5], [0.5, 1]], [0.9, 0.6], 0.5),
            expected=[0, 1],
        ),
        Case(
            words="a chain: the second falls to the first, and so it cannot drop the third",
            inputs=([[1, 0.8, 0.2], [0.8, 1, 0.8], [0.2, 0.8, 1]], [0.9, 0.8, 0.7], 0.5),
            expected=[0, 2],
        ),
        Case(
            words="two pairs, whose boxes are mixed",
            inputs=(
                [[1, 0, 0.7, 0], [0, 1, 0, 0.9], [0.7, 0, 1, 0], [0, 0.9, 0, 1]],
                [0.3, 0.2, 0.8, 0.6],
                0.5,
            ),
            expected=[2, 3],
        ),
        Case(words="no box at all", inputs=([], [], 0.5), expected=[]),
    ),
    hints=(
        "Begin with a list of all boxes, the highest score first. Which of them is always kept?",
        "While the list is not empty: take its first box out and keep it; then leave in the list only those "
        "boxes whose IoU with it is at most the threshold.",
        "waiting = sorted(range(len(scores)), key=lambda i: -scores[i]); in the loop best = waiting.pop(0), "
        "keep it, and waiting = [i for i in waiting if ious[best][i] <= threshold].",
    ),
    solution="""
def my_nms(ious, scores, threshold):
    waiting, kept = sorted(range(len(scores)), key=lambda i: -scores[i]), []
    while waiting:
        best = waiting.pop(0)
        kept.append(best)
        waiting = [i for i in waiting if ious[best][i] <= threshold]
    return kept
""",
)

RECALL = Exercise(
    id="05.4",
    name="recall",
    question=(
        "Row p of the table ious holds the IoU of proposal p with every object. Return the share of the "
        "objects that at least one proposal overlaps by the threshold or more."
    ),
    cases=(
        Case(
            words="one object of two is found",
            inputs=([[0.8, 0.1], [0.2, 0.4], [0.3, 0.0]], 0.5),
            expected=0.5,
        ),
        Case(
            words="two proposals on the same object find it once",
            inputs=([[0.9, 0.0], [0.8, 0.0]], 0.5),
            expected=0.5,
        ),
        Case(words="one proposal over two objects finds both", inputs=([[0.6, 0.6]], 0.5), expected=1.0),
        Case(words="an IoU of exactly the threshold", inputs=([[0.5, 0.2, 0.2]], 0.5), expected=1 / 3),
        Case(words="no proposal is good enough", inputs=([[0.4], [0.3]], 0.5), expected=0.0),
    ),
    hints=(
        "Recall counts objects and not proposals: go through the columns of the table.",
        "An object is found if the highest IoU of its column is at least the threshold.",
        "found = [max(row[m] for row in ious) >= threshold for m in range(len(ious[0]))]; the recall is the "
        "mean of this list.",
    ),
    solution="""
def my_recall(ious, threshold):
    found = [max(row[m] for row in ious) >= threshold for m in range(len(ious[0]))]
    return sum(found) / len(found)
""",
)

CHAPTER_05 = (ANCHORS, ASSIGN, NMS, RECALL)
