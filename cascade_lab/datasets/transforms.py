"""What happens to a picture between disk and network: resize, crop, flip, turn, colour.

Every function takes and returns a picture (3, H, W) with its objects and changes neither in place. All chance
comes from the generator that is passed in.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch
from torch import Generator, Tensor
from torchvision.transforms.v2 import functional

from cascade_lab.errors import InputError
from cascade_lab.structures import Instances

CROPS_ON_OBJECTS = 0.75  # share of crops that are made to hold the centre of an object drawn at random
Window = tuple[int, int, int, int]  # top, left, bottom, right in pixels of the resized picture


@dataclass(frozen=True, kw_only=True)
class AugmentConfig:
    """How pictures are changed; the defaults only mirror them.

    Attributes:
        resize: (cap of the long side, wish for the short side), such as (1333, 800); None keeps the size.
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
    low, high = config.scale or (1.0, 1.0)
    size = network_size(targets.image_size, config, low * (high / low) ** draw[0])
    targets = clip(targets)
    window = choose_window(targets, size, config.crop, draw[1:5]) if config.crop else (0, 0, *size)
    image, targets = cut(image, targets, size, window, config.min_visible, config.tight_boxes)
    if draw[5] < config.rotate90:
        image, targets = rotate_quarter(image, targets)
    if draw[6] < config.vertical_flip:
        image, targets = mirror_vertically(image, targets)
    if draw[7] < config.flip:
        image, targets = mirror(image, targets)
    if config.colour:
        image = change_colour(image, *(1 + config.colour * (2 * d - 1) for d in draw[8:11]))
    return image, targets


def prepare(image: Tensor, targets: Instances, config: AugmentConfig) -> tuple[Tensor, Instances]:
    """Bring a picture to the size that it is tested at; nothing is left to chance."""
    size = network_size(targets.image_size, config, config.test_scale)
    return cut(image, clip(targets), size, (0, 0, *size))


def resize_keep_ratio(size: tuple[int, int], limits: tuple[int, int]) -> tuple[int, int]:
    """Return the (H, W) whose long side is at most the larger and short side at most the smaller limit.

    Source: mmcv 1.7 ``rescale_size``: one of the two limits is met, then both sides are rounded half up.
    """
    factor = min(max(limits) / max(size), min(limits) / min(size))
    return _scaled(size, factor)


def network_size(size: tuple[int, int], config: AugmentConfig, factor: float) -> tuple[int, int]:
    """Return the (H, W) after ``config.resize`` and the further factor."""
    size = resize_keep_ratio(size, config.resize) if config.resize else size
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


def cut(
    image: Tensor, targets: Instances, size: tuple[int, int], window: Window,
    min_visible: float = 0.0, tight_boxes: bool = False,
) -> tuple[Tensor, Instances]:  # fmt: skip
    """Resize a picture to ``size`` (H, W) and keep the window of it.

    Pixels are mixed bilinearly with antialiasing, masks take the nearest pixel (centres aligned). Objects
    outside the window are dropped. It differs from the official loader in both filters: OpenCV does not
    antialias, and its nearest pixel is half a pixel off to the upper left.
    """
    (h, w), (new_h, new_w), (top, left, bottom, right) = targets.image_size, size, window
    if size != (h, w):
        image = functional.resize(image, list(size), antialias=True)
    # Per-axis factors, not the common one: rounding made them differ.
    boxes = targets.boxes * torch.tensor([new_w / w, new_h / h] * 2) - torch.tensor([left, top] * 2)
    whole = replace(targets, image_size=(bottom - top, right - left), boxes=boxes, masks=None)
    clipped = clip_boxes(boxes, whole.image_size)
    kept = _areas(clipped) > 0
    # Masks are the bulk of the work. They come stored by columns, and rows are fastest picked in that order.
    full = masks = None if targets.masks is None else targets.masks.mT[kept].mT
    if masks is not None and (size, window) != ((h, w), (0, 0, h, w)):
        rows, columns = _nearest(h, new_h)[top:bottom], _nearest(w, new_w)[left:right]
        masks = masks.index_select(2, columns).index_select(1, rows)  # 4 times faster than masks[:, rows]
    cut_off = ((clipped - boxes).abs() > 1e-3).any(1)[kept]  # more than rounding
    result = replace(whole[kept], boxes=clipped[kept], masks=masks)
    if min_visible > 0 and cut_off.any():
        hidden = cut_off.clone()
        original = None if full is None else full.mT[cut_off]
        share = _visible_share(result[cut_off], boxes[kept][cut_off], original, new_h * new_w / (h * w))
        hidden[cut_off] = share < min_visible
        result = replace(result, ignore=hidden if result.ignore is None else result.ignore | hidden)
    if tight_boxes and masks is not None and cut_off.any():
        result = _tighten(result, cut_off)
    return image[:, top:bottom, left:right], result


