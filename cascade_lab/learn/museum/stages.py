"""Second room: what one stage of the cascade hands to the next."""

from __future__ import annotations

import numpy as np
import torch

from cascade_lab.heads.cascade import Cascade
from cascade_lab.learn.museum.exhibit import Choice, Exhibit
from cascade_lab.learn.museum.specimens import MANY, batch, iou_by_stage, model, pictures, still_model
from cascade_lab.ops.boxes import area, clip, pairwise_iou
from cascade_lab.targets.sampler import evenly
from cascade_lab.viz.museum import Curve


def _iou_by_stage() -> Curve:
    return iou_by_stage(model())


SAME_BOXES = Exhibit(
    title="The more looks, the looser",
    story=(
        "A cascade was trained, all its losses fell, and yet at test time stage 1 alone is better than all"
        " three together. Here is how well the boxes fit, stage by stage."
    ),
    function=Cascade.run,
    right="boxes = refined",
    wrong="boxes = proposals",
    symptom=_iou_by_stage,
    worse="lower",
    choices=(
        Choice(words="The later stages are not trained for long enough.",
               why="A stage that has learned nothing answers with deltas near 0. It would leave the boxes"
                   " as they are, and the curve would be flat."),
        Choice(words="The scores of the stages are averaged in the wrong way.",
               why="Scores move no box, and the curve is about boxes alone."),
        Choice(words="Every stage starts from the first proposals, not from the boxes of the stage before.",
               why="What the stage before did is lost, and the later stages, which have learned small"
                   " corrections of good boxes, are the worst at correcting loose ones. Cascade R-CNN, eq."
                   " 7 is a chain; this is a bundle."),
    ),
    answer=2,
    lesson=(
        "Plot IoU by stage, always. In a cascade that works it rises most at stage 1 and does not fall much."
    ),
    test="tests/heads/test_cascade.py::test_row_r_is_the_same_object_in_all_stages",
)  # fmt: skip

OTHER_STD = Exhibit(
    title="Overshooting",
    story=(
        "Weights came from another code base, and stage 1 works just as it did there. The stages after it"
        " should make the boxes tighter."
    ),
    function=Cascade.refine,
    right="std = self.config.stages[k].delta_std",
    wrong="std = self.config.stages[0].delta_std",
    symptom=_iou_by_stage,
    worse="lower",
    choices=(
        Choice(words="Stages 2 and 3 decode their deltas with the std of stage 1.",
               why="Their corrections come out two and three times too large. Stage 2 overshoots by as"
                   " much as the box was off, stage 3 by twice as much."),
        Choice(words="Boxes are not clipped between the stages.",
               why="That touches only the few boxes at the border, and they would move by a little."),
        Choice(words="The three heads share one set of weights.",
               why="Then stages 2 and 3 would repeat stage 1, which makes small changes to boxes that fit,"
                   " not large ones."),
    ),
    answer=0,
    lesson="When the first stage is right and the rest is not, compare delta_std before anything else.",
    test="tests/heads/test_cascade.py::test_a_later_stage_decodes_with_its_own_std",
)  # fmt: skip

BACKGROUND_CLASS = Exhibit(
    title="The repaired crash",
    story=(
        "In the loop over the stages an index ran one past the last class, and the program stopped. Somebody"
        " put a clamp around it. Now it runs, and the boxes that no stage is sure about get worse."
    ),
    function=Cascade.refine,
    right="likeliest = logits[:, :-1].argmax(dim=1)",
    wrong="likeliest = logits.argmax(dim=1).clamp(max=self.num_classes - 1)",
    symptom=_iou_by_stage,
    worse="lower",
    choices=(
        Choice(words="The labels of the data set begin at 1.",
               why="Then sure boxes would be named wrongly too, and those are fine here."),
        Choice(words="A box that looks like background is moved by the deltas of the last class.",
               why="Background has no deltas. The library asks for the likeliest *object* class, also for a"
                   " box that is probably background: it may become an object at the next look."),
        Choice(words="The background boxes should not be moved at all.",
               why="The paper moves all of them, and so does this library. Many of them are objects that"
                   " the first stage is not sure of."),
    ),
    answer=1,
    lesson="A clamp around an index hides a question that nobody answered: what should happen to that row?",
    test="tests/heads/test_cascade.py::test_positives_move_by_the_deltas_of_their_class",
)  # fmt: skip


