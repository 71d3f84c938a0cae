"""The sampling viewer: where one output pixel of one DCNv3 layer reads the picture. Drawn in the browser."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import Any

import numpy as np
import traitlets
from PIL import Image

from cascade_lab.errors import InputError
from cascade_lab.receptive_field import ReceptiveField
from cascade_lab.sampling import Sampling, SamplingLayer
from cascade_lab.viz.palette import BLUE, ORANGE, PAPER, SKY, VERMILLION, YELLOW
from cascade_lab.widgets.canvas import CanvasWidget, assets, float_bytes, within
from cascade_lab.widgets.sampling_text import choose_layer, describe_pixel, nearest_pixel

SHOWS = ("points", "offsets", "receptive")
MOST_BYTES = 64_000_000  # more than this and a browser gets slow
HEAT_CELLS = 64  # along the longer side of the picture


class SamplingViewer(CanvasWidget):
    """Show one picture; every trait below can be set from Python and follows what the reader does.

    Attributes:
        x, y: the chosen place in picture pixels; the output pixel nearest to it is shown, on every level.
        level: 0-based; block: number among the kept blocks of the level; group: 0-based.
        point: a point to follow, 0-based, -1 for none.
        show: "points" of the pixel, "offsets" of the whole group, or the "receptive" field of the pixel.
        trained: show the receptive field after training, not before.

    Raises:
        InputError: too much data for a browser, or fields of another picture.
        traitlets.TraitError: a trait is set outside its range.
    """

    _esm, _css = assets("sampling_viewer")
    _data = traitlets.Dict().tag(sync=True)
    x = traitlets.Int(0).tag(sync=True)
    y = traitlets.Int(0).tag(sync=True)
    level = traitlets.Int(0).tag(sync=True)
    block = traitlets.Int(0).tag(sync=True)
    group = traitlets.Int(0).tag(sync=True)
    point = traitlets.Int(-1).tag(sync=True)
    show = traitlets.Enum(SHOWS, "points").tag(sync=True)
    trained = traitlets.Bool(True).tag(sync=True)
    show_boxes = traitlets.Bool(True).tag(sync=True)

    def __init__(
        self,
        sampling: Sampling,
        *,
        before: Sequence[ReceptiveField] = (),
        after: Sequence[ReceptiveField] = (),
        x: int | None = None,
        y: int | None = None,
        level: int | None = None,
        block: int = 0,
        group: int = 0,
        show: str = "points",
    ) -> None:
        self.sampling = sampling
        fields = [
            *(_field(one, sampling, False) for one in before),
            *(_field(one, sampling, True) for one in after),
        ]
        layers = [_layer(layer) for layer in sampling.layers]
        size = sum(len(v) for part in (*layers, *fields) for v in part.values() if isinstance(v, bytes))
        if size > MOST_BYTES:
            raise InputError(
                f"sampling: {size / 1e6:.0f} MB of points is too much for a browser (at most "
                f"{MOST_BYTES / 1e6:.0f}); name fewer blocks in sample_picture(keep=...)"
            )
        height, width = sampling.picture.shape[:2]
        super().__init__(
            _data={
                "name": sampling.name,
                "size": [height, width],
                "picture": _encode(sampling.picture),
                "boxes": float_bytes(sampling.boxes),
                "layers": layers,
                "fields": fields,
                "cell": heat_cell(height, width),
                "colors": {
                    "disc": ORANGE, "chosen": SKY, "arrow": YELLOW, "grid": PAPER, "low": VERMILLION,
                    "high": YELLOW, "now": PAPER, "other": SKY, "bar": BLUE,
                },
            }
        )  # fmt: skip
        self.level = sampling.levels[0] if level is None else level
        self.block, self.group, self.show = block, group, show
        self.x = width // 2 if x is None else x
        self.y = height // 2 if y is None else y

    @property
    def pixel(self) -> tuple[int, int]:
        """Return (row, column) of the output pixel on show."""
        return nearest_pixel(choose_layer(self.sampling, self.level, self.block), self.x, self.y)

    def panel_text(self) -> str:
        """Return what the panel tells of the chosen pixel."""
        return describe_pixel(self.sampling, self.level, self.block, self.group, self.pixel)

    @traitlets.validate("x")
    def _check_x(self, proposal: Any) -> int:
        return within("x", proposal["value"], 0, self.sampling.picture.shape[1] - 1)

    @traitlets.validate("y")
    def _check_y(self, proposal: Any) -> int:
        return within("y", proposal["value"], 0, self.sampling.picture.shape[0] - 1)

    @traitlets.validate("level")
    def _check_level(self, proposal: Any) -> int:
        if proposal["value"] not in self.sampling.levels:
            raise traitlets.TraitError(f"level: {proposal['value']} is not one of {self.sampling.levels}")
        return proposal["value"]

    @traitlets.validate("block")
    def _check_block(self, proposal: Any) -> int:
        return within("block", proposal["value"], 0, len(self.sampling.of_level(self.level)) - 1)

    @traitlets.validate("group")
    def _check_group(self, proposal: Any) -> int:
        return within("group", proposal["value"], 0, self._layer.groups - 1)

    @traitlets.validate("point")
    def _check_point(self, proposal: Any) -> int:
        return within("point", proposal["value"], -1, self._layer.kernel**2 - 1)

    @traitlets.observe("level")
    def _start_level(self, change: Any) -> None:
        # deeper levels have more groups, and levels differ in how many blocks they have
        self.block = min(self.block, len(self.sampling.of_level(self.level)) - 1)
        self.group = min(self.group, self._layer.groups - 1)

    @property
    def _layer(self) -> SamplingLayer:
        layers = self.sampling.of_level(self.level)
        return layers[min(self.block, len(layers) - 1)]


def heat_cell(height: int, width: int) -> int:
    """Return the side of a cell of the heat map, in picture pixels."""
    return max(1, -(-max(height, width) // HEAT_CELLS))


def _layer(layer: SamplingLayer) -> dict[str, Any]:
    """Return one layer for JavaScript: how far points moved in 16 bits, finer than 1 / 1000 map pixel."""
    moved = layer.points - layer.regular()[:, :, None]  # (H, W, G, K, 2)
    step = max(float(np.abs(moved).max()), 1e-6) / 32767
    return {
        "level": layer.level,
        "block": layer.block,
        "stride": layer.stride,
        "kernel": layer.kernel,
        "scale": layer.offset_scale,
        "size": list(layer.size),
        "groups": layer.groups,
        "step": step,
        "moved": np.round(moved / step).astype("<i2").tobytes(),
        "modulation": np.round(layer.modulation * 65535).astype("<u2").tobytes(),
    }


def _field(one: ReceptiveField, sampling: Sampling, trained: bool) -> dict[str, Any]:
    """Return one receptive field for JavaScript: sums over cells, of which 8 bits of the square root."""
    height, width = sampling.picture.shape[:2]
    if one.gradient.shape != (height, width):
        raise InputError(
            f"receptive field: {one.gradient.shape} is not the size of the picture {(height, width)}"
        )
    cell = heat_cell(height, width)
    padded = np.pad(one.gradient, ((0, -height % cell), (0, -width % cell)))
    sums = padded.reshape(padded.shape[0] // cell, cell, -1, cell).sum((1, 3))
    heat = np.round(255 * np.sqrt(sums / sums.max())).astype(np.uint8)
    return {
        "level": one.level,
        "row": one.row,
        "column": one.column,
        "stride": one.stride,
        "trained": trained,
        "radius": one.radius(),
        "size": list(heat.shape),
        "heat": heat.tobytes(),
    }


def _encode(picture: np.ndarray) -> bytes:
    content = io.BytesIO()
    Image.fromarray(picture).save(content, "PNG", optimize=True)
    return content.getvalue()
