"""The last layers, whose size is the number of classes: a file with other classes cannot give them."""

from __future__ import annotations

import re
from collections.abc import Mapping

from torch import nn

from cascade_lab.heads.box_head import BoxHead
from cascade_lab.heads.mask_head import MaskHead

Shapes = Mapping[str, tuple[int, ...]]

_LAYER = re.compile(
    r"cascade\.(?:box_heads\.\d+\.(?P<box>classifier|regressor)|mask_heads\.\d+\.(?P<mask>logits))\.(weight|bias)"
)


def count_classes(shapes: Shapes) -> int | None:
    """Return K from the K + 1 rows of the first box classifier; None where there is none."""
    shape = shapes.get("cascade.box_heads.0.classifier.bias")
    return shape[0] - 1 if shape else None


def follows_classes(
    name: str, there: tuple[int, ...], here: tuple[int, ...], classes: tuple[int | None, int | None]
) -> bool:
    """Whether the shapes of a parameter, in file and model, differ by the classes and by nothing else.

    True of the box classifier (K + 1 rows), the class-aware box regressor (4 K) and the mask logits (K).
    """
    match = _LAYER.fullmatch(name)
    if match is None or None in classes or classes[0] == classes[1]:
        return False
    rows = {"classifier": (1, 1), "regressor": (4, 0), "logits": (1, 0)}[match["box"] or match["mask"]]
    expected = tuple(rows[0] * (count or 0) + rows[1] for count in classes)
    return (there[0], here[0]) == expected and there[1:] == here[1:]


def draw_outputs_anew(detector: nn.Module) -> None:
    """Give every last layer of the heads new random weights, as if the detector had just been built."""
    for module in detector.modules():
        if isinstance(module, BoxHead | MaskHead):
            module.initialise_outputs()
