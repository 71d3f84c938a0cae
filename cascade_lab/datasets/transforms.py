"""What happens to a picture between disk and network: resize, crop, flip, turn, colour.

Every function takes and returns a picture (3, H, W) with its objects and changes neither in place. All chance
comes from the generator that is passed in.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, replace
from typing import get_args

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

from cascade_lab.datasets.cut import Resampling, Window, clip, cut
from cascade_lab.datasets.mirror import mirror, mirror_vertically, rotate_quarter
from cascade_lab.errors import InputError
from cascade_lab.structures import Instances

CROPS_ON_OBJECTS = 0.75  # share of crops that are made to hold the centre of an object drawn at random


@dataclass(frozen=True, kw_only=True)
class CropFirst:
    """Now and then, cut a random rectangle out of a picture before it is resized: objects come out larger.

    Attributes:
        probability: share of the pictures.
        short_sides: the short side that a picture gets for the cut, drawn from these.
        sides: (least, most) pixels that height and width of the rectangle are drawn from, each by itself; a
            picture that is smaller than both is kept whole.

    Source: Carion et al. 2020, DETR, section 4; sizes as in the official 3x configs.
    """

    probability: float = 0.0
    short_sides: tuple[int, ...] = (400, 500, 600)
    sides: tuple[int, int] = (384, 600)

    def __post_init__(self) -> None:
        if not 0 <= self.probability <= 1:
            raise InputError(f"augment.crop_first.probability is {self.probability} (must lie in 0..1)")
        if not self.short_sides or min(self.short_sides) < 1:
            raise InputError(
                f"augment.crop_first.short_sides is {self.short_sides} "
                "(must be sizes from 1 up), for instance 400 500 600"
            )
        if not 1 <= self.sides[0] <= self.sides[1]:
            raise InputError(
                f"augment.crop_first.sides is {self.sides} (must be 1 <= least <= most), for instance 384 600"
            )


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How pictures are changed; the defaults only mirror them.

    Attributes:
        resize: (cap of the long side, wish for the short side), such as (1333, 800); None keeps the size.
        short_sides: wishes for the short side that training draws from; empty takes that of ``resize``.
        crop_first: a cut before that; where it is in use, pictures are mirrored before everything else.
        resampling: how pixels and masks are resized. "opencv" is the official way; "antialias" loses less of
            small objects where pictures shrink.
        scale: range of a further random factor in training, drawn evenly on a logarithmic scale.
        test_scale: the further factor at test time.
        crop: side of a random square in training; a smaller picture is kept whole. Three crops in four
            hold the centre of an object drawn at random, the fourth lies anywhere.
        flip, vertical_flip, rotate90: probabilities of a mirror image left to right, of one upside down, and
            of a quarter turn.
        colour: strength in [0, 1) of random brightness, contrast and saturation.
        min_visible: an object that keeps less than this share of its mask (of its box, if it has no mask)
            in the crop becomes an ignored region.
        tight_boxes: draw the box of an object that the crop cuts anew around the rest of its mask.
    """

    resize: tuple[int, int] | None = None
    short_sides: tuple[int, ...] = ()
    crop_first: CropFirst = CropFirst()
    resampling: Resampling = "antialias"
    scale: tuple[float, float] | None = None
    test_scale: float = 1.0
    crop: int | None = None
    flip: float = 0.5
    vertical_flip: float = 0.0
    rotate90: float = 0.0
    colour: float = 0.0
    min_visible: float = 0.0
    tight_boxes: bool = False

    def __post_init__(self) -> None:
        if self.resize is not None and min(self.resize) < 1:
            raise InputError(
                f"augment.resize is {self.resize} (must be two sizes from 1 up), for instance 1333 800"
            )
        if self.short_sides and min(self.short_sides) < 1:
            raise InputError(f"augment.short_sides is {self.short_sides} (must be sizes from 1 up)")
        if self.resize is None and (self.short_sides or self.crop_first.probability > 0):
            raise InputError(
                "augment.resize is None (short_sides and crop_first need its cap), such as 1333 800"
            )
        if self.resampling not in get_args(Resampling):
            near = difflib.get_close_matches(str(self.resampling), get_args(Resampling), cutoff=0)
            raise InputError(f"augment.resampling is {self.resampling!r} (must be {' or '.join(near)})")
        if self.scale is not None and not 0 < self.scale[0] <= self.scale[1]:
            raise InputError(f"augment.scale is {self.scale} (must be 0 < low <= high), for instance 0.5 2.0")
        if not self.test_scale > 0:
            raise InputError(
                f"augment.test_scale is {self.test_scale} (must be > 0); 1.0 leaves the size alone"
            )
        if self.crop is not None and self.crop < 1:
            raise InputError(f"augment.crop is {self.crop} (must be from 1 up, or None for no crop)")
        for name in ("flip", "vertical_flip", "rotate90", "min_visible"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"augment.{name} is {getattr(self, name)} (must lie in 0..1)")
        if not 0 <= self.colour < 1:
            raise InputError(f"augment.colour is {self.colour} (must lie in 0..1, without 1)")