def _outside_by_stage() -> Curve:
    """Return which share of all boxes sticks out of the picture after each stage."""
    trace = model().detector.predict(batch()).trace
    shares = []
    for stage in trace.stages:
        inside = [area(clip(boxes, size)) for boxes, size in zip(stage.boxes, trace.sizes, strict=True)]
        whole = [area(boxes) for boxes in stage.boxes]
        shares.append(float((torch.cat(inside) < torch.cat(whole) - 1e-3).float().mean()))
    return Curve(
        x=np.arange(1, len(shares) + 1),
        y=100 * np.array(shares),
        x_label="after stage",
        y_label="boxes beyond the border, %",
        value=100 * shares[-1],
        words="beyond the border after the last stage, %:",
    )


UNCLIPPED = Exhibit(
    title="Beyond the border",
    story=(
        "Objects that the border of the picture cuts get loose boxes, all others are fine. Somebody counts"
        " the boxes with a corner where there is no picture."
    ),
    function=Cascade.refine,
    right="return [decode_deltas(delta, box, std, size) for box, delta, size in rows]",
    wrong="return [decode_deltas(delta, box, std) for box, delta, size in rows]",
    symptom=_outside_by_stage,
    worse="higher",
    choices=(
        Choice(words="The anchors that stick out of the picture were trained.",
               why="That is a matter of taste, `allowed_border`, and what an anchor becomes is clipped"
                   " anyway."),
        Choice(words="The picture was padded, and the boxes lie in the padding.",
               why="These pictures are not padded at all: 128 is a multiple of 32."),
        Choice(words="The boxes are not clipped to the picture between the stages.",
               why="A stage that sees half a box full of zeros has to guess, and hands on a box that is"
                   " farther out. The loss, in contrast, is taken of boxes that are not clipped."),
    ),
    answer=2,
    lesson=(
        "Ask for the smallest and the largest corner of all boxes. It takes one line and finds three bugs."
    ),
    test="tests/heads/test_cascade.py::test_refined_boxes_are_clipped_and_carry_no_gradient",
)  # fmt: skip


def _ious_of_the_second_input() -> Curve:
    """Return how well the boxes that stage 2 is trained on fit, at a time when no stage moves a box yet."""
    truths = [truth for _, truth in pictures(MANY)]
    with torch.no_grad():
        stage = still_model().detector(batch(MANY), truths, evenly).trace.stages[1]
    found = [
        pairwise_iou(boxes[~added], truth.boxes).max(dim=1).values
        for boxes, added, truth in zip(stage.proposals, stage.is_target, truths, strict=True)
    ]
    height, edges = np.histogram(torch.cat(found).numpy(), bins=10, range=(0.5, 1.0))
    return Curve(
        x=edges[:-1],
        y=height,
        x_label="IoU of the boxes that enter stage 2, without those that it adds itself",
        y_label="boxes",
        value=float((torch.cat(found) >= 0.95).sum()),
        words="boxes from 0.95 up:",
        kind="bars",
    )


KEPT = Exhibit(
    title="Too good to be true",
    story=(
        "In the first steps of a training, somebody draws figure 4 of Cascade R-CNN: how well the boxes fit"
        " that a later stage learns from. No stage moves a box yet, and still some boxes fit perfectly. At"
        " test time the later stages disappoint."
    ),
    function=Cascade.forward,
    right="boxes = [b[~is_target] for b, is_target in zip(refined, wanted.is_target, strict=True)]",
    wrong="boxes = refined",
    symptom=_ious_of_the_second_input,
    worse="higher",
    choices=(
        Choice(words="The true boxes that were added for training are handed on to the next stage.",
               why="Each stage adds the objects to its proposals, so that there are positives. Refined"
                   " copies of them must not travel on: they are nearly perfect, and no such boxes exist at"
                   " test time."),
        Choice(words="The model has learned the training pictures by heart.",
               why="In the first steps it has learned nothing, and the other boxes look as they should."),
        Choice(words="The later stages ask for too high an IoU.",
               why="The threshold says which boxes are positives. It does not change where the boxes lie."),
    ),
    answer=0,
    lesson=(
        "Leave the added boxes out of every plot, and look whether any of them came back under another name."
    ),
    test="tests/heads/test_cascade.py::test_each_stage_gets_the_refined_boxes_of_the_last",
)  # fmt: skip

STAGES = (SAME_BOXES, OTHER_STD, BACKGROUND_CLASS, UNCLIPPED, KEPT)
