"""Folders in COCO format: pictures, and one JSON file a split that lists their objects.

Two layouts are found by themselves: ``images/<split>`` with ``annotations/instances_<split>.json``, and the
official ``<split>2017`` with ``annotations/instances_<split>2017.json``.
"""

from __future__ import annotations

from collections.abc import Container, Sequence
from pathlib import Path
from typing import Any, cast

import torch
from pycocotools import mask as coco_mask
from torch import Tensor

from cascade_lab.datasets.picture import read_picture
from cascade_lab.datasets.validate import read_annotations, validate
from cascade_lab.errors import InputError
from cascade_lab.structures import Instances

CACHE_BYTES = 512 * 1024**2
MIN_TRAINING_SIDE = 32


class CocoDataset:
    """Read one split of a COCO folder; the annotation file is checked whole before anything is returned.

    Labels follow the order of the categories in the file, or that of ``classes`` where it is given (the names
    that a trained model knows); objects of other categories are then left out.

    A crowd (``iscrowd``) becomes a row with ``ignore`` set. Boxes are returned as they stand, so they may
    reach over the edge of the picture. ``masks`` is None in a set that has no masks at all.

    Args:
        training: leave out pictures without any object and those with a side under 32 pixels.
        keep_empty: with ``training``: keep pictures without objects, which teach what background is.
        cache: keep decoded pictures and runs, if all pictures together take less than half a GiB.

    Raises:
        InputError: something is missing, broken or contradictory; one line says where and what to do.

    Source: mmdetection 2.28 ``datasets/coco.py`` for what is skipped. It differs in what is kept: crowds are
    dropped there before the network sees them.
    """

    def __init__(
        self,
        root: str | Path,
        split: str,
        annotation: str | Path | None = None,
        *,
        training: bool = False,
        keep_empty: bool = False,
        classes: Sequence[str] | None = None,
        cache: bool = False,
    ) -> None:
        self.root = Path(root)
        self.annotation_path, self.image_folder = find_split(self.root, split, annotation)
        content = read_annotations(self.annotation_path)
        validate(content, self.annotation_path, self.image_folder, self.root, training)
        self.classes, self.category_ids = select_classes(content, classes, self.annotation_path)
        self._labels = {category_id: label for label, category_id in enumerate(self.category_ids)}
        records = group_by_image(content)
        if training:
            records = [r for r in records if _is_for_training(*r, self._labels, keep_empty)]
            if not records:
                raise InputError(
                    f"{self.annotation_path}: images: none has an object and sides of at least "
                    f"{MIN_TRAINING_SIDE} pixels; annotate some, or train on another split"
                )
        self._images = [image for image, _ in records]
        self._objects = [_usable(image, objects, self._labels) for image, objects in records]
        self.image_ids: list[int] = [image["id"] for image in self._images]
        self.sizes: list[tuple[int, int]] = [(image["height"], image["width"]) for image in self._images]
        self.has_masks = any(o.get("segmentation") for objects in self._objects for o in objects)
        self._pictures: dict[int, Tensor] = {}
        self._rles: dict[int, list[dict[str, Any] | None]] = {}
        self.cached = cache and sum(3 * h * w for h, w in self.sizes) < CACHE_BYTES

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, index: int) -> tuple[Tensor, Instances]:
        return self.picture(index), self.targets(index)

    def path(self, index: int) -> Path:
        return self.image_folder / self._images[index]["file_name"]

    def picture(self, index: int) -> Tensor:
        """Return the picture, uint8 (3, H, W) RGB; from the cache it is shared, so do not write into it."""
        if index in self._pictures:
            return self._pictures[index]
        picture = read_picture(self.path(index), self.sizes[index])
        if self.cached:
            self._pictures[index] = picture
        return picture

    def targets(self, index: int) -> Instances:
        """Return the objects and the crowds of a picture, in the order of the file."""
        objects, size = self._objects[index], self.sizes[index]
        corners = [(x, y, x + w, y + h) for x, y, w, h in (o["bbox"] for o in objects)]
        boxes = torch.tensor(corners, dtype=torch.float32).reshape(-1, 4)  # rounded once, after adding
        labels = torch.tensor([self._labels[o["category_id"]] for o in objects], dtype=torch.int64)
        ignore = torch.tensor([bool(o.get("iscrowd")) for o in objects], dtype=torch.bool)
        masks, has_mask = decode_masks(self._runs(index), size) if self.has_masks else (None, None)
        return Instances(
            size, boxes, labels, masks=masks, has_mask=has_mask, ignore=ignore if ignore.any() else None
        )

    def _runs(self, index: int) -> list[dict[str, Any] | None]:
        """Return the masks as runs, which are small and fast to decode.

        They are kept only where pictures are: those of all of COCO would take most of a gigabyte in every
        worker, and save it half a millisecond a picture.
        """
        if index in self._rles:
            return self._rles[index]
        runs = [_to_rle(o.get("segmentation"), self.sizes[index]) for o in self._objects[index]]
        if self.cached:
            self._rles[index] = runs
        return runs


