"""Every head on the boxes of every stage, and on perfect boxes (Cascade R-CNN, figures 6 and 5 b)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from cascade_lab.laboratory import paper
from cascade_lab.laboratory.box_ap import BoxAP, box_ap, gain, truth_of
from cascade_lab.laboratory.crossed import Crossed, read

BETTER_BOXES = """\
Read: how much each head gains when the boxes get better, and that the strictest head needs good boxes most.
Do not read: small differences between cells, or the absolute AP. The interval is over pictures, and says
nothing of another training."""
TRUTH_ADDED = """\
Read: which head recognises a perfect box as one and leaves it alone; the stricter the head, the more it
should gain. Do not read: an AP that a detector could reach, since the answer stands among its proposals.
The paper's detectors were trained apart, on RPN proposals; heads 2 and 3 of a cascade never saw those."""


@dataclass(frozen=True, kw_only=True)
class HeadByStage:
    """Box AP of every single head (row) on the boxes that enter every stage (column).

    ``plain`` and ``with_truth`` are S times S; in the second, the ground truth stands among the proposals.
    """

    thresholds: tuple[float, ...]
    plain: tuple[tuple[BoxAP, ...], ...]
    with_truth: tuple[tuple[BoxAP, ...], ...]

    def table(self, column: str = "AP", with_truth: bool = False) -> np.ndarray:
        """Return one column of all scores, (S heads, S stages)."""
        rows = self.with_truth if with_truth else self.plain
        return np.array([[scores[column] for scores in row] for row in rows])

    def text(self, draws: int = 200) -> str:
        """Return figure 6 of Cascade R-CNN: every head on the boxes of every stage."""
        here, there = self.table(), paper.CROSSED if len(self.thresholds) == 3 else ()
        heads = "".join(f"{f'into {k + 1}':>9}" for k in range(len(here)))
        lines = [f"{'AP':<16}{heads}" + (f"   |{heads}  (paper)" if there else "")]
        for h, u in enumerate(self.thresholds):
            printed = f"   |{_cells(there[h])}" if there else ""
            lines.append(f"{f'head {h + 1} (u = {u:g})':<16}{_cells(here[h])}{printed}")
        if len(self.thresholds) > 1:
            last = self.plain[-1]
            change = gain(last[-1], last[0], draws=draws)
            lines.append(f"last head, its own boxes minus the proposals: {change}")
        return "\n".join([*lines, BETTER_BOXES])

    def truth_text(self, draws: int = 200) -> str:
        """Return figure 5 b of Cascade R-CNN: every head on proposals without and with the ground truth."""
        printed = len(self.thresholds) == 3
        lines = [
            f"{'AP on proposals':<16}{'plain':>8}{'+ truth':>9}   gain"
            + (f"{'':<26}| plain  + truth   gain  (paper)" if printed else "")
        ]
        for h, u in enumerate(self.thresholds):
            before, after = self.plain[h][0], self.with_truth[h][0]
            change = str(gain(after, before, draws=draws))
            row = f"{f'head {h + 1} (u = {u:g})':<16}{before['AP']:8.1f}{after['AP']:9.1f}   {change:<30}"
            if printed:
                plain, added = paper.APART[h], paper.APART_WITH_TRUTH[h]
                row += f"|{plain:6.1f}{added:9.1f}{added - plain:+7.1f}"
            lines.append(row.rstrip())
        return "\n".join([*lines, TRUTH_ADDED])


def head_by_stage(crossed: Crossed, classes: int) -> HeadByStage:
    """Score every head alone on the boxes of every stage, with its own scores, without and with the truth."""
    truth, stages = truth_of(crossed.truth, classes), range(crossed.stages)

    def scored(head: int, stage: int, added: bool) -> BoxAP:
        choice = replace(crossed.plain, foreign=(head, stage), targets_added=added)
        return box_ap(read(crossed, choice), truth)

    def square(added: bool) -> tuple[tuple[BoxAP, ...], ...]:
        return tuple(tuple(scored(h, k, added) for k in stages) for h in stages)

    return HeadByStage(
        thresholds=tuple(crossed.looks[k][k].iou_threshold for k in stages),
        plain=square(False),
        with_truth=square(True),
    )


def _cells(values: Sequence[float] | np.ndarray) -> str:
    return "".join(f"{value:9.1f}" for value in values)
