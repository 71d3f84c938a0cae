"""First room: boxes that are written down in one way and read in another."""

from __future__ import annotations

import torch
from torch import Tensor

from cascade_lab.detector import on_original
from cascade_lab.evaluation.coco import detections_to_coco
from cascade_lab.layers.roi_pooler import boxes_to_rois, pool_rois
from cascade_lab.learn.museum.exhibit import Choice, Exhibit
from cascade_lab.learn.museum.specimens import as_shown, model, pictures
from cascade_lab.ops import box_coder
from cascade_lab.ops.boxes import pairwise_iou, xywh_to_xyxy
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.viz.museum import Curve, Picture

SURE = 0.3  # detections that are drawn
STD = (0.1, 0.1, 0.2, 0.2)


def _detections_on_a_large_picture() -> Picture:
    """Find the objects of a picture that the network sees at half its size."""
    picture, truth = pictures()[1]
    height, width = picture.shape[1:]
    run, images = model(), ImageBatch.collate([picture], [(2 * height, 2 * width)])
    (found,) = run.detector.predict(images).instances
    assert found.scores is not None
    boxes = found.boxes[found.scores > SURE]
    large = picture.repeat_interleave(2, dim=1).repeat_interleave(2, dim=2)
    best = pairwise_iou(2 * truth.boxes, boxes).max(dim=1).values if len(boxes) else torch.zeros(1)
    return Picture(
        pixels=as_shown(large),
        boxes=boxes.numpy(),
        names=("",) * len(boxes),
        value=float(best.mean()),
        words="mean IoU of objects and boxes",
    )


FRAME = Exhibit(
    title="The huddle",
    story=(
        "A detector was trained on small pictures, and now it looks at a photograph of twice the width and"
        " height, which is shrunk for the network. AP on the small pictures was fine; on the large one it is"
        " nearly 0. Somebody drew the boxes."
    ),
    function=on_original,
    right="boxes = scale(found.boxes[i], (original[0] / h, original[1] / w))",
    wrong="boxes = found.boxes[i]",
    symptom=_detections_on_a_large_picture,
    worse="lower",
    choices=(
        Choice(words="The boxes are clipped to the wrong picture.",
               why="Clipping moves only what sticks out. Here every box is too small and too far up left."),
        Choice(words="The boxes are still in pixels of the shrunk picture.",
               why="All corners are halved, so the boxes huddle in the left upper quarter, in the right"
                   " order."),
        Choice(words="The network was trained on too few large pictures.",
               why="Then boxes would be missing or loose, but not all displaced by the same rule."),
    ),
    answer=1,
    lesson=(
        "Draw the boxes. A wrong frame is seen at once, and in a table of AP it looks like any other failure."
    ),
    test="tests/test_detector.py::test_detections_are_in_original_pixels",
)  # fmt: skip


def _perfect_boxes_in_a_results_file() -> Curve:
    """Hand in the true boxes as detections, and compare what the file says with the truth."""
    left = torch.arange(0.0, 101.0, 5.0)
    truth = torch.stack([left, left, left + 20, left + 20], dim=1)  # squares down the diagonal
    none = torch.zeros(len(truth), dtype=torch.int64)
    rows = detections_to_coco(1, Instances((128, 128), truth, none, torch.ones(len(truth))), [1])
    written = xywh_to_xyxy(torch.tensor([row["bbox"] for row in rows]))
    iou = pairwise_iou(truth, written).diagonal()
    return Curve(
        x=left.numpy(),
        y=iou.numpy(),
        x_label="distance of the object from the left upper corner, pixels",
        y_label="IoU of the box in the file",
        value=float(iou.mean()),
        words="mean IoU",
    )


CORNERS = Exhibit(
    title="The lucky corner",
    story=(
        "To test an evaluation, somebody hands in the true boxes themselves as detections. AP ought to be"
        " 100. It is far lower, and all that is found lies close to the left upper corner of the pictures."
    ),
    function=detections_to_coco,
    right="boxes = xyxy_to_xywh(instances.boxes.double()).tolist()",
    wrong="boxes = instances.boxes.double().tolist()",
    symptom=_perfect_boxes_in_a_results_file,
    worse="lower",
    choices=(
        Choice(words="Corners x1, y1, x2, y2 were written where x, y, width, height are read.",
               why="At the corner of the picture both ways of writing agree: x2 - 0 is the width."),
        Choice(words="x and y changed places.",
               why="On the diagonal that would change nothing at all; these squares lie on it."),
        Choice(words="The picture was resized and the boxes were not.",
               why="Then the error would be in proportion everywhere, and small boxes would be wrong even"
                   " near the corner."),
    ),
    answer=0,
    lesson="Score the ground truth as if it were a result. Anything but 100 is a fault of the plumbing.",
    test="tests/evaluation/test_coco.py::test_detections_to_coco",
)  # fmt: skip


