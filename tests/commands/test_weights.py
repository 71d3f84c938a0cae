"""cascade-lab weights: every form of a file into every other, runs from files, and what is refused."""

import hashlib
import json
import os
import threading
from dataclasses import replace
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cascade_lab import cli, recipes, train
from cascade_lab.commands.weights_get import ADDRESS, FILES, address, file_named
from cascade_lab.detector import Detector
from cascade_lab.engine import checkpoint
from cascade_lab.errors import InputError
from cascade_lab.recipes import Recipe, nano, to_dict
from cascade_lab.recipes.zoo import FIGURES, checkpoint_address
from cascade_lab.runs import load_run
from cascade_lab.weights import load_file, official_state_dict, read_weights
from tests.tiny_detector import CASCADE, CLASSES, config, stages, tiny

NAMES = ("cat", "dog", "cow")


def small(cascade=CASCADE) -> Recipe:
    return replace(nano(), name="small", detector=config(cascade))


@pytest.fixture(autouse=True)
def _recipes(monkeypatch):
    monkeypatch.setitem(recipes.RECIPES, "small", small)
    monkeypatch.setitem(recipes.RECIPES, "single", lambda: replace(small(stages(1)), name="single"))


def run(capsys, *words: object) -> tuple[int, str, str]:
    code = cli.main(["weights", *map(str, words)])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


def official(path: Path, seed: int = 1, cascade=CASCADE, names=NAMES, single: bool = False) -> Path:
    state = official_state_dict(tiny(cascade, seed=seed), single)
    torch.save({"meta": {"CLASSES": names} if names else {}, "state_dict": state}, path)
    return path


def own_checkpoint(folder: Path) -> Path:
    """A checkpoint as ``train`` writes it, its average other than its weights."""
    return checkpoint.save(
        folder,
        {
            "step": 3,
            "detector": tiny(seed=8).state_dict(),
            "optimizer": {"state": {}, "param_groups": []},
            "ema": tiny(seed=1).state_dict(),
            "recipe": to_dict(small()),
            "classes": list(NAMES),
            "category_ids": [2, 5, 7],
        },
    )


def same(detector: Detector, seed: int = 1, cascade=CASCADE) -> bool:
    expected = tiny(cascade, seed=seed).state_dict()
    return all(torch.equal(value, expected[name]) for name, value in detector.state_dict().items())


# --- report


def test_report(tmp_path, capsys):
    path = official(tmp_path / "x.pth")
    code, out, _ = run(capsys, "report", path, "--recipe", "small")
    count = len(tiny().state_dict())
    assert code == 0 and out == f"{path}: {count} tensors under state_dict\nevery parameter was loaded\n"


def test_report_as_json_with_other_classes(tmp_path, capsys):
    path = official(tmp_path / "x.pth")
    words = ("report", path, "--recipe", "small", "--num_classes", CLASSES + 2, "--json")
    code, out, _ = run(capsys, *words)
    found = json.loads(out)
    assert code == 0 and found["classes"] == {"file": CLASSES, "model": CLASSES + 2}
    assert found["class_names"] == list(NAMES) and found["layout"] == "under state_dict"
    assert found["reinitialised"] and not found["missing"]


def test_report_of_the_wrong_recipe(tmp_path, capsys):
    path = official(tmp_path / "x.pth")
    code, out, err = run(capsys, "report", path, "--recipe", "nano")
    assert code == 2 and "other shape" in out and len(err.splitlines()) == 1
    assert "choose the recipe that the file was trained with" in err
    code, _, err = run(capsys, "report", path)
    assert code == 2 and "--recipe: missing" in err


def test_report_of_our_own_checkpoint_knows_its_recipe(tmp_path, capsys):
    code, out, _ = run(capsys, "report", own_checkpoint(tmp_path))
    assert code == 0 and "in the running average of our own checkpoint" in out


# --- convert


