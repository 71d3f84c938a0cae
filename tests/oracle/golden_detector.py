"""The detectors behind the golden data: built from each file's own settings, nothing assumed but defaults.

A case is four files beside each other: ``<name>.json`` (settings), ``<name>_weights.npz``,
``<name>_inference.npz`` and ``<name>_training.npz``. Sizes that the json does not give are read off the
weights.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from cascade_lab.backbones.internimage import InternImageConfig
from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.heads.box_head import BoxHeadConfig
from cascade_lab.heads.cascade_config import THREE_STAGES, CascadeConfig, Stage
from cascade_lab.heads.mask_head import MaskHeadConfig
from cascade_lab.heads.rpn import ProposalLimits, RPNConfig, RPNOutput
from cascade_lab.structures import ImageBatch, Instances
from cascade_lab.targets.sampler import Choose, evenly, first
from cascade_lab.weights import load_official

Arrays = Mapping[str, np.ndarray]
RULES: dict[str, Choose] = {"evenly": evenly, "first": first}


def backbone_config(kwargs: Mapping[str, Any]) -> InternImageConfig:
    """Translate the official constructor's arguments; what is absent has the official default."""
    blocks = kwargs.get("level2_post_norm_block_ids") if kwargs.get("level2_post_norm") else None
    return InternImageConfig(
        channels=kwargs["channels"],
        depths=tuple(kwargs["depths"]),
        groups=tuple(kwargs["groups"]),
        mlp_ratio=kwargs.get("mlp_ratio", 4.0),
        drop_path=kwargs.get("drop_path_rate", 0.0),
        layer_scale=kwargs.get("layer_scale"),
        offset_scale=kwargs.get("offset_scale", 1.0),
        post_norm=kwargs.get("post_norm", False),
        res_post_norm=kwargs.get("res_post_norm", False),
        depthwise_kernel=kwargs.get("dw_kernel_size") or 3,
        center_feature_scale=kwargs.get("center_feature_scale", False),
        level2_post_norm_blocks=tuple(blocks or ()),
        activation_checkpointing=kwargs.get("with_cp", False),
    )


