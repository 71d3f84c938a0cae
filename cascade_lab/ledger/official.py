"""Operations as the published figures count them: by type of module, some of them left out.

The rules of the counter behind "1399G" (InternImage, table 5), for one picture. Every position is a pixel of
the module's output, or a box:

    Conv2d, ConvTranspose2d     multiply-accumulates, and one more per output element where there is a bias
    Linear                      multiply-accumulates; the bias is free
    LayerNorm, BatchNorm2d, GroupNorm     2 per element
    ReLU                        1 per element, where it is a module: in the heads, not in the RPN
    DCNv3                       5 per position, kernel point and channel, added by hand

Left out: synchronised batch norm, GELU, softmax, residual sums, layer scale, RoIAlign, the centre feature
scale, interpolation, NMS and everything after it. All stages look at the same 1000 boxes, and every mask head
at 100. A multiply-accumulate is one operation, so tools that count two print about twice as much.

Where we differ: the counter rounds nothing, and a DCNv3 term that is no whole number is rounded here.

Source: the flops counter of mmcv 1.7 and ``get_flops.py`` of the official InternImage repository.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.ledger.parts import level, part_of
from cascade_lab.weights import to_official

PROPOSALS, DETECTIONS = 1000, 100
LEVELS = 4
DCNV3 = "DCNv3"  # what the term added by hand is called among the types


@dataclass(frozen=True, kw_only=True)
class Counted:
    """One row of the official count: a module under its official name, or the DCNv3 term of a level."""

    name: str
    kind: str  # the type of the module
    part: str  # ours
    operations: int

    @property
    def official_part(self) -> str:
        """Return ``backbone``, ``neck``, ``rpn_head``, ``roi_head.bbox_head.0``, ..."""
        words = self.name.split(".")
        if words[0] != "roi_head":
            return words[0]
        return ".".join(words[:3] if words[2].isdecimal() else words[:2])


def official_count(detector: Detector, size: tuple[int, int]) -> list[Counted]:
    """Count one picture of (H, W) pixels by the official rules, in the official order of modules.

    Weights may lie on the meta device. The last rows are the DCNv3 terms, one for each level.
    """
    config = detector.config
    grids = pyramid_grids(size)
    stem = _half(size)
    rows = []
    for name, module in detector.named_modules():
        positions = _positions(name, config, stem, grids)
        operations = _operations(module, positions, config) if positions else 0
        if operations:
            rows.append(_row(name, module, operations, config))
        rows += _relus(name, config)
    return rows + _dcnv3_terms(config, size)


def pyramid_grids(size: tuple[int, int]) -> list[tuple[int, int]]:
    """Return (rows, columns) of the five pyramid levels of a picture (H, W): each halved, rounded up."""
    grid, grids = _half(size), []
    for _ in range(LEVELS + 1):
        grid = _half(grid)
        grids.append(grid)
    return grids


def _half(size: tuple[int, int]) -> tuple[int, int]:
    return (size[0] + 1) // 2, (size[1] + 1) // 2


def _positions(
    name: str, config: DetectorConfig, stem: tuple[int, int], grids: list[tuple[int, int]]
) -> int | None:
    """Return at how many places a module of that name answers; None for what is not counted."""
    area = [rows * columns for rows, columns in grids]
    box_bins, mask_bins = config.cascade.box_head.pool_size**2, config.cascade.mask_head.pool_size**2
    match name.split("."):
        case ["backbone", *_, "center_scale"]:
            return None  # there it is a function, not a module
        case ["backbone", "stem", "conv1" | "norm1"]:
            return stem[0] * stem[1]
        case ["backbone", "stem", "conv2" | "norm2"]:
            return area[0]
        case ["backbone", "levels", i, "downsample", _]:
            return area[int(i) + 1]
        case ["backbone", "levels", i, _, *_]:
            return area[int(i)]
        case ["neck", _, i]:
            return area[int(i)]
        case ["rpn", _]:
            return sum(area)
        case ["cascade", "box_heads", _, "convs", _, "conv" | "norm"]:
            return PROPOSALS * box_bins
        case ["cascade", "box_heads", _, "classifier" | "regressor"] | ["cascade", "box_heads", _, "fcs", _]:
            return PROPOSALS
        case ["cascade", "mask_heads", _, "convs", _]:
            return DETECTIONS * mask_bins
        case ["cascade", "mask_heads", _, "upsample" | "logits"]:
            return DETECTIONS * mask_bins * 4
    return None


def _operations(module: nn.Module, positions: int, config: DetectorConfig) -> int:
    """Return what one module costs that answers at so many positions; 0 for types that are not counted."""
    match module:
        case nn.ConvTranspose2d():
            outputs_per_input = module.stride[0] * module.stride[1]
            return module.weight.numel() * positions // outputs_per_input + _bias(module) * positions
        case nn.Conv2d():
            return (module.weight.numel() + _bias(module)) * positions
        case nn.Linear():
            return module.weight.numel() * positions
        case nn.BatchNorm2d() if config.cascade.box_head.norm == "sync_batch":
            return 0  # in one process it stands in for the synchronised norm, which the counter does not know
        case nn.LayerNorm() | nn.BatchNorm2d() | nn.GroupNorm():
            return 2 * module.weight.numel() * positions
    return 0


def _bias(module: nn.Conv2d | nn.ConvTranspose2d) -> int:
    return 0 if module.bias is None else module.out_channels


def _row(name: str, module: nn.Module, operations: int, config: DetectorConfig) -> Counted:
    official = to_official(f"{name}.weight", _single_stage(config)).removesuffix(".weight")
    return Counted(name=official, kind=type(module).__name__, part=part_of(name), operations=operations)


def _relus(name: str, config: DetectorConfig) -> list[Counted]:
    """Return the ReLUs of a head; officially one after each convolution, and one module for all the rest."""
    match name.split("."):
        case ["cascade", "box_heads", k]:
            head, official = config.cascade.box_head, f"roi_head.bbox_head.{k}."
            each = PROPOSALS * head.pool_size**2 * head.conv_channels
            found = {f"shared_convs.{i}.activate": each for i in range(head.convs)}
            found |= {"relu": PROPOSALS * head.fc_channels * head.fcs}
        case ["cascade", "mask_heads", k]:
            head, official = config.cascade.mask_head, f"roi_head.mask_head.{k}."
            each = DETECTIONS * head.pool_size**2 * head.channels
            found = {f"convs.{i}.activate": each for i in range(head.convs)} | {"relu": 4 * each}
        case _:
            return []
    if _single_stage(config):
        official = official.replace(f".{k}.", ".")
    rows = found.items()
    return [Counted(name=official + n, kind="ReLU", part=part_of(name), operations=v) for n, v in rows if v]


def _dcnv3_terms(config: DetectorConfig, size: tuple[int, int]) -> list[Counted]:
    """Return 5 * positions * points * channels of each level, times its blocks. Positions are not rounded."""
    rows = []
    for i, (depth, channels) in enumerate(
        zip(config.backbone.depths, config.backbone.out_channels, strict=True)
    ):
        term = round(depth * 5 * size[0] * size[1] / config.backbone.strides[i] ** 2 * 9 * channels)
        rows.append(Counted(name=f"backbone.levels.{i}", kind=DCNV3, part=level(i), operations=term))
    return rows


def _single_stage(config: DetectorConfig) -> bool:
    return len(config.cascade.stages) == 1
