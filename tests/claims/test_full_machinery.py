"""Two arms, three seeds: what is run, what is kept after an interruption, what the verdict is."""

import json
from pathlib import Path

import pytest

from cascade_lab.claims import full_machinery
from cascade_lab.errors import InputError
from cascade_lab.overrides import override
from cascade_lab.recipes import micro

AP50 = {"plain_0": 84.0, "plain_1": 86.0, "full_0": 83.0, "full_1": 84.0}


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[list[str]]:
    """The trainings that were asked for; none is run, and evaluating one writes its figure of ``AP50``."""
    seen: list[list[str]] = []

    def train(arguments: list[str]) -> int:
        seen.append(arguments)
        run = Path(arguments[arguments.index("--output") + 1])
        run.mkdir(parents=True, exist_ok=True)
        (run / "recipe.json").write_text("{}", encoding="utf-8")
        return 130 if run.name == "full_0" and "--resume" not in arguments else 0

    def evaluate(arguments: list[str]) -> int:
        run = Path(arguments[0])
        (run / "results.json").write_text(json.dumps({"bbox": {"AP50": AP50[run.name]}}), encoding="utf-8")
        return 0

    monkeypatch.setattr(full_machinery.train, "main", train)
    monkeypatch.setattr(full_machinery.evaluate, "main", evaluate)
    return seen


def test_it_goes_on_where_it_was_interrupted(asked: list[list[str]], tmp_path: Path, capsys):
    call = ["--root", "pictures", "--output", str(tmp_path), "--seeds", "0", "1", "--steps", "7"]
    assert full_machinery.main(call) == 130
    assert [Path(words[words.index("--output") + 1]).name for words in asked] == ["plain_0", "full_0"]
    asked.clear()
    assert full_machinery.main(call) == 0
    names = [Path(words[words.index("--output") + 1]).name for words in asked]
    assert names == ["full_0", "plain_1", "full_1"]
    assert ["--resume" in words for words in asked] == [True, False, False]
    assert "full lies 1.5 below plain" in capsys.readouterr().out


def test_arms_are_what_they_are_called(asked: list[list[str]]):
    recipes = {arm: override((micro(),), list(words))[0] for arm, words in full_machinery.ARMS.items()}
    plain, full = recipes["plain"], recipes["full"]
    assert plain.schedule.ema is None and full.schedule.ema
    assert (plain.detector.backbone.drop_path, full.detector.backbone.drop_path > 0) == (0.0, True)
    assert (plain.optim.layer_decay, full.optim.layer_decay < 1) == (1.0, True)
    assert (plain.optim.images_at_once, full.optim.images_at_once) == (None, 2)
    assert (plain.optim.precision, full.optim.precision) == ("float32", "bfloat16")


def test_verdict():
    assert full_machinery.gap({"plain": [80.0, 84.0], "full": [79.0, 79.5]}) == pytest.approx(2.75)
    assert "79.2 +- 0.4" in full_machinery.table({"plain": [80.0, 84.0], "full": [79.0, 79.5]}, 7)


def test_a_claim_that_fails_is_told_by_the_exit_code(asked: list[list[str]], tmp_path: Path, monkeypatch):
    monkeypatch.setitem(AP50, "full_1", 70.0)
    call = ["--root", "pictures", "--output", str(tmp_path), "--seeds", "1"]
    assert full_machinery.main(call) == 1


def test_mistakes_are_said_in_one_line():
    with pytest.raises(InputError, match="option --root: missing"):
        full_machinery.main([])
    with pytest.raises(InputError, match="option --steps: 0"):
        full_machinery.main(["--root", "x", "--steps", "0"])
