"""InternImage: shapes, variants, drop path, depth of every parameter, and refused settings."""

import weakref
from dataclasses import replace

import pytest
import torch
from torch import nn
from torch.testing import assert_close
from torch.utils._python_dispatch import TorchDispatchMode

from cascade_lab.backbones.internimage import Block, InternImage, InternImageConfig
from cascade_lab.ops import dcnv3
from tests.tiny_detector import without_gradient

TINY = InternImageConfig(channels=4, depths=(1, 1, 2, 1), groups=(1, 2, 2, 4), mlp_ratio=2.0)
VARIANTS = {
    "pre-norm": TINY,
    "pre-norm with layer scale": replace(TINY, layer_scale=1.0),
    "post-norm": replace(TINY, post_norm=True),
    "post-norm with layer scale": replace(TINY, post_norm=True, layer_scale=1.0, offset_scale=2.0),
    "res-post-norm": replace(TINY, res_post_norm=True),
    "huge": replace(
        TINY,
        res_post_norm=True,
        depthwise_kernel=5,
        center_feature_scale=True,
        level2_post_norm_blocks=(0, 1),
    ),
    "post-norm with center scale": replace(TINY, post_norm=True, center_feature_scale=True),
    "checkpointing": replace(TINY, activation_checkpointing=True),
    "readable operator": replace(TINY, backend="reference"),
}


def build(config: InternImageConfig, seed: int = 0) -> InternImage:
    """Build a backbone whose offsets and modulation, zero at first, depend on the picture."""
    torch.manual_seed(seed)
    backbone = InternImage(config)
    for name, module in backbone.named_modules():
        if isinstance(module, nn.Linear) and name.endswith(("dcn.offset", "dcn.modulation", "center_scale")):
            nn.init.normal_(module.weight, std=0.3)
    return backbone


