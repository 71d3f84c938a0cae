"""The mask branch: a small map of logits for every class, inside the box."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from torch import Tensor, nn

from cascade_lab.layers.conv3x3 import Conv3x3
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
            Conv3x3(in_channels if i == 0 else config.channels, config.channels) for i in range(config.convs)
        )
        width = config.channels if config.convs else in_channels
        self.upsample = nn.ConvTranspose2d(width, config.channels, 2, stride=2)
        self.logits = nn.Conv2d(config.channels, num_classes, 1)
        initialise(self.convs, partial(nn.init.kaiming_normal_, nonlinearity="relu"))
        initialise([self.upsample], FAN_OUT)
        self.initialise_outputs()

    def forward(self, roi_features: Tensor) -> Tensor:
        """Return logits (R, K, 28, 28) for features (R, C, 14, 14)."""
        return self.logits(self._look(roi_features))

    def of_classes(self, roi_features: Tensor, labels: Tensor) -> Tensor:
        """Return logits (R, 28, 28) of one class for each box: those rows of ``forward``, and no others.

        Nobody asks for the maps of the other classes: not the loss, which looks at the true class, and not
        inference, which looks at the predicted one.
        """
        x = self._look(roi_features)
        assert self.logits.bias is not None
        weight, bias = self.logits.weight.flatten(1)[labels], self.logits.bias[labels]  # (R, C), (R,)
        pixels = x.permute(0, 2, 3, 1).flatten(1, 2)  # (R, 28 * 28, C)
        return (pixels @ weight[:, :, None] + bias[:, None, None]).view(len(x), *x.shape[2:])

    def initialise_outputs(self) -> None:
        """Draw the last layer, whose size is the number of classes."""
        initialise([self.logits], FAN_OUT)

    def _look(self, roi_features: Tensor) -> Tensor:
        """Return what all classes share, (R, C, 28, 28)."""
        x = roi_features
        for conv in self.convs:
            x = conv(x).relu_()
        return self.upsample(x).relu_()
