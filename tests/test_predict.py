"""The predict command: what it writes, in which frame, and what it refuses."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from pycocotools import mask as coco_mask
from torchvision.ops import box_iou
from torchvision.transforms.v2 import functional

from cascade_lab import predict as command
from cascade_lab.augmented import AugmentedTest, predict_augmented
from cascade_lab.datasets.transforms import AugmentConfig
from cascade_lab.detector import Detector, Prediction
from cascade_lab.errors import InputError
from cascade_lab.learn.course import course_pictures, course_run
from cascade_lab.recipes import nano
from cascade_lab.runs import Run, with_postprocess
from cascade_lab.structures import ImageBatch, Instances
from tests.fake_detector import FakeDetector
from tests.tiny_detector import tiny

ROTATED_BY_90 = 6  # EXIF orientation: turn clockwise to display


@pytest.fixture
def run(tmp_path: Path) -> Run:
    boxes = torch.tensor([[10.0, 20.0, 50.0, 60.0], [5.0, 5.0, 30.0, 18.0]])
    answers = {(90, 60): Instances((90, 60), boxes, torch.tensor([1, 0]))}
    detector = FakeDetector(answers, num_classes=2)
    return Run(tmp_path, nano(), ("bolt", "nut"), (8, 3), detector, step=12)  # type: ignore[arg-type]


def picture(path: Path, size: tuple[int, int] = (90, 60), **options) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((*size, 3), 100, np.uint8)).save(path, **options)
    return path


def test_three_files_a_picture(run, tmp_path):
    images = [picture(tmp_path / "a.jpg"), picture(tmp_path / "b.png")]
    written = command.predict_images(run, images, tmp_path / "deep/out")
    names = {"a_drawn.jpg", "a_stages.png", "a.json", "b_drawn.png", "b_stages.png", "b.json"}
    assert {file.name for file in (tmp_path / "deep/out").iterdir()} == {f.name for f in written} == names
    with Image.open(tmp_path / "deep/out/a_drawn.jpg") as drawn:
        assert drawn.format == "JPEG" and drawn.size == (640, 960)  # 60 x 90, the short side drawn 640
    with Image.open(tmp_path / "deep/out/a_stages.png") as strip:
        assert strip.format == "PNG" and strip.width > 1000


def test_annotations_are_a_coco_data_set(run, tmp_path):
    command.predict_images(run, [picture(tmp_path / "a.jpg")], tmp_path / "out", score=0.0)
    content = json.loads((tmp_path / "out/a.json").read_text())
    assert content["images"] == [{"id": 1, "file_name": "a.jpg", "width": 60, "height": 90}]
    assert content["categories"] == [{"id": 8, "name": "bolt"}, {"id": 3, "name": "nut"}]
    first, second = content["annotations"]
    assert first["bbox"] == [11, 20, 40, 40] and first["score"] == pytest.approx(0.9)  # one pixel right of it
    assert (first["category_id"], first["category_name"], second["category_name"]) == (3, "nut", "bolt")
    assert first["area"] == coco_mask.area(first["segmentation"]) == 1600
    assert coco_mask.toBbox(first["segmentation"]).tolist() == [11, 20, 40, 40]
    assert [a["id"] for a in content["annotations"]] == [1, 2]


def test_score_and_boxes_only(run, tmp_path):
    run.detector.masks = False
    command.predict_images(run, [picture(tmp_path / "a.png")], tmp_path / "out", score=0.7)
    (only,) = json.loads((tmp_path / "out/a.json").read_text())["annotations"]
    assert only["area"] == 1600 and "segmentation" not in only


def test_nothing_found(run, tmp_path):
    command.predict_images(run, [picture(tmp_path / "a.png", (40, 40))], tmp_path / "out")
    assert json.loads((tmp_path / "out/a.json").read_text())["annotations"] == []


def test_exif_rotation_is_honoured(run, tmp_path):
    exif = Image.Exif()
    exif[0x0112] = ROTATED_BY_90
    stored = picture(tmp_path / "a.jpg", (60, 90), exif=exif)  # lies on its side, displayed 90 high, 60 wide
    command.predict_images(run, [stored], tmp_path / "out")
    content = json.loads((tmp_path / "out/a.json").read_text())
    assert (content["images"][0]["height"], content["images"][0]["width"]) == (90, 60)
    assert len(content["annotations"]) == 2  # the fake detector knows the displayed size only


def test_size_for_the_network():
    config = AugmentConfig(resize=(120, 80), test_scale=2.0)
    resized = command.resize_for_test(torch.zeros(3, 40, 50, dtype=torch.uint8), config)
    # 50 -> 120 would make 40 -> 96 > 80, so 40 -> 80 and 50 -> 100; then twice that.
    assert resized.shape == (3, 160, 200)


def broken(folder: Path) -> Path:
    path = picture(folder / "broken.jpg", (200, 200))
    path.write_bytes(path.read_bytes()[:300])
    return path


@pytest.mark.parametrize(
    "make, message",
    [
        (broken, "broken.jpg.*truncated"),
        (lambda folder: folder / "absent.jpg", "absent.jpg: no such picture; check the name"),
        (lambda folder: picture(folder / "x/a.png").parent, "is a folder"),
        (lambda folder: picture(folder / "x/a.png"), "a.jpg has the same name"),
        (lambda folder: picture(folder / "out/a_drawn.jpg"), "would be overwritten"),
    ],
)
def test_bad_pictures_leave_nothing_behind(run, tmp_path, make, message):
    images = [picture(tmp_path / "a.jpg"), make(tmp_path)]
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(InputError, match=message):
        command.predict_images(run, images, tmp_path / "out")
    assert sorted(tmp_path.rglob("*")) == before and run.detector.calls == 0


@pytest.mark.parametrize("tta", [None, AugmentedTest(flip=True)])
def test_a_network_that_overflows_leaves_nothing_behind(run, tmp_path, tta):
    torch.manual_seed(0)
    detector = Detector(replace(run.recipe.detector, num_classes=2)).eval()
    for parameter in detector.neck.parameters():
        torch.nn.init.constant_(parameter, 1e38)
    with pytest.raises(InputError, match="not finite"):
        command.predict_images(
            replace(run, detector=detector), [picture(tmp_path / "a.png")], tmp_path, tta=tta
        )
    assert [file.name for file in tmp_path.iterdir()] == ["a.png"]


def test_output_is_a_file(run, tmp_path):
    image = picture(tmp_path / "a.jpg")
    with pytest.raises(InputError, match="is a file; name a folder"):
        command.predict_images(run, [image], image)


def network() -> Detector:
    torch.manual_seed(1)
    return Detector(nano().detector).eval()


def test_views_and_soft_nms_are_options(tmp_path, monkeypatch, capsys):
    """The files hold what views that are made here give when merged."""
    path, classes = tmp_path / "a.png", ("a", "b", "c", "d")
    noise = np.random.default_rng(0).integers(0, 256, (64, 96, 3), dtype=np.uint8)
    Image.fromarray(noise).save(path)
    monkeypatch.setattr(
        command, "load_run", lambda folder: Run(folder, nano(), classes, (1, 2, 3, 4), network(), step=1)
    )

    def scores(*options: str) -> list[float]:
        words = ["runs/x", str(path), "--score", "0", "--output", str(tmp_path / "out")]
        assert command.main([*words, *options]) == 0
        content = json.loads((tmp_path / "out/a.json").read_text())
        return [annotation["score"] for annotation in content["annotations"]]

    def told(found: Prediction) -> list[float]:
        assert found.instances[0].scores is not None and len(found.instances[0]) > 5
        return pytest.approx(found.instances[0].scores.tolist(), abs=1e-5)

    pixels = torch.from_numpy(noise).permute(2, 0, 1)
    double = functional.resize(pixels, [128, 192], antialias=True)
    views = [ImageBatch.collate([p], [(64, 96)]) for p in (pixels, double)]
    plain = scores()
    assert plain == told(network().predict(views[0])) and "views of every" not in capsys.readouterr().out
    merged = scores("--tta.scales", "1.0", "2.0", "--tta.flip")
    assert merged == told(predict_augmented(network(), views, flip=True)) and merged != plain
    assert "4 views of every picture" in capsys.readouterr().out

    postprocess = replace(nano().detector.cascade.postprocess, nms="soft_linear", nms_iou=0.1)
    soft = with_postprocess(Run(tmp_path, nano(), classes, (1, 2, 3, 4), network(), step=1), postprocess)
    assert soft.recipe.detector.cascade.postprocess == postprocess
    lowered = scores("--nms", "soft_linear", "--nms_iou", "0.1")
    assert lowered == told(soft.detector.predict(views[0])) and lowered != plain


def test_command_line(run, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(command, "load_run", lambda path: run)
    image, out = str(picture(tmp_path / "a.jpg")), str(tmp_path / "out")
    assert command.main(["runs/x", image, "--output", out, "--score", "0.5"]) == 0
    assert "1 pictures, 3 files" in capsys.readouterr().out
    assert command.main([]) == 0 and "cascade-lab predict RUN" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words, message",
    [
        (["runs/x", "--output", "out"], "at least one picture"),
        (["runs/x", "a.jpg"], "--output: missing"),
        (["runs/x", "a.jpg", "--output", "out", "--batch_size", "0"], "--batch_size: 0 must be 1 or more"),
        (["runs/x", "a.jpg", "--output", "out", "--precision", "int8"], "precision"),
        (["runs/x", "a.jpg", "--output", "out", "--score", "2"], "--score: 2.0 must be from 0 to 1"),
        (["runs/x", "a.jpg", "--output", "out", "--scroe", "0.3"], "nearest: --score"),
        (["runs/x", "a.jpg", "--output", "out", "--tta.scales", "0"], "tta.scales is .0.0,. .must be"),
        (["runs/x", "a.jpg", "--output", "out", "--nms", "soft"], "--nms: 'soft' is not .*soft_linear"),
        (["runs/x", "a.jpg", "--output", "out", "--soft_sigma", "0"], "soft_sigma must be above 0"),
    ],
)
def test_bad_options(words, message):
    with pytest.raises(InputError, match=message):
        command.main(words)


# --- several at once, and half types


def test_neighbours_of_one_size_go_together(run, tmp_path):
    sizes = [(90, 60), (90, 60), (90, 60), (40, 40), (90, 60)]
    images = [picture(tmp_path / f"{i}.png", size) for i, size in enumerate(sizes)]
    grouped = [[path.stem for path, _ in group] for group in command.batches(images, 2)]
    assert grouped == [["0", "1"], ["2"], ["3"], ["4"]]
    command.predict_images(run, images, tmp_path / "alone")
    assert run.detector.calls == 5
    command.predict_images(run, images, tmp_path / "together", batch_size=3)
    assert run.detector.calls == 5 + 3
    for path in (tmp_path / "alone").iterdir():
        assert path.read_bytes() == (tmp_path / "together" / path.name).read_bytes()


def test_every_picture_of_a_batch_gets_its_own_answer(tmp_path):
    torch.manual_seed(0)
    detector = tiny().eval()
    run = Run(tmp_path, replace(nano(), detector=detector.config), ("a", "b", "c"), (1, 2, 3), detector, 0)
    noise = [torch.randint(0, 256, (3, 64, 64), dtype=torch.uint8) for _ in range(3)]
    together = command.detect(run, noise).instances
    for number, alone in enumerate(noise):
        found = command.detect(run, [alone]).instances[0]
        torch.testing.assert_close(found.boxes, together[number].boxes, atol=1e-3, rtol=1e-4)


def test_the_network_runs_in_the_type_that_was_asked_for(run, tmp_path, monkeypatch):
    seen, plain = [], run.detector.predict

    def predict(*arguments, **named):
        seen.append(torch.get_autocast_dtype("cpu") if torch.is_autocast_enabled("cpu") else None)
        return plain(*arguments, **named)

    run.detector.predict = predict
    monkeypatch.setattr(command, "load_run", lambda path: run)
    image, out = str(picture(tmp_path / "a.jpg")), str(tmp_path / "out")
    for words in ([], ["--precision", "bfloat16"], ["--precision", "float32"]):
        assert command.main(["runs/x", image, "--output", out, *words]) == 0
    assert seen == [None, torch.bfloat16, None]


def test_bfloat16_finds_the_same_in_a_trained_model():
    """Of the detections above 0.3 at least 98 % have one of the same class at IoU 0.9 or more, both ways."""
    run = course_run()
    pictures = [picture for picture, _ in course_pictures(60)]
    found = {
        precision: command.detect(run, pictures, precision=precision).instances
        for precision in ("float32", "bfloat16")
    }
    both = list(zip(found["float32"], found["bfloat16"], strict=True))
    partners = [partner for a, b in both for pair in ((a, b), (b, a)) for partner in has_partner(*pair)]
    assert len(partners) > 200
    assert sum(partners) >= 0.98 * len(partners)


def has_partner(found: Instances, others: Instances) -> list[bool]:
    """Say of each detection above 0.3 whether the others hold its like."""
    found = found[found.scores > 0.3]
    same = found.labels[:, None] == others.labels
    return ((box_iou(found.boxes, others.boxes) >= 0.9) & same).any(1).tolist()
