"""The contract of data sets, held to generated shapes and to real folders where they are at hand."""

from pathlib import Path

import pytest

from cascade_lab.datasets.coco import CocoDataset
from cascade_lab.datasets.shapes import ShapesConfig, write_shapes
from tests.datasets.contract import check_dataset

# pycocotools 2.0.11 has not followed NumPy 2 in a signature.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

REAL = Path(__file__).parents[2] / "../shared/data"
# folder, split, pictures, objects and crowds: counted in the files without this library
FOLDERS = [
    ("nuclei", "train", 160, 4652), ("nuclei", "val", 40, 1285),
    ("boards", "train", 99, 120), ("boards", "val", 27, 33),
    ("fruits_nuts", "train", 12, 121), ("fruits_nuts", "val", 6, 44),
    ("blood_cells", "train", 205, 2804), ("blood_cells", "val", 87, 1137),
    ("formats/coco", "train", 26, 333), ("formats/coco", "val2017", 25, 213),
]  # fmt: skip


def test_shapes(tmp_path):
    write_shapes(tmp_path / "shapes", ShapesConfig(), seed=3, train=5, val=2)
    for split in ("train", "val"):
        check_dataset(CocoDataset(tmp_path / "shapes", split))


@pytest.mark.parametrize("folder, split, pictures, objects", FOLDERS)
def test_real_folder(folder, split, pictures, objects):
    if not (REAL / folder).is_dir():
        pytest.skip(f"../shared/data/{folder} is not here")
    dataset = CocoDataset(REAL / folder, split)
    assert len(dataset) == pictures
    found = sum(len(dataset._objects[index]) for index in range(pictures))
    assert objects * 0.98 <= found <= objects  # a few are under one pixel wide
    assert dataset.has_masks == (folder != "blood_cells")
    check_dataset(dataset, range(0, pictures, max(1, pictures // 5)))


def test_runs_and_polygons_of_the_same_nuclei_agree():
    if not (REAL / "nuclei").is_dir():
        pytest.skip("../shared/data/nuclei is not here")
    polygons = CocoDataset(REAL / "nuclei", "val")
    runs = CocoDataset(REAL / "nuclei", "val", annotation="annotations/instances_val_rle.json")
    for index in range(0, 40, 10):
        a, b = polygons.targets(index).masks, runs.targets(index).masks
        assert (a & b).sum() / (a | b).sum() > 0.93  # the polygons were traced from the runs and simplified