def test_official_to_a_run_that_predicts(tmp_path, capsys):
    path, folder = official(tmp_path / "x.pth"), tmp_path / "runs" / "a b"
    words = ("convert", path, "--to", "cascade-lab", "--recipe", "small", "--output", folder)
    code, out, _ = run(capsys, *words)
    assert code == 0 and f"cascade-lab predict '{folder}' IMAGE" in out
    loaded = load_run(folder)
    assert same(loaded.detector) and loaded.step == 0 and not loaded.detector.training
    assert (loaded.classes, loaded.category_ids) == (NAMES, (1, 2, 3))
    assert loaded.recipe == small()
    facts = json.loads((folder / "recipe.json").read_text())
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["weights"] == {"file": "x.pth", "sha256": digest}
    assert {p.name for p in folder.parent.iterdir()} == {folder.name}

    picture = tmp_path / "p.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8)).save(picture)
    assert cli.main(["predict", str(folder), str(picture), "--output", str(tmp_path / "out")]) == 0
    assert json.loads((tmp_path / "out/p.json").read_text())["categories"][0] == {"id": 1, "name": "cat"}


def test_a_converted_run_is_not_resumed(tmp_path, capsys):
    path, folder = official(tmp_path / "x.pth"), tmp_path / "run"
    run(capsys, "convert", path, "--to", "cascade-lab", "--recipe", "small", "--output", folder)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match="nothing can be resumed"):
        train.train(small(), folder, resume=True)
    code, _, err = run(
        capsys, "convert", path, "--to", "cascade-lab", "--recipe", "small", "--output", folder
    )
    assert code == 2 and "holds a run already" in err and sorted(tmp_path.rglob("*")) == before


def test_coco_names_its_classes_and_ids_by_itself(tmp_path, capsys):
    coco = replace(config(), num_classes=80)
    torch.manual_seed(0)
    torch.save({"state_dict": official_state_dict(Detector(coco))}, tmp_path / "x.pth")
    words = (
        "convert",
        tmp_path / "x.pth",
        "--to",
        "cascade-lab",
        "--recipe",
        "small",
        "--output",
        tmp_path / "r",
    )
    assert run(capsys, *words)[0] == 0
    loaded = load_run(tmp_path / "r")
    assert loaded.classes[0] == "person" and loaded.classes[-1] == "toothbrush"
    assert loaded.category_ids[-1] == 90 and loaded.detector.config.num_classes == 80


@pytest.mark.parametrize(
    "names, message", [((), "no names for the 3"), (("--classes", "a,b"), "2 names for the 3")]
)
def test_classes_must_be_named(tmp_path, capsys, names, message):
    path = official(tmp_path / "x.pth", names=None)
    words = ("convert", path, "--to", "cascade-lab", "--recipe", "small", "--output", tmp_path / "r", *names)
    code, _, err = run(capsys, *words)
    assert code == 2 and message in err and len(err.splitlines()) == 1
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_our_run_to_official_and_back(tmp_path, capsys):
    source, out = own_checkpoint(tmp_path / "run"), tmp_path / "official.pth"
    assert run(capsys, "convert", source, "--to", "official", "--output", out)[0] == 0
    content = torch.load(out, weights_only=True)
    assert (
        content["meta"]["CLASSES"] == NAMES and "roi_head.bbox_head.2.fc_cls.weight" in content["state_dict"]
    )
    detector = tiny(seed=4)
    assert load_file(detector, out).is_empty and same(detector)


def test_the_recipe_decides_on_the_layout_of_a_single_stage(tmp_path, capsys):
    source = official(tmp_path / "x.pth", cascade=stages(1), single=True)
    out = tmp_path / "y.pth"
    assert run(capsys, "convert", source, "--to", "official", "--recipe", "single", "--output", out)[0] == 0
    keys = list(torch.load(out, weights_only=True)["state_dict"])
    assert "roi_head.bbox_head.fc_cls.weight" in keys and not any("bbox_head.0" in key for key in keys)


