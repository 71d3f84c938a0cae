"""A data set named by a recipe."""

from dataclasses import replace

import pytest

from cascade_lab.datasets.catalog import DataConfig, load_dataset
from cascade_lab.errors import InputError
from tests.datasets.folders import content, write_folder


def test_opens_the_split_that_is_asked_for(tmp_path):
    data = content()
    for image in data["images"]:
        image["height"] = 40
    for annotation in data["annotations"]:
        annotation.pop("segmentation", None)
    data["annotations"].pop()
    config = DataConfig(root=str(write_folder(tmp_path, data)))
    assert load_dataset(config, "train", training=False).image_ids == [5, 3]
    assert load_dataset(config, "train", training=True).image_ids == [5]
    assert len(load_dataset(replace(config, keep_empty=True), "train", training=True)) == 2
    assert load_dataset(config, "train", training=False, classes=("pot", "cup")).category_ids == [2, 7]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"dataset": "cocoo"}, "data.dataset is 'cocoo' (must be one of coco"),
        ({"images_per_batch": 0}, "data.images_per_batch is 0 (must be from 1 up)"),
        ({"workers": -1}, "data.workers is -1"),
        ({"root": ""}, "data.root is empty"),
    ],
)
def test_refuses_impossible_values(change, words):
    with pytest.raises(InputError) as caught:
        DataConfig(**change)
    assert words in str(caught.value)
