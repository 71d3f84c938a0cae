"""The training viewer without a browser: what it reads, what goes over, and what the buttons do."""

import json
import re
import threading
import time

import numpy as np
import pytest
import torch
import traitlets

from cascade_lab.errors import InputError
from cascade_lab.widgets import training_story, training_viewer
from cascade_lab.widgets.moments import FILE
from cascade_lab.widgets.training_process import Training
from cascade_lab.widgets.training_viewer import TrainingViewer
from tests.widgets import made_up_run
from tests.widgets.test_training_story import moment_line


@pytest.fixture
def run(tmp_path):
    torch.set_num_threads(1)
    run = made_up_run.write_run(tmp_path, pictures=2)
    (run / FILE).write_text(moment_line(10, 4.0) + moment_line(20, 8.0))
    return run


class Pretended(Training):
    """A training whose state the test sets; it notes what it is asked."""

    state = "training"
    looking = True

    def __init__(self, run):
        self.run, self.asked = run, []

    def pause(self):
        self.asked.append("pause")
        self.state = "pausing"

    def go_on(self):
        self.asked.append("go on")
        self.state = "training"

    def stop(self):
        self.asked.append("stop")
        self.state = "stopped"


def until(condition) -> None:
    for _ in range(200):
        if condition():
            return
        time.sleep(0.02)
    raise AssertionError("nothing happened")


def test_replay_shows_the_log_and_the_moments(run):
    viewer = TrainingViewer(run)
    assert viewer.state == "recorded" and viewer.training is None
    assert np.frombuffer(viewer._log["steps"], "<f4").tolist() == list(range(1, 31))
    assert viewer._log["total"] == 30 and viewer._log["left"] == 0
    (line,) = [one for one in viewer._log["lines"] if (one["part"], one["name"]) == ("boxes", "stage 3")]
    np.testing.assert_allclose(np.frombuffer(line["values"], "<f4"), 0.3 + np.arange(1, 31) / 100, rtol=1e-6)
    assert [moment["step"] for moment in viewer._moments] == [10, 20]
    assert [one["name"] for one in viewer._moments[0]["scores"]] == [
        "stage 1", "stage 2", "stage 3", "stages 1~3",
    ]  # fmt: skip
    assert viewer._moments[1]["scores"][2]["values"] == [10.0, 16.0, 4.0, None]
    assert len(viewer._pictures) == 1


def test_refresh_sends_what_is_new_and_nothing_else(run):
    viewer, changed = TrainingViewer(run), []
    viewer.observe(lambda change: changed.append(change["name"]), names=traitlets.All)
    viewer.refresh()
    assert not changed
    with (run / FILE).open("a") as file:
        file.write(moment_line(30, 9.0))
    viewer.refresh()
    assert changed == ["_moments"]
    made_up_run.write_metrics(run, steps=31)
    viewer.refresh()
    assert changed == ["_moments", "_log"]


def test_a_long_log_that_is_thinned_out_still_moves(run, monkeypatch):
    monkeypatch.setattr(training_story, "MOST_POINTS", 10)
    viewer = TrainingViewer(run)
    made_up_run.write_metrics(run, steps=40)
    viewer.refresh()
    assert len(viewer.story.steps) == 10
    assert np.frombuffer(viewer._log["steps"], "<f4")[-1] == 37


def test_no_run(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        TrainingViewer(tmp_path)


def test_follows_a_training_and_its_thread_ends_with_it(run, tmp_path, monkeypatch):
    monkeypatch.setattr(training_viewer, "SECONDS", 0.01)
    recipe = (run / "recipe.json").rename(tmp_path / "later.json")
    training = Pretended(run)
    before = threading.active_count()
    viewer = TrainingViewer(training)
    assert viewer.state == "training" and not viewer._log, "it has not begun"
    recipe.rename(run / "recipe.json")
    until(lambda: len(viewer._moments) == 2)
    with (run / FILE).open("a") as file:
        file.write(moment_line(30, 9.0))
    training.state = "finished"
    until(lambda: viewer.state == "finished" and len(viewer._moments) == 3)
    assert threading.active_count() > before, "somebody is still looking at checkpoints"
    training.looking = False
    until(lambda: threading.active_count() == before)


def test_buttons_ask_the_training(run):
    training = Pretended(run)
    viewer = TrainingViewer(training)
    for wish, state in (("pause", "pausing"), ("go on", "training"), ("stop", "stopped")):
        viewer._handle_custom_msg({"wish": wish}, [])
        assert viewer.state == state
    assert training.asked == ["pause", "go on", "stop"]
    training.looking = False


@pytest.mark.parametrize(
    "trait, value",
    [
        ("moment", -2), ("moment", 2), ("picture", 1), ("picture", -1), ("threshold", 1.1), ("part", "love"),
        ("metric", "AP33"),
    ],
)  # fmt: skip
def test_values_out_of_range_are_refused(run, trait, value):
    with pytest.raises(traitlets.TraitError, match=trait):
        setattr(TrainingViewer(run), trait, value)


def test_page_holds_all_of_it(run, tmp_path):
    viewer = TrainingViewer(run)
    viewer.moment = 0
    page = viewer.to_html(tmp_path / "page.html").read_text(encoding="utf-8")
    assert not re.search(r"""(src|href)=|@import|url\(|fetch\(|import\(""", page)
    state = json.loads(
        re.search(r'<script type="application/json" id="viewer-\d+-state">(.*?)</script>', page, re.S)[1]
    )
    assert state["moment"] == 0 and len(state["_moments"]) == 2
    assert state["state"] == "recorded"