def test_to_safetensors(tmp_path, capsys):
    source, out = official(tmp_path / "x.pth"), tmp_path / "y.safetensors"
    code, printed, _ = run(
        capsys, "convert", source, "--to", "safetensors", "--recipe", "small", "--output", out
    )
    assert code == 0 and printed.splitlines()[-1] == f"{hashlib.sha256(out.read_bytes()).hexdigest()}  {out}"
    assert read_weights(out).classes == NAMES
    detector = tiny(seed=4)
    assert load_file(detector, out).is_empty and same(detector)


def test_the_backbone_alone(tmp_path, capsys):
    source = official(tmp_path / "x.pth")
    for form, name in (("official", "b.pth"), ("safetensors", "b.safetensors")):
        words = (
            "convert",
            source,
            "--to",
            form,
            "--recipe",
            "small",
            "--backbone",
            "--output",
            tmp_path / name,
        )
        assert run(capsys, *words)[0] == 0
        found = read_weights(tmp_path / name).state
        assert all(torch.equal(value, tiny(seed=1).state_dict()[key]) for key, value in found.items())
        assert {key.split(".")[0] for key in found} == {"backbone"}
    # And from a file that holds nothing else.
    words = ("convert", tmp_path / "b.pth", "--to", "official", "--recipe", "small", "--backbone")
    assert run(capsys, *words, "--output", tmp_path / "c.pth")[0] == 0


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "--to: missing"),
        (("--to", "onnx"), "--to: 'onnx' must be one of"),
        (("--to", "official"), "--output: missing"),
        (("--to", "official", "--output", "y.pth"), "--recipe: missing"),
        (("--to", "safetensors", "--output", "y.pth", "--recipe", "small"), "must end in .safetensors"),
        (("--to", "official", "--output", "y.pth", "--recipe", "single"), "unknown to this model"),
        (("--to", "cascade-lab", "--output", "y", "--recipe", "small", "--backbone"), "leave it out"),
        (("--to", "official", "--output", ".", "--recipe", "small"), "is a folder"),
        (("--to", "official", "--output", "y.pth", "--recipe", "smal"), "recipe 'smal' does not exist"),
    ],
)
def test_convert_refuses(tmp_path, capsys, monkeypatch, words, message):
    official(tmp_path / "x.pth")
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "convert", "x.pth", *words)
    assert code == 2 and message in err and len(err.splitlines()) == 1
    assert os.listdir() == ["x.pth"]


@pytest.mark.parametrize("form", ["cascade-lab", "official", "safetensors"])
def test_a_file_that_lacks_layers_is_not_converted(tmp_path, capsys, form):
    path = official(tmp_path / "x.pth")
    content = torch.load(path)
    del content["state_dict"]["neck.fpn_convs.0.conv.bias"]
    torch.save(content, path)
    output = tmp_path / "y.safetensors"
    code, _, err = run(capsys, "convert", path, "--to", form, "--recipe", "small", "--output", output)
    assert code == 2 and "1 parameters of this model are not in it (neck.output.0.bias)" in err
    assert [p.name for p in tmp_path.iterdir()] == ["x.pth"]


def test_our_own_checkpoint_keeps_its_category_ids(tmp_path, capsys):
    words = ("convert", own_checkpoint(tmp_path / "run"), "--to", "cascade-lab", "--output", tmp_path / "r")
    assert run(capsys, *words)[0] == 0
    loaded = load_run(tmp_path / "r")
    assert loaded.category_ids == (2, 5, 7) and loaded.classes == NAMES and same(loaded.detector)


# --- train --weights


def shapes_folder(root: Path) -> Path:
    assert cli.main(["shapes", "--root", str(root), "--train", "4", "--val", "1"]) == 0
    return root


def tiny_recipe(root: Path) -> Recipe:
    asked = small()
    return replace(
        asked,
        data=replace(asked.data, root=str(root), images_per_batch=2, workers=0),
        schedule=replace(asked.schedule, steps=2, warmup_steps=0, ema=None, checkpoint_every=1),
        optim=replace(asked.optim, lr=1e-12, weight_decay=0.0),
    )


