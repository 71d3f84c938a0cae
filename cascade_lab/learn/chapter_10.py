"""The exercises of chapter 10: precision and recall, interpolation, average precision, kinds of error.

Expected values are worked by hand.
"""

from __future__ import annotations

from cascade_lab.learn.exercise import Case, Exercise

RANKED = Exercise(
    id="10.1",
    name="ranked",
    question=(
        "The list right says of every detection, the surest first, whether it is right; objects is how many "
        "there are to find. Return for every detection the pair [precision, recall] of all detections down "
        "to this one."
    ),
    cases=(
        Case(
            words="one right and one wrong detection of two objects",
            inputs=([True, False], 2),
            expected=[[1, 0.5], [0.5, 0.5]],
        ),
        Case(words="a first detection that is wrong", inputs=([False, True], 1), expected=[[0, 0], [0.5, 1]]),
        Case(
            words="three detections that find all of two objects",
            inputs=([True, False, True], 2),
            expected=[[1, 0.5], [0.5, 0.5], [2 / 3, 1]],
        ),
        Case(
            words="two right detections where four objects exist",
            inputs=([True, True], 4),
            expected=[[1, 0.25], [1, 0.5]],
        ),
        Case(words="nothing right at all", inputs=([False, False], 3), expected=[[0, 0], [0, 0]]),
    ),
    hints=(
        "Walk down the list and keep one number: how many detections have been right so far.",
        "Both are fractions with that number on top. Precision divides by how many detections you have seen, "
        "recall by how many objects there are.",
        "After detection number n (from 1) with h right ones, append [h / n, h / objects].",
    ),
    solution="""
def my_ranked(right, objects):
    pairs, hits = [], 0
    for seen, hit in enumerate(right, start=1):
        hits += hit
        pairs.append([hits / seen, hits / objects])
    return pairs
""",
)

INTERPOLATED = Exercise(
    id="10.2",
    name="interpolated",
    question=(
        "Return the interpolated precision at a level of recall: the best precision of all pairs "
        "[precision, recall] whose recall is at least this level, and 0 if there is none."
    ),
    cases=(
        Case(
            words="a level that a pair has exactly",
            inputs=([[1, 0.5], [0.5, 0.5], [0.6, 1]], 0.5),
            expected=1,
        ),
        Case(words="a level between two pairs", inputs=([[1, 0.5], [0.5, 0.5], [0.6, 1]], 0.7), expected=0.6),
        Case(
            words="a dip in the curve, with better precision later",
            inputs=([[0, 0], [0.5, 0.25], [0.75, 0.75]], 0.1),
            expected=0.75,
        ),
        Case(words="a level that is never reached", inputs=([[1, 0.25], [0.5, 0.25]], 0.3), expected=0),
        Case(words="the level 0", inputs=([[0, 0], [0.5, 1]], 0.0), expected=0.5),
    ),
    hints=(
        "Which pairs take part? Those that find at least as much as the level asks for.",
        "Make a list of the precision of each such pair. The answer is the largest one in it.",
        "max([...], default=0) also serves an empty list; inside stands p for p, r in pairs if ... .",
    ),
    solution="""
def my_interpolated(pairs, level):
    return max([precision for precision, recall in pairs if recall >= level], default=0)
""",
)

AVERAGE = Exercise(
    id="10.3",
    name="average",
    question=(
        "Return the average precision of a ranked list, between 0 and 1: the mean of the interpolated "
        "precision at the 101 levels of recall 0, 0.01, 0.02 ... 1."
    ),
    cases=(
        Case(words="one object, found at once", inputs=([True], 1), expected=1),
        Case(words="one object, found after a mistake", inputs=([False, True], 1), expected=0.5),
        Case(
            words="one of two objects: the level 0.5 is reached, and 51 levels up to it",
            inputs=([True], 2),
            expected=51 / 101,
        ),
        Case(words="a mistake that comes last costs nothing", inputs=([True, False], 1), expected=1),
        Case(
            words="five boxes, four objects",
            inputs=([True, True, False, True, False], 4),
            expected=(51 + 25 * 0.75) / 101,  # 1 up to level .50, 3/4 up to .75, then 0
        ),
        Case(words="nothing right at all", inputs=([False, False], 2), expected=0),
    ),
    hints=(
        "You have written both halves already: first the pairs, then the interpolated precision.",
        "Call my_ranked for the pairs, then my_interpolated for each level i / 100 with i from 0 to 100. Or "
        "write both anew.",
        "The last line is sum(heights) / 101, where heights holds one interpolated precision a level.",
    ),
    solution="""
def my_average(right, objects):
    pairs, hits = [], 0
    for seen, hit in enumerate(right, start=1):
        hits += hit
        pairs.append([hits / seen, hits / objects])
    heights = [max([p for p, r in pairs if r >= i / 100], default=0) for i in range(101)]
    return sum(heights) / 101
""",
)

KIND = Exercise(
    id="10.4",
    name="kind",
    question=(
        "A detection is wrong. own is its best IoU with an object of its own class, other its best IoU with "
        "an object of another class. Return the number of its kind: 1 wrong class, 2 too loose, 3 both, "
        "4 duplicate, 5 background. Ask in this order: too loose, wrong class, duplicate, background, both."
    ),
    cases=(
        Case(words="a loose box of the right class", inputs=(0.4, 0.0), expected=2),
        Case(words="a good box with the wrong name", inputs=(0.0, 0.8), expected=1),
        Case(words="a good box of an object that is taken", inputs=(0.9, 0.0), expected=4),
        Case(words="a box on nothing", inputs=(0.0, 0.02), expected=5),
        Case(words="a loose box with the wrong name", inputs=(0.0, 0.3), expected=3),
        Case(words="loose on its own class and good on another", inputs=(0.3, 0.8), expected=2),
        Case(words="good on two overlapping objects of two classes", inputs=(0.6, 0.7), expected=1),
        Case(words="exactly 0.5 with a taken object of its class", inputs=(0.5, 0.0), expected=4),
        Case(words="exactly 0.1 with an object of its class", inputs=(0.1, 0.0), expected=2),
    ),
    hints=(
        "Five questions, one after the other; the first that is answered with yes decides.",
        "Too loose: own from 0.1 on and below 0.5. Wrong class: other at least 0.5. Duplicate: own at least "
        "0.5. Background: neither is above 0.1.",
        "Write four lines `if ...: return ...` in the order of the question, and return 3 at the end.",
    ),
    solution="""
def my_kind(own, other):
    if 0.1 <= own < 0.5:
        return 2
    if other >= 0.5:
        return 1
    if own >= 0.5:
        return 4
    if max(own, other) <= 0.1:
        return 5
    return 3
""",
)

CHAPTER_10 = (RANKED, INTERPOLATED, AVERAGE, KIND)
