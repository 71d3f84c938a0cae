"""One head applied again and again, against heads of their own (Cascade R-CNN, eq. 3 and table 1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cascade_lab.evaluation.per_stage import stage_modes
from cascade_lab.heads.postprocess import ensemble_scores
from cascade_lab.laboratory import paper
from cascade_lab.laboratory.box_ap import COLUMNS, BoxAP, box_ap, gain, truth_of
from cascade_lab.laboratory.observation import Observation

MEANING = """\
Read: whether looking again with the same head helps once, and whether it still helps a third time; and
whether heads that were trained for better boxes do more. Do not read: the paper's gain of the cascade over
its baseline. That baseline was a detector of its own; this first head was trained in a cascade. The
intervals are over pictures, and say nothing of another training."""


@dataclass(frozen=True, kw_only=True)
class Iterated:
    """Box AP of the first head at its first, second, ... look, and of the stages of the cascade.

    ``looks[0]`` equals ``stages["1"]``: the first look of the first head is stage 1.
    """

    looks: tuple[BoxAP, ...]
    stages: dict[str, BoxAP]

    def text(self, draws: int = 200) -> str:
        head = "".join(f"{column:>7}" for column in COLUMNS)
        lines = [f"{'':<18}{head}   | paper: AP   AP80   AP90"]
        for number, scores in enumerate(self.looks, start=1):
            there = (
                {1: _printed(paper.BASELINE), 3: _printed(paper.ITERATIVE)} if len(self.looks) == 3 else {}
            )
            lines.append(f"{f'head 1, look {number}':<18}{scores.row()}   |{there.get(number, '')}".rstrip())
        for mode, scores in self.stages.items():
            there = _printed(paper.STAGES[mode]) if mode in paper.STAGES else ""
            lines.append(f"{f'stage {mode}':<18}{scores.row()}   |{there}".rstrip())
        for number in range(1, len(self.looks)):
            change = gain(self.looks[number], self.looks[number - 1], draws=draws)
            lines.append(f"AP, look {number + 1} minus look {number}: {change}")
        last = list(self.stages)[-1]
        change = gain(self.stages[last], self.looks[-1], draws=draws)
        lines.append(f"AP, stage {last} minus look {len(self.looks)}: {change}")
        return "\n".join([*lines, MEANING])


def iterate_first_head(observations: Sequence[Observation], looks: int = 3) -> Iterated:
    """Apply the first head ``looks`` times, each time to the boxes that it made before.

    The scores at look n are what the head says at that look, as those of stage n are what stage n says.
    """
    detector = observations[0].detector
    targets = [target for seen in observations for target in seen.targets]
    truth = truth_of(targets, detector.config.num_classes)
    found = [[] for _ in range(looks)]
    modes = stage_modes(len(detector.cascade.config.stages))
    read = {mode: [] for mode in modes}
    for seen in observations:
        boxes = seen.trace.stages[0].proposals
        for look in found:
            stage = seen.ask(0, boxes)
            look += seen.detections(stage, [logits.softmax(-1) for logits in stage.logits])
            boxes = stage.boxes
        for mode, voters in modes.items():
            rule = detector.cascade.config.postprocess.ensemble
            scores = [ensemble_scores(seen.trace.stages, voters, i, rule) for i in range(len(seen.targets))]
            read[mode] += seen.detections(seen.trace.stages[voters[-1]], scores)
    return Iterated(
        looks=tuple(box_ap(look, truth) for look in found),
        stages={mode: box_ap(instances, truth) for mode, instances in read.items()},
    )


def _printed(row: Sequence[float]) -> str:
    """Return AP, AP80 and AP90 of a row that the paper prints."""
    return f"{row[0]:10.1f}{row[4]:7.1f}{row[5]:7.1f}"
