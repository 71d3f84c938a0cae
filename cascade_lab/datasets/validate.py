"""A strict check of a COCO annotation file, run before anything trains or is evaluated.

It is not optional: with NaN boxes pycocotools reports a perfect score, with an annotation id of 0 or one that
is used twice it reports 0, a polygon coordinate of 1e9 hangs it, and too short runs return foreign memory.
"""

from __future__ import annotations

import gc
import json
import math
import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any, TypeGuard

import numpy as np

from cascade_lab.errors import InputError

MAX_LISTED = 20
MAX_SIDE = 100_000
UNKNOWN = (0, 0)  # the size of a picture whose entry is itself at fault


def read_annotations(path: Path) -> dict[str, Any]:
    """Parse an annotation file.

    Raises:
        InputError: absent, empty, not JSON, a key twice in one object, or not an object at the top.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path}: not UTF-8 text ({error.reason} at byte {error.start}); export it again"
        ) from error
    except OSError as error:
        raise InputError(
            f"{path}: cannot be read ({error.strerror}); check the path and its rights"
        ) from error
    if not text.strip():
        raise InputError(f"{path}: the file is empty; export or download it again")
    collecting = gc.isenabled()
    gc.disable()  # a third of the time would go into looking for garbage among millions of new numbers
    try:
        content = json.loads(text, object_pairs_hook=_unique_keys)
    except RecursionError as error:
        raise InputError(f"{path}: nested too deeply for an annotation file; export it again") from error
    except ValueError as error:
        raise InputError(f"{path}: not valid JSON ({error}); export or download it again") from error
    finally:
        if collecting:
            gc.enable()
    if not isinstance(content, dict):
        raise InputError(
            f"{path}: is a {type(content).__name__}, must be an object with images, annotations, categories"
        )
    return content


def validate(content: dict[str, Any], path: Path, image_folder: Path, root: Path) -> None:
    """Refuse a file with any fault.

    Raises:
        InputError: one line, naming the first fault and counting the others; the first 20 are its notes.
    """
    faults = list(find_faults(content, image_folder, root))
    if not faults:
        return
    more = f" (and {len(faults) - 1} more fault{'s' * (len(faults) > 2)})" if len(faults) > 1 else ""
    error = InputError(f"{path}: {faults[0]}{more}")
    for fault in faults[:MAX_LISTED]:
        error.add_note(fault)
    if len(faults) > MAX_LISTED:
        error.add_note(f"and {len(faults) - MAX_LISTED} more")
    raise error


def find_faults(content: dict[str, Any], image_folder: Path, root: Path) -> Iterator[str]:
    """Yield every fault as one line "which entry: field is value (what it must be); remedy"."""
    broken = False
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            broken = True
            state = f"is {_show(content[key])} (must be a list)" if key in content else "is missing"
            yield f"{key}: {state}; export the file again in COCO detection format"
        elif key != "annotations" and not content[key]:
            yield f"{key}: is empty; add at least one"
    if broken:
        return
    category_ids: set[int] = set()
    yield from _category_faults(content["categories"], category_ids)
    sizes: dict[int, tuple[int, int]] = {}
    yield from _image_faults(content["images"], sizes, image_folder, root)
    yield from _annotation_faults(content["annotations"], sizes, category_ids)


def _category_faults(categories: list[Any], ids: set[int]) -> Iterator[str]:
    names: set[str] = set()
    for number, category in enumerate(categories):
        where = f"categories[{number}]"
        if not isinstance(category, dict):
            yield f"{where}: is {_show(category)} (must be an object); remove it"
            continue
        key, name = category.get("id"), category.get("name")
        if not _is_int(key):
            yield f"{where}: {_state(category, 'id')} (must be an integer); number the categories"
        elif key in ids:
            yield f"{where}: id {key} is used twice; give every category its own id"
        else:
            ids.add(key)
        if not isinstance(name, str) or not name:
            yield f"{where}: {_state(category, 'name')} (must be a text); name the category"
        elif name in names:
            yield f"{where}: name {_show(name)} is used twice; rename or merge the categories"
        else:
            names.add(name)


def _image_faults(
    images: list[Any], sizes: dict[int, tuple[int, int]], image_folder: Path, root: Path
) -> Iterator[str]:
    files = _Files(image_folder, root)
    for number, image in enumerate(images):
        if not isinstance(image, dict):
            yield f"images[{number}]: is {_show(image)} (must be an object); remove it"
            continue
        key = image.get("id")
        where = f"image {key}" if _is_int(key) else f"images[{number}]"
        if not _is_int(key):
            yield f"{where}: {_state(image, 'id')} (must be an integer); number the images"
        elif key in sizes:
            yield f"{where}: id {key} is used twice; give every image its own id"
        for side in ("width", "height"):
            if not _is_side(image.get(side)):
                yield f"{where}: {_state(image, side)} (must be an integer in 1..{MAX_SIDE}); correct it"
        if _is_int(key):
            height, width = image.get("height"), image.get("width")
            sizes.setdefault(key, (height, width) if _is_side(height) and _is_side(width) else UNKNOWN)
        if fault := files.fault(image.get("file_name")):
            yield f"{where}: {_state(image, 'file_name')} {fault}"


def _annotation_faults(
    annotations: list[Any], sizes: dict[int, tuple[int, int]], category_ids: set[int]
) -> Iterator[str]:
    ids: set[int] = set()
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            yield f"annotations[{number}]: is {_show(annotation)} (must be an object); remove it"
            continue
        key = annotation.get("id")
        where = f"annotation {key}" if _is_int(key) else f"annotations[{number}]"
        if not _is_int(key) or key < 1:
            yield f"{where}: {_state(annotation, 'id')} (must be an integer from 1 up); renumber from 1"
        elif key in ids:
            yield f"{where}: id {key} is used twice; give every annotation its own id"
        else:
            ids.add(key)
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        size = sizes.get(image_id) if _is_int(image_id) else None
        if size is None:
            yield f"{where}: {_state(annotation, 'image_id')} (must be the id of an image); correct it"
        if not _is_int(category_id) or category_id not in category_ids:
            yield f"{where}: {_state(annotation, 'category_id')} (must be the id of a category); correct it"
        if annotation.get("iscrowd", 0) not in (0, 1):
            yield f"{where}: {_state(annotation, 'iscrowd')} (must be 0 or 1); correct it"
        area = annotation.get("area", 0)
        if not _is_finite(area) or area < 0:
            yield f"{where}: {_state(annotation, 'area')} (must be a number from 0 up); correct or remove it"
        if fault := box_fault(annotation.get("bbox"), size):
            fault = fault if "bbox" in annotation else "bbox is missing"
            yield f"{where}: {fault}; fix or delete the annotation"
        if fault := segmentation_fault(annotation.get("segmentation"), size):
            yield f"{where}: {fault}; fix or delete the annotation"


def box_fault(box: Any, size: tuple[int, int] | None) -> str:
    """Say what is wrong with a COCO box x, y, w, h in a picture of ``size`` (H, W); empty if nothing."""
    if not isinstance(box, list) or len(box) != 4:
        return f"bbox is {_show(box)} (must be 4 numbers x, y, width, height)"
    for number, value in enumerate(box):
        if not _is_finite(value):
            return f"bbox[{number}] is {_show(value)} (must be a finite number)"
        if number >= 2 and value <= 0:
            return f"bbox[{number}] is {_show(value)} (must be > 0)"
    if size is None or size == UNKNOWN:
        return ""
    (height, width), (x, y, w, h) = size, box
    if x >= width or y >= height or x + w <= 0 or y + h <= 0:
        return f"bbox is {_show(box)} (must overlap the picture, {width}x{height})"
    if x < -width or y < -height or x + w > 2 * width or y + h > 2 * height:
        return f"bbox is {_show(box)} (reaches far outside the picture, {width}x{height})"
    return ""


def segmentation_fault(segmentation: Any, size: tuple[int, int] | None) -> str:
    """Say what is wrong with polygons or runs in a picture of ``size`` (H, W); empty if nothing.

    None and an empty list both say that the object has no mask.
    """
    if segmentation is None or segmentation == []:
        return ""
    if isinstance(segmentation, dict):
        return _runs_fault(segmentation, size)
    if not isinstance(segmentation, list):
        return f"segmentation is {_show(segmentation)} (must be polygons or runs)"
    limit = 2 * max(size) if size and size != UNKNOWN else 1e300
    for number, polygon in enumerate(segmentation):
        where = f"segmentation[{number}]"
        if not isinstance(polygon, list) or len(polygon) < 6 or len(polygon) % 2:
            count = f"has {len(polygon)} numbers" if isinstance(polygon, list) else f"is {_show(polygon)}"
            return f"{where} {count} (must be 6 or more, x and y in turn)"
        try:
            if math.isfinite(sum(polygon)) and min(polygon) >= -limit and max(polygon) <= limit:
                continue
        except (TypeError, ValueError, OverflowError):
            pass  # a text, or infinities of both signs: found below
        for position, value in enumerate(polygon):
            if not _is_finite(value):
                return f"{where}[{position}] is {_show(value)} (must be a finite number)"
            if abs(value) > limit:
                return f"{where}[{position}] is {_show(value)} (far outside the picture)"
    return ""


def _runs_fault(runs: dict[str, Any], size: tuple[int, int] | None) -> str:
    counts, stated = runs.get("counts"), runs.get("size")
    if (
        not isinstance(stated, list)
        or len(stated) != 2
        or not all(_is_int(side) and side > 0 for side in stated)
    ):
        return f"segmentation.size is {_show(stated)} (must be [height, width])"
    if size and size != UNKNOWN and tuple(stated) != size:
        return (
            f"segmentation.size is {_show(stated)} (must be {list(size)}, the [height, width] of its picture)"
        )
    if isinstance(counts, str):
        shortest, total = _run_lengths(counts)
    elif isinstance(counts, list) and all(_is_int(count) for count in counts):
        shortest, total = min(counts, default=0), sum(counts)
    else:
        return f"segmentation.counts is {_show(counts)} (must be a text or a list of integers)"
    if shortest < 0:
        return f"segmentation.counts is {_show(counts)} (cannot be decoded)"
    if total != stated[0] * stated[1]:
        return f"segmentation.counts covers {total} pixels (must be {stated[0] * stated[1]}, its size)"
    return ""


def _run_lengths(text: str) -> tuple[int, int]:
    """Return the shortest and the sum of compressed runs; the shortest is -1 where they cannot be decoded.

    A letter holds 5 bits and says whether its number goes on; from the fourth number on it is the difference
    to the one two before. Source: pycocotools ``rleFrString``, which trusts its input.
    """
    codes = np.frombuffer(text.encode("utf-8", "replace"), np.uint8).astype(np.int64) - 48
    ends = np.flatnonzero((codes & 32) == 0)
    if not len(ends) or ends[-1] != len(codes) - 1 or codes.min() < 0 or codes.max() > 63:
        return -1, 0
    starts = np.append(0, ends[:-1] + 1)
    if (ends - starts).max() > 6:
        return -1, 0  # more than 35 bits
    shifts = 5 * (np.arange(len(codes)) - np.repeat(starts, ends - starts + 1))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    values -= np.where(codes[ends] & 16, 32 << shifts[ends], 0)  # the sign
    values[1::2], values[2::2] = values[1::2].cumsum(), values[2::2].cumsum()
    return int(values.min()), int(values.sum())


class _Files:
    """Look pictures up in one listing of their folder: asking the disk for each of 100,000 is slow."""

    def __init__(self, folder: Path, root: Path) -> None:
        self.folder, self.root = folder, os.path.realpath(root)
        self.listings: dict[str, dict[str, os.DirEntry[str]]] = {}

    def fault(self, name: Any) -> str:
        """Say what is wrong with a file name; empty if it is a picture inside the root."""
        if not isinstance(name, str) or not name:
            return "(must be the name of a picture); name its file"
        relative = PurePosixPath(name)
        if (
            "\0" in name
            or "\\" in name
            or name[1:2] == ":"
            or relative.is_absolute()
            or ".." in relative.parts
        ):
            return "(must be a plain path below the picture folder); rename the picture"
        entry = self._listing(str(relative.parent)).get(relative.name)
        if entry is None or not entry.is_file():
            return f"(not found in {self.folder}); add the picture or remove it from images"
        # A listing holds only folders inside the root, so only a link can lead out of it.
        if entry.is_symlink() and not self._is_inside(entry.path):
            return "(a link that leaves the data folder); put the picture itself there"
        return ""

    def _listing(self, parent: str) -> dict[str, os.DirEntry[str]]:
        if parent not in self.listings:
            folder = self.folder / parent
            inside = folder.is_dir() and self._is_inside(str(folder))
            self.listings[parent] = {entry.name: entry for entry in os.scandir(folder)} if inside else {}
        return self.listings[parent]

    def _is_inside(self, path: str) -> bool:
        return os.path.commonpath([os.path.realpath(path), self.root]) == self.root


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {_show(twice)} is there twice in one object")
    return result


def _is_int(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_side(value: Any) -> TypeGuard[int]:
    return _is_int(value) and 0 < value <= MAX_SIDE


def _is_finite(value: Any) -> TypeGuard[float]:
    # Compared, not asked by math.isfinite: that overflows on an integer of a thousand digits.
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e300 < value < 1e300


def _state(entry: dict[str, Any], key: str) -> str:
    return f"{key} is {_show(entry[key])}" if key in entry else f"{key} is missing"


def _show(value: Any) -> str:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else ("Infinity" if value > 0 else "-Infinity")
    text = repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
