"""The exercises of chapter 09: the learning rate of a step and of a layer, and what an average remembers.

Expected values are worked by hand.
"""

from __future__ import annotations

from cascade_lab.learn.exercise import Case, Exercise

WARM_UP = Exercise(
    id="09.1",
    name="warm_up",
    question=(
        "Return by what the learning rate is multiplied at step `step`, counted from 0. It starts at "
        "`ratio` in step 0, grows by the same amount in every step, and is 1 from step `warmup_steps` on."
    ),
    cases=(
        Case(words="the first step", inputs=(0, 100, 0.001), expected=0.001),
        Case(words="half of the way, from 0", inputs=(50, 100, 0.0), expected=0.5),
        Case(words="half of the way, from a fifth", inputs=(50, 100, 0.2), expected=0.6),
        Case(words="the last step of the warm-up", inputs=(3, 4, 0.2), expected=0.8),
        Case(words="the first step after it", inputs=(4, 4, 0.2), expected=1.0),
        Case(words="a step long after it", inputs=(1000, 4, 0.2), expected=1.0),
        Case(words="no warm-up at all", inputs=(0, 0, 0.2), expected=1.0),
    ),
    hints=(
        "What share of the way is behind you at this step? At step 0 none, at step warmup_steps all of it.",
        "The factor goes on a straight line from ratio to 1, so it is ratio plus the share of the way "
        "times what is missing to 1. After the warm-up it stays at 1.",
        "if step >= warmup_steps: return 1.0, which also saves you from dividing by 0. Otherwise the last "
        "line is ratio + (1 - ratio) * step / warmup_steps.",
    ),
    solution="""
def my_warm_up(step, warmup_steps, ratio):
    if step >= warmup_steps:
        return 1.0
    return ratio + (1 - ratio) * step / warmup_steps
""",
)

LAYER_SCALE = Exercise(
    id="09.2",
    name="layer_scale",
    question=(
        "Layers are counted from 0, the stem, to `layers` + 1, the heads. The heads learn at the full "
        "rate; going down, every layer learns at `decay` times the rate of the one above it. Return the "
        "factor of layer `layer`."
    ),
    cases=(
        Case(words="the heads", inputs=(6, 5, 0.9), expected=1.0),
        Case(words="the highest layer of the backbone", inputs=(5, 5, 0.9), expected=0.9),
        Case(words="two layers below the heads", inputs=(4, 5, 0.5), expected=0.25),
        Case(words="the stem", inputs=(0, 3, 0.5), expected=0.0625),  # four times a half
        Case(words="no decay", inputs=(0, 37, 1.0), expected=1.0),
        Case(
            words="the stem of InternImage-L as it was published", inputs=(0, 37, 0.94), expected=0.095248
        ),  # 0.94 ** 38 = exp(38 * -0.0618754)
    ),
    hints=(
        "How many layers lie between this one and the heads? The heads themselves are 0 away.",
        "Every layer on the way down multiplies by decay once more, which makes a power.",
        "The number of layers from the heads down to this one is layers + 1 - layer; it is the exponent of "
        "decay.",
    ),
    solution="""
def my_layer_scale(layer, layers, decay):
    return decay ** (layers + 1 - layer)
""",
)

AVERAGE = Exercise(
    id="09.3",
    name="ema",
    question=(
        "An average starts as a copy of a weight, `start`. After every step it moves by the share "
        "`momentum` towards the weight that this step produced. Return the average after all the steps in "
        "`weights`, a list of numbers."
    ),
    cases=(
        Case(words="no step yet", inputs=(3.0, [], 0.1), expected=3.0),
        Case(words="one step", inputs=(0.0, [10.0], 0.1), expected=1.0),
        Case(words="two steps to the same weight", inputs=(0.0, [10.0, 10.0], 0.1), expected=1.9),
        Case(words="the order matters", inputs=(0.0, [0.0, 10.0], 0.5), expected=5.0),
        Case(words="the same weights in the other order", inputs=(0.0, [10.0, 0.0], 0.5), expected=2.5),
        Case(
            words="a hundred steps to the weight 1",
            inputs=(0.0, [1.0] * 100, 0.01),
            expected=0.633968,  # 1 - 0.99 ** 100
        ),
    ),
    hints=(
        "Keep one number, and change it once for every weight in the list.",
        "To move by a share towards a goal is to keep the rest: average becomes (1 - momentum) * average + "
        "momentum * weight.",
        "average = start; then for weight in weights: average += momentum * (weight - average). Return it.",
    ),
    solution="""
def my_ema(start, weights, momentum):
    average = start
    for weight in weights:
        average = (1 - momentum) * average + momentum * weight
    return average
""",
)

BATCH_LOSS = Exercise(
    id="09.4",
    name="batch_loss",
    question=(
        "A batch did not fit into the memory and was cut into parts. Each part is a list with the losses "
        "of its boxes. Return the loss of the whole batch: the mean over all boxes, wherever they were."
    ),
    cases=(
        Case(words="a single part", inputs=([[1.0, 3.0]],), expected=2.0),
        Case(words="two parts of the same length", inputs=([[1.0, 3.0], [5.0, 7.0]],), expected=4.0),
        Case(words="a crowded part and a sparse one", inputs=([[1.0, 1.0, 1.0], [5.0]],), expected=2.0),
        Case(words="a part without a box", inputs=([[2.0, 4.0], []],), expected=3.0),
        Case(words="no box at all", inputs=([[], []],), expected=0.0),
    ),
    hints=(
        "Does every *part* count the same, or every *box*? Try the case with three boxes and one.",
        "Add up the losses of all parts, and count the boxes of all parts. Divide once, at the end.",
        "total = sum(sum(part) for part in parts) and count = sum(len(part) for part in parts); return "
        "total / max(count, 1).",
    ),
    solution="""
def my_batch_loss(parts):
    total = sum(sum(part) for part in parts)
    count = sum(len(part) for part in parts)
    return total / max(count, 1)
""",
)

CHAPTER_09 = (WARM_UP, LAYER_SCALE, AVERAGE, BATCH_LOSS)
