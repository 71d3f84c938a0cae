"""The mask branch: a small map of logits for every class, inside the box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn
from torch.nn import functional

from cascade_lab.layers.conv3x3 import conv3x3
from cascade_lab.layers.init import initialise

FAN_OUT = partial(nn.init.kaiming_normal_, mode="fan_out", nonlinearity="relu")


@dataclass(frozen=True, kw_only=True)
class MaskHeadConfig:
    """Four convolutions, one doubling of the resolution, one map per class (Mask R-CNN, figure 4)."""

    convs: int = 4
    channels: int = 256
    pool_size: int = 14

    @property
    def mask_size(self) -> int:
        return 2 * self.pool_size


class MaskHead(nn.Module):
    """Say for each class which part of the box the object covers."""

    def __init__(self, config: MaskHeadConfig, in_channels: int, num_classes: int) -> None:
        super().__init__()
        self.convs = nn.ModuleList(
            nn.Conv2d(in_channels if i == 0 else config.channels, config.channels, 3, padding=1)
            for i in range(config.convs)
        )
        width = config.channels if config.convs else in_channels
        self.upsample = nn.ConvTranspose2d(width, config.channels, 2, stride=2)
        self.logits = nn.Conv2d(config.channels, num_classes, 1)
        initialise(self.convs, partial(nn.init.kaiming_normal_, nonlinearity="relu"))
        initialise([self.upsample], FAN_OUT)
        self.initialise_outputs()

    def forward(self, roi_features: Tensor) -> Tensor:
        """Return logits (R, K, 28, 28) for features (R, C, 14, 14)."""
        x = roi_features
        for conv in self.convs:
            assert isinstance(conv, nn.Conv2d)
            x = conv3x3(x, conv.weight, conv.bias).relu_()  # (R, C, 14, 14)
        return self._doubled_logits(x)

    def _doubled_logits(self, x: Tensor) -> Tensor:
        """Return ``logits(relu(upsample(x)))``, (R, K, 2 H, 2 W), of (R, C, H, W).

        A transposed convolution whose kernel is as large as its stride lets each of four new pixels see one
        old pixel only, and a 1x1 convolution sees one pixel anyway. So both are products of matrices whose
        rows are pixels, and nothing but the few logits has to be laid out as a map again.
        """
        r, _, h, w = x.shape
        weight, bias = self.upsample.weight.permute(2, 3, 1, 0), self.upsample.bias  # (2, 2, C', C) and (C',)
        assert bias is not None
        pixels = x.permute(2, 3, 0, 1).flatten(0, 2)  # (H * W * R, C), as conv3x3 may have left it in memory
        seen = functional.linear(pixels, weight.flatten(0, 2), bias.expand(4, -1).flatten()).relu_()
        seen = seen.view(4 * len(pixels), len(bias))  # (H * W * R * 2 * 2, C')
        logits = functional.linear(seen, self.logits.weight.flatten(1), self.logits.bias)
        logits = logits.view(h, w, r, 2, 2, logits.shape[1])
        return logits.permute(2, 5, 0, 3, 1, 4).reshape(r, logits.shape[5], 2 * h, 2 * w)

    def initialise_outputs(self) -> None:
        """Draw the last layer, whose size is the number of classes."""
        initialise([self.logits], FAN_OUT)
