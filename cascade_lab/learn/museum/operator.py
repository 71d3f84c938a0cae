"""Third room: DCNv3, where the order of numbers in memory is half of the definition."""

from __future__ import annotations

import torch

from cascade_lab.learn.museum.exhibit import Choice, Exhibit
from cascade_lab.learn.museum.specimens import found_by_iou, readable_model
from cascade_lab.ops.dcnv3 import modulate
from cascade_lab.ops.dcnv3_reference import sampling_points
from cascade_lab.viz.museum import Curve


def _found_by_iou() -> Curve:
    return found_by_iou(readable_model())


ROWS_FIRST = Exhibit(
    title="Weights that load and nearly work",
    story=(
        "DCNv3 was written anew in another framework. All shapes agree, every weight is loaded, the report is"
        " empty. On a fresh network old and new give the same numbers. With trained weights they find nearly"
        " as many objects, as long as nobody asks for tight boxes."
    ),
    function=sampling_points,
    right="""
grid_x = (torch.arange(kw, **like) * dw - half_x).repeat_interleave(kh)  # (K,): column outermost
grid_y = (torch.arange(kh, **like) * dh - half_y).repeat(kw)
""".strip(),
    wrong="""
grid_x = (torch.arange(kw, **like) * dw - half_x).repeat(kh)
grid_y = (torch.arange(kh, **like) * dh - half_y).repeat_interleave(kw)
""".strip(),
    symptom=_found_by_iou,
    worse="lower",
    choices=(
        Choice(words="The softmax over the nine points is missing.",
               why="On a fresh network nine weights of 0 would differ from nine of 1/9, and that test"
                   " passed."),
        Choice(words="The nine points of the kernel are counted along the rows, not down the columns.",
               why="Point 1 is then the one above the centre, not the one to its left. A fresh layer weighs"
                   " all nine alike, so the order cannot be seen before the layer has learned something."),
        Choice(words="The batch norms were loaded without their running statistics.",
               why="Then the loading report would have named them as missing; it was empty."),
    ),
    answer=1,
    lesson="Compare with trained weights, or with random ones; zeros and equal weights hide every order.",
    test="tests/layers/test_dcnv3.py::test_points_run_down_a_column_first",
)  # fmt: skip


def _points_of_one_pixel() -> Curve:
    """Return where the centre of a 9 x 9 map reads, if all of its nine points are moved 1.5 to the right."""
    offset = torch.zeros(1, 9, 9, 9, 2)
    offset[..., 0] = 1.5
    x, y = sampling_points((9, 9), offset.flatten(3), 1)
    return Curve(
        x=x[0, 4, 4, 0].numpy(),
        y=y[0, 4, 4, 0].numpy(),
        x_label="column",
        y_label="row",
        value=float(x[0, 4, 4, 0].mean() - 4),
        words="moved to the right by",
        kind="points",
    )


Y_FIRST = Exhibit(
    title="Looking down",
    story=(
        "Somebody draws the nine points at which the pixel in row 4, column 4 reads. Its offsets say that all"
        " of them should move one and a half pixels to the right."
    ),
    function=sampling_points,
    right="""
x = centre_x + (grid_x + offset[..., 0]) * offset_scale
y = centre_y + (grid_y + offset[..., 1]) * offset_scale
""".strip(),
    wrong="""
x = centre_x + (grid_x + offset[..., 1]) * offset_scale
y = centre_y + (grid_y + offset[..., 0]) * offset_scale
""".strip(),
    symptom=_points_of_one_pixel,
    worse="lower",
    choices=(
        Choice(words="The two numbers of an offset are read as (y, x).",
               why="DCNv1 and DCNv2 store y first and torchvision still does; DCNv3 stores x first."),
        Choice(words="The picture is drawn upside down.",
               why="Then the points would move the right way in x."),
        Choice(words="The offset scale is 2 and not 1.",
               why="That would stretch the grid to five by five and double the move, in the same direction."),
    ),
    answer=0,
    lesson="Give one coordinate a value and leave the other at 0. Symmetric test inputs see nothing.",
    test="tests/layers/test_dcnv3.py::test_reads_between_pixels",
)  # fmt: skip


def _sums_of_modulation() -> Curve:
    """Return the sum of the nine modulation scalars of every group at every pixel, in ascending order."""
    random = torch.Generator().manual_seed(0)
    logits = torch.randn(1, 8, 8, 4 * 9, generator=random)
    sums = modulate(logits, 4, "softmax").unflatten(-1, (4, 9)).sum(-1).flatten().sort().values
    return Curve(
        x=torch.linspace(0, 100, len(sums)).numpy(),
        y=sums.numpy(),
        x_label="groups of all pixels in ascending order, %",
        y_label="sum of the nine weights",
        value=float((sums - 1).abs().max()),
        words="farthest from 1:",
    )


GROUPS_COMPETE = Exhibit(
    title="Brighter here, darker there",
    story=(
        "Training is shaky from the first step on, and maps have bright and dark patches that are not in the"
        " picture. Somebody adds up the nine weights with which a pixel reads its neighbours."
    ),
    function=modulate,
    right="return logits.unflatten(-1, (groups, -1)).softmax(-1).flatten(-2)",
    wrong="return logits.unflatten(-1, (groups, -1)).softmax(-2).flatten(-2)",
    symptom=_sums_of_modulation,
    worse="higher",
    choices=(
        Choice(words="The weights are not normalised at all.",
               why="Without a softmax half of these logits are negative, and so would be many sums."),
        Choice(words="The softmax was replaced by a sigmoid.",
               why="Nine sigmoids of logits around 0 add up to about 4.5, not to about 2.25."),
        Choice(words="The softmax runs over the groups and not over the nine points.",
               why="Each point's weights over four groups add up to 1, so the nine of one group add up to 9"
                   " / 4 on average, and to something else at every pixel. InternImage, table 6: without"
                   " any softmax over the points accuracy falls from 83.5 to 65.7 %."),
    ),
    answer=2,
    lesson="After every softmax, sum over the axis that you meant. The answer must be 1 everywhere.",
    test="tests/layers/test_dcnv3.py::test_modulation_of_a_group_adds_up_to_one",
)  # fmt: skip

OPERATOR = (ROWS_FIRST, Y_FIRST, GROUPS_COMPETE)
