"""The sampling viewer: where one output pixel of one DCNv3 layer reads the picture. Drawn in the browser."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import traitlets

from cascade_lab.errors import InputError
from cascade_lab.sampling import Sampling, SamplingLayer
from cascade_lab.viz.palette import ORANGE, PAPER, SKY, VERMILLION, YELLOW
from cascade_lab.widgets.canvas import CanvasWidget, assets, within
from cascade_lab.widgets.sampling_text import choose_layer, describe_pixel, nearest_pixel
from cascade_lab.widgets.sampling_view import SamplingView, payload

SHOWS = ("points", "offsets", "receptive")
MOST_BYTES = 64_000_000  # more than this and a browser gets slow
COLORS = {
    "disc": ORANGE, "chosen": SKY, "arrow": YELLOW, "grid": PAPER, "low": VERMILLION, "high": YELLOW,
    "now": PAPER, "other": SKY,
}  # fmt: skip


class SamplingViewer(CanvasWidget):
    """Show one or more pictures; every trait below can be set from Python and follows what the reader does.

    Attributes:
        picture: which one.
        x, y: the chosen place in picture pixels; the output pixel nearest to it is shown, on every level.
        level: 0 for the finest; block: number among the kept blocks of the level, from 0; group: from 0.
        point: a point to follow, from 0, -1 for none.
        show: "points" of the pixel, "offsets" of the whole group, or the "receptive" field of the pixel.
        trained: show the receptive field after training, not before.

    Raises:
        InputError: nothing to show, or too much data for a browser.
        traitlets.TraitError: a trait is set outside its range.
    """

    _esm, _css = assets("sampling_viewer")
    _views = traitlets.List().tag(sync=True)
    _colors = traitlets.Dict(COLORS).tag(sync=True)
    picture = traitlets.Int(0).tag(sync=True)
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
        pictures: Sampling | SamplingView | Sequence[SamplingView],
        *,
        picture: int = 0,
        x: int | None = None,
        y: int | None = None,
        level: int | None = None,
        block: int = 0,
        group: int = 0,
        show: str = "points",
    ) -> None:
        """Show ``pictures``, at first the pixel in the middle, on the finest level that was kept."""
        if isinstance(pictures, Sampling):
            pictures = SamplingView(sampling=pictures)
        self.views = [pictures] if isinstance(pictures, SamplingView) else list(pictures)
        if not self.views:
            raise InputError("pictures: nothing to show; pass at least one")
        payloads = [payload(view) for view in self.views]
        size = sum(
            len(layer["moved"]) + len(layer["modulation"]) for one in payloads for layer in one["layers"]
        )
        if size > MOST_BYTES:
            raise InputError(
                f"pictures: {size / 1e6:.0f} MB of points is too much for a browser (at most "
                f"{MOST_BYTES / 1e6:.0f}); name fewer blocks in sample_picture(keep=...)"
            )
        super().__init__(_views=payloads)
        self.picture = picture
        height, width = self.view.size
        self.level = self.sampling.levels[0] if level is None else level
        self.block, self.group, self.show = block, group, show
        self.x = width // 2 if x is None else x
        self.y = height // 2 if y is None else y

    @property
    def view(self) -> SamplingView:
        """Return the picture that is on show, with its fields."""
        return self.views[self.picture]

    @property
    def sampling(self) -> Sampling:
        """Return where the layers read the picture that is on show."""
        return self.view.sampling

    @property
    def pixel(self) -> tuple[int, int]:
        """Return (row, column) of the output pixel on show."""
        return nearest_pixel(choose_layer(self.sampling, self.level, self.block), self.x, self.y)

    def panel_text(self) -> str:
        """Return what the panel tells of the chosen pixel."""
        return describe_pixel(self.sampling, self.level, self.block, self.group, self.pixel)

    @traitlets.validate("picture")
    def _check_picture(self, proposal: Any) -> int:
        return within("picture", proposal["value"], 0, len(self.views) - 1)

    @traitlets.validate("x")
    def _check_x(self, proposal: Any) -> int:
        return within("x", proposal["value"], 0, self.view.size[1] - 1)

    @traitlets.validate("y")
    def _check_y(self, proposal: Any) -> int:
        return within("y", proposal["value"], 0, self.view.size[0] - 1)

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

    @traitlets.observe("picture")
    def _start_picture(self, change: Any) -> None:
        height, width = self.view.size
        self.x, self.y = min(self.x, width - 1), min(self.y, height - 1)
        if self.level not in self.sampling.levels:
            self.level = self.sampling.levels[0]
        self._start_level(change)

    @traitlets.observe("level")
    def _start_level(self, change: Any) -> None:
        # deeper levels have more groups, and levels differ in how many blocks they have
        self.block = min(self.block, len(self.sampling.of_level(self.level)) - 1)
        self.group = min(self.group, self._layer.groups - 1)

    @property
    def _layer(self) -> SamplingLayer:
        layers = self.sampling.of_level(self.level)
        return layers[min(self.block, len(layers) - 1)]
