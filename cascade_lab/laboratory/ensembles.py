"""Who votes, and on which boxes: single stages and three ways to average them (Cascade R-CNN, table 2)."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import get_args

from cascade_lab.heads.postprocess import Ensemble
from cascade_lab.laboratory import paper
from cascade_lab.laboratory.box_ap import COLUMNS, BoxAP, box_ap, gain, truth_of
from cascade_lab.laboratory.crossed import Crossed, read

PAPER_RULE: Ensemble = "last_rois_probabilities"
MEANING = """\
Read: what voting adds to the last stage by itself, at which IoU, and whether the three rules differ on
these pictures at all. Do not read: that a rule which is ahead by less than its interval is the better one.
The paper gains 0.6 AP over stage 3; to decide so little, many more pictures are needed."""


@dataclass(frozen=True, kw_only=True)
class Ensembles:
    """Box AP of single stages ("1", "2", ...) and, by rule, of the first stages together ("1~2", ...)."""

    single: dict[str, BoxAP]
    together: dict[Ensemble, dict[str, BoxAP]]

    def text(self, draws: int = 200) -> str:
        head = "".join(f"{column:>7}" for column in COLUMNS)
        lines = [f"{'':<34}{head}   | paper: AP   AP80   AP90"]
        for mode, scores in self.single.items():
            lines.append(f"{f'stage {mode}':<34}{scores.row()}   |{_printed(mode)}".rstrip())
        for rule, modes in self.together.items():
            for mode, scores in modes.items():
                there = _printed(mode) if rule == PAPER_RULE else ""
                lines.append(f"{f'{mode}  {rule}':<34}{scores.row()}   |{there}".rstrip())
        last, stage = list(self.single.items())[-1]
        first, voted = next(iter(self.together.items()))
        for rule, modes in self.together.items():
            for mode, scores in list(modes.items())[-1:]:
                lines.append(f"AP, {mode} {rule} minus stage {last}: {gain(scores, stage, draws=draws)}")
                if rule != first:
                    change = gain(scores, voted[mode], draws=draws)
                    lines.append(f"AP, {mode} {rule} minus {first}: {change}")
        return "\n".join([*lines, MEANING])


def ensembles(crossed: Crossed, classes: int) -> Ensembles:
    """Score every stage by itself, and the first two, three, ... together under each of the three rules."""
    truth, plain = truth_of(crossed.truth, classes), crossed.plain
    rules: tuple[Ensemble, ...] = get_args(Ensemble)
    return Ensembles(
        single={
            str(k + 1): box_ap(read(crossed, replace(plain, foreign=(k, k))), truth)
            for k in range(crossed.stages)
        },
        together={
            rule: {
                f"1~{stages}": box_ap(read(crossed, replace(plain, stages=stages, ensemble=rule)), truth)
                for stages in range(2, crossed.stages + 1)
            }
            for rule in rules
        },
    )


def _printed(mode: str) -> str:
    """Return AP, AP80 and AP90 of a mode that the paper prints."""
    row = paper.STAGES.get(mode)
    return f"{row[0]:10.1f}{row[4]:7.1f}{row[5]:7.1f}" if row else ""