def clip(targets: Instances) -> Instances:
    """Clip boxes to the picture and drop those without area."""
    boxes = clip_boxes(targets.boxes, targets.image_size)
    kept = _areas(boxes) > 0
    return replace(targets, boxes=boxes) if kept.all() else replace(targets, boxes=boxes)[kept]


def clip_boxes(boxes: Tensor, size: tuple[int, int]) -> Tensor:
    """Clip boxes (R, 4) to a picture of ``size`` (H, W)."""
    height, width = size
    return boxes.clamp(min=0).minimum(boxes.new_tensor([width, height, width, height]))


def mirror(image: Tensor, targets: Instances) -> tuple[Tensor, Instances]:
    """Mirror left to right: x1' = W - x2, x2' = W - x1."""
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    width = targets.image_size[1]
    masks = None if targets.masks is None else targets.masks.flip(2)
    boxes = torch.stack((width - x2, y1, width - x1, y2), dim=1)
    return image.flip(2), replace(targets, boxes=boxes, masks=masks)


def mirror_vertically(image: Tensor, targets: Instances) -> tuple[Tensor, Instances]:
    """Turn upside down: y1' = H - y2, y2' = H - y1."""
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    height = targets.image_size[0]
    masks = None if targets.masks is None else targets.masks.flip(1)
    boxes = torch.stack((x1, height - y2, x2, height - y1), dim=1)
    return image.flip(1), replace(targets, boxes=boxes, masks=masks)


def rotate_quarter(image: Tensor, targets: Instances) -> tuple[Tensor, Instances]:
    """Turn by 90 degrees against the clock: the right edge becomes the top, x' = y, y' = W - x."""
    x1, y1, x2, y2 = targets.boxes.unbind(1)
    height, width = targets.image_size
    masks = None if targets.masks is None else targets.masks.rot90(1, (1, 2))
    boxes = torch.stack((y1, width - x2, y2, width - x1), dim=1)
    return image.rot90(1, (1, 2)), replace(targets, image_size=(width, height), boxes=boxes, masks=masks)


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
    return low + int(draw * (high - low + 1))


def _nearest(length: int, new_length: int) -> Tensor:
    """Return for every new pixel the old one under its centre."""
    return ((torch.arange(new_length) + 0.5) * (length / new_length)).long().clamp(max=length - 1)


def _areas(boxes: Tensor) -> Tensor:
    sides = (boxes[:, 2:] - boxes[:, :2]).clamp(min=0)
    return sides[:, 0] * sides[:, 1]


def _visible_share(targets: Instances, boxes: Tensor, full: Tensor | None, growth: float) -> Tensor:
    """Return the share of every object that is left, of masks ``full`` in source pixels where it has one."""
    share = _areas(targets.boxes) / _areas(boxes)
    if targets.masks is None or full is None:
        return share
    # As bytes: torch adds up bool several times more slowly.
    before, after = (m.view(torch.uint8).sum((1, 2), dtype=torch.int32) for m in (full, targets.masks))
    by_mask = before > 0 if targets.has_mask is None else targets.has_mask & (before > 0)
    return torch.where(by_mask, after / (before * growth).clamp(min=1e-9), share)


def _tighten(targets: Instances, cut_off: Tensor) -> Instances:
    """Redraw the boxes of cut objects around their masks; drop those of which no pixel is left."""
    assert targets.masks is not None
    redrawn = cut_off if targets.has_mask is None else cut_off & targets.has_mask
    boxes, kept = targets.boxes.clone(), torch.ones(len(targets), dtype=torch.bool)
    for row in redrawn.nonzero()[:, 0].tolist():
        ys, xs = targets.masks[row].nonzero().unbind(1)
        kept[row] = len(xs) > 0
        if len(xs):
            boxes[row] = torch.stack((xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)).to(boxes.dtype)
    return replace(targets, boxes=boxes)[kept]
