"""A run seen at its checkpoints: AP and detections are those of the evaluation, and nothing is lost."""

import json
import threading

import pytest
import torch

from cascade_lab.engine import checkpoint
from cascade_lab.errors import InputError
from cascade_lab.evaluate import evaluate
from cascade_lab.runs import load_run
from cascade_lab.widgets import moments
from cascade_lab.widgets.moments import FILE, LookOptions, look, main, read_moments, saved_steps
from tests.widgets import made_up_run

pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")  # pycocotools
OVER = threading.Event()
OVER.set()


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    torch.set_num_threads(1)
    run = made_up_run.write_run(tmp_path_factory.mktemp("moments"))
    assert main([str(run), "--pictures", "2"]) == 0
    return run


def test_every_checkpoint_has_a_moment(run):
    assert [moment.step for moment in read_moments(run)] == saved_steps(run) == [10, 20, 30]
    assert all(len(moment.found) == 2 and moment.measured == 6 for moment in read_moments(run))


def test_ap_and_boxes_are_those_of_the_evaluation(run):
    results = evaluate(load_run(run))
    last = read_moments(run)[-1]
    assert [one.mode for one in last.scores] == list(results["stages"])
    for one in last.scores:
        boxes, masks = results["stages"][one.mode]["bbox"], results["stages"][one.mode]["segm"]
        assert (one.ap, one.ap50, one.ap75) == (boxes["AP"], boxes["AP50"], boxes["AP75"])
        assert one.mask_ap == masks["AP"]
    assert results["bbox"]["AP"] > 30
    theirs = json.loads((run / "detections_bbox.json").read_text())
    first = min(row["image_id"] for row in theirs)
    theirs = sorted((row for row in theirs if row["image_id"] == first), key=lambda row: -row["score"])
    assert len(last.found[0].scores) > 0
    for box, score, row in zip(last.found[0].boxes, last.found[0].scores, theirs, strict=False):
        x, y, w, h = row["bbox"]
        assert box == pytest.approx([x, y, x + w, y + h], abs=0.006)
        assert score == pytest.approx(row["score"], abs=6e-5)


def test_a_spoilt_model_scores_worse(run):
    first, _, last = (moment.scores[-1].ap for moment in read_moments(run))
    assert first < last - 10


def test_only_what_is_new_is_looked_at(run):
    assert list(look(run, OVER, LookOptions())) == []


def test_part_of_the_pictures_is_scored_against_their_own_objects(run):
    opened = load_run(run)
    data = opened.recipe.data
    dataset = moments.load_dataset(data, data.val_split, training=False, classes=opened.classes)
    part = moments.measure(opened, dataset, pictures=1, most=3)
    assert part.measured == 4, "a batch is never cut"
    assert part.scores[-1].ap > 30  # against all objects two pictures without detections would pull it down


def test_follows_until_it_is_over(run, monkeypatch):
    (run / FILE).rename(run / "kept")
    over = threading.Event()
    monkeypatch.setattr(moments, "SECONDS", 0.01)
    found = look(run, over, LookOptions(measure=1, pictures=1))
    assert [next(found).step for _ in range(3)] == [10, 20, 30]
    over.set()
    assert list(found) == []
    (run / "kept").rename(run / FILE)


def test_a_checkpoint_that_is_gone_or_damaged_is_passed_over(run, capsys):
    whole = (run / FILE).read_text()
    (run / FILE).write_text(whole.splitlines()[0] + "\n")
    damaged = checkpoint.at(run / "checkpoints", 20)
    content = damaged.read_bytes()
    damaged.write_bytes(content[:1000])
    assert [moment.step for moment in look(run, OVER, LookOptions(measure=1))] == [30]
    assert "passed over" in capsys.readouterr().err
    damaged.write_bytes(content)
    (run / FILE).write_text(whole)


def test_a_half_written_line_is_passed_over(run):
    whole = (run / FILE).read_text()
    (run / FILE).write_text(whole[:-30])
    assert [moment.step for moment in read_moments(run)] == [10, 20]
    (run / FILE).write_text(whole)


@pytest.mark.parametrize("name", ["pictures", "measure", "threads"])
def test_options_are_checked(name):
    with pytest.raises(InputError, match=f"--{name}"):
        main(["somewhere", f"--{name}", "0"])


def test_names_one_run():
    with pytest.raises(InputError, match="name the folder"):
        main(["--measure", "3"])
