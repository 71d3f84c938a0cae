"""One fault at a time: each is refused in one line that names the place, the field and the value."""

import json
import time

import numpy as np
import pytest
from pycocotools import mask as coco_mask

from cascade_lab.datasets.coco import CocoDataset
from cascade_lab.datasets.geometry import segmentation_fault
from cascade_lab.datasets.validate import read_annotations, validate
from cascade_lab.errors import InputError
from tests.datasets.folders import content, write_folder

NAN, INFINITY = float("nan"), float("inf")


def refusal(root, **options) -> str:
    with pytest.raises(InputError) as caught:
        CocoDataset(root, "train", **options)
    message = str(caught.value)
    assert "\n" not in message
    return message


def test_a_sound_file_passes(tmp_path):
    CocoDataset(write_folder(tmp_path, content()), "train")


@pytest.mark.parametrize("training", [False, True])
@pytest.mark.parametrize(
    "index, field, value, words",
    [
        (0, "bbox", [2, 3, -3, 5], "annotation 11: bbox[2] is -3 (must be > 0)"),
        (0, "bbox", [NAN, 3, 10, 5], "annotation 11: bbox[0] is NaN"),
        (0, "bbox", [2, 3, INFINITY, 5], "annotation 11: bbox[2] is Infinity"),
        (0, "bbox", [2, -INFINITY, 3, 5], "annotation 11: bbox[1] is -Infinity"),
        (0, "bbox", [2, 3, 10**400, 5], "annotation 11: bbox[2] is 1000"),
        (0, "bbox", [2, "3", 10, 5], "annotation 11: bbox[1] is '3'"),
        (0, "bbox", [2, True, 10, 5], "annotation 11: bbox[1] is True"),
        (0, "bbox", [2, 3, 10], "annotation 11: bbox is [2, 3, 10] (must be 4 numbers"),
        (0, "bbox", None, "annotation 11: bbox is None"),
        (0, "bbox", [41, 3, 10, 5], "annotation 11: bbox is [41, 3, 10, 5] (must overlap the picture"),
        (0, "bbox", [2, -9, 10, 9], "annotation 11: bbox is [2, -9, 10, 9] (must overlap"),
        (0, "bbox", [2, 3, 1e6, 5], "annotation 11: bbox is [2, 3, 1000000.0, 5] (reaches far outside"),
        (0, "bbox", "delete", "annotation 11: bbox is missing"),
        (1, "id", 11, "annotation 11: id 11 is used twice"),
        (1, "id", 0, "annotation 0: id is 0 (must be an integer from 1 up)"),
        (1, "id", -4, "annotation -4: id is -4"),
        (1, "id", "12", "annotations[1]: id is '12'"),
        (1, "id", 1.5, "annotations[1]: id is 1.5"),
        (1, "id", "delete", "annotations[1]: id is missing"),
        (1, "image_id", 4, "annotation 12: image_id is 4 (must be the id of an image)"),
        (1, "image_id", "5", "annotation 12: image_id is '5'"),
        (1, "image_id", "delete", "annotation 12: image_id is missing"),
        (1, "category_id", 1, "annotation 12: category_id is 1 (must be the id of a category)"),
        (1, "category_id", [2], "annotation 12: category_id is [2]"),
        (1, "category_id", "delete", "annotation 12: category_id is missing"),
        (1, "iscrowd", 2, "annotation 12: iscrowd is 2 (must be 0 or 1)"),
        (1, "area", NAN, "annotation 12: area is NaN"),
        (1, "area", -1, "annotation 12: area is -1"),
    ],
)  # fmt: skip
def test_fault_of_an_annotation(tmp_path, training, index, field, value, words):
    data = content()
    if value == "delete":
        del data["annotations"][index][field]
    else:
        data["annotations"][index][field] = value
    write_folder(tmp_path, data)
    before = sorted(tmp_path.rglob("*"))
    message = refusal(tmp_path, training=training)
    assert message.startswith(f"{tmp_path}/annotations/instances_train.json: ")
    assert words in message and "; " in message and "more fault" not in message
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("flat", [[2.65, 8.33, 1.03, 0.0], [9.98, 18.56, 0, 5.54], [40, 30, 0, 0]])
def test_boxes_without_extent_are_skipped_in_training_and_refused_where_they_would_count(tmp_path, flat):
    """COCO's own train2017 holds two of height 0, ids 918 and 2206849; the official loader skips them."""
    data = content()
    data["annotations"] = [
        {"id": 918, "image_id": 5, "category_id": 2, "bbox": flat, "area": 0.0, "iscrowd": 0}
    ]
    data["annotations"] += [{"id": 919, "image_id": 5, "category_id": 7, "bbox": [2, 3, 10, 5]}]
    data["images"][0]["height"] = 40
    root = write_folder(tmp_path, data)
    dataset = CocoDataset(root, "train", training=True)
    assert dataset.targets(0).boxes.tolist() == [[2, 3, 12, 8]]
    message = refusal(root)
    assert "annotation 918: bbox[" in message and "must be > 0" in message