def backbone_kwargs_of(shapes: Mapping[str, Sequence[int]]) -> dict[str, Any]:
    """Read a backbone's settings off the shapes of its parameters, all but ``offset_scale``.

    ``shapes`` has official names that begin with "backbone.".
    """
    channels = shapes["backbone.patch_embed.conv2.weight"][0]
    depths = [
        1 + max(int(m[1]) for key in shapes if (m := re.match(rf"backbone\.levels\.{i}\.blocks\.(\d+)", key)))
        for i in range(4)
    ]
    block = "backbone.levels.{}.blocks.0."
    kernel = shapes[block.format(0) + "dcn.dw_conv.0.weight"][-1]
    center = block.format(0) + "dcn.center_feature_scale_proj_weight" in shapes
    post_norms = sum(key.startswith("backbone.levels.2.post_norms.") for key in shapes) // 2
    return {
        "channels": channels,
        "depths": depths,
        "groups": [shapes[block.format(i) + "dcn.mask.weight"][0] // 9 for i in range(4)],
        "mlp_ratio": shapes[block.format(0) + "mlp.fc1.weight"][0] / channels,
        "layer_scale": 1.0 if block.format(0) + "gamma1" in shapes else None,
        "post_norm": "backbone.levels.0.norm.0.weight" not in shapes,
        "res_post_norm": block.format(0) + "res_post_norm1.0.weight" in shapes,
        "dw_kernel_size": kernel,
        "center_feature_scale": center,
        "level2_post_norm": post_norms > 0,
        "level2_post_norm_block_ids": list(range(post_norms)),
    }


def detector_config(settings: Mapping[str, Any], shapes: Mapping[str, Sequence[int]]) -> DetectorConfig:
    """Return the cascade or Mask R-CNN configuration of a case.

    ``settings`` is the json; ``shapes`` are those of the weights, by official name.
    """
    build = settings.get("build", {})
    stages = 1 + max(
        (int(m[1]) for key in shapes if (m := re.match(r".*bbox_head\.(\d+)\.", key))), default=0
    )
    kind = settings.get("kind", "cascade" if "roi_head.bbox_head.0.fc_cls.weight" in shapes else "mask")
    cascade = kind == "cascade"
    head = "roi_head.bbox_head.0." if cascade else "roi_head.bbox_head."
    kwargs = dict(settings.get("backbone_kwargs") or backbone_kwargs_of(shapes))
    kwargs |= settings.get("backbone_extra") or {}
    classes = build.get("nc", shapes[head + "fc_cls.weight"][0] - 1)
    pyramid = build.get("fpn", shapes["neck.lateral_convs.0.conv.weight"][0])
    width = build.get("fc", shapes[head + "fc_cls.weight"][1])
    if cascade:
        box_head = BoxHeadConfig(conv_channels=pyramid, fc_channels=width)
        steps, rpn = THREE_STAGES[:stages], RPNConfig()
    else:
        box_head = BoxHeadConfig(convs=0, fcs=2, fc_channels=width, box_loss="delta_l1", box_loss_weight=1.0)
        steps = (Stage(iou=0.5, delta_std=(0.1, 0.1, 0.2, 0.2), match_low_quality=True),)
        limits = ProposalLimits(before_nms=2000, after_nms=1000)
        rpn = RPNConfig(allowed_border=-1, box_loss="l1", training=limits)
    return DetectorConfig(
        backbone=backbone_config(kwargs),
        num_classes=classes,
        pyramid_channels=pyramid,
        rpn=rpn,
        cascade=CascadeConfig(
            stages=steps,
            box_head=box_head,
            mask_head=MaskHeadConfig(channels=pyramid),
            mask_stages=tuple(range(len(steps))),
        ),
    )


class Case:
    """One detector of the golden data. Arrays are opened when first asked for."""

    def __init__(self, path: Path) -> None:
        self.settings = json.loads(path.read_text(encoding="utf-8"))
        self._path = path
        self.choose = RULES[self.settings.get("rule", "evenly")]

    @cached_property
    def weights(self) -> Arrays:
        return self._open("weights")

    @cached_property
    def inference(self) -> Arrays:
        return self._open("inference")

    @cached_property
    def training(self) -> Arrays:
        return self._open("training")

    @cached_property
    def config(self) -> DetectorConfig:
        return detector_config(self.settings, {key: value.shape for key, value in self.weights.items()})

    @property
    def single_stage(self) -> bool:
        return "roi_head.bbox_head.fc_cls.weight" in self.weights

    @property
    def num_stages(self) -> int:
        return len(self.config.cascade.stages)

    def detector(self, dtype: torch.dtype = torch.float32) -> Detector:
        detector = Detector(self.config)
        report = load_official(detector, {key: tensor(value) for key, value in self.weights.items()})
        assert report.is_empty, str(report)
        return detector.to(dtype)

    def images(self, dtype: torch.dtype = torch.float32) -> ImageBatch:
        golden = self.inference
        sizes = {
            name: [pair(golden[f"meta{i}/{name}"]) for i in range(len(golden["image"]))]
            for name in ("img_shape", "ori_shape", "pad_shape")
        }
        pixels = tensor(golden["image"]).to(dtype)
        return ImageBatch(pixels, sizes["img_shape"], sizes["ori_shape"], sizes["pad_shape"])

    def targets(self) -> list[Instances]:
        """Return the ground truth, boxes in float32 (as the golden run matched them)."""
        golden, found = self.training, []
        for i, size in enumerate(self.images().sizes):
            boxes = tensor(golden[f"gt{i}/boxes"]).reshape(-1, 4)
            masks = unpack(golden.get(f"gt{i}/masks_packed"), len(boxes), pair(golden[f"gt{i}/mask_hw"]))
            masks = masks[:, : size[0], : size[1]]  # the golden ones are padded as the pictures are
            found.append(Instances(size, boxes, tensor(golden[f"gt{i}/labels"]).long(), masks=masks))
        return found

    def pyramid(self) -> list[Tensor]:
        return [tensor(self.inference[key]) for key in numbered(self.inference, r"fpn(\d+)")]

    def rpn_output(self, detector: Detector) -> RPNOutput:
        """Return the golden RPN maps in our form; anchors come from our RPN."""
        golden = self.inference
        own = detector.rpn(self.pyramid())
        logits = [tensor(golden[key]) for key in numbered(golden, r"rpn_cls(\d+)")]
        deltas = [tensor(golden[key]) for key in numbered(golden, r"rpn_reg(\d+)")]
        n = len(logits[0])
        return RPNOutput(
            own.grids,
            own.anchors,
            [level.permute(0, 2, 3, 1).reshape(n, -1) for level in logits],
            [level.permute(0, 2, 3, 1).reshape(n, -1, 4) for level in deltas],
        )

    def per_image(self, rois: np.ndarray) -> list[Tensor]:
        """Split rois (R, 5), which stand picture by picture, into boxes."""
        rows = tensor(rois).reshape(-1, 5)
        return [rows[rows[:, 0] == i, 1:] for i in range(len(self.inference["image"]))]

    def loss(self, name: str, run: str = "loss") -> float | None:
        """Return a golden loss by our name; losses per pyramid level are added up. None if not stored."""
        official = name.removeprefix("s0.") if self.single_stage else name
        keys = [k for k in self.training if re.fullmatch(rf"{run}/{re.escape(official)}(\.\d+)?", k)]
        return float(sum(np.asarray(self.training[key]).sum() for key in keys)) if keys else None

    def _open(self, part: str) -> Arrays:
        path = self._path.with_name(f"{self._path.stem}_{part}.npz")
        if not path.is_file():
            pytest.skip(f"no {path.name} beside {self._path.name}")
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)


