"""The DCNv3 layer: where offsets and modulation come from, and the two projections round the operator."""

from __future__ import annotations

from torch import Tensor, nn

from cascade_lab.layers.init import initialise
from cascade_lab.ops.dcnv3 import Backend, dcnv3


class DCNv3(nn.Module):
    """Deformable convolution, version 3: look at the picture to decide where to read it.

    A depth-wise convolution sees the neighbourhood of each pixel; two linear layers turn what it saw
    into ``kernel**2`` offsets and, through a softmax, ``kernel**2`` modulation scalars per group.

    Shapes: (N, H, W, C) in and out, channels last.
    Source: InternImage, section 3.1; ``center_feature_scale`` is used by the H and G models only.
    """

    def __init__(
        self,
        channels: int,
        groups: int,
        *,
        kernel: int = 3,
        depthwise_kernel: int = 3,
        offset_scale: float = 1.0,
        center_feature_scale: bool = False,
        backend: Backend = "auto",
    ) -> None:
        super().__init__()
        if channels % groups:
            raise ValueError(f"{channels} channels cannot be split into {groups} groups")
        self.groups, self.kernel, self.offset_scale = groups, kernel, offset_scale
        self.backend: Backend = backend
        points = groups * kernel * kernel
        self.center_scale = nn.Linear(channels, groups) if center_feature_scale else None
        self.depthwise = nn.Conv2d(
            channels, channels, depthwise_kernel, padding=depthwise_kernel // 2, groups=channels
        )
        self.depthwise_norm = nn.LayerNorm(channels, eps=1e-6)
        self.activation = nn.GELU()
        self.offset = nn.Linear(channels, points * 2)
        self.modulation = nn.Linear(channels, points)
        self.input_proj = nn.Linear(channels, channels)
        self.output_proj = nn.Linear(channels, channels)
        self._initialise()

    def forward(self, input: Tensor) -> Tensor:
        x = self.input_proj(input)  # (N, H, W, C)
        offset, logits, seen = self.look(input)
        y = self.sample(x, offset, logits)
        if self.center_scale is not None:
            share = self.center_scale(seen).sigmoid()  # (N, H, W, G)
            share = share.repeat_interleave(x.shape[-1] // self.groups, dim=-1)  # (N, H, W, C)
            y = y * (1 - share) + x * share
        return self.output_proj(y)

    def look(self, input: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Return offset (N, H, W, G * K * 2), logits of the modulation (N, H, W, G * K), and their source."""
        seen = self.depthwise(input.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)  # (N, H, W, C)
        seen = self.activation(self.depthwise_norm(seen))
        return self.offset(seen), self.modulation(seen), seen

    def sample(self, input: Tensor, offset: Tensor, logits: Tensor) -> Tensor:
        """Read (N, H, W, C) at the moved points and add up what was read, (N, H, W, C)."""
        return dcnv3(
            input,
            offset,
            logits,
            groups=self.groups,
            kernel=self.kernel,
            padding=self.kernel // 2,
            offset_scale=self.offset_scale,
            rule="softmax",
            backend=self.backend,
        )

    def _initialise(self) -> None:
        """Start as a plain average over the regular grid: zero offsets, equal modulation."""
        scales = [] if self.center_scale is None else [self.center_scale]
        initialise([self.offset, self.modulation, *scales], nn.init.zeros_)
        initialise([self.input_proj, self.output_proj], nn.init.xavier_uniform_)
