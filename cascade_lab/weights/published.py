"""Which files the InternImage project published, and where they are.

Source: the tables of the official repository's detection and classification parts. Sizes and checksums of the
files are not published there.
"""

from __future__ import annotations

import difflib
import re

from cascade_lab.errors import InputError

BASE = "https://huggingface.co/OpenGVLab/InternImage/resolve/main/"
DETECTORS = (
    *(f"mask_rcnn_internimage_{size}_fpn_{n}x_coco" for size in "tsb" for n in (1, 3)),
    *(f"cascade_internimage_{size}_fpn_{n}x_coco" for size in ("l", "xl") for n in (1, 3)),
)
BACKBONES = (
    *(f"internimage_{size}_1k_224" for size in "tsb"),
    *(f"internimage_{size}_22k_192to384" for size in ("l", "xl")),
)
NO_LOG = "cascade_internimage_l_fpn_1x_coco"  # the one detector without a published training log
FILES = (
    *(f"{name}.pth" for name in (*DETECTORS, *BACKBONES)),
    *(f"{name}.log.json" for name in DETECTORS if name != NO_LOG),
)


def address(file_name: str, base: str = BASE) -> str:
    """Return where a file is fetched from."""
    return f"{base.rstrip('/')}/{file_name}"


def file_named(name: str, base: str = BASE) -> str:
    """Return the file that a name means: a file, or a recipe or backbone whose checkpoint it is.

    At another ``base`` than the project's, any plain file name will do.

    Raises:
        InputError: there is no such file, or the name is one that could leave its folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(
            f"name {name!r}: only letters, digits, '.', '_' and '-' make the name of a file here"
        )
    if name in FILES:
        return name
    if f"{name}.pth" in FILES:
        return f"{name}.pth"
    if base != BASE:
        return name
    near = difflib.get_close_matches(name, FILES, n=3, cutoff=0.4) or FILES[:3]
    raise InputError(f"name {name!r}: no such published file; there is {', '.join(near)}")
