"""The RoIAlign kernels themselves: what runs where, nothing touched outside, and what NVRTC makes of them."""

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.kernels import host_compiler, roi_align, source
from cascade_lab.kernels.emulator import recording, run_orders
from cascade_lab.kernels.guard_pages import FencedOutputs, Side, fence, is_fenced
from cascade_lab.kernels.machines import Machine
from cascade_lab.ops.roi_align_reference import roi_align_reference
from tests.kernels import sass

needs_compiler = pytest.mark.skipif(
    host_compiler.find() is None,
    reason=f"no C++ compiler: none of {', '.join(host_compiler.COMPILERS)} is there",
)
FLOAT, DOUBLE, HALF = torch.float32, torch.float64, torch.float16

SCALES = (0.5, 0.25)
# In every corner and beyond it, over the whole map, without extent, inverted, of no number.
ROIS = torch.tensor(
    [
        [0.0, -3, -3, 5, 5],
        [1, 9, 7, 30, 30],
        [0, 0, 0, 12, 10],
        [1, 4, 4, 4, 4],
        [1, 11, 9, 1, 1],
        [0, float("nan"), 0, 5, 5],
    ]
)
LEVELS = torch.tensor([0, 1, 1, 0, 0, 1])


def maps_of(channels: int, dtype: torch.dtype) -> list[Tensor]:
    """Two levels of two pictures, channels last in memory."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((6, 8), (4, 4))
    made = [torch.randn(2, *size, channels, generator=generator, dtype=DOUBLE) for size in sizes]
    return [level.to(dtype).permute(0, 3, 1, 2) for level in made]


def run(machine: Machine, maps: list[Tensor], size: int, ratio: int = 0) -> dict[str, Tensor]:
    """Return pooled bins and, for a gradient of one everywhere, the gradients of the levels."""
    rois = ROIS.to(roi_align.wide(maps[0].dtype))
    pooled = roi_align.forward(machine, maps, SCALES, rois, LEVELS, size, ratio)
    shapes = [level.shape for level in maps]
    grads = roi_align.backward(machine, torch.ones_like(pooled), shapes, SCALES, rois, LEVELS, ratio)
    return {"pooled": pooled, **{f"grad {level}": grad for level, grad in enumerate(grads)}}


def expected(maps: list[Tensor], size: int, ratio: int) -> list[Tensor]:
    """The same by the definition, in float64."""
    own = [level.double().requires_grad_() for level in maps]
    rois = ROIS.nan_to_num(nan=1e4).double()  # off the map: reads nothing either
    read = [
        roi_align_reference(own[level], roi[None], size, SCALES[level], ratio)
        for roi, level in zip(rois, LEVELS.tolist(), strict=True)
    ]
    pooled = torch.cat(read)
    return [pooled.detach(), *torch.autograd.grad(pooled.sum(), own)]


def fenced(maps: list[Tensor], side: Side) -> list[Tensor]:
    return [fence(level.permute(0, 2, 3, 1), side).permute(0, 3, 1, 2) for level in maps]


@needs_compiler
@pytest.mark.parametrize("machine", ["cpu", "emulator"])
@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(
    ("channels", "dtype"),
    [(16, FLOAT), (32, FLOAT), (12, FLOAT), (5, FLOAT), (6, DOUBLE), (24, HALF)],
    ids=str,
)
def test_nothing_is_touched_outside(channels: int, dtype: torch.dtype, side: Side, machine: Machine):
    maps = fenced(maps_of(channels, dtype), side)
    for size, ratio in ((2, 0), (3, 2)):
        with FencedOutputs(side):
            found = run(machine, maps, size, ratio)
        assert is_fenced(found["pooled"])
        near = 1e-9 if dtype == DOUBLE else 1e-5 if dtype == FLOAT else 4e-3
        for actual, wanted in zip(found.values(), expected(maps, size, ratio), strict=True):
            assert_close(actual.double(), wanted, atol=near, rtol=near)


@needs_compiler
def test_the_order_of_threads_does_not_matter():
    maps = maps_of(8, FLOAT)
    rounding = {"grad 0": 1e-5, "grad 1": 1e-5}  # threads add to them
    run_orders(lambda: run("emulator", maps, 3), rounding=rounding)


@needs_compiler
def test_a_thread_tells_which_cells_it_reads():
    """Row 1 of bins, roi 2: 10 pixels are 2.5 cells of level 1, so a bin has 2 samples and 3 rows at most."""
    maps = maps_of(4, FLOAT)
    with recording(((0, 0, 0), (0, 2 * 2 + 1, 0))) as steps:
        pooled = roi_align.forward("emulator", maps, SCALES, ROIS, LEVELS, 2, 0)
    read = [step.values for step in steps if step.name == "read"]
    weights = torch.zeros(16)
    for cell, weight in read:
        weights[int(cell)] += weight
    by_hand = (maps[1][0].flatten(1) * weights).sum(1)  # of both bins together
    assert 4 <= len(read) <= 2 * 9
    samples = 2 * 2  # 1.5 cells wide, 1.25 high
    assert_close(by_hand / samples, pooled[2, :, 1].sum(1))


@needs_compiler
def test_pictures_far_beyond_two_to_the_31_numbers():
    """The last of many pictures begins behind 2**31 numbers; nothing but its pages is ever touched."""
    pictures, channels = 10, 2**22
    try:
        maps = torch.empty(pictures, 8, 8, channels, dtype=HALF).permute(0, 3, 1, 2)
    except RuntimeError as error:
        pytest.skip(f"this machine does not promise 5 GiB that nobody uses: {error}")
    assert maps[9].data_ptr() - maps.data_ptr() > 2 * 2**31
    maps[9, :, 2:4, 3:5] = 1.5
    rois = torch.tensor([[9.0, 3, 2, 4, 3]])
    pooled = roi_align.forward("cpu", [maps], [1.0], rois, torch.tensor([0]), 1, 0)
    assert (pooled == 1.5).all()


def test_channels_of_a_thread():
    def vector(*given) -> int:
        return roi_align.channels_of_a_thread(*given)

    assert [vector("cuda", FLOAT, c, 1) for c in (256, 48, 6, 5)] == [4, 4, 2, 1]
    assert [vector("cuda", HALF, c, 1) for c in (256, 12, 5)] == [8, 4, 1]
    assert [vector("cpu", FLOAT, c, 1) for c in (256, 48, 6, 5)] == [64, 16, 2, 1]
    assert vector("cpu", HALF, 256, 1) == 16
    # Two threads share 64 channels, eight share 256; but never less than 16 for one.
    assert [vector("cpu", FLOAT, 64, 2), vector("cpu", FLOAT, 256, 8), vector("cpu", FLOAT, 48, 8)] == [
        32,
        32,
        16,
    ]


@pytest.mark.parametrize("shape", [(2, 3, 4, 5), (2, 48, 16, 16), (1, 1, 80, 60), (3, 7, 1, 1)])
def test_channels_last(shape: tuple[int, ...]):
    maps = torch.randn(shape)
    for given in (maps, maps.flip(3).flip(3), maps.transpose(2, 3).contiguous().transpose(2, 3)):
        made = roi_align.channels_last(given)
        assert torch.equal(made, maps)
        assert made.permute(0, 2, 3, 1).is_contiguous()
    assert roi_align.channels_last(made) is made


@pytest.mark.skipif(bool(sass.why_not()), reason=sass.why_not())
@pytest.mark.parametrize(
    ("arch", "dtype"),
    [(80, FLOAT)]
    + [
        pytest.param(arch, dtype, marks=pytest.mark.slow)
        for arch in (75, 80, 90)
        for dtype in (FLOAT, HALF, torch.bfloat16, DOUBLE)
        if (arch, dtype) != (80, FLOAT)
    ],
    ids=str,
)
def test_nothing_lives_in_local_memory(arch: int, dtype: torch.dtype):
    if arch not in sass.architectures():
        pytest.skip(f"this NVRTC does not compile for sm_{arch}")
    names = roi_align.instances("cuda", dtype, 256, 1)
    codes = sass.compile(source.read(roi_align.FILE), names, arch)
    for name, code in codes.items():
        assert (code.stack, code.spills, code.find("LDL|STL")) == (0, 0, []), name
        assert code.registers <= (168 if dtype == DOUBLE else 128), name
    forward, backward = codes.values()
    assert forward.find(r"LDG\..*\b128\b") and forward.find(r"STG\..*\b128\b")
    added = backward.find("RED|ATOM")
    assert added
    if arch >= 90 and dtype != DOUBLE:
        assert all("x4" in opcode for opcode in added)
