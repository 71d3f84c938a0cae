"""Who may train into a folder."""

import json
import re

import pytest

from cascade_lab.engine import run_folder
from cascade_lab.errors import InputError

FACTS = {
    "asked": {
        "name": "nano",
        "optim": {"lr": 0.1, "betas": (0.9, 0.99)},
        "data": {"root": "a"},
        "stages": [{"iou": 0.5}],
    },
    "classes": ["cat", "dog"],
}


def changed(**optim) -> dict:
    return FACTS | {"asked": FACTS["asked"] | {"optim": FACTS["asked"]["optim"] | optim}}


def test_a_new_folder_is_free(tmp_path):
    run_folder.check(tmp_path / "new", FACTS, resume=False)
    assert not (tmp_path / "new").exists()


def test_what_was_written_can_be_resumed(tmp_path):
    run_folder.write(tmp_path / "a" / "run", FACTS, seed=0)
    run_folder.check(tmp_path / "a" / "run", FACTS, resume=True)
    run_folder.check(tmp_path / "a" / "run", {"asked": FACTS["asked"]}, resume=True)
    assert json.loads((tmp_path / "a/run/environment.json").read_text())["seed"] == 0


def test_a_taken_folder_needs_resume(tmp_path):
    run_folder.write(tmp_path, FACTS, seed=0)
    with pytest.raises(InputError, match="holds a run already; add --resume"):
        run_folder.check(tmp_path, FACTS, resume=False)


def test_checkpoints_alone_also_count_as_a_run(tmp_path):
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints/step_00000001.pt").touch()
    with pytest.raises(InputError, match="holds a run already"):
        run_folder.check(tmp_path, FACTS, resume=False)


def test_nothing_to_resume(tmp_path):
    with pytest.raises(InputError, match="holds no run to resume"):
        run_folder.check(tmp_path, FACTS, resume=True)


@pytest.mark.parametrize(
    "now, message",
    [
        (changed(lr=0.2), "optim.lr was 0.1, is 0.2"),
        (changed(betas=(0.9, 0.9)), "optim.betas was [0.9, 0.99], is [0.9, 0.9]"),
        (changed(extra=1), "optim.extra was None, is 1"),
        (FACTS | {"asked": FACTS["asked"] | {"stages": [{"iou": 0.6}]}}, "stages.0.iou was 0.5, is 0.6"),
        (FACTS | {"classes": ["dog"]}, "classes was ['cat', 'dog'], is ['dog']"),
    ],
)
def test_another_recipe_is_refused_by_field(tmp_path, now, message):
    run_folder.write(tmp_path, FACTS, seed=0)
    with pytest.raises(InputError, match=re.escape(message)) as caught:
        run_folder.check(tmp_path, now, resume=True)
    assert "\n" not in str(caught.value)


def test_the_data_may_have_moved(tmp_path):
    facts = FACTS | {"recipe": {"data": {"root": "a", "crop": 64}}}
    run_folder.write(tmp_path, facts, seed=0)
    moved = FACTS["asked"] | {"data": {"root": "b"}}
    run_folder.check(tmp_path, facts | {"asked": moved, "recipe": {"data": {"root": "b", "crop": 64}}}, True)
    with pytest.raises(InputError, match=r"recipe.data.crop was 64, is 32"):
        run_folder.check(tmp_path, facts | {"recipe": {"data": {"root": "a", "crop": 32}}}, resume=True)


@pytest.mark.parametrize("content, message", [("{", "not JSON"), ("[]", "incomplete"), ("{}", "incomplete")])
def test_broken_recipe_file(tmp_path, content, message):
    (tmp_path / "recipe.json").write_text(content)
    with pytest.raises(InputError, match=f"recipe.json: {message}"):
        run_folder.check(tmp_path, FACTS, resume=True)


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot write there"):
        run_folder.write(tmp_path / "file" / "run", FACTS, seed=0)
