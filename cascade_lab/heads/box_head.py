"""One detector of the cascade: from pooled features to class logits and box deltas."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch import Tensor, nn

from cascade_lab.errors import check_word
from cascade_lab.layers.conv3x3 import conv3x3
from cascade_lab.layers.init import initialise
from cascade_lab.layers.norm import Norm, norm_layer

BatchNorm = nn.BatchNorm2d | nn.SyncBatchNorm
BoxLoss = Literal["decoded_giou", "delta_smooth_l1", "delta_l1"]


@dataclass(frozen=True, kw_only=True)
class BoxHeadConfig:
    """The defaults are the 4 conv 1 fc head of InternImage-L and -XL; Mask R-CNN has ``convs=0, fcs=2``.

    Args:
        convs, conv_channels, norm: 3x3 convolutions, each with a norm and a ReLU.
        fcs, fc_channels: fully connected layers, each with a ReLU.
        pool_size: side of the pooled features.
        class_aware: four deltas for each class, or four for all of them (the paper's choice).
        box_loss: GIoU of the decoded boxes, or a distance of the normalised deltas.
        box_loss_weight: 10 goes with GIoU, 1 with deltas.
    """

    convs: int = 4
    conv_channels: int = 256
    norm: Norm = "sync_batch"
    fcs: int = 1
    fc_channels: int = 1024
    pool_size: int = 7
    class_aware: bool = True
    box_loss: BoxLoss = "decoded_giou"
    box_loss_weight: float = 10.0

    def __post_init__(self) -> None:
        check_word("norm", self.norm, Norm)
        check_word("box_loss", self.box_loss, BoxLoss)


class BoxHead(nn.Module):
    """Classify a box and say how to move it."""

    def __init__(self, config: BoxHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        width = config.conv_channels if config.convs else in_channels
        features = config.fc_channels if config.fcs else width * config.pool_size**2
        self.classifier = nn.Linear(features, num_classes + 1)  # the last is background
        self.regressor = nn.Linear(features, 4 * num_classes if config.class_aware else 4)
        self.convs = nn.ModuleList(
            ConvNormReLU(in_channels if i == 0 else width, width, config.norm) for i in range(config.convs)
        )
        first = width * config.pool_size**2
        self.fcs = nn.ModuleList(
            nn.Linear(first if i == 0 else features, features) for i in range(config.fcs)
        )
        self.initialise_outputs()
        initialise(self.fcs, nn.init.xavier_uniform_)

    def forward(self, roi_features: Tensor) -> tuple[Tensor, Tensor]:
        """Return logits (R, K + 1) and normalised deltas (R, 4 K) or (R, 4) for features (R, C, 7, 7)."""
        x = roi_features
        for conv in self.convs:
            x = conv(x)  # (R, C, 7, 7)
        x = x.flatten(1)  # (R, C * 49)
        for fc in self.fcs:
            x = fc(x).relu_()
        return self.classifier(x), self.regressor(x)

    def initialise_outputs(self) -> None:
        """Draw the two last layers, whose size is the number of classes."""
        initialise([self.classifier], partial(nn.init.normal_, std=0.01))
        initialise([self.regressor], partial(nn.init.normal_, std=0.001))


class ConvNormReLU(nn.Module):
    """A 3x3 convolution without bias (with one where there is no norm), a norm, a ReLU."""

    def __init__(self, in_channels: int, out_channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, out_channels, 3, padding=1, bias=norm == "none")
        self.norm = norm_layer(norm, out_channels)
        nn.init.kaiming_normal_(self.conv.weight, nonlinearity="relu")

    def forward(self, x: Tensor) -> Tensor:
        if isinstance(self.norm, BatchNorm):
            if not self.training:
                return conv3x3(x, *folded(self.conv, self.norm)).relu_()
            return _norm_relu(self.norm, conv3x3(x, self.conv.weight))
        return self.norm(conv3x3(x, self.conv.weight, self.conv.bias)).relu_()


def folded(conv: nn.Conv2d, norm: BatchNorm) -> tuple[Tensor, Tensor]:
    """Return weight and bias of the one convolution that computes what ``conv`` and a frozen ``norm`` do."""
    assert norm.running_mean is not None and norm.running_var is not None
    scale = norm.weight * torch.rsqrt(norm.running_var + norm.eps)
    return conv.weight * scale[:, None, None, None], norm.bias - norm.running_mean * scale


def _norm_relu(norm: BatchNorm, maps: Tensor) -> Tensor:
    """Apply a batch norm and a ReLU.

    To a batch norm the maps are one picture of as many pixels. Where position comes before map in memory,
    that picture is channels last, which is fast, and no copy.
    """
    moved = maps.permute(2, 3, 0, 1)  # (H, W, R, C)
    if not moved.is_contiguous() or len(maps) == 0:
        return norm(maps).relu_()
    picture = moved.reshape(1, -1, 1, maps.shape[1]).permute(0, 3, 1, 2)  # (1, C, H * W * R, 1)
    seen: Tensor = norm(picture).relu_()
    return seen.permute(0, 2, 3, 1).reshape(moved.shape).permute(2, 3, 0, 1)
