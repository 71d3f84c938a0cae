"""Fourth room: how the answers of three stages become one."""

from __future__ import annotations

import numpy as np
import torch

from cascade_lab.detector import on_original
from cascade_lab.heads.postprocess import PostprocessConfig, ensemble_scores, pick_detections, thin_out
from cascade_lab.learn.museum.exhibit import Choice, Exhibit
from cascade_lab.learn.museum.specimens import as_shown, batch, model, pictures
from cascade_lab.trace import DetectionTrace, StageTrace
from cascade_lab.viz.museum import Curve, Picture


def _said(share: float) -> StageTrace:
    """Return a stage that gives its only class a probability, on one box."""
    box, odds = torch.tensor([[0.0, 0.0, 10.0, 10.0]]), torch.tensor(share / (1 - share))
    return StageTrace(
        iou_threshold=0.5,
        delta_std=(0.1, 0.1, 0.2, 0.2),
        proposals=[box],
        boxes=[box],
        logits=[torch.stack([odds.log(), torch.zeros(())])[None]],
        deltas=[torch.zeros(1, 4)],
        is_target=[torch.zeros(1, dtype=torch.bool)],
    )


def _score_of_three() -> Curve:
    """Let stage 1 be nearly certain, and the two others less and less."""
    others = np.logspace(-4, -0.1, 40)
    stages = [[_said(0.999), _said(p), _said(p)] for p in others.tolist()]
    scores = [float(ensemble_scores(three, [0, 1, 2], 0, "own_rois_logits")[0, 0]) for three in stages]
    return Curve(
        x=np.log10(others),
        y=np.array(scores),
        x_label="stages 2 and 3 give the probability 10 to the power of ...; stage 1 gives 0.999",
        y_label="final score",
        value=scores[0],
        words="final score where stages 2 and 3 say 0.0001:",
    )


PROBABILITIES = Exhibit(
    title="A floor under every score",
    story=(
        "Detections of a published checkpoint were reproduced: same boxes, same classes, same order for most"
        " pictures; but the scores differ, and AP a little. One box of one class:"
    ),
    function=ensemble_scores,
    right="return torch.stack([stages[k].logits[image] for k in voters]).mean(0).softmax(-1)",
    wrong="return torch.stack([stages[k].logits[image].softmax(-1) for k in voters]).mean(0)",
    symptom=_score_of_three,
    worse="higher",
    choices=(
        Choice(words="Only the first stage votes.",
               why="Then the curve would be flat: the answers of the others would not matter."),
        Choice(words="Probabilities are averaged, where the checkpoint was evaluated with averaged logits.",
               why="One stage that is certain guarantees a third of the score, whatever the others say."
                   " Both rules exist: mmdetection averages logits, detectron2 probabilities, and the paper"
                   " lets all heads look at the last boxes and averages probabilities."),
        Choice(words="The softmax is taken over the stages.",
               why="Then the scores of a box would not add up to 1."),
    ),
    answer=1,
    lesson="A mean before a softmax is not a mean after it. Find out which one the checkpoint was made with.",
    test="tests/heads/test_postprocess.py::test_ensembles_by_hand",
)  # fmt: skip


def _mask_of_three() -> Curve:
    """Let one mask head say yes, ever louder, to a disc that the two others deny; return the mask's area."""
    rows = torch.arange(28.0) - 13.5
    distance = (rows[:, None] ** 2 + rows[None, :] ** 2).sqrt()  # (28, 28)
    loud, box = torch.linspace(0, 10, 21), torch.tensor([[0.0, 0.0, 28.0, 28.0]])
    shares = []
    for volume in loud.tolist():
        yes, no = volume * (10 - distance).clamp(-1, 1), torch.full((28, 28), -2.0)
        found = DetectionTrace(
            rows=[torch.zeros(1, dtype=torch.int64)],
            boxes=[box],
            labels=[torch.zeros(1, dtype=torch.int64)],
            scores=[torch.ones(1)],
            mask_logits={0: [yes[None]], 1: [no[None]], 2: [no[None]]},
        )
        (instances,) = on_original(found, [(28, 28)], [(28, 28)])
        assert instances.masks is not None
        shares.append(100 * float(instances.masks.float().mean()))
    return Curve(
        x=loud.numpy(),
        y=np.array(shares),
        x_label="logit inside the disc from stage 1; stages 2 and 3 say -2",
        y_label="box covered by the mask, %",
        value=shares[-1],
        words="covered at the loudest, %:",
    )