def runs(counts) -> dict:
    return {"size": [30, 40], "counts": counts}


@pytest.mark.parametrize(
    "value, words",
    [
        ([[2, 3, NAN, 3, 12, 8]], "[0][2] is NaN"),
        ([[2, 3, INFINITY, 3, -INFINITY, 8]], "[0][2] is Infinity"),
        ([[2, 3, 1e9, 3, 12, 8]], "[0][2] is 1000000000.0 (far outside"),
        ([[2, 3, 12, 3, "x", 8]], "[0][4] is 'x'"),
        ([[2, 3, 12, 3, 12, 8, 2]], "[0] has 7 numbers (must be 6 or more, x and y in turn)"),
        ([[2, 3, 12, 3, 12, 8], [2, 3, 4, 5]], "[1] has 4 numbers"),
        ([2, 3, 12, 3, 12, 8], "[0] is 2"),
        ("text", " is 'text' (must be polygons or runs)"),
        ({"size": [40, 30], "counts": [0, 1200]}, ".size is [40, 30] (must be [30, 40]"),
        ({"size": 40, "counts": [0, 1200]}, ".size is 40"),
        (runs([0, 1199]), ".counts covers 1199 pixels (must be 1200"),
        (runs([0, 1201]), ".counts covers 1201 pixels"),
        (runs([-1, 1201]), ".counts is [-1, 1201] (cannot be decoded)"),
        (runs([0.5, 1199.5]), ".counts is [0.5"),
        (runs(""), ".counts is ''"),
        (runs("oooooooooooooooo"), "(cannot be decoded)"),
        (runs("\u00e9\n"), "(cannot be decoded)"),
        (runs("04"), ".counts covers 4 pixels"),
    ],
)  # fmt: skip
def test_fault_of_a_segmentation(tmp_path, value, words):
    data = content()
    data["annotations"][0]["segmentation"] = value
    message = refusal(write_folder(tmp_path, data))
    assert "annotation 11: segmentation" in message and words in message


@pytest.mark.parametrize(
    "part, index, field, value, words",
    [
        ("images", 0, "id", 3, "image 3: id 3 is used twice"),
        ("images", 0, "id", "5", "images[0]: id is '5'"),
        ("images", 0, "id", "delete", "images[0]: id is missing"),
        ("images", 0, "width", 0, "image 5: width is 0"),
        ("images", 0, "width", 40.0, "image 5: width is 40.0"),
        ("images", 0, "height", NAN, "image 5: height is NaN"),
        ("images", 0, "height", "delete", "image 5: height is missing"),
        ("images", 0, "height", 10**9, "image 5: height is 1000000000"),
        ("images", 0, "file_name", "delete", "image 5: file_name is missing (must be the name"),
        ("images", 0, "file_name", 3, "image 5: file_name is 3"),
        ("images", 0, "file_name", "", "image 5: file_name is ''"),
        ("images", 0, "file_name", "c.png", "image 5: file_name is 'c.png' (not found in"),
        ("images", 0, "file_name", "x/a.png", "image 5: file_name is 'x/a.png' (not found in"),
        ("images", 0, "file_name", ".", "image 5: file_name is '.' (not found in"),
        ("images", 0, "file_name", "/etc/passwd", "image 5: file_name is '/etc/passwd' (must be a plain"),
        ("images", 0, "file_name", "../../secret.png", "file_name is '../../secret.png' (must be a plain"),
        ("images", 0, "file_name", "x/../a.png", "image 5: file_name is 'x/../a.png' (must be a plain"),
        ("images", 0, "file_name", "C:\\a.png", "(must be a plain"),
        ("images", 0, "file_name", "c:a.png", "(must be a plain"),
        ("images", 0, "file_name", "x\\a.png", "(must be a plain"),
        ("images", 0, "file_name", "a\0.png", "(must be a plain"),
        ("images", 0, "file_name", "a\n.png", "(not found in"),
        ("images", 0, "file_name", "\ud800/a.png", "(not found in"),
        ("categories", 0, "id", 2, "categories[1]: id 2 is used twice"),
        ("categories", 0, "id", "7", "categories[0]: id is '7'"),
        ("categories", 0, "name", "pot", "categories[1]: name 'pot' is used twice"),
        ("categories", 0, "name", 3, "categories[0]: name is 3"),
        ("categories", 0, "name", "delete", "categories[0]: name is missing"),
    ],
)  # fmt: skip
def test_fault_of_an_image_or_category(tmp_path, part, index, field, value, words):
    data = content()
    if value == "delete":
        del data[part][index][field]
    else:
        data[part][index][field] = value
    assert words in refusal(write_folder(tmp_path, data))


