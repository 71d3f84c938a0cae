"""The training viewer: losses and AP while it trains, one picture through the checkpoints, pause and stop."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import traitlets

from cascade_lab.viz.palette import INK, LineLook, class_colour, mode_look
from cascade_lab.widgets.canvas import CanvasWidget, Share, assets, float_bytes, stroke_values, within
from cascade_lab.widgets.moments import Moment
from cascade_lab.widgets.training_process import ENDED, Training
from cascade_lab.widgets.training_story import PARTS, Line, Shown, Story, mode_name, read_story, shown_scores

METRICS = ("AP", "AP50", "AP75", "mask AP")
SECONDS = 0.5  # between two looks into the run folder


class TrainingViewer(CanvasWidget):
    """Show a training that is under way, or a run that is there already.

    Of a training, a thread reads the folder twice a second and sets the traits, and the page follows while
    cells run too. The thread ends with the training.

    When the kernel hears the buttons depends on ipykernel. JupyterLab sends what a page says to a thread of
    its own in the kernel, a subshell. Versions 7.0 to 7.3 act there, so at once. Version 7.4 prefers the
    thread that last spoke to the page, and takes this one for the one of the cells: a press waits until the
    running cell ends or awaits something. Versions below 7 have no subshells: it waits for all cells. The
    buttons send messages since those are never held back; a change of a trait is, after another one during
    an ``await``, whose end ipykernel 7.4.0 does not report to the page.

    Every trait below follows the reader and can be set.

    Attributes:
        part: which losses, one of ``PARTS``; log_scale: of their axis; metric: which AP, one of ``METRICS``.
        moment: which checkpoint, counted from 0; -1 is the newest, also of those to come.
        picture: which validation picture; threshold: least score of a box that is drawn.
        state: what the training does, as ``Training.state``; "recorded" of a run without one.

    Raises:
        InputError: the folder holds no run. traitlets.TraitError: a trait is set outside its range.
    """

    _esm, _css = assets("training_viewer")
    _log = traitlets.Dict().tag(sync=True)
    _moments = traitlets.List().tag(sync=True)
    _pictures = traitlets.List().tag(sync=True)
    state = traitlets.Unicode("recorded").tag(sync=True)
    part = traitlets.Enum(PARTS, "boxes").tag(sync=True)
    log_scale = traitlets.Bool(False).tag(sync=True)
    metric = traitlets.Enum(METRICS, "AP").tag(sync=True)
    moment = traitlets.Int(-1).tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)
    threshold = Share(0.3).tag(sync=True)

    def __init__(self, source: Training | str | Path) -> None:
        super().__init__()
        self.training = source if isinstance(source, Training) else None
        self.run = source.run if isinstance(source, Training) else Path(source)
        self.story: Story | None = None
        if self.training is None:
            self.refresh()
        else:
            self.state = self.training.state
            self.on_msg(self._carry_out)
            threading.Thread(target=self._watch, args=(self.training,), daemon=True).start()

    def refresh(self) -> None:
        """Read the run folder again and show what it holds now."""
        before = self.story
        self.story = story = read_story(self.run, before and before.pictures)
        if before is None or not np.array_equal(before.steps, story.steps):
            self._log = _log_payload(story)
        if before is None or len(before.pictures) != len(story.pictures):
            self._pictures = [_picture_payload(shown) for shown in story.pictures]
        if before is None or len(before.moments) != len(story.moments):
            self._moments = [_moment_payload(moment) for moment in story.moments]

    def _watch(self, training: Training) -> None:
        while True:
            over = training.state in ENDED and not training.looking  # asked first: then nothing is missed
            if (self.run / "recipe.json").is_file():
                self.refresh()
            self.state = training.state
            if over:
                return
            time.sleep(SECONDS)

    def _carry_out(self, _: Any, content: dict[str, str], buffers: Any) -> None:
        """Do what a button of the page asks for."""
        if self.training is not None:
            act = {"pause": self.training.pause, "go on": self.training.go_on, "stop": self.training.stop}
            act[content["wish"]]()
            self.state = self.training.state

    @traitlets.validate("moment")
    def _check_moment(self, proposal: Any) -> int:
        return within("moment", proposal["value"], -1, max(0, len(self._moments) - 1))

    @traitlets.validate("picture")
    def _check_picture(self, proposal: Any) -> int:
        return within("picture", proposal["value"], 0, max(0, len(self._pictures) - 1))


def _log_payload(story: Story) -> dict[str, Any]:
    return {
        "total": story.total,
        "left": _seconds_left(story),
        "classes": list(story.classes),
        "colors": [class_colour(label) for label in range(len(story.classes))],
        "steps": float_bytes(story.steps),
        "lines": [_line_payload(line) for line in story.lines],
    }


def _seconds_left(story: Story) -> float:
    """Return an estimate from the time of the steps so far; -1 before the first."""
    if not len(story.steps):
        return -1.0
    done = int(story.steps[-1])
    return round(story.seconds / done * (story.total - done), 1)


def _line_payload(line: Line) -> dict[str, Any]:
    return {
        "part": line.part,
        "name": line.name,
        **_style(line.look),
        "values": float_bytes(line.values),
        "smooth": float_bytes(line.smooth),
    }


def _moment_payload(moment: Moment) -> dict[str, Any]:
    scores = [
        {
            "mode": one.mode,
            "name": mode_name(one.mode),
            **_style(mode_look(one.mode, full=moment.scores[-1].mode)),
            "values": [one.ap, one.ap50, one.ap75, one.mask_ap],  # in the order of METRICS
        }
        for one in shown_scores(moment)
    ]
    found = [
        {
            "boxes": float_bytes(np.array(one.boxes, np.float32).reshape(-1, 4)),
            "labels": one.labels,
            "scores": one.scores,
        }
        for one in moment.found
    ]
    return {"step": moment.step, "measured": moment.measured, "scores": scores, "found": found}


def _picture_payload(shown: Shown) -> dict[str, Any]:
    return {
        "name": shown.name,
        "size": list(shown.size),
        "picture": shown.picture,
        "targets": float_bytes(shown.targets),
    }


def _style(look: LineLook) -> dict[str, Any]:
    """Return colour, dashes and width of a line in CSS pixels; no colour stands for that of the text."""
    color = None if look.colour == INK else look.colour
    return stroke_values(look) | {"color": color, "width": look.width}