LOUD_MASK = Exhibit(
    title="One voice decides",
    story=(
        "Three mask heads vote on every pixel. Two of them deny that the object is there. The third says yes,"
        " inside a disc, first quietly and then ever louder."
    ),
    function=on_original,
    right="""
votes = [logits[i].sigmoid() for logits in found.mask_logits.values()]
masks = paste_masks(torch.stack(votes).mean(0), boxes, original)
""".strip(),
    wrong="""
votes = [logits[i] for logits in found.mask_logits.values()]
masks = paste_masks(torch.stack(votes).mean(0).sigmoid(), boxes, original)
""".strip(),
    symptom=_mask_of_three,
    worse="higher",
    choices=(
        Choice(words="The logits of the masks are averaged before the sigmoid.",
               why="A sigmoid turns every vote into a number from 0 to 1, so that nobody can shout. Scores"
                   " of this model are averaged as logits and masks as probabilities; it is easy to mix"
                   " them up."),
        Choice(words="The mask of the first stage alone is used.",
               why="Then the mask would appear as soon as the first logit is above 0."),
        Choice(words="The threshold of the mask is 0.3 and not 0.5.",
               why="With two firm denials even the loudest yes gives a mean of (1 + 0.12 + 0.12) / 3, about"
                   " 0.41: that would pass 0.3, and at a much smaller logit than here."),
    ),
    answer=0,
    lesson="For each mean, ask what it is a mean of. The names `logits` and `scores` exist to make it plain.",
    test="tests/test_detector.py::test_masks_are_averaged_after_the_sigmoid",
)  # fmt: skip


def _named_detections() -> Picture:
    """Return the 12 surest detections of a picture with their names."""
    run, (picture, truth) = model(), pictures()[1]
    found = run.detector.predict(batch(2)).instances[1]
    assert found.labels is not None and found.scores is not None
    rows = found.scores.argsort(descending=True)[:12]
    rows = rows[found.scores[rows] > 0.3]
    names = [run.classes[label] for label in found.labels[rows].tolist()]
    return Picture(
        pixels=as_shown(picture),
        boxes=found.boxes[rows].numpy(),
        names=tuple(names),
        value=float(len(rows)),
        words=f"{len(truth)} objects; sure boxes, at most 12 drawn:",
    )


BACKGROUND_FIRST = Exhibit(
    title="Everything is one class",
    story=(
        "Weights of another code base were loaded. There are as many detections as the detector may give, all"
        " of them with scores near 1, and nearly all of one and the same class."
    ),
    function=pick_detections,
    right="row, label = (scores[:, :classes] > config.score_threshold).nonzero(as_tuple=True)",
    wrong="""
scores = scores[:, 1:]
row, label = (scores > config.score_threshold).nonzero(as_tuple=True)
""".strip(),
    symptom=_named_detections,
    worse="higher",
    choices=(
        Choice(words="NMS does nothing.",
               why="Then there would be piles of boxes on the objects. Here they are all over the"
                   " background."),
        Choice(words="The network says the same for every input.",
               why="It does not: the boxes of that class lie mostly beside the objects, not on them."),
        Choice(words="The first column of the scores is taken for the background; here it is the last.",
               why="So the last class is the background: sure, and everywhere. All other names are one"
                   " place off. Caffe and detectron count the background as class 0, mmdetection and this"
                   " library last."),
    ),
    answer=2,
    lesson="Background boxes outnumber objects. If they become visible, ask where the background column is.",
    test="tests/heads/test_postprocess.py::test_the_threshold_is_exclusive_and_background_is_no_detection",
)  # fmt: skip


def _two_objects_closer_and_closer() -> Curve:
    """Return how many of two sure boxes of different classes are left after NMS, by their IoU."""
    shifts = np.arange(0, 21)
    left, overlaps = [], []
    for shift in shifts.tolist():
        boxes = torch.tensor([[0.0, 0.0, 20.0, 20.0], [shift, 0.0, 20.0 + shift, 20.0]])
        keep, _ = thin_out(boxes, torch.tensor([0.9, 0.8]), torch.tensor([0, 1]), PostprocessConfig())
        left.append(len(keep))
        overlaps.append((20 - shift) / (20 + shift))
    return Curve(
        x=np.array(overlaps),
        y=np.array(left, float),
        x_label="IoU of a cup and the saucer under it",
        y_label="detections that are left",
        value=float(np.mean(left)),
        words="left on average",
    )


ACROSS_CLASSES = Exhibit(
    title="The cup without a saucer",
    story=(
        "Crowded pictures lose objects, but only where two things of different kinds lie upon each other: a"
        " rider on a horse, a cup on a saucer. Both have boxes with high scores."
    ),
    function=thin_out,
    right="keep = batched_nms(boxes, scores, labels, config.nms_iou)[: config.max_detections]",
    wrong="""
labels = torch.zeros_like(labels)
keep = batched_nms(boxes, scores, labels, config.nms_iou)[: config.max_detections]
""".strip(),
    symptom=_two_objects_closer_and_closer,
    worse="lower",
    choices=(
        Choice(words="The limit of detections in a picture is too low.",
               why="There are two boxes in this measurement, and the limit is 100."),
        Choice(words="NMS lets boxes of different classes suppress each other.",
               why="Above an IoU of 0.5 the better box wins, although it is about another thing. NMS"
                   " belongs within a class."),
        Choice(words="The saucer's score is below the threshold.",
               why="It is 0.8, and the saucer is found as soon as the cup moves aside."),
    ),
    answer=1,
    lesson="When objects vanish only beside others, suspect NMS; when they vanish alone, suspect the scores.",
    test="tests/heads/test_postprocess.py::test_nms_within_a_class",
)  # fmt: skip

VOTES = (PROBABILITIES, LOUD_MASK, BACKGROUND_FIRST, ACROSS_CLASSES)
