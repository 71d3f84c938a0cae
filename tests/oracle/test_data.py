"""Resizing, mirroring, cutting, padding and parsing against the official loader, one step after the other."""

import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from cascade_lab.datasets.coco import CocoDataset
from cascade_lab.datasets.cut import cut
from cascade_lab.datasets.geometry import box_fault, segmentation_fault
from cascade_lab.datasets.order import aspect_groups
from cascade_lab.datasets.transforms import (
    AugmentConfig,
    CropFirst,
    augment,
    cut_first,
    prepare,
    rectangle,
    resize_keep_ratio,
)
from cascade_lab.structures import ImageBatch, Instances
from tests.oracle.golden_detector import pair, tensor

Arrays = Mapping[str, np.ndarray]


def arrays_with(folder: Path, key: str) -> dict[str, Arrays]:
    """Return the files of golden data that hold ``key``, by name; skips where there is none."""
    found = {}
    for path in sorted((folder / "data").glob("*.npz")):
        with np.load(path, allow_pickle=False) as arrays:
            if key in arrays:
                found[path.name] = dict(arrays)
    if not found:
        pytest.skip(f"no file with {key!r} in {folder / 'data'}")
    return found


@pytest.fixture
def steps(oracle_dir: Path) -> list[Arrays]:
    return list(arrays_with(oracle_dir, "img_bgr_uint8").values())


def rgb(picture: np.ndarray) -> torch.Tensor:
    """Turn a golden picture (H, W, 3) BGR into ours (3, H, W) RGB."""
    return tensor(picture[..., ::-1]).permute(2, 0, 1).contiguous()


def before(golden: Arrays) -> tuple[torch.Tensor, Instances]:
    """Return the picture that all steps begin with."""
    image = rgb(golden["img_bgr_uint8"])
    size = pair(np.array(image.shape[1:]))
    masks = tensor(golden["masks"]).bool()
    return image, Instances(size, tensor(golden["boxes"]), tensor(golden["labels"]), masks=masks)


def official(golden: Arrays, **changed) -> AugmentConfig:
    return AugmentConfig(resize=pair(golden["resize/scale"]), resampling="opencv", **changed)


def check_step(golden: Arrays, step: str, image: torch.Tensor, targets: Instances, grey_levels: int) -> None:
    expected = rgb(golden[f"{step}/img"])
    assert image.dtype == torch.uint8 and targets.image_size == tuple(expected.shape[1:])
    assert (image.int() - expected.int()).abs().max() <= grey_levels
    assert_close(targets.boxes, tensor(golden[f"{step}/boxes"]), atol=1e-4, rtol=0)
    assert torch.equal(targets.masks, tensor(golden[f"{step}/masks"]).bool())


def test_sizes_equal_every_row_of_the_table(oracle_dir: Path):
    for name, table in arrays_with(oracle_dir, "rows").items():
        columns = dict(zip(table["columns"].tolist(), table["rows"].T, strict=True))
        named = (columns[c] for c in ("w", "h", "scale0", "scale1", "new_w", "new_h", "pad_w", "pad_h"))
        rows = np.stack(list(named), axis=1).astype(int).tolist()
        assert len(rows) == len(table["rows"]) > 0
        for w, h, scale0, scale1, new_w, new_h, *_ in rows:
            row = f"{name}: {w}x{h} to {scale0}, {scale1}"
            assert resize_keep_ratio((h, w), (scale0, scale1)) == (new_h, new_w), row
        for w, h, pad_w, pad_h in {tuple(row[4:]) for row in rows}:
            batch = ImageBatch.collate([torch.zeros(1, 1, 1, dtype=torch.uint8).expand(3, h, w)])
            assert batch.padded_sizes == [(pad_h, pad_w)] == [tuple(batch.pixels.shape[2:])]


def test_resizing(steps: list[Arrays]):
    for golden in steps:
        image, targets = prepare(*before(golden), official(golden))
        check_step(golden, "resize", image, targets, grey_levels=1)
        batch = ImageBatch.collate([image], [before(golden)[1].image_size])
        y, x = batch.scale(0)
        assert_close(tensor(golden["resize/scale_factor"]), torch.tensor([x, y, x, y]))


def test_mirroring_after_resizing(steps: list[Arrays]):
    """The whole of a 1x pipeline, with a coin that always says mirror."""
    for golden in steps:
        config = official(golden, flip=1.0)
        image, targets = augment(*before(golden), config, torch.Generator().manual_seed(0))
        check_step(golden, "flip", image, targets, grey_levels=1)
        assert torch.equal(targets.labels, before(golden)[1].labels)


def test_normalising_and_padding(steps: list[Arrays]):
    for golden in steps:
        height, width = pair(golden["pad/img_shape"])
        batch = ImageBatch.collate([rgb(golden["flip/img"])])
        assert batch.sizes == [(height, width)] and batch.padded_sizes == [pair(golden["pad/pad_shape"])]
        normalised, padded = (tensor(golden[f"{step}/img"]).permute(2, 0, 1) for step in ("norm", "pad"))
        assert_close(batch.pixels[0, :, :height, :width], normalised, atol=1e-6, rtol=1e-6)
        assert_close(batch.pixels[0], padded, atol=1e-6, rtol=1e-6)
        assert torch.equal(batch.pixels[0] == 0, padded == 0)
        # Masks are never padded here: boxes and masks stay in the frame of the picture without its padding.
        masks = tensor(golden["pad/masks"])
        assert not masks[:, height:].any() and not masks[:, :, width:].any()
        assert torch.equal(masks[:, :height, :width], tensor(golden["flip/masks"]))


