"""The what-if viewer: another number of stages, ensemble, head or threshold, and what AP that gives.

The heads speak once, in `laboratory/crossed.py`. The browser gets what they said, and reads it anew with
every move of a control: boxes at once, AP over all pictures a moment later.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any, cast

import traitlets

from cascade_lab.errors import InputError
from cascade_lab.heads.postprocess import Ensemble
from cascade_lab.laboratory.crossed import Choice, Crossed
from cascade_lab.viz.palette import PALE, PROPOSAL, TRUTH, VERMILLION, YELLOW, LineLook
from cascade_lab.widgets.canvas import (
    CanvasWidget,
    Share,
    assets,
    float_bytes,
    integer_bytes,
    stroke_values,
    within,
)
from cascade_lab.widgets.choice_words import ENSEMBLE_HINTS, ENSEMBLE_WORDS
from cascade_lab.widgets.packed_cross import PackedPicture, pack

POSITIVE = LineLook(colour=YELLOW, style="solid")
NEGATIVE = LineLook(colour=VERMILLION, style=(0, (4, 2)))
PLAIN = LineLook(colour=PALE, style=PROPOSAL.style)


class WhatIf(CanvasWidget):
    """Show what a cascade would find if it were read otherwise. Every trait follows what the reader does.

    Args:
        crossed: what all heads said; classes: their names; choice: the first reading on show, else the plain
            one, with which every other is compared.

    Attributes:
        picture: which picture, from 0.
        stages, ensemble, score_threshold, nms_iou, targets_added: as in `Choice`.
        foreign: (head, stage whose boxes it sees), from 0; empty for the cascade.
        positive_iou: from which IoU on a box is coloured as a positive; changes nothing else.
        layer: "detections", or "entering" for the boxes that enter the last stage of the reading.
        show_plain: draw the detections of the plain setting behind.

    Raises:
        InputError: classes do not fit, or the detector uses soft NMS. traitlets.TraitError: a trait is set
            outside its range.
    """

    _esm, _css = assets("what_if")
    _about = traitlets.Dict().tag(sync=True)
    _pictures = traitlets.List().tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)
    stages = traitlets.Int(1).tag(sync=True)
    ensemble = traitlets.Enum(list(ENSEMBLE_WORDS), "own_rois_logits").tag(sync=True)
    foreign = traitlets.List(traitlets.Int()).tag(sync=True)
    score_threshold = traitlets.Float(0.05).tag(sync=True)
    nms_iou = Share(0.5).tag(sync=True)
    targets_added = traitlets.Bool(False).tag(sync=True)
    positive_iou = Share(0.5).tag(sync=True)
    layer = traitlets.Enum(["detections", "entering"], "detections").tag(sync=True)
    show_plain = traitlets.Bool(False).tag(sync=True)

    def __init__(self, crossed: Crossed, classes: Sequence[str], choice: Choice | None = None) -> None:
        known = crossed.looks[0][0].logits[0].shape[1] - 1
        if len(classes) != known:
            raise InputError(f"classes: {len(classes)} names given, the detector knows {known} classes")
        self.crossed, plain = crossed, crossed.plain
        super().__init__(
            _about={
                "classes": list(classes),
                "stages": crossed.stages,
                "plain": _values(plain),
                "least": plain.score_threshold,
                "max_detections": crossed.postprocess.max_detections,
                "ensembles": ENSEMBLE_WORDS,
                "ensemble_hints": ENSEMBLE_HINTS,
                "styles": {
                    "positive": stroke_values(POSITIVE),
                    "negative": stroke_values(NEGATIVE),
                    "target": stroke_values(TRUTH),
                    "plain": stroke_values(PLAIN),
                },
            },
            _pictures=[_payload(one) for one in pack(crossed, plain.score_threshold)],
        )
        self.choice = plain if choice is None else choice

    @property
    def choice(self) -> Choice:
        """Return the reading on show, as `laboratory.crossed.read` takes it. It can be set as a whole."""
        return Choice(
            stages=self.stages,
            ensemble=cast(Ensemble, self.ensemble),
            score_threshold=self.score_threshold,
            nms_iou=self.nms_iou,
            foreign=(self.foreign[0], self.foreign[1]) if self.foreign else None,
            targets_added=self.targets_added,
        )

    @choice.setter
    def choice(self, choice: Choice) -> None:
        with self.hold_trait_notifications():
            for name, value in _values(choice).items():
                setattr(self, name, value)

    @traitlets.validate("picture")
    def _check_picture(self, proposal: Any) -> int:
        return within("picture", proposal["value"], 0, len(self.crossed) - 1)

    @traitlets.validate("stages")
    def _check_stages(self, proposal: Any) -> int:
        return within("stages", proposal["value"], 1, self.crossed.stages)

    @traitlets.validate("foreign")
    def _check_foreign(self, proposal: Any) -> list[int]:
        value, last = proposal["value"], self.crossed.stages - 1
        if len(value) not in (0, 2):
            raise traitlets.TraitError(f"foreign: {value} is neither empty nor (head, stage of the boxes)")
        return [within("foreign", one, 0, last) for one in value]

    @traitlets.validate("score_threshold")
    def _check_score_threshold(self, proposal: Any) -> float:
        # boxes that score less did not go over
        return within("score_threshold", proposal["value"], self.crossed.postprocess.score_threshold, 1.0)


def _values(choice: Choice) -> dict[str, Any]:
    """Return the traits of a choice, in the order in which the JavaScript lists them."""
    foreign = [] if choice.foreign is None else list(choice.foreign)
    values = asdict(choice) | {"foreign": foreign}
    names = ("stages", "ensemble", "foreign", "score_threshold", "nms_iou", "targets_added")
    return {name: values[name] for name in names}


def _payload(one: PackedPicture) -> dict[str, Any]:
    """Return what JavaScript needs; arrays go over once, as raw little-endian bytes."""
    return {
        "size": list(one.size),
        "picture": one.picture,
        "targets": float_bytes(one.targets),
        "target_labels": integer_bytes(one.target_labels),
        "logits": float_bytes(one.logits),
        "is_target": one.is_target.tobytes(),
        "counts": integer_bytes(one.counts),
        "rows": one.rows.astype("<u2").tobytes(),
        "labels": one.labels.astype("<u2").tobytes(),
        "boxes": one.boxes.astype("<u2").tobytes(),
        "entering": one.entering.astype("<u2").tobytes(),
    }
