"""A synthetic data set whose every difficulty is a knob: rectangles, ellipses, triangles and stars.

It is an ordinary COCO folder. The same seed and settings give the same bytes, and picture i is the same
however many are written. ``scene`` draws a picture, ``folder`` writes many of them.
"""

from cascade_lab.datasets.shapes.folder import to_coco, write_shapes
from cascade_lab.datasets.shapes.scene import (
    CLASSES,
    LEVELS,
    Scene,
    ShapesConfig,
    draw_scene,
    rasterise,
    unit_outline,
)

__all__ = [
    "CLASSES",
    "LEVELS",
    "Scene",
    "ShapesConfig",
    "draw_scene",
    "rasterise",
    "to_coco",
    "unit_outline",
    "write_shapes",
]