@pytest.mark.parametrize(
    "text, words",
    [
        ("", "the file is empty"),
        ("  \n", "the file is empty"),
        ("{", "not valid JSON"),
        ("<html>", "not valid JSON"),
        ("[" * 100_000, "nested too deeply"),
        ("[]", "is a list, must be an object"),
        ('{"images": [], "images": []}', "key 'images' is there twice"),
        ("{}", "images: is missing"),
        ('{"images": 3, "annotations": [], "categories": []}', "images: is 3 (must be a list)"),
        ('{"images": [], "annotations": [], "categories": []}', "images: is empty"),
        ('{"images": [1], "annotations": [2], "categories": [3]}', "categories[0]: is 3 (must be an object)"),
    ],
)  # fmt: skip
def test_fault_of_the_whole_file(tmp_path, text, words):
    message = refusal(write_folder(tmp_path, text))
    assert "instances_train.json" in message and words in message


def test_not_text(tmp_path):
    write_folder(tmp_path, content())
    (tmp_path / "annotations/instances_train.json").write_bytes(b"\xff\xd8\xff\xe0 a JPEG")
    assert "not UTF-8" in refusal(tmp_path)


def test_missing_folders(tmp_path):
    assert "no such folder" in refusal(tmp_path / "nowhere")
    assert "no such annotation file" in refusal(tmp_path)
    write_folder(tmp_path, content(), split="val")
    assert "annotations/ holds instances_val.json" in refusal(tmp_path)
    (tmp_path / "annotations/instances_train.json").write_text("{}")
    assert f"{tmp_path}/images/train: no such folder" in refusal(tmp_path)
    with pytest.raises(InputError, match="is not a name"):
        CocoDataset(tmp_path, "../val")


def test_links_must_stay_inside_the_root(tmp_path):
    root = write_folder(tmp_path / "set", content())
    outside = write_folder(tmp_path / "other", content())
    picture = root / "images/train/a.png"
    picture.unlink()
    picture.symlink_to(root / "images/train/b.png")
    CocoDataset(root, "train")  # inside: fine
    (tmp_path / "alias").symlink_to(root)
    CocoDataset(tmp_path / "alias", "train")  # the root itself may be a link
    picture.unlink()
    picture.symlink_to(outside / "images/train/a.png")
    assert "(a link that leaves the data folder)" in refusal(root)
    picture.unlink()
    picture.symlink_to(root / "gone.png")
    assert "(not found in" in refusal(root)


def test_all_faults_are_found_in_one_pass(tmp_path):
    data = content()
    data["annotations"][0]["bbox"] = [2, 3, -3, 5]
    data["annotations"] += [
        {"id": 100 + i, "image_id": 5, "category_id": 99, "bbox": [1, 1, 2, 2]} for i in range(29)
    ]
    with pytest.raises(InputError) as caught:
        CocoDataset(write_folder(tmp_path, data), "train")
    expected = "annotation 11: bbox[2] is -3 (must be > 0); fix or delete the annotation"
    assert str(caught.value).endswith(f"{expected} (and 29 more faults)")
    notes = caught.value.__notes__  # the further ones: Python prints them below the message
    assert len(notes) == 20 and notes[-1] == "and 10 more"
    assert notes[0] == "annotation 100: category_id is 99 (must be the id of a category); correct it"


def test_runs_are_decoded_as_pycocotools_does():
    random_state = np.random.default_rng(0)
    for _ in range(300):
        height, width = random_state.integers(1, 90, 2)
        blob = random_state.random((height, width)) < random_state.choice([0, 0.01, 0.3, 0.9, 1])
        runs = coco_mask.encode(np.asfortranarray(blob, np.uint8))
        text = runs["counts"].decode()
        size = (int(height), int(width))
        assert segmentation_fault({"size": list(size), "counts": text}, size) == ""
        assert segmentation_fault({"size": list(size), "counts": text[:-1]}, size)
        assert segmentation_fault({"size": list(size), "counts": text + "1"}, size)


def test_a_hundred_thousand_annotations_in_seconds(tmp_path):
    (tmp_path / "images/train").mkdir(parents=True)
    for number in range(100):
        (tmp_path / f"images/train/{number}.jpg").touch()
    images = [{"id": n, "file_name": f"{n}.jpg", "width": 640, "height": 480} for n in range(100)]
    rest = f'"category_id": 1, "bbox": [9.5, 8.25, 30.5, 20], "segmentation": [{[123.25, 87.5] * 20}]'
    annotations = ", ".join(f'{{"id": {n + 1}, "image_id": {n % 100}, {rest}}}' for n in range(100_000))
    file = tmp_path / "instances_train.json"
    categories = [{"id": 1, "name": "thing"}]
    head = json.dumps({"images": images, "categories": categories})[:-1]
    file.write_text(f'{head}, "annotations": [{annotations}]}}')
    start = time.process_time()
    content = read_annotations(file)
    validate(content, file, tmp_path / "images/train", tmp_path)
    assert time.process_time() - start < 5
    assert len(content["annotations"]) == 100_000
