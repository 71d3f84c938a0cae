"""A strict check of a COCO annotation file, run before anything trains or is evaluated.

It is not optional: with NaN boxes pycocotools reports a perfect score, with an annotation id of 0 or one that
is used twice it reports 0, a polygon coordinate of 1e9 hangs it, and too short runs return foreign memory.
"""

from __future__ import annotations

import gc
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, TypeGuard

from cascade_lab.datasets.geometry import UNKNOWN, box_fault, is_finite, is_int, segmentation_fault, show
from cascade_lab.datasets.picture_files import PictureFiles
from cascade_lab.errors import InputError

MAX_LISTED = 20
MAX_SIDE = 100_000


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


def validate(
    content: dict[str, Any], path: Path, image_folder: Path, root: Path, training: bool = False
) -> None:
    """Refuse a file with any fault.

    Args:
        training: as ``find_faults``.

    Raises:
        InputError: one line, naming the first fault and counting the others; the next 19 are its notes.
    """
    faults = list(find_faults(content, image_folder, root, training))
    if not faults:
        return
    more = f" (and {len(faults) - 1} more fault{'s' * (len(faults) > 2)})" if len(faults) > 1 else ""
    error = InputError(f"{path}: {faults[0]}{more}")
    for fault in faults[1:MAX_LISTED]:
        error.add_note(fault)
    if len(faults) > MAX_LISTED:
        error.add_note(f"and {len(faults) - MAX_LISTED} more")
    raise error


def find_faults(
    content: dict[str, Any], image_folder: Path, root: Path, training: bool = False
) -> Iterator[str]:
    """Yield every fault as one line "which entry: field is value (what it must be); remedy".

    Args:
        training: pass over boxes of width or height 0, which training leaves out. COCO's own train2017 holds
            two of them. An evaluation would count each as an object that was missed.
    """
    broken = False
    for key in ("images", "annotations", "categories"):
        if not isinstance(content.get(key), list):
            broken = True
            state = f"is {show(content[key])} (must be a list)" if key in content else "is missing"
            yield f"{key}: {state}; export the file again in COCO detection format"
        elif key != "annotations" and not content[key]:
            yield f"{key}: is empty; add at least one"
    if broken:
        return
    category_ids: set[int] = set()
    yield from _category_faults(content["categories"], category_ids)
    sizes: dict[int, tuple[int, int]] = {}
    yield from _image_faults(content["images"], sizes, image_folder, root)
    yield from _annotation_faults(content["annotations"], sizes, category_ids, training)


def _category_faults(categories: list[Any], ids: set[int]) -> Iterator[str]:
    names: set[str] = set()
    for number, category in enumerate(categories):
        where = f"categories[{number}]"
        if not isinstance(category, dict):
            yield f"{where}: is {show(category)} (must be an object); remove it"
            continue
        key, name = category.get("id"), category.get("name")
        if not is_int(key):
            yield f"{where}: {_state(category, 'id')} (must be an integer); number the categories"
        elif key in ids:
            yield f"{where}: id {key} is used twice; give every category its own id"
        else:
            ids.add(key)
        if not isinstance(name, str) or not name:
            yield f"{where}: {_state(category, 'name')} (must be a text); name the category"
        elif name in names:
            yield f"{where}: name {show(name)} is used twice; rename or merge the categories"
        else:
            names.add(name)


def _image_faults(
    images: list[Any], sizes: dict[int, tuple[int, int]], image_folder: Path, root: Path
) -> Iterator[str]:
    files = PictureFiles(image_folder, root)
    for number, image in enumerate(images):
        if not isinstance(image, dict):
            yield f"images[{number}]: is {show(image)} (must be an object); remove it"
            continue
        key = image.get("id")
        where = f"image {key}" if is_int(key) else f"images[{number}]"
        if not is_int(key):
            yield f"{where}: {_state(image, 'id')} (must be an integer); number the images"
        elif key in sizes:
            yield f"{where}: id {key} is used twice; give every image its own id"
        for side in ("width", "height"):
            if not _is_side(image.get(side)):
                yield f"{where}: {_state(image, side)} (must be an integer in 1..{MAX_SIDE}); correct it"
        if is_int(key):
            height, width = image.get("height"), image.get("width")
            sizes.setdefault(key, (height, width) if _is_side(height) and _is_side(width) else UNKNOWN)
        if fault := files.fault(image.get("file_name")):
            yield f"{where}: {_state(image, 'file_name')} {fault}"


def _annotation_faults(
    annotations: list[Any], sizes: dict[int, tuple[int, int]], category_ids: set[int], training: bool
) -> Iterator[str]:
    ids: set[int] = set()
    for number, annotation in enumerate(annotations):
        if not isinstance(annotation, dict):
            yield f"annotations[{number}]: is {show(annotation)} (must be an object); remove it"
            continue
        key = annotation.get("id")
        where = f"annotation {key}" if is_int(key) else f"annotations[{number}]"
        if not is_int(key) or key < 1:
            yield f"{where}: {_state(annotation, 'id')} (must be an integer from 1 up); renumber from 1"
        elif key in ids:
            yield f"{where}: id {key} is used twice; give every annotation its own id"
        else:
            ids.add(key)
        image_id, category_id = annotation.get("image_id"), annotation.get("category_id")
        size = sizes.get(image_id) if is_int(image_id) else None
        if size is None:
            yield f"{where}: {_state(annotation, 'image_id')} (must be the id of an image); correct it"
        if not is_int(category_id) or category_id not in category_ids:
            yield f"{where}: {_state(annotation, 'category_id')} (must be the id of a category); correct it"
        if annotation.get("iscrowd", 0) not in (0, 1):
            yield f"{where}: {_state(annotation, 'iscrowd')} (must be 0 or 1); correct it"
        area = annotation.get("area", 0)
        if not is_finite(area) or area < 0:
            yield f"{where}: {_state(annotation, 'area')} (must be a number from 0 up); correct or remove it"
        if fault := box_fault(annotation.get("bbox"), size, training):
            fault = fault if "bbox" in annotation else "bbox is missing"
            yield f"{where}: {fault}; fix or delete the annotation"
        if fault := segmentation_fault(annotation.get("segmentation"), size):
            yield f"{where}: {fault}; fix or delete the annotation"


def _unique_keys(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    result = dict(pairs)
    if len(result) != len(pairs):
        keys = [key for key, _ in pairs]
        twice = next(key for key in keys if keys.count(key) > 1)
        raise ValueError(f"key {show(twice)} is there twice in one object")
    return result


def _is_side(value: Any) -> TypeGuard[int]:
    return is_int(value) and 0 < value <= MAX_SIDE


def _state(entry: dict[str, Any], key: str) -> str:
    return f"{key} is {show(entry[key])}" if key in entry else f"{key} is missing"