@pytest.mark.parametrize("size", [(64, 96), (33, 70), (61, 47), (5, 7)])
def test_maps_are_rounded_up(size: tuple[int, int]):
    """Every strided convolution turns n pixels into ceil(n / 2), starting with two in the stem."""
    h, w = (-(-length // 2) for length in size)
    maps = build(TINY).eval()(torch.randn(2, 3, *size))
    assert len(maps) == 4
    for level, features in enumerate(maps):
        h, w = -(-h // 2), -(-w // 2)
        assert features.shape == (2, 4 * 2**level, h, w)
        assert features.is_contiguous(memory_format=torch.channels_last)
    assert TINY.out_channels == (4, 8, 16, 32) and TINY.strides == (4, 8, 16, 32)


@pytest.mark.parametrize("config", VARIANTS.values(), ids=VARIANTS)
def test_every_parameter_learns(config: InternImageConfig):
    backbone = build(config).train()
    torch.manual_seed(0)
    maps = backbone(torch.randn(2, 3, 48, 40))
    torch.stack([(m * torch.randn_like(m)).sum() for m in maps]).sum().backward()
    assert without_gradient(backbone) == []
    assert all(p.grad is not None and p.grad.isfinite().all() and p.grad.any() for p in backbone.parameters())


def test_checkpointing_and_operator_change_nothing():
    pixels = torch.randn(1, 3, 40, 40, generator=torch.Generator().manual_seed(1))
    outputs, grads = [], []
    for name in ("pre-norm", "checkpointing", "readable operator"):
        backbone = build(VARIANTS[name])
        out = backbone(pixels)[3]
        out.square().sum().backward()
        outputs.append(out)
        grads.append(backbone.stem.conv1.weight.grad)
    for out, grad in zip(outputs[1:], grads[1:], strict=True):
        assert_close(out, outputs[0], atol=1e-4, rtol=1e-4)
        assert_close(grad, grads[0], atol=1e-3, rtol=1e-3)


class LiveBytes(TorchDispatchMode):
    """Counts the bytes of all tensors that were made inside and still live, and remembers the most."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.most = 0
        self.known: set[int] = set()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        for tensor in torch.utils._pytree.tree_leaves(out):
            if isinstance(tensor, torch.Tensor) and tensor.untyped_storage().data_ptr() not in self.known:
                storage = tensor.untyped_storage()
                self.known.add(storage.data_ptr())
                self.live += storage.nbytes()
                self.most = max(self.most, self.live)
                weakref.finalize(storage, self._gone, storage.data_ptr(), storage.nbytes())
        return out

    def _gone(self, pointer: int, size: int) -> None:
        self.known.discard(pointer)
        self.live -= size


@pytest.mark.parametrize("half", [None, torch.bfloat16, torch.float16], ids=str)
def test_checkpointing_drops_the_same_paths_in_less_memory(half: torch.dtype | None):
    """Drop path draws again in the backward pass: another draw would give gradients of another network.

    And the first use of a kernel checks it: in the forward pass, but not in the second one.
    """
    config = replace(VARIANTS["pre-norm"], depths=(2, 2, 6, 2), drop_path=0.5)
    pixels = torch.randn(3, 3, 64, 64, generator=torch.Generator().manual_seed(1))
    gradients, peaks = [], []
    for checkpointing in (False, True):
        backbone = build(replace(config, activation_checkpointing=checkpointing)).train()
        dcnv3.why.cache_clear()
        torch.manual_seed(2)
        with LiveBytes() as memory:
            with torch.autocast("cpu", half, enabled=half is not None):
                maps = backbone(pixels)
            torch.stack([m.float().square().mean() for m in maps]).sum().backward()
        gradients.append({name: p.grad for name, p in backbone.named_parameters()})
        peaks.append(memory.most)
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, atol=1e-5, rtol=1e-5, msg=lambda m, n=name: f"{n}: {m}")
    assert peaks[1] < 0.6 * peaks[0]


# --- the block: where the norms stand


@pytest.mark.parametrize("post_norm", [False, True])
@pytest.mark.parametrize("scale", [None, 0.5])
@pytest.mark.parametrize("res_post_norm", [False, True])
def test_block_is_its_equation(post_norm: bool, scale: float | None, res_post_norm: bool):
    torch.manual_seed(0)
    config = replace(TINY, post_norm=post_norm, layer_scale=scale, res_post_norm=res_post_norm)
    block = Block(config, 4, 2, drop_path=0.0)
    for module in block.modules():
        if isinstance(module, nn.LayerNorm):  # tell the norms apart
            nn.init.normal_(module.weight, mean=1.0)
            nn.init.normal_(module.bias)
    x = torch.randn(1, 4, 5, 4)
    y = x
    for layer, norm, extra in (
        (block.dcn, block.norm1, block.res_norm1),
        (block.mlp, block.norm2, block.res_norm2),
    ):
        branch = norm(layer(y)) if post_norm else layer(norm(y))
        if res_post_norm and not post_norm and scale is None:
            assert extra is not None
            branch = extra(branch)
        else:  # as in the official code, the norms may exist and do nothing
            assert (extra is not None) == res_post_norm
        y = y + (branch if scale is None else scale * branch)
    assert_close(block(x), y)


def test_norm_after_chosen_blocks_of_the_third_level():
    """An extra norm after block 1 alone: the level is block, block, norm, norm of the level."""
    backbone = build(replace(TINY, level2_post_norm_blocks=(1,))).eval()
    level, x = backbone.levels[2], torch.randn(1, 4, 4, 16)
    nn.init.normal_(level.post_norms[0].weight)
    expected = level.norm(level.post_norms[0](level.blocks[1](level.blocks[0](x))))
    out, handed_on = level(x)
    assert_close(out, expected)
    assert_close(handed_on, level.downsample(expected))
    assert [len(other.post_norms) for other in backbone.levels] == [0, 0, 1, 0]


@pytest.mark.parametrize(
    ("post_norm", "center", "has_norm"),
    [(False, False, True), (True, False, False), (True, True, True), (False, True, True)],
)
def test_which_levels_end_in_a_norm(post_norm: bool, center: bool, has_norm: bool):
    backbone = InternImage(replace(TINY, post_norm=post_norm, center_feature_scale=center))
    assert all(isinstance(level.norm, nn.LayerNorm) == has_norm for level in backbone.levels)


# --- drop path


def test_drop_path_grows_linearly_over_all_blocks():
    config = replace(TINY, depths=(2, 1, 1, 1), drop_path=0.4)
    expected = [[0.0, 0.1], [0.2], [0.3], [0.4]]
    for level, rates in enumerate(config.block_drop_path):
        assert rates == pytest.approx(expected[level], abs=1e-6)
        blocks = InternImage(config).levels[level].blocks
        assert [block.drop_path.rate for block in blocks] == pytest.approx(expected[level], abs=1e-6)


def test_drop_path_is_off_outside_training():
    backbone, pixels = build(replace(TINY, drop_path=0.5)), torch.randn(4, 3, 32, 32)
    with torch.no_grad():
        once, again = backbone.eval()(pixels)[3], backbone(pixels)[3]
        backbone.train()
        torch.manual_seed(0)
        other = backbone(pixels)[3]
    assert torch.equal(once, again)
    assert not torch.allclose(once, other)


# --- depth of the parameters


def test_layer_of():
    """Depths (2, 1, 3, 1): blocks are numbered 1 to 7; a level's tail counts as the next level's first."""
    config = replace(TINY, depths=(2, 1, 3, 1), level2_post_norm_blocks=(1, 2), layer_scale=None)
    backbone = InternImage(config)
    expected = {
        "stem.conv1.weight": 0,
        "stem.norm2.bias": 0,
        "levels.0.blocks.0.norm1.weight": 1,
        "levels.0.blocks.1.dcn.offset.weight": 2,
        "levels.0.norm.weight": 3,
        "levels.0.downsample.conv.weight": 3,
        "levels.1.blocks.0.mlp.fc1.weight": 3,
        "levels.1.downsample.norm.bias": 4,
        "levels.2.blocks.2.norm2.weight": 6,
        "levels.2.post_norms.0.weight": 4,  # the official code takes their number for that of a block
        "levels.2.post_norms.1.weight": 5,
        "levels.2.norm.bias": 7,
        "levels.3.blocks.0.norm1.bias": 7,
        "levels.3.norm.weight": 7,
    }
    names = dict(backbone.named_parameters())
    for name, layer in expected.items():
        assert name in names
        assert backbone.layer_of(name) == layer, name
    assert backbone.num_layers == 7
    assert {backbone.layer_of(name) for name in names} == set(range(8))


def test_tail_of_the_last_level_counts_as_its_own_first_block():
    backbone = InternImage(replace(TINY, depths=(1, 1, 1, 3)))
    assert (
        backbone.layer_of("levels.3.norm.weight") == backbone.layer_of("levels.3.blocks.0.norm1.weight") == 4
    )
    assert backbone.layer_of("levels.3.blocks.2.norm1.weight") == 6


# --- settings that are refused


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"groups": (1, 2, 2, 5)}, "level 3: 32 channels cannot be split into 5 groups"),
        ({"channels": 5, "groups": (1, 1, 1, 1)}, "channels must be even"),
        ({"groups": (1, 2, 2)}, "groups"),
        ({"depths": (1, 1, 2)}, "depths"),
        ({"depths": (1, 0, 2, 1)}, "depths"),
        ({"drop_path": 1.0}, "drop_path"),
        ({"depthwise_kernel": 4}, "depthwise_kernel"),
    ],
)
def test_impossible_settings_are_refused(changes: dict, message: str):
    with pytest.raises(ValueError, match=message):
        replace(TINY, **changes)


def test_starts_as_published():
    torch.manual_seed(0)
    backbone = InternImage(replace(TINY, channels=32, groups=(2, 2, 2, 2), layer_scale=0.1))
    block = backbone.levels[3].blocks[0]
    assert_close(block.mlp.fc1.weight.std(), torch.tensor(0.02), atol=1e-3, rtol=0)
    assert not block.mlp.fc2.bias.any() and not block.dcn.offset.weight.any()
    assert torch.equal(block.scale1, torch.full((256,), 0.1))
