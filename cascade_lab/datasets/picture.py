"""Decode one picture file as a viewer shows it, or refuse it by name."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from cascade_lab.errors import InputError

FORMATS = ("JPEG", "PNG", "WEBP")  # other decoders are older, rarer and less tested against hostile files
MAX_PIXELS = 89_478_485  # a quarter GiB of RGB, Pillow's own limit, which it only warns about


def read_picture(path: Path, size: tuple[int, int] | None = None) -> Tensor:
    """Decode a JPEG, PNG or WebP file as it is displayed, its EXIF rotation applied.

    Shapes:
        size: the (H, W) that it must have as displayed; None accepts any.
        returns: uint8 (3, H, W), RGB. Grey and palette pictures are expanded, transparency is dropped.

    Raises:
        InputError: absent, truncated, no picture, animated, too large, not 8 bits a channel, another size.
    """
    if not os.path.isfile(path):  # unlike Path.is_file, says no to a name that is too long for the disk
        remedy = "check the name" if size is None else "add it or remove it from the annotation file"
        raise InputError(f"{path}: no such picture; {remedy}")
    try:
        pixels, stored = _decode(path)  # (H, W, 3)
    except InputError:
        raise
    except Exception as error:  # decoders fail with OSError, SyntaxError, ValueError, struct.error, ...
        reason = " ".join(str(error).split())[:100]
        raise InputError(
            f"{path}: cannot be read as {', '.join(FORMATS)} ({reason}); truncated or no picture, replace it"
        ) from error
    if size is not None and pixels.shape[:2] != tuple(size):
        (h, w), (shown_h, shown_w) = size, pixels.shape[:2]
        remedy = "correct width and height or replace the picture"
        if stored == tuple(size):
            remedy = "that is before its EXIF rotation, state size and boxes as displayed"
        raise InputError(
            f"{path}: the annotation file states {w}x{h} (width x height), "
            f"the picture is {shown_w}x{shown_h}; {remedy}"
        )
    return torch.from_numpy(pixels).permute(2, 0, 1).contiguous()


def _decode(path: Path) -> tuple[np.ndarray, tuple[int, int]]:
    """Return the pixels as displayed and the (H, W) as stored."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # what Pillow warns about is refused or harmless
        with Image.open(path, formats=FORMATS) as image:
            _check_kind(path, image)
            if image.format == "PNG":
                image.verify()  # decoding ends with the last pixel and may miss a wrong checksum
        with Image.open(path, formats=FORMATS) as image:  # verifying has spent the first
            stored = (image.height, image.width)
            image = ImageOps.exif_transpose(image)
            if "transparency" in image.info:
                image = image.convert("RGBA")
            return np.array(image.convert("RGB")), stored


def _check_kind(path: Path, image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise InputError(f"{path}: {image.width}x{image.height} is over {MAX_PIXELS} pixels; make it smaller")
    if image.mode.startswith("I") or image.mode == "F":
        raise InputError(f"{path}: mode {image.mode} is not 8 bits a channel; convert the picture to 8 bits")
    # A camera's JPEG may carry a preview as second frame; other files with frames are animations.
    if image.format not in ("JPEG", "MPO") and getattr(image, "n_frames", 1) > 1:
        raise InputError(
            f"{path}: holds {getattr(image, 'n_frames', 1)} frames; save one frame as a PNG file"
        )