def test_cutting_before_resizing(steps: list[Arrays]):
    for golden in steps:
        crops = sorted({key.split("/")[0] for key in golden if key.startswith("crop")})
        assert crops
        for crop in crops:
            image, targets = before(golden)
            h, w = targets.image_size
            lows, highs, values = golden[f"{crop}/draws_low_high_value"].T.tolist()
            sides = (max(lows[:2]), max(highs[:2]) - 1)
            draw = [(v - low + 0.5) / (high - low) for low, high, v in zip(lows, highs, values, strict=True)]
            height, width, top, left = values
            assert rectangle((h, w), sides, draw) == (top, left, top + height, left + width)
            ends = [rectangle((h, w), sides, [*end, 0, 0]) for end in ([0, 0], [1 - 1e-9, 1 - 1e-9])]
            assert [(bottom, right) for _, _, bottom, right in ends] == [
                tuple(lows[:2]),
                tuple(high - 1 for high in highs[:2]),
            ]
            last = rectangle((h, w), sides, [*draw[:2], 1 - 1e-9, 1 - 1e-9])
            assert last[:2] == tuple(high - 1 for high in highs[2:]) and lows[2:] == [0, 0]

            first = CropFirst(probability=1.0, short_sides=(min(h, w),), sides=sides)
            config = AugmentConfig(resize=(max(h, w), min(h, w)), crop_first=first, resampling="opencv")
            image, targets = cut_first(image, targets, config, [0.0, *draw])
            check_step(golden, crop, image, targets, grey_levels=0)
            assert torch.equal(targets.labels, tensor(golden[f"{crop}/labels"]))
            size = pair(golden[f"{crop}/resized_img_shape"])
            image, targets = cut(image, targets, size, (0, 0, *size), resampling="opencv")
            assert targets.image_size == size == tuple(image.shape[1:])
            assert_close(targets.boxes, tensor(golden[f"{crop}/resized_boxes"]), atol=1e-4, rtol=0)
            assert torch.equal(targets.masks, tensor(golden[f"{crop}/resized_masks"]).bool())


def annotation_files(folder: Path) -> list[tuple[dict, dict]]:
    """Pair annotation files with what the official loader made of them, by the pictures that they list."""
    read = [json.loads(path.read_text(encoding="utf-8")) for path in sorted((folder / "data").glob("*.json"))]
    inputs = [content for content in read if "annotations" in content]
    pairs = [
        (content, told)
        for content in inputs
        for told in read
        if told.get("test_img_ids") == [image["id"] for image in content["images"]]
    ]
    if not inputs:
        pytest.skip(f"no annotation file in {folder / 'data'}")
    assert len(pairs) == len(inputs)
    return pairs


def without_faults(content: dict) -> dict:
    """Leave out what the official loader passes over in silence and ours refuses (``validate.py``)."""
    sizes = {image["id"]: (image["height"], image["width"]) for image in content["images"]}
    kept = [
        annotation
        for annotation in content["annotations"]
        if not box_fault(annotation["bbox"], sizes[annotation["image_id"]])
        and not segmentation_fault(annotation.get("segmentation"), sizes[annotation["image_id"]])
    ]
    return {**content, "annotations": kept}


def test_parsing(oracle_dir: Path, tmp_path: Path):
    for number, (content, expected) in enumerate(annotation_files(oracle_dir)):
        root = tmp_path / str(number)
        (root / "images/train").mkdir(parents=True)
        (root / "annotations").mkdir()
        (root / "annotations/instances_train.json").write_text(json.dumps(without_faults(content)))
        for image in content["images"]:
            (root / "images/train" / image["file_name"]).touch()
        names = {category["id"]: category["name"] for category in content["categories"]}
        classes = [names[category_id] for category_id in expected["cat_ids"]]
        tested = CocoDataset(root, "train", classes=classes)
        trained = CocoDataset(root, "train", classes=classes, training=True)
        labels = {str(category_id): label for label, category_id in enumerate(tested.category_ids)}
        assert labels == expected["cat2label"]
        assert tested.image_ids == expected["test_img_ids"] and trained.image_ids == expected["train_img_ids"]
        flags = {
            str(trained.image_ids[i]): flag for flag, g in enumerate(aspect_groups(trained.sizes)) for i in g
        }
        assert flags == expected["group_flag"]
        for index, image_id in enumerate(trained.image_ids):
            targets, wanted = trained.targets(index), expected["parsed"][str(image_id)]
            assert torch.equal(targets.objects().boxes, torch.tensor(wanted["bboxes"]).reshape(-1, 4))
            assert targets.objects().labels.tolist() == wanted["labels"]
            assert torch.equal(targets.ignored(), torch.tensor(wanted["bboxes_ignore"]).reshape(-1, 4))