@cache
def open_case(path: Path) -> Case:
    """Open a case once for all tests."""
    return Case(path)


@dataclass(frozen=True)
class Found:
    """Scored boxes of one picture, in any order. Shapes: (R, 4), (R,), (R,) int64 or None."""

    boxes: Tensor
    scores: Tensor
    labels: Tensor | None = None


def match(own: Found, golden: Found, *, pixels: float, score: float = 1e-4, spare: float = 0.0) -> Tensor:
    """Pair boxes one to one and return the own row (R,) of each golden box, -1 where it may be absent.

    A partner has the same label, a score within ``score`` and every edge within ``pixels``. Nearly equal
    scores may swap rows. Boxes that a limit cut off are compared with the score at which it cut: within
    ``score`` of it, chance decides who is in. ``spare`` is the share of rows that may differ besides,
    for an NMS decision that fell on its threshold. Fails with the rows that found no partner.
    """
    assert abs(len(own.boxes) - len(golden.boxes)) <= spare * len(golden.boxes), (
        f"{len(own.boxes)} boxes for {len(golden.boxes)}"
    )
    partner = torch.full((len(golden.boxes),), -1)
    if len(golden.boxes) == 0:
        return partner
    free = torch.ones(len(own.boxes), dtype=torch.bool)
    for row in range(len(golden.boxes)):
        apart = (own.boxes - golden.boxes[row]).abs().amax(1)
        fits = free & (apart <= pixels) & ((own.scores - golden.scores[row]).abs() <= score)
        if own.labels is not None and golden.labels is not None:
            fits &= own.labels == golden.labels[row]
        if fits.any():
            partner[row] = torch.where(fits, apart, torch.inf).argmin()
            free[partner[row]] = False
    lost = (partner < 0).nonzero().squeeze(1)
    at_the_cut = golden.scores[lost] <= golden.scores.min() + score
    serious = lost[~at_the_cut]
    assert len(serious) <= spare * len(golden.boxes), (
        f"{len(serious)} of {len(golden.boxes)} golden boxes have no partner, rows {serious[:5].tolist()} ..."
    )
    return partner


def tensor(array: np.ndarray) -> Tensor:
    return torch.from_numpy(np.array(array))


def pair(array: np.ndarray) -> tuple[int, int]:
    return int(array[0]), int(array[1])


def unpack(packed: np.ndarray | None, count: int, size: tuple[int, int]) -> Tensor:
    """Return masks (count, H, W) bool; without a single mask the array may be absent or of any shape."""
    if packed is None or count == 0:
        return torch.zeros(count, *size, dtype=torch.bool)
    bits = np.unpackbits(packed, axis=1)[:, : size[0] * size[1]]
    return tensor(bits.reshape(count, *size)).bool()


def numbered(arrays: Arrays, pattern: str) -> list[str]:
    """Return the keys that match, in the order of their number."""
    found = [(int(m[1]), key) for key in arrays if (m := re.fullmatch(pattern, key))]
    return [key for _, key in sorted(found)]


def tolerance(golden: Tensor, relative: float = 1e-4) -> float:
    """Return an absolute tolerance: ``relative`` of the largest value, and of 1 at least."""
    return relative * max(1.0, float(golden.abs().max()) if golden.numel() else 1.0)
