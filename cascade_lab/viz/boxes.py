"""Detections drawn on the picture they belong to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke

from cascade_lab.ops.boxes import pairwise_iou
from cascade_lab.structures import Instances
from cascade_lab.viz.palette import LineLook, class_colour, text_colour

DPI = 100
SHORT_SIDE, LONG_SIDE = 640, 1600  # pixels of a drawing: small pictures grow to the first, large ones shrink


def draw_detections(
    picture: np.ndarray,
    detections: Instances,
    classes: Sequence[str],
    score: float = 0.0,
    tag_size: float = 9.0,
) -> Figure:
    """Draw boxes with class and score, and masks, over the whole of a picture.

    Shapes:
        picture: (H, W, 3) uint8, RGB.
        detections: boxes xyxy in pixels of that picture, labels, scores; masks (D, H, W) where there are any.
        score: detections under it are left out. tag_size: of the text, in points.
    """
    if detections.scores is not None:
        order = detections.scores.argsort()  # the best on top
        detections = detections[order[detections.scores[order] >= score]]
    assert detections.labels is not None
    labels: list[int] = detections.labels.tolist()
    tags = [classes[label] for label in labels]
    if detections.scores is not None:
        percent = [f"{100 * value:.0f}" for value in detections.scores.tolist()]
        # With one class its name tells nothing, and covers small objects.
        tags = percent if len(classes) == 1 else [f"{tag} {p}" for tag, p in zip(tags, percent, strict=True)]
    colours = [class_colour(label) for label in labels]
    if detections.masks is not None:
        picture = overlay_masks(picture, detections.masks.cpu().numpy(), colours)
    figure, axes = picture_figure(picture)
    covered = pairwise_iou(detections.boxes, detections.boxes).triu(1).gt(0.5).any(1).tolist()
    for box, tag, colour, under in zip(detections.boxes.tolist(), tags, colours, covered, strict=True):
        add_box(axes, box, LineLook(colour=colour, style="solid", width=2.0))
        # The tag of a box drawn later would hide this one: it goes to the lower edge, inside.
        add_tag(axes, box, tag, colour, tag_size, below=under)
    return figure


def picture_figure(picture: np.ndarray) -> tuple[Figure, Axes]:
    """Return a figure that a picture fills to the edge, without margins or axes."""
    height, width = picture.shape[:2]
    factor = min(max(1.0, SHORT_SIDE / min(height, width)), LONG_SIDE / max(height, width))
    figure = Figure(figsize=(factor * width / DPI, factor * height / DPI), dpi=DPI)
    axes = figure.add_axes((0, 0, 1, 1))
    show_picture(axes, picture)
    return figure, axes


def show_picture(axes: Axes, picture: np.ndarray) -> None:
    """Show a picture so that its left upper corner is (0, 0) in box coordinates, and hide the axes."""
    height, width = picture.shape[:2]
    axes.imshow(picture, extent=(0, width, height, 0), interpolation="antialiased")
    axes.set(xlim=(0, width), ylim=(height, 0))
    axes.set_axis_off()


def add_box(axes: Axes, box: Sequence[float], look: LineLook, alpha: float = 1.0) -> None:
    """Outline a box (x1, y1, x2, y2) over a dark halo, so that it shows on any picture."""
    x1, y1, x2, y2 = box
    halo = ("black", "solid", look.width + 1.6, 0.55 * alpha)
    for colour, style, width, opacity in (halo, (look.colour, look.style, look.width, alpha)):
        axes.add_patch(
            Rectangle(
                (x1, y1), x2 - x1, y2 - y1, fill=False, edgecolor=colour, linestyle=style, linewidth=width,
                alpha=opacity, joinstyle="miter",
            )
        )  # fmt: skip


def add_tag(
    axes: Axes, box: Sequence[float], text: str, colour: str, size: float = 9.0, *, below: bool = False
) -> None:
    """Write a tag at the left upper corner of a box: above it, or inside where the picture ends.

    With ``below`` it stands inside the lower left corner instead, where a second tag has room.
    """
    x1, y1 = box[0], box[1]
    low, high = sorted(axes.get_ylim())
    per_point = (high - low) / (axes.bbox.height / axes.figure.dpi * 72)
    above = y1 - low > 1.9 * size * per_point
    y = min(box[3], high) if below else max(y1, low)
    upwards = below or above
    axes.annotate(
        text, (max(x1, min(axes.get_xlim())), y), xytext=(2.5, 2.5 if upwards else -2.5),
        textcoords="offset points", va="bottom" if upwards else "top", ha="left", fontsize=size,
        color=text_colour(colour), annotation_clip=False,
        bbox={"boxstyle": "square,pad=0.22", "facecolor": colour, "edgecolor": "none", "alpha": 0.92},
    )  # fmt: skip


def add_note(axes: Axes, text: str, size: float = 9.0) -> None:
    """Write a line into the left lower corner of a picture."""
    axes.text(
        0.02, 0.025, text, transform=axes.transAxes, fontsize=size, color="white", va="bottom",
        path_effects=[withStroke(linewidth=2.2, foreground="black", alpha=0.8)],
    )  # fmt: skip


def overlay_masks(
    picture: np.ndarray, masks: np.ndarray, colours: Sequence[str], opacity: float = 0.42
) -> np.ndarray:
    """Tint the pixels of every mask and trace its inner edge.

    Shapes:
        picture: (H, W, 3) uint8; masks: (D, H, W) bool, later ones over earlier ones.
        returns: (H, W, 3) uint8, a new array.
    """
    blended = picture.astype(np.float32)
    for mask, colour in zip(masks, colours, strict=True):
        rgb = 255 * np.array(to_rgb(colour), np.float32)
        blended[mask] += opacity * (rgb - blended[mask])
        edge = mask & ~_eroded(mask)
        blended[edge] += 0.9 * (rgb - blended[edge])
    return blended.round().clip(0, 255).astype(np.uint8)


def _eroded(mask: np.ndarray) -> np.ndarray:
    padded = np.pad(mask, 1, mode="edge")  # a mask that touches the border has no edge there
    return mask & padded[:-2, 1:-1] & padded[2:, 1:-1] & padded[1:-1, :-2] & padded[1:-1, 2:]