def augment(
    image: Tensor, targets: Instances, config: AugmentConfig, generator: Generator
) -> tuple[Tensor, Instances]:
    """Change a training picture at random; the number of draws never depends on the picture.

    Shapes:
        image: uint8 (3, H, W), RGB.
        returns: (3, H', W') on the 0..255 scale, float32 after a change of colour and uint8 otherwise, and
            the objects left in it, boxes clipped to it.
    """
    draw = torch.rand(11, generator=generator, dtype=torch.float64).tolist()
    early = torch.rand(7, generator=generator, dtype=torch.float64).tolist()
    targets, mirrored = clip(targets), draw[7] < config.flip
    if config.crop_first.probability > 0 and mirrored:
        image, targets = mirror(image, targets)
    if early[0] < config.crop_first.probability:
        image, targets = cut_first(image, targets, config, early[1:6])
    low, high = config.scale or (1.0, 1.0)
    short_side = _pick(config.short_sides, early[6]) if config.short_sides else None
    size = network_size(targets.image_size, config, low * (high / low) ** draw[0], short_side)
    window = choose_window(targets, size, config.crop, draw[1:5]) if config.crop else (0, 0, *size)
    image, targets = cut(
        image, targets, size, window, config.min_visible, config.tight_boxes, config.resampling
    )
    if draw[5] < config.rotate90:
        image, targets = rotate_quarter(image, targets)
    if draw[6] < config.vertical_flip:
        image, targets = mirror_vertically(image, targets)
    if config.crop_first.probability == 0 and mirrored:
        image, targets = mirror(image, targets)
    if config.colour:
        image = change_colour(image, *(1 + config.colour * (2 * d - 1) for d in draw[8:11]))
    return image, targets


def prepare(image: Tensor, targets: Instances, config: AugmentConfig) -> tuple[Tensor, Instances]:
    """Bring a picture to the size that it is tested at; nothing is left to chance."""
    size = network_size(targets.image_size, config, config.test_scale)
    return cut(image, clip(targets), size, (0, 0, *size), resampling=config.resampling)


def at_scale(config: AugmentConfig, factor: float) -> AugmentConfig:
    """Return ``config`` with pictures larger by ``factor`` at test time."""
    return replace(config, test_scale=config.test_scale * factor)


def cut_first(
    image: Tensor, targets: Instances, config: AugmentConfig, draw: list[float]
) -> tuple[Tensor, Instances]:
    """Resize a picture and cut a rectangle out of it as ``config.crop_first`` says, by five numbers drawn
    from [0, 1)."""
    size = network_size(targets.image_size, config, 1.0, _pick(config.crop_first.short_sides, draw[0]))
    window = rectangle(size, config.crop_first.sides, draw[1:5])
    return cut(image, targets, size, window, config.min_visible, config.tight_boxes, config.resampling)


