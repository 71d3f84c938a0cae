"""Layouts, labels, masks and crowds of COCO folders, against values worked out by hand."""

import pytest
import torch
from PIL import Image

from cascade_lab.datasets.coco import CocoDataset
from cascade_lab.errors import InputError
from tests.datasets.folders import content, picture, write_folder

# pycocotools 2.0.11 has not followed NumPy 2 in a signature.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("split", ["train", "train2017"])
def test_both_layouts_and_both_names_of_a_split(tmp_path, official, split):
    dataset = CocoDataset(write_folder(tmp_path, content(), official=official), split)
    assert dataset.image_ids == [5, 3] and dataset.sizes == [(30, 40), (30, 40)]
    assert dataset.path(0).name == "a.png" and dataset.path(0).is_file()
    assert dataset.annotation_path.name == f"instances_train{'2017' * official}.json"


def test_objects_of_a_picture(tmp_path):
    dataset = CocoDataset(write_folder(tmp_path, content()), "train")
    assert dataset.classes == ("cup", "pot") and dataset.category_ids == [7, 2]  # the order of the file
    image, targets = dataset[0]
    assert torch.equal(image, torch.from_numpy(picture()).permute(2, 0, 1))
    assert targets.image_size == (30, 40)
    assert targets.boxes.tolist() == [[2, 3, 12, 8], [20, 10, 24, 16], [0, 0, 40, 2]]
    assert targets.labels.tolist() == [1, 0, 0]
    assert targets.ignore.tolist() == [False, False, True]
    assert targets.has_mask.tolist() == [True, False, True]
    expected = torch.zeros(3, 30, 40, dtype=torch.bool)
    expected[0, 3:8, 2:12] = True
    expected[2, 0:2, :] = True
    assert torch.equal(targets.masks, expected)
    second = dataset.targets(1)
    assert second.has_mask is None and second.ignore is None
    assert second.masks[0].nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_a_set_without_masks(tmp_path):
    data = content()
    for annotation in data["annotations"]:
        annotation["segmentation"] = []
    targets = CocoDataset(write_folder(tmp_path, data), "train").targets(0)
    assert targets.masks is None and targets.has_mask is None and len(targets) == 3


def test_classes_of_a_trained_model_decide_the_labels(tmp_path):
    root = write_folder(tmp_path, content())
    dataset = CocoDataset(root, "train", classes=["pot", "cup"])
    assert dataset.category_ids == [2, 7] and dataset.targets(0).labels.tolist() == [0, 1, 1]
    assert CocoDataset(root, "train", classes=["pot"]).targets(0).boxes.tolist() == [[2, 3, 12, 8]]
    with pytest.raises(InputError, match="categories lacks 'pan'"):
        CocoDataset(root, "train", classes=["pan", "pot"])


def test_training_leaves_out_small_and_empty_pictures(tmp_path):
    data = content()
    for image in data["images"]:
        image["height"] = 32
    data["images"].append({"id": 9, "file_name": "a.png", "width": 31, "height": 90})
    data["annotations"][3] |= {"image_id": 9}
    for annotation in data["annotations"]:
        annotation["segmentation"] = None
    root = write_folder(tmp_path, data)
    assert CocoDataset(root, "train").image_ids == [5, 3, 9]
    assert CocoDataset(root, "train", training=True).image_ids == [5]
    assert CocoDataset(root, "train", training=True, keep_empty=True).image_ids == [5, 3]
    with pytest.raises(InputError, match="images: none has an object"):
        CocoDataset(write_folder(tmp_path / "two", content()), "train", training=True)  # 30 pixels high


def test_cache_keeps_pictures_only_when_asked(tmp_path):
    root = write_folder(tmp_path, content())
    plain, cached = CocoDataset(root, "train"), CocoDataset(root, "train", cache=True)
    assert plain.picture(0) is not plain.picture(0)
    assert cached.picture(0) is cached.picture(0)
    assert torch.equal(plain.picture(0), cached.picture(0))
    for dataset, kept in ((plain, 0), (cached, 1)):
        first, again = dataset.targets(0), dataset.targets(0)
        assert torch.equal(first.masks, again.masks) and len(dataset._rles) == kept


def test_absent_or_of_another_size(tmp_path):
    dataset = CocoDataset(write_folder(tmp_path, content()), "train")
    Image.fromarray(picture(10, 20)).save(dataset.path(0))
    with pytest.raises(InputError, match=r"a.png: the annotation file states 40x30 .* is 20x10; correct"):
        dataset[0]
    dataset.path(0).unlink()
    with pytest.raises(InputError, match=r"a.png: no such picture"):
        dataset[0]
