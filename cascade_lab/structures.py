"""The two containers that travel through the library: pictures and the objects in them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace

import torch
from torch import Tensor

# Mean and standard deviation of the ImageNet pictures, RGB, on the 0..255 scale.
PIXEL_MEAN = (123.675, 116.28, 103.53)
PIXEL_STD = (58.395, 57.12, 57.375)


@dataclass(frozen=True)
class Instances:
    """Objects of one picture: ground truth, proposals or detections.

    Every field but ``image_size`` has one row per object, so indexing picks objects.

    Shapes:
        image_size: (H, W) in pixels, the frame that the boxes are in.
        boxes: (R, 4) x1, y1, x2, y2 in pixels, at least float32.
        labels: (R,) int64 in [0, K).
        scores: (R,) float32 in [0, 1]; detections only.
        masks: (R, H, W) bool, H and W those of ``image_size``.
        has_mask: (R,) bool, False where an object came without a mask; None means all have one.
        ignore: (R,) bool, True for a region that is neither object nor background
            (a crowd, a "don't care" area); None means none is.

    Raises ValueError where a field does not fit the boxes, or the masks do not fit ``image_size``.
    """

    image_size: tuple[int, int]
    boxes: Tensor
    labels: Tensor | None = None
    scores: Tensor | None = None
    masks: Tensor | None = None
    has_mask: Tensor | None = None
    ignore: Tensor | None = None

    def __post_init__(self) -> None:
        if self.boxes.ndim != 2 or self.boxes.shape[1] != 4:
            raise ValueError(f"boxes must be (R, 4), got {tuple(self.boxes.shape)}")
        for name, value in self._columns():
            if len(value) != len(self.boxes):
                raise ValueError(f"{name} has {len(value)} rows, boxes has {len(self.boxes)}")
        if self.masks is not None and tuple(self.masks.shape[1:]) != tuple(self.image_size):
            raise ValueError(f"masks are {tuple(self.masks.shape[1:])}, the picture {tuple(self.image_size)}")

    def __len__(self) -> int:
        return len(self.boxes)

    def __getitem__(self, index) -> Instances:
        """Pick rows by a mask, a slice or an index tensor."""
        return replace(self, **{name: value[index] for name, value in self._columns()})

    def to(self, device: torch.device | str) -> Instances:
        return replace(self, **{name: value.to(device) for name, value in self._columns()})

    def objects(self) -> Instances:
        """Return the rows that are real objects, without the ignored regions."""
        return self if self.ignore is None else replace(self[~self.ignore], ignore=None)

    def ignored(self) -> Tensor:
        """Return the boxes (I, 4) of the ignored regions."""
        return self.boxes[:0] if self.ignore is None else self.boxes[self.ignore]

    def _columns(self) -> list[tuple[str, Tensor]]:
        named = ((field.name, getattr(self, field.name)) for field in fields(self)[1:])
        return [(name, value) for name, value in named if value is not None]


@dataclass(frozen=True)
class ImageBatch:
    """Normalised pictures, padded with zeros at the right and the bottom to one size.

    Shapes:
        pixels: (N, 3, H, W), RGB, normalised by ``PIXEL_MEAN`` and ``PIXEL_STD``.
        sizes: N times (H, W) without the padding: the frame of all boxes in the network.
        original_sizes: N times (H, W) of the picture as it lay on disk.
        padded_sizes: N times (H, W) to which each picture alone would be padded. Anchors beyond
            are never trained, however large the other pictures of the batch are.
    """

    pixels: Tensor
    sizes: list[tuple[int, int]]
    original_sizes: list[tuple[int, int]]
    padded_sizes: list[tuple[int, int]]

    @classmethod
    def collate(
        cls,
        images: Sequence[Tensor],
        original_sizes: Sequence[tuple[int, int]] | None = None,
        divisor: int = 32,
    ) -> ImageBatch:
        """Normalise pictures (3, H, W) on the 0..255 scale and pad them to a multiple of ``divisor``.

        Padding comes after normalising, so padded pixels are exactly zero.
        """
        sizes = [(int(image.shape[1]), int(image.shape[2])) for image in images]
        padded = [(-(-h // divisor) * divisor, -(-w // divisor) * divisor) for h, w in sizes]
        height, width = max(h for h, _ in padded), max(w for _, w in padded)
        mean = torch.tensor(PIXEL_MEAN).view(3, 1, 1)
        std = torch.tensor(PIXEL_STD).view(3, 1, 1)
        pixels = torch.zeros(len(images), 3, height, width)
        for row, image, (h, w) in zip(pixels, images, sizes, strict=True):
            row[:, :h, :w].copy_(image).sub_(mean).div_(std)  # in place: 5 times faster than by copies
        return cls(pixels, sizes, list(original_sizes or sizes), padded)

    def __len__(self) -> int:
        return len(self.sizes)

    def __getitem__(self, rows: slice) -> ImageBatch:
        """Pick pictures; they keep the padding that they share with the others."""
        sizes, original, padded = self.sizes[rows], self.original_sizes[rows], self.padded_sizes[rows]
        return ImageBatch(self.pixels[rows], sizes, original, padded)

    def scale(self, index: int) -> tuple[float, float]:
        """Return (y, x) factors from the original picture to the network input."""
        (h, w), (original_h, original_w) = self.sizes[index], self.original_sizes[index]
        return h / original_h, w / original_w

    def to(self, device: torch.device | str) -> ImageBatch:
        return replace(self, pixels=self.pixels.to(device))
