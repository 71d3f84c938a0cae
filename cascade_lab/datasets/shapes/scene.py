"""One made-up picture, and every knob of it: background, clutter, objects one over the other, blur, noise.

Colours are drawn against the local background, so that classes differ in shape alone. Masks are exact: a
pixel belongs to the last object drawn that covers at least half of it.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw, ImageFilter

from cascade_lab.errors import InputError

CLASSES = ("rectangle", "ellipse", "triangle", "star")
SUPERSAMPLING = 4
ATTEMPTS = 30  # tries to find a free place for one object
STAR_INNER_RADIUS = 0.45


@dataclass(frozen=True, kw_only=True)
class ShapesConfig:
    """What the pictures look like; pairs are ranges that every picture or object draws from.

    Blur, noise, rotation and small radii cost AP75 and AP90 far more than AP50.

    Attributes:
        size: side of the square pictures in pixels.
        objects: how many per picture; where no place is found there are fewer.
        radius: radius of the circle around an object, pixels, drawn evenly on a logarithmic scale.
        aspect: short over long extent before turning.
        rotation: largest angle in degrees; 0 keeps every box on the visible edges.
        contrast: mean distance of an object's colour from the background around it, 0..255.
        blur: standard deviation in pixels of the blur over the finished picture.
        noise: standard deviation of the noise of every pixel and channel, added after the blur.
        clutter: how many lines are drawn behind the objects.
        background: half the range of the background's slow changes, 0..255.
        background_cells: how many such changes fit across the picture.
        colour: how far colours stray from grey, 0..1; at 1 every channel is drawn by itself.
        max_overlap: largest IoU of two boxes.
        max_hidden: largest share of an object that later ones may cover.
    """

    size: int = 128
    objects: tuple[int, int] = (1, 5)
    radius: tuple[float, float] = (11.0, 34.0)
    aspect: tuple[float, float] = (0.5, 1.0)
    rotation: float = 180.0
    contrast: tuple[float, float] = (50.0, 120.0)
    blur: tuple[float, float] = (0.3, 1.0)
    noise: float = 6.0
    clutter: tuple[int, int] = (2, 5)
    background: float = 40.0
    background_cells: int = 4
    colour: float = 0.3
    max_overlap: float = 0.15
    max_hidden: float = 0.4

    def __post_init__(self) -> None:
        for name in ("objects", "radius", "aspect", "contrast", "blur", "clutter"):
            low, high = getattr(self, name)
            least = 1 if name == "radius" else 0
            if not least <= low <= high:
                raise InputError(f"shapes.{name} is {(low, high)} (must be {least} <= low <= high)")
        if not 0 < self.aspect[0] <= self.aspect[1] <= 1:
            raise InputError(f"shapes.aspect is {self.aspect} (must lie in 0..1, without 0)")
        if self.size < 2 * self.radius[1] + 2:
            raise InputError(
                f"shapes.size is {self.size} (must hold the largest radius twice, {self.radius[1]})"
            )
        if self.background_cells < 1:
            raise InputError(f"shapes.background_cells is {self.background_cells} (must be from 1 up)")
        for name, most in (
            ("rotation", 180),
            ("noise", 255),
            ("background", 127),
            ("max_overlap", 1),
            ("colour", 1),
            ("max_hidden", 1),
        ):
            if not 0 <= getattr(self, name) <= most:
                raise InputError(f"shapes.{name} is {getattr(self, name)} (must lie in 0..{most})")


LEVELS = {
    "easy": ShapesConfig(
        objects=(1, 4), radius=(14.0, 32.0), rotation=20.0, contrast=(60.0, 120.0), blur=(0.3, 0.6),
        noise=3.0, clutter=(0, 2), max_overlap=0.05,
    ),
    "moderate": ShapesConfig(),
    "hard": ShapesConfig(
        objects=(2, 8), radius=(6.0, 26.0), contrast=(18.0, 70.0), blur=(0.8, 2.2), noise=20.0,
        clutter=(3, 8), max_overlap=0.25,
    ),
}  # fmt: skip


@dataclass(frozen=True)
class Scene:
    """One picture with its exact answer.

    Shapes:
        pixels: (H, W, 3) uint8, RGB.
        masks: (M, H, W) bool, the visible pixels of every object, disjoint.
        labels: M numbers into ``CLASSES``.
    """

    pixels: np.ndarray
    masks: np.ndarray
    labels: list[int]


def draw_scene(config: ShapesConfig, random: np.random.Generator) -> Scene:
    """Draw one picture: background, clutter, objects one over the other, then blur and noise."""
    canvas = draw_background(config, random)  # (H, W, 3) float
    labels: list[int] = []
    covers: list[np.ndarray] = []  # visible pixels of every object so far
    least: list[float] = []  # how many of them must stay visible
    for _ in range(int(random.integers(config.objects[0], config.objects[1] + 1))):
        for _ in range(ATTEMPTS):
            label = int(random.integers(len(CLASSES)))
            coverage = rasterise(config.size, draw_outline(label, config, random))  # (H, W) in [0, 1]
            mask = coverage >= 0.5
            if _fits(mask, covers, least, config.max_overlap):
                break
        else:
            continue  # no free place: one object fewer
        _paint(canvas, coverage, config, random)
        covers = [cover & ~mask for cover in covers] + [mask]
        least.append((1 - config.max_hidden) * mask.sum())
        labels.append(label)
    sharp = Image.fromarray(np.rint(canvas).astype(np.uint8))
    blurred = np.asarray(sharp.filter(ImageFilter.GaussianBlur(random.uniform(*config.blur))), np.float64)
    noisy = blurred + config.noise * random.standard_normal(blurred.shape)
    masks = np.stack(covers) if covers else np.zeros((0, config.size, config.size), dtype=bool)
    return Scene(np.clip(np.rint(noisy), 0, 255).astype(np.uint8), masks, labels)


def draw_background(config: ShapesConfig, random: np.random.Generator) -> np.ndarray:
    """Draw slow changes of brightness and colour, and straight lines over them: (H, W, 3) float."""
    cells, low, high = config.background_cells + 1, config.background, 255 - config.background
    grey = random.uniform(low, high)
    base = grey + config.colour * (random.uniform(low, high, 3) - grey)
    waves = (1 - config.colour) * random.uniform(-1, 1, (cells, cells, 1))
    waves = waves + config.colour * random.uniform(-1, 1, (cells, cells, 3))
    planes = [Image.fromarray(plane.astype(np.float32)) for plane in waves.transpose(2, 0, 1)]
    size = (config.size, config.size)
    smooth = np.stack([np.asarray(p.resize(size, Image.Resampling.BICUBIC)) for p in planes], axis=2)
    canvas = np.clip(base + config.background * smooth, 0, 255)
    for _ in range(int(random.integers(config.clutter[0], config.clutter[1] + 1))):
        start, end = random.uniform(0, config.size, (2, 2))
        side = (
            (end - start)[::-1] * (1, -1) / max(float(np.hypot(*(end - start))), 1) * random.uniform(0.5, 1.5)
        )
        _paint(canvas, rasterise(config.size, np.stack((start + side, end + side, end - side, start - side))),
               config, random)  # fmt: skip
    return canvas


def draw_outline(label: int, config: ShapesConfig, random: np.random.Generator) -> np.ndarray:
    """Draw the corners (P, 2) of one object, x and y in pixels, wholly inside the picture."""
    radius = float(np.exp(random.uniform(*np.log(config.radius))))
    aspect, angle = random.uniform(*config.aspect), np.radians(random.uniform(-1, 1) * config.rotation)
    centre = random.uniform(radius + 1, config.size - radius - 1, 2)
    turn = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
    return centre + radius * (unit_outline(CLASSES[label], aspect) @ turn)


def unit_outline(name: str, aspect: float) -> np.ndarray:
    """Return the corners (P, 2) of an upright shape inside the unit circle."""
    if name == "rectangle":  # its corners lie on the circle
        return np.array([[1, aspect], [-1, aspect], [-1, -aspect], [1, -aspect]]) / np.hypot(1, aspect)
    corners = {"ellipse": 64, "triangle": 3, "star": 10}[name]
    angles = 2 * np.pi * np.arange(corners) / corners - np.pi / 2
    lengths = np.where(np.arange(corners) % 2, STAR_INNER_RADIUS, 1.0) if name == "star" else np.ones(corners)
    return np.stack((lengths * np.cos(angles) * aspect, lengths * np.sin(angles)), axis=1)


def rasterise(size: int, corners: np.ndarray) -> np.ndarray:
    """Return how much of every pixel (H, W) a polygon covers, 0 to 1."""
    canvas = Image.new("L", (size * SUPERSAMPLING, size * SUPERSAMPLING))
    ImageDraw.Draw(canvas).polygon([tuple(corner) for corner in corners * SUPERSAMPLING - 0.5], fill=255)
    return np.asarray(canvas.reduce(SUPERSAMPLING), np.float64) / 255


def _fits(mask: np.ndarray, covers: list[np.ndarray], least: list[float], max_overlap: float) -> bool:
    box = extent(mask)
    return all(
        _iou(box, extent(cover)) <= max_overlap and (cover & ~mask).sum() >= number
        for cover, number in zip(covers, least, strict=True)
    )


def _paint(
    canvas: np.ndarray, coverage: np.ndarray, config: ShapesConfig, random: np.random.Generator
) -> None:
    """Paint into the canvas with a colour at a drawn distance from what lies below."""
    below = (canvas * coverage[..., None]).sum((0, 1)) / max(coverage.sum(), 1e-9)  # (3,)
    direction = (1 - config.colour) * random.choice([-1, 1]) + config.colour * random.standard_normal(3)
    step = direction / np.abs(direction).mean() * random.uniform(*config.contrast)
    candidates = [np.clip(below + step, 0, 255), np.clip(below - step, 0, 255)]
    colour = max(candidates, key=lambda c: float(np.abs(c - below).mean()))  # the one that 0..255 clips less
    canvas += coverage[..., None] * (colour - canvas)


def extent(mask: np.ndarray) -> tuple[int, int, int, int]:
    """Return x1, y1, x2, y2 of the pixels of a mask, the right and lower edge exclusive."""
    columns, rows = np.flatnonzero(mask.any(0)), np.flatnonzero(mask.any(1))
    return int(columns[0]), int(rows[0]), int(columns[-1]) + 1, int(rows[-1]) + 1


def _iou(a: tuple[int, int, int, int], b: tuple[int, int, int, int]) -> float:
    width, height = min(a[2], b[2]) - max(a[0], b[0]), min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    return shared / ((a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - shared)