def rectangle(size: tuple[int, int], sides: tuple[int, int], draw: list[float]) -> Window:
    """Place a rectangle in a picture of ``size`` (H, W) by four numbers drawn from [0, 1).

    They decide height, width, top and left in this order.

    Source: mmdetection 2.28 ``RandomCrop`` with ``crop_type="absolute_range"``.
    """
    (h, w), (least, most) = size, sides
    height = _integer(min(h, least), min(h, most), draw[0])
    width = _integer(min(w, least), min(w, most), draw[1])
    top, left = _integer(0, h - height, draw[2]), _integer(0, w - width, draw[3])
    return top, left, top + height, left + width


def resize_keep_ratio(size: tuple[int, int], limits: tuple[int, int]) -> tuple[int, int]:
    """Return the (H, W) whose long side is at most the larger and short side at most the smaller limit.

    Source: mmcv 1.7 ``rescale_size``: one of the two limits is met, then both sides are rounded half up.
    """
    factor = min(max(limits) / max(size), min(limits) / min(size))
    return _scaled(size, factor)


def network_size(
    size: tuple[int, int], config: AugmentConfig, factor: float, short_side: int | None = None
) -> tuple[int, int]:
    """Return the (H, W) after ``config.resize``, its short side replaced if given, and the further factor."""
    if config.resize:
        size = resize_keep_ratio(size, (max(config.resize), short_side or min(config.resize)))
    return size if factor == 1 else _scaled(size, factor)


def choose_window(targets: Instances, size: tuple[int, int], crop: int, draw: list[float]) -> Window:
    """Place a square crop in the resized picture by four numbers drawn from [0, 1)."""
    (h, w), (new_h, new_w) = targets.image_size, size
    boxes = targets.boxes if targets.ignore is None else targets.boxes[~targets.ignore]
    near: tuple[float, float] | None = None
    if len(boxes) and draw[0] < CROPS_ON_OBJECTS:
        x1, y1, x2, y2 = boxes[int(draw[1] * len(boxes))].tolist()
        near = (y1 + y2) / 2 * new_h / h, (x1 + x2) / 2 * new_w / w
    top = _place(new_h, crop, near and near[0], draw[2])
    left = _place(new_w, crop, near and near[1], draw[3])
    return top, left, min(top + crop, new_h), min(left + crop, new_w)


def change_colour(image: Tensor, brightness: float, contrast: float, saturation: float) -> Tensor:
    """Multiply brightness, distance from the mean grey, and distance from each pixel's grey; 1 keeps each."""
    pixels = image.float() * brightness
    pixels = pixels + (contrast - 1) * (pixels - functional.rgb_to_grayscale(pixels).mean())
    grey = functional.rgb_to_grayscale(pixels)  # (1, H, W)
    return (grey + saturation * (pixels - grey)).clamp(0, 255)


def _scaled(size: tuple[int, int], factor: float) -> tuple[int, int]:
    return max(1, int(size[0] * factor + 0.5)), max(1, int(size[1] * factor + 0.5))


def _place(length: int, crop: int, centre: float | None, draw: float) -> int:
    """Return the start of a crop inside ``length``, evenly among those that hold the centre, if any."""
    last = max(length - crop, 0)
    low, high = (0, last) if centre is None else (int(centre) - crop + 1, int(centre))
    low, high = min(max(low, 0), last), min(max(high, 0), last)
    return _integer(low, high, draw)


def _integer(low: int, high: int, draw: float) -> int:
    """Return an integer from ``low`` to ``high``, both included, by a number drawn from [0, 1)."""
    return low + int(draw * (high - low + 1))


def _pick(values: tuple[int, ...], draw: float) -> int:
    return values[int(draw * len(values))]