def find_split(root: Path, split: str, annotation: str | Path | None = None) -> tuple[Path, Path]:
    """Return the annotation file and the picture folder of a split in either layout."""
    if not root.is_dir():
        raise InputError(f"{root}: no such folder; give the folder that holds images/ and annotations/")
    if not split or set(split) & set("/\\\0") or split.startswith("."):
        raise InputError(f"{root}: split {split!r} is not a name; give one such as 'train' or 'val2017'")
    names = [split, split.removesuffix("2017") if split.endswith("2017") else f"{split}2017"]
    if annotation is not None:
        files = (
            [Path(annotation)] if Path(annotation).is_absolute() else [root / annotation, Path(annotation)]
        )
    else:
        files = [root / "annotations" / f"instances_{name}.json" for name in names]
    file = next((f for f in files if f.is_file()), None)
    if file is None:
        there = sorted(f.name for f in (root / "annotations").glob("instances_*.json"))
        raise InputError(
            f"{files[0]}: no such annotation file for split {split!r}; annotations/ "
            f"{'holds ' + ', '.join(there[:8]) if there else 'holds no instances_<split>.json'}"
        )
    folders = [folder for name in names for folder in (root / "images" / name, root / name)]
    folder = next((f for f in folders if f.is_dir()), None)
    if folder is None:
        raise InputError(f"{folders[0]}: no such folder; put the pictures of split {split!r} there")
    return file, folder


def select_classes(
    content: dict[str, Any], classes: Sequence[str] | None, file: Path
) -> tuple[tuple[str, ...], list[int]]:
    """Return the class names and their category ids in label order."""
    ids = {category["name"]: category["id"] for category in content["categories"]}
    names = tuple(ids) if classes is None else tuple(classes)
    if absent := [name for name in names if name not in ids]:
        raise InputError(
            f"{file}: categories lacks {absent[0]!r}, which the model knows; "
            f"there are {', '.join(list(ids)[:8])}; use a set with the classes of the training"
        )
    return names, [ids[name] for name in names]


def group_by_image(content: dict[str, Any]) -> list[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Pair every picture, in the order of the file, with its annotations."""
    objects: dict[int, list[dict[str, Any]]] = {image["id"]: [] for image in content["images"]}
    for annotation in content["annotations"]:
        objects[annotation["image_id"]].append(annotation)
    return [(image, objects[image["id"]]) for image in content["images"]]


def decode_masks(
    rles: Sequence[dict[str, Any] | None], size: tuple[int, int]
) -> tuple[Tensor, Tensor | None]:
    """Turn runs into masks (R, H, W) bool, False without runs; has_mask is None if all have them."""
    has_mask = torch.tensor([rle is not None for rle in rles], dtype=torch.bool)
    if not has_mask.any():
        return torch.zeros(len(rles), *size, dtype=torch.bool), has_mask if len(rles) else None
    decoded = coco_mask.decode(cast(Any, [rle for rle in rles if rle is not None]))  # (H, W, R) uint8, 0 or 1
    found = torch.from_numpy(decoded.transpose(2, 0, 1)).view(torch.bool)  # not copied: masks are large
    if has_mask.all():
        return found, None
    masks = torch.zeros(len(rles), *size, dtype=torch.bool)
    masks[has_mask] = found
    return masks, has_mask


def _to_rle(segmentation: Any, size: tuple[int, int]) -> dict[str, Any] | None:
    if not segmentation:
        return None
    if isinstance(segmentation, list):
        segmentation = coco_mask.merge(coco_mask.frPyObjects(segmentation, *size))
    elif isinstance(segmentation["counts"], list):
        segmentation = coco_mask.frPyObjects(segmentation, *size)
    return segmentation


def _is_for_training(
    image: dict[str, Any], objects: list[dict[str, Any]], wanted: Container[int], keep_empty: bool
) -> bool:
    # Crowds and skipped objects count here: so does the official filter.
    has_object = any(o["category_id"] in wanted for o in objects)
    return min(image["height"], image["width"]) >= MIN_TRAINING_SIDE and (has_object or keep_empty)


def _usable(
    image: dict[str, Any], objects: list[dict[str, Any]], wanted: Container[int]
) -> list[dict[str, Any]]:
    """Skip as the official loader does: other classes, "ignore", outside, under a pixel, no area."""

    def usable(o: dict[str, Any]) -> bool:
        x, y, w, h = o["bbox"]
        overlap_w = min(x + w, image["width"]) - max(x, 0)
        overlap_h = min(y + h, image["height"]) - max(y, 0)
        return (
            o["category_id"] in wanted and not o.get("ignore")
            and overlap_w > 0 and overlap_h > 0 and w >= 1 and h >= 1 and o.get("area", 1) > 0
        )  # fmt: skip

    return [o for o in objects if usable(o)]
