"""What a run folder tells: the numbers of its log, in the parts that are drawn together."""

import json

import numpy as np
import pytest
import torch

from cascade_lab.errors import InputError
from cascade_lab.viz.palette import stage_look
from cascade_lab.widgets import training_story
from cascade_lab.widgets.moments import FILE
from cascade_lab.widgets.training_story import moment_table, read_story
from tests.widgets import made_up_run


def moment_line(step: int, ap: float, pictures: int = 1) -> str:
    scores = [
        {"mode": mode, "ap": ap + i, "ap50": 2 * ap, "ap75": ap / 2, "mask_ap": None if i else 0.5}
        for i, mode in enumerate(("1", "2", "3", "1~2", "1~3"))
    ]
    found = [{"boxes": [[1, 2, 30, 40]], "labels": [3], "scores": [0.5]}] * pictures
    return json.dumps({"step": step, "measured": 6, "scores": scores, "found": found}) + "\n"


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    run = made_up_run.write_run(tmp_path_factory.mktemp("story"), pictures=2)
    (run / FILE).write_text(moment_line(20, 11.25) + moment_line(10, 3.0))
    return run


def test_lines_hold_the_numbers_of_the_log(run):
    rows, story = made_up_run.write_metrics(run), read_story(run)
    assert story.total == 30 and story.seconds == 15.0 and len(story.classes) == 4
    np.testing.assert_array_equal(story.steps, range(1, 31))
    parts = {(line.part, line.name): line for line in story.lines}
    assert set(parts) == {
        *(("classification", f"stage {k}") for k in (1, 2, 3)),
        *(("boxes", f"stage {k}") for k in (1, 2, 3)),
        ("total", "total"),
        ("proposals", "objectness"),
        ("learning rate", "learning rate"),
        ("gradient norm", "gradient norm"),
    }
    np.testing.assert_allclose(parts["boxes", "stage 2"].values, [row["s1.loss_bbox"] for row in rows])
    assert parts["boxes", "stage 2"].look == stage_look(1)
    norm = parts["gradient norm", "gradient norm"]
    assert np.isnan(norm.values[6]) and np.isnan(norm.smooth[6]) and (norm.smooth[:6] == 4).all()


def test_running_mean_is_centred_and_the_learning_rate_stays_as_it_is(run):
    parts = {(line.part, line.name): line for line in read_story(run).lines}
    rate = parts["learning rate", "learning rate"]
    np.testing.assert_array_equal(rate.smooth, rate.values)
    straight = parts["boxes", "stage 1"]  # 0.1 + step / 100: a centred mean of a straight line is the line
    np.testing.assert_allclose(straight.smooth[1:-1], straight.values[1:-1])


def test_moments_stand_in_the_order_of_steps_with_their_pictures(run):
    story = read_story(run)
    assert [moment.step for moment in story.moments] == [10, 20]
    assert len(story.pictures) == 1 and story.pictures[0].size == (128, 128)
    assert len(story.pictures[0].targets)
    again = read_story(run, story.pictures)
    assert again.pictures[0] is story.pictures[0]


def test_table_shows_each_stage_and_all_together(run):
    head, first, second = moment_table(read_story(run)).splitlines()
    assert head.split() == ["step", "stage", "1", "stage", "2", "stage", "3", "stages", "1~3", "masks"]
    assert first.split() == ["10", "3.0", "4.0", "5.0", "7.0", "-"]
    assert second.split() == ["20", "11.2", "12.2", "13.2", "15.2", "-"]


def test_a_run_without_moments_or_log(run, tmp_path):
    (tmp_path / "recipe.json").write_text((run / "recipe.json").read_text())
    story = read_story(tmp_path)
    assert not len(story.steps) and not story.moments and not story.pictures and not story.lines
    assert moment_table(story) == "no checkpoint was looked at yet"


def test_a_long_log_is_thinned_out(run, monkeypatch):
    monkeypatch.setattr(training_story, "MOST_POINTS", 10)
    np.testing.assert_array_equal(read_story(run).steps, range(1, 31, 3))


def test_no_run(tmp_path):
    with pytest.raises(InputError, match="not a run folder"):
        read_story(tmp_path)
