"""InternImage: a convolutional backbone whose spatial mixing is DCNv3.

Four levels of blocks at strides 4, 8, 16 and 32. The paper's stacking rules fix the rest: channels double
from level to level, the group width stays the same, and levels 1, 2 and 4 are equally deep.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cascade_lab.layers.dcnv3 import DCNv3
from cascade_lab.layers.drop_path import DropPath
from cascade_lab.ops.dcnv3 import Backend


@dataclass(frozen=True, kw_only=True)
class InternImageConfig:
    """The published variants differ in these values only (InternImage, table 1 and the released models).

    Args:
        channels: C_1, channels of the first level; level i has ``channels * 2**i``.
        depths: blocks per level.
        groups: DCNv3 groups per level.
        mlp_ratio: width of the feed-forward layer over the channels.
        drop_path: stochastic depth of the last block; it grows linearly from 0 over all blocks.
        layer_scale: initial value of the learned residual scale, None for none.
        offset_scale: stretches the sampling grid and the offsets (2 in L and XL).
        post_norm: normalise after the branch (S, B, L, XL) instead of before it (T).
        res_post_norm: normalise before and after the branch (H). Beside ``post_norm`` or ``layer_scale`` its
            norms exist and do nothing, as in the official code, so that such a file loads.
        depthwise_kernel: kernel of the convolution that offsets are read from (5 in H and G).
        center_feature_scale: mix in the unmoved centre pixel (H, G).
        level2_post_norm_blocks: blocks of the third level after which an extra norm follows (H, G).
        activation_checkpointing: recompute each block in the backward pass to save memory.
    """

    channels: int
    depths: tuple[int, int, int, int]
    groups: tuple[int, int, int, int]
    mlp_ratio: float = 4.0
    drop_path: float = 0.0
    layer_scale: float | None = None
    offset_scale: float = 1.0
    post_norm: bool = False
    res_post_norm: bool = False
    depthwise_kernel: int = 3
    center_feature_scale: bool = False
    level2_post_norm_blocks: tuple[int, ...] = ()
    activation_checkpointing: bool = False
    backend: Backend = "auto"

    def __post_init__(self) -> None:
        for name in ("depths", "groups"):
            if len(getattr(self, name)) != 4 or min(getattr(self, name)) < 1:
                raise ValueError(f"{name} must be four numbers from 1 up, got {getattr(self, name)}")
        if not 0.0 <= self.drop_path < 1.0:
            raise ValueError(f"drop_path must be in [0, 1), got {self.drop_path}")
        if self.depthwise_kernel % 2 == 0:
            raise ValueError(f"depthwise_kernel must be odd to keep the size, got {self.depthwise_kernel}")
        for level, (channels, groups) in enumerate(zip(self.out_channels, self.groups, strict=True)):
            if channels % groups:
                raise ValueError(f"level {level}: {channels} channels cannot be split into {groups} groups")
        if self.channels % 2:
            raise ValueError(f"channels must be even (the stem halves them), got {self.channels}")

    @property
    def out_channels(self) -> tuple[int, ...]:
        return tuple(self.channels * 2**level for level in range(4))

    @property
    def strides(self) -> tuple[int, ...]:
        return (4, 8, 16, 32)

    @property
    def block_drop_path(self) -> list[list[float]]:
        """Drop path rate per level and block: linear from 0 to ``drop_path`` in depth order."""
        rates = torch.linspace(0, self.drop_path, sum(self.depths), device="cpu").tolist()
        return [[rates.pop(0) for _ in range(depth)] for depth in self.depths]


class InternImage(nn.Module):
    """Turn pictures (N, 3, H, W) into four maps (N, C_i, H / 2**(i+2), W / 2**(i+2)), rounded up."""

    def __init__(self, config: InternImageConfig) -> None:
        super().__init__()
        self.config = config
        self.stem = Stem(config.channels)
        self.levels = nn.ModuleList(Level(config, level) for level in range(4))
        for module in self.modules():
            if isinstance(module, Feedforward):
                for linear in (module.fc1, module.fc2):
                    nn.init.trunc_normal_(linear.weight, std=0.02)
                    nn.init.zeros_(linear.bias)

    def forward(self, pixels: Tensor) -> tuple[Tensor, ...]:
        x = self.stem(pixels)  # (N, H / 4, W / 4, C)
        maps = []
        for level in self.levels:
            out, x = level(x)
            maps.append(out.permute(0, 3, 1, 2))  # (N, C_i, H_i, W_i), channels last in memory
        return tuple(maps)

    @property
    def num_layers(self) -> int:
        return sum(self.config.depths)

    def layer_of(self, parameter_name: str) -> int:
        """Return the depth of a parameter: 0 for the stem, 1 + block number for the blocks.

        A level's norm and downsampling count as the first block of the next level; those of the last
        level as its own first block. Source: the official layer-wise decay.
        """
        parts = parameter_name.split(".")
        if parts[0] == "stem":
            return 0
        level, depths = int(parts[1]), self.config.depths
        if parts[2] == "blocks":
            return 1 + sum(depths[:level]) + int(parts[3])
        if parts[2] == "post_norms":
            return 1 + sum(depths[:level]) + int(parts[3])
        return 1 + sum(depths[: min(level + 1, 3)])


class Stem(nn.Module):
    """Two strided convolutions: (N, 3, H, W) to (N, H / 4, W / 4, C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, channels // 2, 3, stride=2, padding=1)
        self.norm1 = nn.LayerNorm(channels // 2, eps=1e-6)
        self.activation = nn.GELU()
        self.conv2 = nn.Conv2d(channels // 2, channels, 3, stride=2, padding=1)
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.conv1(pixels).permute(0, 2, 3, 1)  # (N, H / 2, W / 2, C / 2)
        x = self.activation(self.norm1(x)).permute(0, 3, 1, 2)
        return self.norm2(self.conv2(x).permute(0, 2, 3, 1))  # (N, H / 4, W / 4, C)


class Level(nn.Module):
    """The blocks of one resolution, then a strided convolution to the next.

    The output is taken after the level's norm and before the downsampling.
    """

    def __init__(self, config: InternImageConfig, level: int) -> None:
        super().__init__()
        channels = config.out_channels[level]
        rates = config.block_drop_path[level]
        self.blocks = nn.ModuleList(Block(config, channels, config.groups[level], rate) for rate in rates)
        has_norm = not config.post_norm or config.center_feature_scale
        self.norm = nn.LayerNorm(channels, eps=1e-6) if has_norm else nn.Identity()
        self.post_norm_blocks = config.level2_post_norm_blocks if level == 2 else ()
        self.post_norms = nn.ModuleList(nn.LayerNorm(channels, eps=1e-6) for _ in self.post_norm_blocks)
        self.downsample = Downsample(channels) if level < 3 else None
        self.activation_checkpointing = config.activation_checkpointing

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return this level's output (N, H, W, C) and the next level's input (N, H / 2, W / 2, 2 C)."""
        for index in range(len(self.blocks)):
            x = self.step(x, index)
        return self.leave(x)

    def step(self, x: Tensor, index: int) -> Tensor:
        """Run one block on (N, H, W, C), with the extra norm that follows some blocks of H and G."""
        block = self.blocks[index]
        if self.activation_checkpointing and torch.is_grad_enabled():
            x = checkpoint(block, x, use_reentrant=False)
        else:
            x = block(x)
        if index in self.post_norm_blocks:
            x = self.post_norms[self.post_norm_blocks.index(index)](x)
        return x

    def leave(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return what ``forward`` does, from the output of the last block."""
        x = self.norm(x)
        return x, x if self.downsample is None else self.downsample(x)


class Block(nn.Module):
    """DCNv3 mixes pixels, a two-layer perceptron mixes channels, each as a residual branch.

    Where the norms stand is what the variants differ in (InternImage, figure 3 and its code):
        pre-norm       x + scale * branch(norm(x))
        post-norm      x + scale * norm(branch(x))
        res-post-norm  x + res_norm(branch(norm(x)))
    """

    def __init__(self, config: InternImageConfig, channels: int, groups: int, drop_path: float) -> None:
        super().__init__()
        self.post_norm = config.post_norm
        self.norm1 = nn.LayerNorm(channels, eps=1e-6)
        self.dcn = DCNv3(
            channels,
            groups,
            depthwise_kernel=config.depthwise_kernel,
            offset_scale=config.offset_scale,
            center_feature_scale=config.center_feature_scale,
            backend=config.backend,
        )
        self.norm2 = nn.LayerNorm(channels, eps=1e-6)
        self.mlp = Feedforward(channels, int(channels * config.mlp_ratio))
        self.drop_path = DropPath(drop_path)
        self.scale1 = self.scale2 = self.res_norm1 = self.res_norm2 = None
        self.res_post_norm = config.res_post_norm and not config.post_norm and config.layer_scale is None
        if config.layer_scale is not None:
            self.scale1 = nn.Parameter(torch.full((channels,), config.layer_scale))
            self.scale2 = nn.Parameter(torch.full((channels,), config.layer_scale))
        if config.res_post_norm:
            self.res_norm1 = nn.LayerNorm(channels, eps=1e-6)
            self.res_norm2 = nn.LayerNorm(channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:  # (N, H, W, C)
        x = x + self.drop_path(self._branch(self.dcn, x, self.norm1, self.scale1, self.res_norm1))
        return x + self.drop_path(self._branch(self.mlp, x, self.norm2, self.scale2, self.res_norm2))

    def look(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Return offset and logits of the modulation, as ``DCNv3.look`` does, for the block's input x."""
        offset, logits, _ = self.dcn.look(x if self.post_norm else self.norm1(x))
        return offset, logits

    def _branch(self, layer, x, norm, scale, res_norm):
        y = norm(layer(x)) if self.post_norm else layer(norm(x))
        y = res_norm(y) if self.res_post_norm else y
        return y if scale is None else scale * y


class Feedforward(nn.Module):
    """Linear, GELU, linear, on each pixel alone: (N, H, W, C) in and out."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.fc1 = nn.Linear(channels, hidden)
        self.activation = nn.GELU()
        self.fc2 = nn.Linear(hidden, channels)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(self.activation(self.fc1(x)))


class Downsample(nn.Module):
    """Halve the resolution and double the channels: (N, H, W, C) to (N, H / 2, W / 2, 2 C)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(channels, 2 * channels, 3, stride=2, padding=1, bias=False)
        self.norm = nn.LayerNorm(2 * channels, eps=1e-6)

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(self.conv(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1))
