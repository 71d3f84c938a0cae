"""The exercises of chapter 11: what a full-size training needs, and what another batch changes.

Expected values are worked by hand.
"""

from __future__ import annotations

from cascade_lab.learn.exercise import Case, Exercise

TRAINING_MEMORY = Exercise(
    id="11.1",
    name="training_memory",
    question=(
        "Return the bytes that a training with AdamW needs on one GPU in float32. Every parameter has a"
        " weight, a gradient and two moments of four bytes each, and four bytes more if there is a running"
        " average of the weights (average is True). Every picture keeps kept bytes for the backward pass."
    ),
    cases=(
        Case(words="one parameter, nothing kept", inputs=(1, 0, 1, False), expected=16),
        Case(words="one parameter and its running average", inputs=(1, 0, 1, True), expected=20),
        Case(words="two pictures at once", inputs=(10, 1000, 2, False), expected=2160),
        Case(words="an average is of the weights alone", inputs=(10, 1000, 3, True), expected=3200),
        Case(
            words="a detector of 277 million parameters with one picture",
            inputs=(277_000_000, 13_700_000_000, 1, False),
            expected=18_132_000_000,
        ),
    ),
    hints=(
        "Count first what has the size of the weights. There are four such things, five with an average.",
        "A float32 has 4 bytes, so a parameter costs 16 bytes in all, or 20 with an average. Only what is"
        " kept for the backward pass grows with the number of pictures.",
        "copies = 5 if average else 4. What is left to do is 4 * copies * parameters + pictures * kept.",
    ),
    solution="""
def my_training_memory(parameters, kept, pictures, average):
    copies = 5 if average else 4
    return 4 * copies * parameters + pictures * kept
""",
)

SPLIT_BATCH = Exercise(
    id="11.2",
    name="split_batch",
    question=(
        "A step learns from `batch` pictures, which several processes share equally. A process holds at most"
        " `at_once` pictures in memory; if its share is larger, it takes them part by part and adds up the"
        " gradients. Return two numbers: the share of each process, and how many parts it makes of it."
    ),
    cases=(
        Case(words="the published way: 8 GPUs of 2", inputs=(16, 8, 2), expected=[2, 1]),
        Case(words="one GPU with room for 2", inputs=(16, 1, 2), expected=[16, 8]),
        Case(words="two GPUs with room for 4", inputs=(16, 2, 4), expected=[8, 2]),
        Case(words="room for more than the share", inputs=(16, 8, 5), expected=[2, 1]),
        Case(words="a last part that is not full", inputs=(16, 2, 3), expected=[8, 3]),
    ),
    hints=(
        "Processes divide the batch first. Whatever happens then happens within one process.",
        "A share of 8 in parts of 3 makes 3 and 3 and 2: round up, not down.",
        "share = batch // processes. math.ceil(share / at_once) is the number of parts.",
    ),
    solution="""
import math


def my_split_batch(batch, processes, at_once):
    share = batch // processes
    return [share, math.ceil(share / at_once)]
""",
)

SCALED_LR = Exercise(
    id="11.3",
    name="scaled_lr",
    question=(
        "A recipe has a learning rate for a certain batch. Return the rate for another batch, in proportion"
        " to it, and how many steps the same number of epochs then takes. The last batch is filled up, so a"
        " part of a step counts as a whole one."
    ),
    cases=(
        Case(words="the batch of the recipe", inputs=(1e-4, 16, 16, 12, 1600), expected=[1e-4, 1200]),
        Case(words="half the batch", inputs=(1e-4, 16, 8, 12, 1600), expected=[5e-5, 2400]),
        Case(words="four times the batch", inputs=(1e-4, 16, 64, 12, 1600), expected=[4e-4, 300]),
        Case(
            words="pictures that do not fill the last step", inputs=(0.02, 10, 5, 1, 101), expected=[0.01, 21]
        ),
        Case(words="epochs together, not one by one", inputs=(0.02, 10, 10, 3, 101), expected=[0.02, 31]),
    ),
    hints=(
        "The rate grows and falls with the batch. The number of steps does the opposite.",
        "A run shows epochs * pictures pictures in all. Divide by the batch, and round up at the very end.",
        "The rate is lr * batch / lr_for_batch, the steps are math.ceil(epochs * pictures / batch).",
    ),
    solution="""
import math


def my_scaled_lr(lr, lr_for_batch, batch, epochs, pictures):
    return [lr * batch / lr_for_batch, math.ceil(epochs * pictures / batch)]
""",
    tolerance=1e-6,
)

CHAPTER_11 = (TRAINING_MEMORY, SPLIT_BATCH, SCALED_LR)
