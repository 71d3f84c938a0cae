"""What goes to the browser against what the library reads: nothing that any setting can show is missing."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from cascade_lab.errors import InputError
from cascade_lab.laboratory.crossed import Choice, Crossed, cross, vote
from cascade_lab.learn.course import course_pictures, course_run
from cascade_lab.widgets.packed_cross import PackedPicture, every_reading, pack
from tests.laboratory.test_crossed import CASCADE, PICTURES, build

LEAST = 0.05


def softmax(logits: np.ndarray) -> np.ndarray:
    powers = np.exp(logits - logits.max(-1, keepdims=True))
    return powers / powers.sum(-1, keepdims=True)


def scores_of(one: PackedPicture, choice: Choice) -> np.ndarray:
    """Average by hand, (R', K + 1)."""
    own = np.stack([one.logits[k, k] for k in range(choice.stages)]).astype(float)
    if choice.foreign is not None:
        return softmax(one.logits[choice.foreign].astype(float))
    if choice.ensemble == "own_rois_logits":
        return softmax(own.mean(0))
    if choice.ensemble == "own_rois_probabilities":
        return softmax(own).mean(0)
    return softmax(one.logits[: choice.stages, choice.stages - 1].astype(float)).mean(0)


def candidates(one: PackedPicture, choice: Choice) -> list[tuple]:
    """List (score, label, *box in pixels) of what scores above LEAST, best first."""
    h, k = choice.cell
    cell = h * len(one.logits) + k
    part = slice(one.counts[:cell].sum(), one.counts[: cell + 1].sum())
    rows, labels = one.rows[part].astype(int), one.labels[part].astype(int)
    scores = scores_of(one, choice)[rows, labels]
    (height, width), kept = one.size, scores > LEAST
    if not choice.targets_added:
        kept &= one.is_target[rows] == 0
    boxes = one.boxes[part] / 65535 * np.array([width, height, width, height])
    return sorted(zip(scores[kept], labels[kept], *boxes[kept].T, strict=True), reverse=True)


def expected(crossed: Crossed, choice: Choice, i: int) -> list[tuple]:
    boxes, scores = vote(crossed, choice, i)
    row, label = (scores[:, :-1] > LEAST).nonzero(as_tuple=True)
    box = boxes[row, label if boxes.shape[1] > 1 else 0]
    return sorted(
        zip(scores[row, label].tolist(), label.tolist(), *box.T.tolist(), strict=True), reverse=True
    )


@pytest.mark.parametrize("class_aware", [True, False])
@pytest.mark.parametrize("added", [True, False])
def test_every_reading_finds_its_boxes(class_aware: bool, added: bool):
    head = replace(CASCADE.box_head, class_aware=class_aware)
    crossed = cross(build(replace(CASCADE, box_head=head)), PICTURES)
    readings = [replace(choice, targets_added=added) for choice in every_reading(crossed)]
    assert len(readings) == 3 * 3 + 9
    for i, one in enumerate(pack(crossed, LEAST)):
        for choice in readings:
            ours, theirs = np.array(candidates(one, choice)), np.array(expected(crossed, choice, i))
            assert ours.shape == theirs.shape and len(ours) > 5
            np.testing.assert_allclose(ours[:, :2], theirs[:, :2], atol=1e-6)
            np.testing.assert_allclose(ours[:, 2:], theirs[:, 2:], atol=64 / 131070 + 1e-5)


def test_what_enters_the_stages():
    crossed = cross(build(), PICTURES)
    for i, one in enumerate(pack(crossed, LEAST)):
        entering = np.stack([look.proposals[i].numpy() for look in crossed.looks[0]])
        np.testing.assert_allclose(one.entering / 65535 * 64, entering, atol=64 / 131070 + 1e-5)
        assert torch.equal(torch.from_numpy(one.targets), PICTURES[i][1].boxes)
        assert one.target_labels.tolist() == PICTURES[i][1].labels.tolist()


def test_what_cannot_matter_stays_behind():
    crossed = cross(build(), PICTURES)
    everything = sum(9 * logits.shape[0] * (logits.shape[1] - 1) for logits in crossed.looks[0][0].logits)
    boxes = [sum(len(one.rows) for one in pack(crossed, least)) for least in (0.0, 0.05, 0.5)]
    assert boxes[0] == everything > boxes[1] > 2 * boxes[2] > 0
    rows = sum(len(one.is_target) for one in pack(crossed, 0.8))
    assert 0 < rows < sum(len(marked) for marked in crossed.looks[0][0].is_target)


def test_forty_pictures_of_the_course_stay_below_three_megabytes():
    run, count = course_run(), 6
    crossed = cross(run.detector, course_pictures(count))
    parts = [part for one in pack(crossed, crossed.plain.score_threshold) for part in vars(one).values()]
    arrays = sum(part.nbytes for part in parts if isinstance(part, np.ndarray))
    total = arrays + sum(len(part) for part in parts if isinstance(part, bytes))
    assert total / count * 40 * 4 / 3 < 3_000_000  # 4/3: the exported page writes base64


def test_soft_nms_is_not_for_the_viewer():
    soft = replace(CASCADE.postprocess, nms="soft_linear")
    crossed = replace(cross(build(), PICTURES[:1]), postprocess=soft)
    with pytest.raises(InputError, match="soft_linear.*hard"):
        pack(crossed, LEAST)