def test_training_starts_from_a_file_and_its_run_is_bound_to_it(tmp_path, capsys):
    asked = tiny_recipe(shapes_folder(tmp_path / "shapes"))
    weights, other = official(tmp_path / "x.pth"), official(tmp_path / "y.pth", seed=2)
    assert train.train(asked, tmp_path / "run", weights=weights) == (2, 2)
    out = capsys.readouterr().out
    assert f"{weights}:\n" in out and "re-initialised" in out and "3 classes in the file, 4 here" in out
    started = load_run(tmp_path / "run").detector.state_dict()
    torch.testing.assert_close(
        started["backbone.stem.conv1.weight"],
        tiny(seed=1).backbone.stem.conv1.weight.detach(),
        atol=1e-6,
        rtol=0,
    )
    resume = partial(train.train, asked, tmp_path / "run", resume=True)
    assert resume(weights=weights) == (2, 2)
    moved = tmp_path / "elsewhere" / "x.pth"
    moved.parent.mkdir()
    assert resume(weights=weights.rename(moved)) == (2, 2)
    for given in (None, other):
        with pytest.raises(InputError, match="only the same run can be resumed; weights"):
            resume(weights=given)


def test_a_run_killed_before_its_first_checkpoint_starts_from_the_file_again(tmp_path, capsys):
    asked = tiny_recipe(shapes_folder(tmp_path / "shapes"))
    weights = official(tmp_path / "x.pth")
    train.train(asked, tmp_path / "whole", weights=weights)
    train.train(asked, tmp_path / "cut", weights=weights)
    for path in (tmp_path / "cut" / "checkpoints").iterdir():
        path.unlink()
    (tmp_path / "cut" / "metrics.jsonl").unlink()
    train.train(asked, tmp_path / "cut", resume=True, weights=weights)
    whole, cut = (load_run(tmp_path / name).detector.state_dict() for name in ("whole", "cut"))
    assert all(torch.equal(value, cut[name]) for name, value in whole.items())


def test_weights_that_do_not_fit_leave_no_run(tmp_path, capsys):
    asked = tiny_recipe(shapes_folder(tmp_path / "shapes"))
    torch.save({"state_dict": {"layer1.weight": torch.zeros(3)}}, tmp_path / "x.pth")
    for path, message in (
        (tmp_path / "x.pth", "none of its 1 parameters"),
        (tmp_path / "z.pth", "is not there"),
    ):
        with pytest.raises(InputError, match=message):
            train.train(asked, tmp_path / "run", weights=path)
    assert not (tmp_path / "run").exists()


# --- get