def _three_perfect_answers() -> Curve:
    """Let three stages answer perfectly, one after the other, and look how well the last box fits."""
    sides = torch.tensor([4.0, 6, 8, 12, 16, 24, 32, 48, 64])
    target = torch.stack([40 - sides / 2, 40 - sides / 2, 40 + sides / 2, 40 + sides / 2], dim=1)
    box = target + torch.tensor([1.0, 0.0, 1.0, 0.0])
    for _ in range(3):
        box = box_coder.decode_deltas(box_coder.encode_deltas(box, target, STD), box, STD)
    iou = pairwise_iou(target, box).diagonal()
    return Curve(
        x=sides.numpy(),
        y=iou.numpy(),
        x_label="side of the object, pixels",
        y_label="IoU after three perfect answers",
        value=float(iou[0]),
        words="IoU of the smallest",
    )


PLUS_ONE = Exhibit(
    title="Small objects suffer",
    story=(
        "Two code bases share their weights. In one of them AP of large objects is the same, and AP of small"
        " ones is several points lower. Here, every stage is given the perfect answer to each box."
    ),
    function=box_coder._centre_and_size,
    right="return (x1 + x2) * 0.5, (y1 + y2) * 0.5, x2 - x1, y2 - y1",
    wrong="return (x1 + x2) * 0.5, (y1 + y2) * 0.5, x2 - x1 + 1, y2 - y1 + 1",
    symptom=_three_perfect_answers,
    worse="lower",
    choices=(
        Choice(words="The deltas were divided by the std of another stage.",
               why="Encoding and decoding with the same std always cancels, whatever its value."),
        Choice(words="The boxes were rounded to whole pixels.",
               why="All boxes here have whole corners, so rounding them would change nothing."),
        Choice(words="Widths were counted as x2 - x1 + 1.",
               why="Every decoded box is one pixel too wide and one too high. A pixel is nothing for a bus"
                   " and a quarter of a box of four."),
    ),
    answer=2,
    lesson="Look at AP by size. An error of a fixed number of pixels shows in the small objects first.",
    test="tests/ops/test_box_coder.py::test_decode_undoes_encode",
)  # fmt: skip


def _a_box_that_slides() -> Curve:
    """Slide a box over a ramp in tenths of a pixel, and note what RoIAlign reads in its middle."""
    ramp = torch.arange(32.0).expand(1, 1, 32, 32).contiguous()  # its value is its column
    shift = torch.arange(0.0, 16.0, 0.1)
    boxes = torch.stack([24 + shift, 24 + 0 * shift, 56 + shift, 56 + 0 * shift], dim=1)
    read = _middle(ramp, boxes)
    straight = shift / 4  # the map has a cell for every 4 pixels
    return Curve(
        x=shift.numpy(),
        y=read.numpy(),
        x_label="the box moves to the right, pixels",
        y_label="what is read in its middle",
        value=float((read - read[0] - straight).abs().max()),
        words="distance from a straight line, at most",
    )


def _middle(features: Tensor, boxes: Tensor) -> Tensor:
    rois = boxes_to_rois([boxes])
    return pool_rois([features], (4,), rois, 1, canonical_size=32.0, sampling_ratio=2)[:, 0, 0, 0]


ROUNDED = Exhibit(
    title="The staircase",
    story=(
        "Boxes get better up to an IoU of about 0.8 and then stop: the later stages learn nothing. As a test,"
        " a box slides slowly over a map whose values rise evenly from left to right."
    ),
    function=boxes_to_rois,
    right="rows = [torch.cat([b.new_full((len(b), 1), i), b], dim=1) for i, b in enumerate(boxes)]",
    wrong="""
boxes = [(b / 4).round() * 4 for b in boxes]
rows = [torch.cat([b.new_full((len(b), 1), i), b], dim=1) for i, b in enumerate(boxes)]
""".strip(),
    symptom=_a_box_that_slides,
    worse="higher",
    choices=(
        Choice(words="The features are read from a pyramid level that is too coarse.",
               why="A coarser level has lower slopes, but bilinear reading still gives a straight line."),
        Choice(words="The corners of the box are rounded to cells of the map before they are read.",
               why="Between two steps the features do not change, so no head can tell the two boxes apart."
                   " RoIAlign was invented to remove these steps of RoIPool."),
        Choice(words="The learning rate of the last stage is too low.",
               why="Nothing is learned in this measurement. The map and the box are made by hand."),
    ),
    answer=1,
    lesson="Move the input by a little and watch the output. Steps mean that something was rounded.",
    test="tests/layers/test_roi_pooler.py::test_corners_between_pixels_are_kept",
)  # fmt: skip

BOXES = (FRAME, CORNERS, PLUS_ONE, ROUNDED)
