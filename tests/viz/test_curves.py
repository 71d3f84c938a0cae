"""Curves: smoothing, labels that keep apart, and what is drawn."""

import numpy as np
import pytest

from cascade_lab.viz.curves import ap_curves, iou_histograms, loss_curves, running_mean, spread
from cascade_lab.viz.palette import stage_look


def test_running_mean_by_hand():
    # Five values and a window of one on each side: shorter at the ends.
    assert running_mean(np.array([0.0, 3, 6, 0, 3])).tolist() == [1.5, 3, 3, 3, 1.5]
    assert running_mean(np.full(100, 7.0)) == pytest.approx(7)
    assert running_mean(np.array([4.0])).tolist() == [4]


@pytest.mark.parametrize(
    "positions, expected",
    [
        ([0, 10], [0, 10]),
        ([5, 5], [4.5, 5.5]),
        ([5, 0, 5.5], [4.75, 0, 5.75]),
        ([1, 1, 1], [0, 1, 2]),
        ([0, 0.2, 1.0], [-0.6, 0.4, 1.4]),  # the first two meet, then their cluster meets the third
        ([], []),
    ],
)
def test_spread_by_hand(positions, expected):
    assert spread(positions, gap=1.0) == pytest.approx(expected)


def test_spread_keeps_order_and_distance():
    positions = np.random.default_rng(0).uniform(0, 5, 40)
    placed = np.array(spread(positions, gap=0.3))
    assert (np.argsort(placed) == np.argsort(positions)).all()
    assert np.diff(np.sort(placed)).min() >= 0.3 - 1e-9


def rows(steps: int = 20) -> list[dict]:
    parts = ("loss_rpn_cls", "loss_rpn_bbox", "s0.loss_cls", "s0.loss_bbox", "s1.loss_cls", "s1.loss_mask")
    made = [{name: (k + 1) / step for k, name in enumerate(parts)} for step in range(1, steps + 1)]
    return [
        {"step": s, "lr": 0.1, "s0.acc": 90.0, "loss": sum(r.values())} | r
        for s, r in enumerate(made, start=1)
    ]


def test_loss_panels_hold_a_line_for_every_part():
    figure = loss_curves(rows())
    panels = {axes.get_title(loc="left"): axes for axes in figure.axes}
    assert list(panels) == ["all parts", "RPN", "classification", "boxes", "masks"]
    assert [len(axes.lines) for axes in panels.values()] == [2, 4, 4, 2, 2]  # as logged, and smoothed
    logged = panels["masks"].lines[0]
    assert np.asarray(logged.get_xydata())[1].tolist() == [2, 3]  # step 2: 6 / 2
    assert panels["masks"].lines[1].get_color() == stage_look(1).colour
    assert [t.get_text() for t in panels["classification"].texts] == ["stage 1", "stage 2"]


def test_losses_with_gaps_and_without_parts():
    some = rows()
    some[3]["loss"] = some[5]["s0.loss_cls"] = None
    figure = loss_curves(some)
    assert len(np.asarray(figure.axes[0].lines[0].get_xdata())) == 19
    assert len(loss_curves([{"step": 1, "loss": 2.0}]).axes) == 1


def summary(start: float) -> dict:
    return {f"AP{iou}": start - iou for iou in range(50, 100, 5)}


def test_ap_curves_and_gain():
    stages = {
        mode: {"bbox": summary(start), "segm": None} for mode, start in [("1", 100), ("2", 110), ("1~2", 115)]
    }
    figure = ap_curves(stages, "bbox")
    assert figure is not None and ap_curves(stages, "segm") is None
    ap, gain = figure.axes
    assert np.asarray(ap.lines[1].get_ydata()).tolist() == [60 - 5 * k for k in range(10)]
    assert [set(np.asarray(line.get_ydata())) for line in gain.lines] == [{0}, {10}, {15}]
    assert [text.get_text() for text in ap.texts] == ["stage 1", "stage 2", "1~2 together"]
    assert (
        len({(str(line.get_color()), line.get_linestyle(), line.get_linewidth()) for line in ap.lines}) == 3
    )


def test_ap_of_one_stage_has_no_gain_and_undefined_ap_no_curve():
    one = {"1": {"bbox": summary(100)}}
    figure = ap_curves(one, "bbox")
    assert figure is not None and len(figure.axes) == 1
    assert ap_curves({"1": {"bbox": dict.fromkeys(summary(100))}}, "bbox") is None


def test_iou_histograms():
    ious = [np.array([0.1, 0.4, 0.62, 0.71]), np.array([0.6, 0.6, 0.9]), np.zeros(0)]
    figure = iou_histograms(ious, [0.5, 0.6, 0.7])
    titles = [axes.get_title(loc="left") for axes in figure.axes]
    assert titles == ["50 % at IoU 0.5 or more", "100 % at IoU 0.6 or more", "0 % at IoU 0.7 or more"]
    heights = [patch.get_height() for patch in figure.axes[0].patches[:20]]  # type: ignore[attr-defined]
    assert sum(heights) == pytest.approx(100) and heights[2] == pytest.approx(25)