@pytest.fixture
def mirror(tmp_path):
    folder = tmp_path / "mirror"
    folder.mkdir()

    class Quiet(SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield folder, f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_get(tmp_path, capsys, mirror):
    folder, base = mirror
    name = "cascade_internimage_xl_fpn_3x_coco"
    (folder / f"{name}.pth").write_bytes(b"weights" * 1000)
    digest = hashlib.sha256(b"weights" * 1000).hexdigest()
    code, out, _ = run(capsys, "get", name, "--to", tmp_path / "to", "--base", base)
    assert code == 0 and f"SHA-256 {digest}, which nobody stated before" in out
    assert f"convert {tmp_path}/to/{name}.pth --to cascade-lab --recipe {name} --output runs/{name}" in out
    assert (tmp_path / "to" / f"{name}.pth").read_bytes() == b"weights" * 1000
    code, out, _ = run(
        capsys, "get", name, "--to", tmp_path / "to", "--base", base, "--sha256", digest.upper()
    )
    assert code == 0 and "as you stated" in out


@pytest.mark.parametrize(
    "words, message",
    [
        ((), "name one published file"),
        (("nothing_like_it",), "no such published file; there is"),
        (("../x",), "only letters, digits"),
        (("internimage_t_1k_224", "--sha256", "12"), "is not 64 hexadecimal digits"),
        (("internimage_t_1k_224", "--base", "file:///etc"), "has to begin with https:// or http://"),
    ],
)
def test_get_refuses(tmp_path, capsys, monkeypatch, words, message):
    monkeypatch.chdir(tmp_path)
    code, _, err = run(capsys, "get", *(words or ("--to", "x")))
    assert code == 2 and message in err and not os.listdir()


def test_get_after_an_interrupt_says_how_to_go_on(tmp_path, capsys, monkeypatch):
    def interrupted(*_, **__):
        raise KeyboardInterrupt

    monkeypatch.setattr("cascade_lab.commands.weights_get.fetch", interrupted)
    code, out, _ = run(capsys, "get", "internimage_t_1k_224", "--to", "a b")
    assert code == 130 and "  cascade-lab weights get internimage_t_1k_224 --to 'a b'" in out


def test_names_mean_files():
    assert file_named("internimage_t_1k_224") == "internimage_t_1k_224.pth"
    assert file_named("cascade_internimage_xl_fpn_3x_coco.log.json") in FILES
    for recipe, figures in FIGURES.items():
        assert address(file_named(recipe)) == checkpoint_address(recipe)
        assert (f"{recipe}.log.json" in FILES) is figures.has_log
    assert address("a.pth", "http://x/y") == "http://x/y/a.pth"
    assert file_named("mine.pth", "http://x/") == "mine.pth"


@pytest.mark.parametrize("name", ["../x", "a/b", "a\\b", "C:x", ".x", "", "a b", "a\n", "a\0"])
def test_names_that_could_leave_the_folder_are_refused_at_any_base(name):
    for base in (ADDRESS, "http://x/"):
        with pytest.raises(InputError, match="only letters, digits"):
            file_named(name, base)


def test_an_unknown_name_lists_its_neighbours():
    with pytest.raises(InputError, match="there is .*cascade_internimage_xl_fpn_1x_coco.pth"):
        file_named("cascade_internimage_xxl_fpn_1x_coco")


# --- curves


def test_curves(tmp_path, capsys):
    folder = tmp_path / "run"
    folder.mkdir()
    rows = [{"step": step, "loss": 3 - step / 100} for step in range(10, 110, 10)]
    (folder / "metrics.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    log = tmp_path / "x.log.json"
    line = {"mode": "train", "epoch": 1, "iter": 50, "loss": 2.0}
    log.write_text(
        json.dumps(line) + "\n" + json.dumps({"mode": "val", "epoch": 1, "iter": 9, "bbox_mAP": 0.4})
    )
    words = ("curves", folder, log, "--output", tmp_path / "new" / "c.png")
    code, _, err = run(capsys, *words)
    assert code == 2 and "recipe.json: does not say how many steps make an epoch" in err
    facts = {"training_images": 100, "recipe": {"data": {"images_per_batch": 4}}}
    (folder / "recipe.json").write_text(json.dumps(facts))
    (folder / "results.json").write_text(json.dumps({"bbox": {"AP": 12.0}, "segm": None}))
    assert run(capsys, *words)[0] == 0
    with Image.open(tmp_path / "new" / "c.png") as picture:
        assert picture.format == "PNG" and picture.width > 1000
    assert [p.name for p in (tmp_path / "new").iterdir()] == ["c.png"]
    code, _, err = run(capsys, "curves", tmp_path / "absent", log, "--output", tmp_path / "c.png")
    assert code == 2 and "holds no losses" in err


@pytest.mark.parametrize("what", ["get", "report", "convert", "curves"])
def test_help(capsys, what):
    code, out, _ = run(capsys, what, "--help")
    assert code == 0 and f"usage: cascade-lab weights {what}" in out
    assert max(map(len, out.splitlines())) <= 110


def test_an_unknown_word_names_its_neighbour(capsys):
    code, _, err = run(capsys, "conver", "x.pth")
    assert code == 2 and "there is convert" in err
