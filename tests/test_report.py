"""The report: one offline page that holds the figures of the run it is about."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cascade_lab.commands import report as command
from cascade_lab.commands.report_page import ap75_gain, summary
from cascade_lab.commands.report_parts import figure_svg, flatten
from cascade_lab.errors import InputError
from cascade_lab.recipes import nano, to_dict
from cascade_lab.runs import Run
from cascade_lab.structures import Instances
from cascade_lab.viz.curves import loss_curves
from tests.fake_detector import FakeDetector

KEYS = ("AP", *(f"AP{iou}" for iou in range(50, 100, 5)), "APs", "APm", "APl", "AR100")


def scores(ap75: float, masks: bool = True) -> dict:
    both = {"bbox": dict.fromkeys(KEYS, 50.0) | {"AP75": ap75, "APl": None}}
    return both | {"segm": dict.fromkeys(KEYS, 40.0) if masks else None}


def results(first: float = 41.25, last: float = 62.5, masks: bool = True) -> dict:
    stages = {"1": scores(first, masks)} | {mode: scores(last, masks) for mode in ("2", "3", "1~2", "1~3")}
    per_class = {
        "<b>bolt</b>": {"objects": 2} | scores(last, masks),
        "nut": {"objects": 1} | scores(last, masks),
    }
    return scores(last, masks) | {"stages": stages, "per_class": per_class}


def evaluated_run(tmp_path: Path) -> Run:
    """An evaluated run with a validation set of two pictures."""
    root, answers, annotations = tmp_path / "data", {}, []
    (root / "images/val").mkdir(parents=True)
    (root / "annotations").mkdir()
    sizes = [(64, 80), (72, 96)]
    for number, (h, w) in enumerate(sizes):
        Image.fromarray(np.full((h, w, 3), 90, np.uint8)).save(root / f"images/val/{number}.png")
        boxes = torch.tensor([[10.0, 2.0, 50.0, 42.0]])
        answers[h, w] = Instances((h, w), boxes, torch.tensor([number]))
        annotations.append(
            {"id": number + 1, "image_id": number + 1, "category_id": number + 1, "iscrowd": 0}
        )
        annotations[-1] |= {"bbox": [10, 2, 40, 40], "area": 1600}
    content = {
        "images": [
            {"id": n + 1, "file_name": f"{n}.png", "height": h, "width": w} for n, (h, w) in enumerate(sizes)
        ],
        "categories": [{"id": 1, "name": "<b>bolt</b>"}, {"id": 2, "name": "nut"}],
        "annotations": annotations,
    }
    (root / "annotations/instances_val.json").write_text(json.dumps(content))
    folder, recipe = tmp_path / "run", nano()
    folder.mkdir()
    recipe = replace(recipe, data=replace(recipe.data, root=str(root)), seed=17)
    metrics = [
        {"step": s, "loss": 9.0 / s, "s0.loss_cls": 3.0 / s, "loss_rpn_cls": 1.0 / s} for s in range(1, 9)
    ]
    files = {
        "results.json": json.dumps(results()),
        "recipe.json": json.dumps({"recipe": to_dict(recipe), "classes": ["<b>bolt</b>", "nut"]}),
        "evaluation.json": json.dumps({"split": "val", "root": str(root), "pictures": 2, "step": 12}),
        "environment.json": json.dumps({"python": "3.11.9", "threads": 2, "packages": {"torch": "2.14.1"}}),
        "metrics.jsonl": "\n".join(map(json.dumps, metrics)),
    }
    for name, text in files.items():
        (folder / name).write_text(text)
    detector = FakeDetector(answers, num_classes=2)
    return Run(folder, recipe, ("<b>bolt</b>", "nut"), (1, 2), detector, step=12)  # type: ignore[arg-type]


@pytest.fixture
def run(tmp_path: Path, monkeypatch) -> Run:
    opened = evaluated_run(tmp_path)
    monkeypatch.setattr(command, "load_run", lambda path: opened)
    return opened


@pytest.fixture(scope="module")
def page(tmp_path_factory) -> Path:
    """A report, written once for all tests that only read it."""
    opened = evaluated_run(tmp_path_factory.mktemp("report"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "load_run", lambda path: opened)
        return command.write_report(opened.path)


class Outline(HTMLParser):
    """Collects what a reader could be sent away by, and what a screen reader needs."""

    VOID = {"meta", "img", "br", "link", "path", "use", "image", "rect"}

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []
        self.pictures: list[dict] = []
        self.ids: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.tags.append(tag)
        self.addresses += [given[name] for name in ("src", "href") if given.get(name)]
        self.ids += [given["id"]] if "id" in given else []
        if tag == "img" or (tag == "svg" and "aria-hidden" not in given):
            self.pictures.append(given)
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.handle_starttag(tag, attrs)
        if tag not in self.VOID:
            self.open.pop()

    def handle_endtag(self, tag):
        if tag not in self.VOID:
            assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)


def outline(path: Path) -> Outline:
    found = Outline()
    found.feed(path.read_text("utf-8"))
    assert not found.open, "tags left open"
    return found


def test_page_is_one_offline_file(page):
    assert page.name == "report.html" and not list(page.parent.glob("*.partial"))
    found = outline(page)
    assert all(address.startswith(("data:image/jpeg;base64,", "#")) for address in found.addresses)
    text = page.read_text("utf-8")
    assert "http" not in text and "@import" not in text and "script" not in found.tags
    assert len(found.ids) == len(set(found.ids)), "an id twice on one page"
    known = {f"#{name}" for name in found.ids}
    assert {address for address in found.addresses if address.startswith("#")} <= known
    assert set(re.findall(r"url\((#[^)]*)\)", text)) <= known


def test_page_holds_figures_recipe_environment_and_seed(page):
    words = " ".join(outline(page).words)
    for expected in ("62.5", "41.2", "+21.2", "stages 1~3 together", "nut", "3.11.9", "2.14.1", "seed", "17"):
        assert expected in words
    assert "images_per_batch" in words and "0.033, 0.033, 0.067, 0.067" in words
    assert "2 of 2 pictures" in words and "1 detections, 1 objects" in words


def test_names_are_escaped_and_pictures_described(page):
    found = outline(page)
    assert "b" in found.tags and "<b>bolt</b>" in " ".join(found.words)
    # Two pictures, drawn and as a strip; box and mask curves, histograms and losses.
    assert len(found.pictures) == 2 * 2 + 4
    assert all(len(p.get("alt") or p.get("aria-label") or "") > 20 for p in found.pictures)


def test_both_themes_and_curves_that_follow_them(page):
    text = page.read_text("utf-8")
    assert "prefers-color-scheme: dark" in text
    drawing = figure_svg(loss_curves([{"step": 1, "loss": 2.0}]), "x", "a & b")
    assert (
        "var(--ink)" in drawing and "#1f2328" not in drawing.lower() and 'aria-label="a &amp; b"' in drawing
    )


def test_summary_and_gain():
    assert ap75_gain(results(41.25, 62.5)) == 21.25
    assert "+21.2" in summary(results(), {}) and "mask AP of <b>40.0</b>" in summary(results(), {})
    several_views = {"split": "test", "pictures": 7, "step": 3, "tta": {"scales": [1.0], "flip": True}}
    assert "with test-time augmentation" in summary(results(), several_views)
    assert "with test-time" not in summary(results(), several_views | {"tta": None})
    boxes_only = summary(results(masks=False), {"split": "test", "pictures": 7, "step": 3})
    assert "mask" not in boxes_only and "7 pictures" in boxes_only and "“test”" in boxes_only
    single = scores(60.0) | {"stages": {"1": scores(60.0)}, "per_class": {}}
    assert ap75_gain(single) is None and "later stages" not in summary(single, {})


def test_run_without_masks_metrics_or_environment(run):
    (run.path / "results.json").write_text(json.dumps(results(masks=False)))
    run.detector.masks = False
    for name in ("metrics.jsonl", "environment.json", "evaluation.json"):
        (run.path / name).unlink()
    found = outline(command.write_report(run.path, pictures=1))
    assert len(found.pictures) == 2 + 2  # box curves and histograms
    assert "no metrics.jsonl" in " ".join(found.words)


def test_pictures_that_are_gone_are_said_to_be_gone(run, tmp_path):
    (tmp_path / "data").rename(tmp_path / "elsewhere")
    words = " ".join(outline(command.write_report(run.path)).words)
    assert "No pictures:" in words and "no such folder" in words


def test_evaluation_comes_first(run):
    (run.path / "results.json").unlink()
    with pytest.raises(
        InputError, match="results.json: missing; measure the run first: cascade-lab evaluate"
    ):
        command.write_report(run.path)
    (run.path / "results.json").write_text("{")
    with pytest.raises(InputError, match="results.json: not JSON"):
        command.write_report(run.path)
    with pytest.raises(InputError, match="no such run folder"):
        command.write_report(run.path / "nowhere")


@pytest.mark.parametrize(
    "length, count, expected", [(10, 2, [2, 7]), (3, 6, [0, 1, 2]), (7, 1, [3]), (5, 0, []), (0, 4, [])]
)
def test_evenly(length, count, expected):
    assert command.evenly(length, count) == expected


def test_flatten():
    nested = {"a": {"b": 1, "c": [{"d": 2}, {"d": 3}]}, "e": [4, 5]}
    assert flatten(nested) == {"a.b": 1, "a.c.0.d": 2, "a.c.1.d": 3, "e": [4, 5]}


def test_command_line(run, capsys):
    assert command.main([str(run.path), "--pictures", "0"]) == 0
    assert "report.html" in capsys.readouterr().out and run.detector.calls == 0
    with pytest.raises(InputError, match="--pictures: -1"):
        command.main([str(run.path), "--pictures=-1"])
    assert command.main(["-h"]) == 0 and "cascade-lab report RUN" in capsys.readouterr().out
