"""The evaluate command from batches to files, with a detector whose AP is known in closed form."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cascade_lab import evaluate as command
from cascade_lab.augmented import AugmentedTest, read_out, see
from cascade_lab.datasets.shapes import ShapesConfig, draw_scene, to_coco
from cascade_lab.detector import Detector
from cascade_lab.errors import InputError
from cascade_lab.evaluation.per_stage import stage_modes
from cascade_lab.learn.course import course_run
from cascade_lab.recipes import nano
from cascade_lab.runs import Run
from cascade_lab.structures import ImageBatch, Instances
from tests.fake_detector import FakeDetector

SIZES = [(64, 80), (72, 96), (80, 128)]  # one a picture: the fake detector tells pictures apart by size


@pytest.fixture
def run(tmp_path: Path) -> Run:
    """Three pictures with a 40 x 40 and a 40 x 30 object each, and a run that knows them."""
    root, answers, annotations = tmp_path / "data", {}, []
    (root / "images/val").mkdir(parents=True)
    (root / "annotations").mkdir()
    for number, (h, w) in enumerate(SIZES):
        Image.fromarray(np.full((h, w, 3), 90, np.uint8)).save(root / f"images/val/{number}.png")
        boxes = torch.tensor([[10.0, 2.0, 50.0, 42.0], [20.0, 30.0, 60.0, 60.0]])
        answers[h, w] = Instances((h, w), boxes, torch.tensor([0, 1]))
        for label, (x1, y1, x2, y2) in enumerate(boxes.tolist()):
            annotations.append(
                {"image_id": 40 + number, "category_id": (8, 3)[label], "iscrowd": 0}
                | {"bbox": [x1, y1, x2 - x1, y2 - y1], "area": (x2 - x1) * (y2 - y1)}
                | {"id": len(annotations) + 1, "segmentation": [[x1, y1, x2, y1, x2, y2, x1, y2]]}
            )
    content = {
        "images": [
            {"id": 40 + n, "file_name": f"{n}.png", "height": h, "width": w} for n, (h, w) in enumerate(SIZES)
        ],
        "categories": [{"id": 8, "name": "bolt"}, {"id": 3, "name": "nut"}],
        "annotations": annotations,
    }
    (root / "annotations/instances_val.json").write_text(json.dumps(content))
    folder, recipe = tmp_path / "run", nano()
    folder.mkdir()
    recipe = replace(recipe, data=replace(recipe.data, root=str(root)))
    detector = FakeDetector(answers, num_classes=2)
    return Run(folder, recipe, ("bolt", "nut"), (8, 3), detector, step=12)  # type: ignore[arg-type]


def test_every_stage_from_one_pass(run, capsys):
    results = command.evaluate(run, batch_size=2)
    for kind in ("bbox", "segm"):
        found = {mode: both[kind]["AP"] for mode, both in results["stages"].items()}
        assert found == pytest.approx({"1": 70, "2": 90, "3": 100, "1~2": 90, "1~3": 100})
    assert run.detector.calls == 3  # three pictures of three sizes, five ways to read them
    assert {name: c["objects"] for name, c in results["per_class"].items()} == {"bolt": 3, "nut": 3}
    printed = capsys.readouterr().out
    assert "1~3" in printed and "AP75 +0.0" in printed and "bolt" in printed


def test_files(run):
    results = command.evaluate(run)
    assert json.loads((run.path / "results.json").read_text()) == results
    boxes = json.loads((run.path / "detections_bbox.json").read_text())
    masks = json.loads((run.path / "detections_segm.json").read_text())
    assert len(boxes) == len(masks) == 6
    assert {d["image_id"] for d in boxes} == {40, 41, 42} and {d["category_id"] for d in boxes} == {8, 3}
    assert not any("segmentation" in d for d in boxes) and all("segmentation" in d for d in masks)
    first = max((d for d in boxes if d["image_id"] == 40), key=lambda d: d["score"])
    assert first["bbox"] == pytest.approx([11, 2, 40, 40])  # the last stage is one pixel off
    about = json.loads((run.path / "evaluation.json").read_text())
    assert about["split"] == "val" and about["pictures"] == 3 and about["step"] == 12
    assert not list(run.path.glob("*.partial"))


def test_views_and_soft_nms_are_options(run, monkeypatch, capsys):
    """A real network, untrained: every mode holds what its read-out of the merged views gives."""
    torch.manual_seed(0)
    detector = Detector(replace(run.recipe.detector, num_classes=2)).eval()
    real = replace(run, detector=detector, recipe=replace(run.recipe, detector=detector.config))
    monkeypatch.setattr(command, "load_run", lambda path: real)
    words = [
        "anything",
        "--tta.scales",
        "1.0",
        "0.5",
        "--tta.flip",
        "--nms",
        "soft_gaussian",
        "--batch_size=2",
    ]
    assert command.main(words) == 0
    assert "4 views of every picture" in capsys.readouterr().out
    about = json.loads((run.path / "evaluation.json").read_text())
    assert about["tta"] == {"scales": [1.0, 0.5], "flip": True} and about["nms"] == "soft_gaussian"
    written = json.loads((run.path / "detections_bbox.json").read_text())
    assert detector.cascade.config.postprocess.nms == "soft_gaussian"  # as the read-outs below

    gray = [torch.full((3, h, w), 90, dtype=torch.uint8) for h, w in SIZES]
    half = [torch.full((3, h // 2, w // 2), 90, dtype=torch.uint8) for h, w in SIZES]
    scaled = [ImageBatch.collate(images[1:2], SIZES[1:2]) for images in (gray, half)]
    sight = see(detector, scaled, flip=True)
    (full,) = read_out(detector, sight, (0, 1, 2))
    assert full.scores is not None and len(full) > 5
    mine = [d["score"] for d in written if d["image_id"] == 41]
    assert mine == pytest.approx(full.scores.tolist(), abs=1e-5)
    modes = command.read_modes(detector, scaled, AugmentedTest(scales=(1.0, 0.5), flip=True), stage_modes(3))
    for (mode, found), voters in zip(modes, [(0,), (1,), (2,), (0, 1), (0, 1, 2)], strict=True):
        for a, b in zip(found, read_out(detector, sight, voters), strict=True):
            assert torch.equal(a.boxes, b.boxes), mode


def test_what_is_found_does_not_depend_on_the_batch(tmp_path):
    """Padded to a larger neighbour, a picture gets other scores than alone, by some hundredths."""
    sizes = (128, 96, 160, 96)
    scenes = [draw_scene(ShapesConfig(size=s), np.random.default_rng(n)) for n, s in enumerate(sizes)]
    (tmp_path / "images/val").mkdir(parents=True)
    (tmp_path / "annotations").mkdir()
    for number, scene in enumerate(scenes):
        Image.fromarray(scene.pixels).save(tmp_path / f"images/val/{number:06d}.png")
    (tmp_path / "annotations/instances_val.json").write_text(json.dumps(to_coco(scenes)))
    found = []
    for batch_size in (1, 4):
        command.evaluate(replace(course_run(), path=tmp_path), tmp_path, batch_size=batch_size)
        rows = json.loads((tmp_path / "detections_bbox.json").read_text())
        found.append(sorted(rows, key=lambda row: (row["image_id"], -row["score"])))
    one, four = found
    assert {row["image_id"] for row in one} == {1, 2, 3, 4}
    assert [row["image_id"] for row in one] == [row["image_id"] for row in four]
    assert [row["score"] for row in one] == pytest.approx([row["score"] for row in four], abs=1e-4)


def test_without_options_the_plain_pass_is_recorded(run):
    command.evaluate(run)
    about = json.loads((run.path / "evaluation.json").read_text())
    assert about["tta"] is None and about["nms"] == "hard" and about["precision"] == "float32"


def test_half_types_are_used_and_recorded(run, monkeypatch):
    seen, plain = [], run.detector.predict

    def predict(*arguments, **named):
        seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return plain(*arguments, **named)

    run.detector.predict = predict
    monkeypatch.setattr(command, "load_run", lambda path: run)
    assert command.main(["anything", "--precision", "bfloat16"]) == 0
    assert set(seen) == {torch.bfloat16}
    assert json.loads((run.path / "evaluation.json").read_text())["precision"] == "bfloat16"


def test_detector_without_masks_removes_old_mask_results(run):
    (run.path / "detections_segm.json").write_text("[]")
    run.detector.masks = False
    results = command.evaluate(run)
    assert results["segm"] is None and results["bbox"]["AP"] == pytest.approx(100)
    assert not (run.path / "detections_segm.json").exists()


def test_other_root_and_split(run, tmp_path):
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(InputError, match="no such folder"):
        command.evaluate(run)
    assert command.evaluate(run, data_root=tmp_path / "moved")["bbox"]["AP"] == pytest.approx(100)
    with pytest.raises(InputError, match="'test'.*instances_val.json"):
        command.evaluate(run, data_root=tmp_path / "moved", split="test")


def test_nan_leaves_nothing_behind(run):
    for answer in run.detector.answers.values():
        answer.boxes[0, 0] = float("nan")
    with pytest.raises(InputError, match="image id 40.*not finite"):
        command.evaluate(run)
    assert not list(run.path.iterdir())


@pytest.mark.parametrize("tta", [AugmentedTest(), AugmentedTest(flip=True)])
def test_a_backbone_that_overflows_is_not_one_that_finds_nothing(run, tta):
    """NaN passes no threshold: without a check AP would be 0, and nobody would know why."""
    torch.manual_seed(0)
    detector = Detector(replace(run.recipe.detector, num_classes=2)).eval()
    for parameter in detector.neck.parameters():
        torch.nn.init.constant_(parameter, 1e38)
    with pytest.raises(InputError, match="not finite.*earlier checkpoint, or --precision float32"):
        command.evaluate(replace(run, detector=detector), tta=tta)
    assert not list(run.path.glob("*.json"))


def test_command_line(run, monkeypatch):
    monkeypatch.setattr(command, "load_run", lambda path: run)
    assert command.main(["anything", "--data.split", "val", "--batch_size=3"]) == 0
    with pytest.raises(InputError, match="--data.spilt.*nearest.*--data.split"):
        command.main(["anything", "--data.spilt", "val"])
    with pytest.raises(InputError, match="--batch_size: 0"):
        command.main(["anything", "--batch_size", "0"])
    with pytest.raises(InputError, match="folder of the run first"):
        command.main(["--data.split", "val"])


def test_missing_run(tmp_path):
    with pytest.raises(InputError, match="no such run folder"):
        command.main([str(tmp_path / "nowhere")])


def test_help(capsys):
    assert command.main(["--help"]) == 0
    assert "cascade-lab evaluate RUN" in capsys.readouterr().out
