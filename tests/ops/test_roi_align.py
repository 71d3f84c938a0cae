"""RoIAlign: the fast ones against their readable twin and torchvision's, and all against features whose mean
is known; then the operator as torch sees it."""

import logging
from collections.abc import Callable
from functools import partial

import pytest
import torch
import torchvision
from torch import Tensor
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from cascade_lab.kernels import cpu_backend, host_compiler, machines
from cascade_lab.ops import roi_align as module
from cascade_lab.ops.roi_align import Backend, pyramid_roi_align, roi_align
from cascade_lab.ops.roi_align_reference import axis_samples, roi_align_reference

COMPILER = host_compiler.find() is not None
needs_compiler = pytest.mark.skipif(not COMPILER, reason="no C++ compiler on the PATH")
BOTH = pytest.mark.parametrize("function", [roi_align, roi_align_reference])
KERNELS = pytest.mark.parametrize(
    "backend", [pytest.param("cpu", marks=needs_compiler), pytest.param("emulator", marks=needs_compiler)]
)

# Ordinary, sticking out on two sides, off the picture, thin, without width, smaller than one cell.
ROIS = torch.tensor(
    [
        [0.0, 3, 5, 29, 31],
        [1, -9, -7, 20, 50],
        [1, 300, 300, 320, 310],
        [0, 10, 2, 11, 40],
        [1, 8, 8, 8, 20],
        [0, 17.3, 9.1, 17.9, 9.6],
    ]
)
# On top of these: inverted one way and both, without any extent, the whole map, much larger than it, and with
# sides on the map's border and on the last places that count, half a cell beyond it.
MORE = torch.tensor(
    [
        [1.0, 30, 5, 4, 20],
        [3, 30, 25, 4, 2],
        [0, 7, 7, 7, 7],
        [3, 0, 0, 44, 36],
        [1, -70, -60, 130, 150],
        [0, 0, -2, 46, 36],
        [3, -2, 0, 44, 38],
    ]
)
ALL = torch.cat([ROIS, MORE])  # none is of picture 2
SCALES = (0.25, 0.125, 0.0625)
LEVELS = torch.arange(len(ALL)) % 2  # none is read from level 2


def features(dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.randn(2, 3, 9, 11, dtype=dtype, generator=torch.Generator().manual_seed(0))


def pyramid(channels: int = 3, dtype: torch.dtype = torch.float64, pictures: int = 4) -> list[Tensor]:
    """Three levels of a picture of 44 x 36 pixels."""
    generator = torch.Generator().manual_seed(0)
    sizes = ((9, 11), (5, 6), (3, 3))
    return [torch.randn(pictures, channels, *size, generator=generator).to(dtype) for size in sizes]


def leaves(channels: int = 3, dtype: torch.dtype = torch.float64, pictures: int = 4) -> list[Tensor]:
    return [level.requires_grad_() for level in pyramid(channels, dtype, pictures)]


def level_by_level(maps: list[Tensor], size: int, ratio: int) -> Tensor:
    """Read ALL with torchvision alone, but for inverted rois with as many samples as a side is long.

    Those are none, and zeros; torchvision takes a negative length of memory for them, and may fail.
    """
    read = []
    for roi, level in zip(ALL.to(maps[0].dtype), LEVELS.tolist(), strict=True):
        if not ratio and bool((roi[3:] < roi[1:3]).any()):
            read.append(maps[0].new_zeros(1, maps[0].shape[1], size, size))
        else:
            settings = (size, SCALES[level], ratio or -1)
            read.append(torchvision.ops.roi_align(maps[level], roi[None], *settings, aligned=True))
    return torch.cat(read)


def upstream(pooled: Tensor) -> Tensor:
    made = torch.randn(pooled.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    return made.to(pooled.dtype)


@BOTH
def test_a_slope_is_read_at_the_middle_of_each_bin(function: Callable[..., Tensor]):
    # The value is the x of the cell's centre in pixels (stride 4), so a bin reads its own centre exactly.
    slope = (torch.arange(16.0) * 4 + 2).expand(1, 1, 16, 16)
    pooled = function(slope, torch.tensor([[0.0, 8, 8, 48, 40]]), 4, 0.25)
    assert_close(pooled[0, 0], torch.tensor([13.0, 23, 33, 43]).expand(4, 4))


def test_samples_lie_evenly_and_count_where_there_is_a_map():
    """Bins of 2 cells take 2 samples, one of half a cell takes 1; beyond one cell outside none counts."""
    start, end = torch.tensor([0.0, 2.0, -4.0]), torch.tensor([4.0, 3.0, 0.0])
    positions, counts = axis_samples(start, end, bins=2, length=3, sampling_ratio=0)
    assert_close(positions[0], torch.tensor([[0.5, 1.5], [2.5, 3.5]]))
    assert counts[0].tolist() == [[True, True], [True, False]]
    assert_close(positions[1, :, 0], torch.tensor([2.25, 2.75]))
    assert counts[1].tolist() == [[True, False], [True, False]]
    assert_close(positions[2], torch.tensor([[-3.5, -2.5], [-1.5, -0.5]]))
    assert counts[2].tolist() == [[False, False], [False, True]]
    assert axis_samples(start, end, 2, 3, sampling_ratio=4)[0].shape == (3, 2, 4)


@BOTH
def test_one_cell_is_itself(function: Callable[..., Tensor]):
    maps = torch.arange(12.0).view(1, 1, 3, 4)
    pooled = function(maps, torch.tensor([[0.0, 2, 1, 3, 2]]), 1, 1.0)
    assert pooled.flatten().tolist() == [6]


@BOTH
def test_off_the_map_is_zero(function: Callable[..., Tensor]):
    ones = torch.ones(1, 1, 4, 4)
    assert not function(ones, torch.tensor([[0.0, 40, 40, 48, 48]]), 2, 1.0).any()
    # The left bin samples at -4, -3, -2 and -1 (in cell centres); only the last is near enough to count.
    half = function(ones, torch.tensor([[0.0, -4, 0, 4, 4]]), 2, 1.0)[0, 0]
    assert half.tolist() == [[0.25, 1], [0.25, 1]]
    # The right bin samples at 4, 5, 6 and 7, and the first is near enough.
    half = function(ones, torch.tensor([[0.0, 0, 0, 8, 4]]), 2, 1.0)[0, 0]
    assert half.tolist() == [[1, 0.25], [1, 0.25]]


@pytest.mark.parametrize("ratio", [-1, 0, 1, 2, 3])
@pytest.mark.parametrize("size", [1, 3, 7])
def test_twin(size: int, ratio: int):
    a, b = features().requires_grad_(), features().requires_grad_()
    rois = ROIS.double()
    fast, slow = roi_align(a, rois, size, 0.25, ratio), roi_align_reference(b, rois, size, 0.25, ratio)
    assert_close(fast, slow, atol=1e-12, rtol=0)
    assert_close(roi_align(a.detach(), rois, size, 0.25, ratio), slow, atol=1e-12, rtol=0)
    upstream = torch.randn(fast.shape, dtype=fast.dtype, generator=torch.Generator().manual_seed(1))
    (fast * upstream).sum().backward()
    (slow * upstream).sum().backward()
    assert_close(a.grad, b.grad, atol=1e-12, rtol=0)


def test_half_features_are_summed_in_float32():
    narrow = features().bfloat16()
    # In bfloat16 the coordinate 1001 would be 1000.
    rois = torch.tensor([[0.0, 1001, 1001, 1013, 1013]])
    pooled = roi_align(narrow, rois, 2, 1 / 128)
    assert pooled.dtype == torch.bfloat16
    assert_close(pooled, roi_align_reference(narrow.float(), rois, 2, 1 / 128).bfloat16())


def test_no_rois_stay_in_the_graph():
    maps = features(torch.float32).requires_grad_()
    pooled = roi_align(maps, torch.zeros(0, 5), 7, 0.25)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    assert maps.grad is not None and not maps.grad.any()


# --- the kernels, and all levels at once


@pytest.mark.parametrize(
    "backend",
    [*(pytest.param(m, marks=needs_compiler) for m in ("cpu", "emulator")), "torchvision", "reference"],
)
@pytest.mark.parametrize(
    ("roi", "ratio"), [([torch.nan] * 4, 0), ([torch.nan] * 4, 2), ([30.0, 10.0, 10.0, 90.0], 0)], ids=str
)
def test_a_roi_that_is_none_reads_nothing(backend: Backend, roi: list[float], ratio: int):
    """Not a number, or inverted with as many samples as its sides are long. Its neighbour is read as ever."""
    maps = torch.ones(1, 2, 16, 16, requires_grad=True)
    rois = torch.tensor([[0.0, *roi], [0, 8, 8, 40, 40]])
    pooled = roi_align(maps, rois, 2, 0.25, ratio, backend=backend)
    assert not pooled[0].any() and torch.equal(pooled[1], torch.ones(2, 2, 2))
    (grad,) = torch.autograd.grad(pooled.sum(), maps)
    assert grad.isfinite().all() and grad.sum().item() == pytest.approx(8)


@KERNELS
@pytest.mark.parametrize(("dtype", "near"), [(torch.float32, 1e-5), (torch.float64, 1e-10)], ids=str)
@pytest.mark.parametrize(("size", "ratio"), [(7, 0), (7, 2), (2, 0), (3, 3)])
def test_kernels_equal_torchvision(backend: Backend, size: int, ratio: int, dtype: torch.dtype, near: float):
    own, other = leaves(dtype=dtype), leaves(dtype=dtype)
    pooled = pyramid_roi_align(own, ALL, LEVELS, size, SCALES, ratio, backend=backend)
    expected = level_by_level(other, size, ratio)
    assert expected[:, 0].flatten(1).any(1).sum() >= 8  # most of the rois read something
    assert_close(pooled, expected, atol=near, rtol=near)
    grads = torch.autograd.grad(pooled, own, upstream(pooled))
    wanted = torch.autograd.grad(expected, other[:2], upstream(expected))
    assert not grads[2].any()  # of a level that no roi was read from
    for grad, want in zip(grads[:2], wanted, strict=True):
        assert want[[0, 1, 3]].flatten(1).any(1).all() and not grad[2].any()
        assert_close(grad, want, atol=near, rtol=near)


@needs_compiler
@pytest.mark.parametrize("channels", [1, 3, 48, 256])
def test_any_number_of_channels(channels: int):
    """From torchvision's result for one channel at a time."""
    own = leaves(channels, torch.float32)
    pooled = pyramid_roi_align(own, ALL, LEVELS, 7, SCALES, backend="cpu")
    expected = level_by_level(pyramid(channels, torch.float32), 7, 0)
    assert pooled.shape == (len(ALL), channels, 7, 7)
    assert_close(pooled, expected, atol=1e-5, rtol=1e-5)
    others = [level.detach().clone().requires_grad_() for level in own]
    read = level_by_level(others, 7, 0)
    grads = torch.autograd.grad(pooled, own[:2], upstream(pooled))
    for grad, want in zip(grads, torch.autograd.grad(read, others[:2], upstream(read)), strict=True):
        assert_close(grad, want, atol=1e-5, rtol=1e-5)


@KERNELS
def test_bins_of_many_cells(backend: Backend):
    """Rows and columns are weighed eight at a time; here a bin has up to 38 of them."""
    maps = torch.randn(1, 4, 40, 50, generator=torch.Generator().manual_seed(0)).requires_grad_()
    rois = torch.tensor([[0.0, 1, 2, 47, 38.5], [0, -5, 3, 60, 4], [0, 0, 0, 9, 40]])
    for size, ratio in ((1, 0), (2, 0), (3, 0), (2, 3)):
        pooled = roi_align(maps, rois, size, 1.0, ratio, backend=backend)
        expected = torchvision.ops.roi_align(maps, rois, size, 1.0, ratio or -1, aligned=True)
        assert_close(pooled, expected, atol=1e-5, rtol=1e-5)
        grads = [torch.autograd.grad(y, maps, upstream(y))[0] for y in (pooled, expected)]
        assert_close(*grads, atol=1e-5, rtol=1e-5)


@KERNELS
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_types(backend: Backend, dtype: torch.dtype):
    """As in float64 on the same numbers, rounded once."""
    own, other = leaves(16, dtype), [level.double().requires_grad_() for level in pyramid(16, dtype)]
    found = []
    grad = torch.randn(len(ALL), 16, 3, 3, generator=torch.Generator().manual_seed(1)).to(dtype)
    for maps, who in ((own, backend), (other, "reference")):
        pooled = pyramid_roi_align(maps, ALL, LEVELS, 3, SCALES, backend=who)
        found.append([pooled, *torch.autograd.grad(pooled, maps, grad.to(pooled.dtype))])
    assert {tensor.dtype for tensor in found[0]} == {dtype}
    for narrow, wide in zip(*found, strict=True):
        assert_close(narrow.double(), wide, atol=1e-5, rtol=torch.finfo(dtype).eps)


@needs_compiler
@pytest.mark.parametrize("ratio", [0, 2])
def test_gradcheck(ratio: int):
    maps = [level.detach()[:, :2].clone().requires_grad_() for level in pyramid(pictures=2)]
    rois, levels = ROIS[:4], torch.tensor([0, 1, 2, 0])

    def run(*maps: Tensor) -> Tensor:
        return pyramid_roi_align(maps, rois, levels, 2, SCALES, ratio, backend="cpu")

    assert torch.autograd.gradcheck(run, maps, nondet_tol=0.0)


@KERNELS
@pytest.mark.parametrize("ratio", [0, 2])
def test_what_is_no_number_reads_nothing(backend: Backend, ratio: int):
    nan, inf = float("nan"), float("inf")
    rois = torch.tensor(
        [
            [0, nan, 1, 9, 9],
            [0, 1, 1, 9, nan],
            [0, -inf, 1, inf, 9],
            [0, 1, inf, 9, inf],
            [0, 1e30, 1, 2e30, 9],
        ]
    )
    maps = leaves(pictures=1)
    levels = torch.zeros(len(rois), dtype=torch.int64)
    pooled = pyramid_roi_align(maps, rois, levels, 3, SCALES, ratio, backend=backend)
    grads = torch.autograd.grad(pooled.sum(), maps)
    assert not pooled.any() and not any(grad.any() for grad in grads)


@KERNELS
def test_memory_order_does_not_matter(backend: Backend):
    """Maps and gradients come in NCHW, channels last, or cut out of something larger."""
    plain = pyramid(8)
    last = [level.contiguous(memory_format=torch.channels_last) for level in plain]
    cut = [torch.nn.functional.pad(level, (1, 2, 3, 4), value=9.0)[:, :, 3:-4, 1:-2] for level in plain]
    results = []
    for maps in (plain, last, cut):
        own = [level.detach().requires_grad_() for level in maps]
        pooled = pyramid_roi_align(own, ALL, LEVELS, 3, SCALES, backend=backend)
        assert pooled.is_contiguous(memory_format=torch.channels_last)
        for grad in (upstream(pooled), upstream(pooled).contiguous(memory_format=torch.channels_last)):
            results.append([pooled, *torch.autograd.grad(pooled, own, grad, retain_graph=True)])
    for result in results[1:]:
        assert all(torch.equal(a, b) for a, b in zip(results[0], result, strict=True))


@needs_compiler
def test_the_number_of_threads_changes_no_bit(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(cpu_backend, "THREADS_WORTH_A_WORKER", 1)
    before, results = torch.get_num_threads(), {}
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            for channels in (3, 48, 64):
                own = leaves(channels, torch.float32)
                pooled = pyramid_roi_align(own, ALL, LEVELS, 7, SCALES, backend="cpu")
                grads = torch.autograd.grad(pooled, own, upstream(pooled))
                results[threads, channels] = [pooled, *grads]
        finally:
            torch.set_num_threads(before)
    for (_, channels), found in results.items():
        assert all(torch.equal(a, b) for a, b in zip(found, results[1, channels], strict=True))


@pytest.mark.parametrize(
    "backend",
    [*(pytest.param(m, marks=needs_compiler) for m in ("cpu", "emulator")), "torchvision", "reference"],
)
def test_an_empty_selection_gives_every_level_a_gradient(backend: Backend):
    maps = leaves(dtype=torch.float32)
    none = torch.zeros(0, dtype=torch.int64)
    pooled = pyramid_roi_align(maps, ALL[:0], none, 7, SCALES, backend=backend)
    assert pooled.shape == (0, 3, 7, 7)
    pooled.sum().backward()
    for level in maps:
        assert level.grad is not None and level.grad.shape == level.shape and not level.grad.any()


def test_wrong_shapes_and_numbers_are_refused():
    maps = pyramid()
    with pytest.raises(ValueError, match="2 scales for levels"):
        pyramid_roi_align(maps, ALL, LEVELS, 7, SCALES[:2])
    with pytest.raises(ValueError, match="levels of the same pictures, channels"):
        pyramid_roi_align([maps[0], maps[1][:, :2], maps[2]], ALL, LEVELS, 7, SCALES)
    with pytest.raises(ValueError, match=r"13 rois must be \(13, 5\), got \(13, 4\)"):
        pyramid_roi_align(maps, ALL[:, :4], LEVELS, 7, SCALES)


@needs_compiler
def test_rois_of_nothing_are_refused():
    maps = pyramid()
    run = partial(pyramid_roi_align, output_size=7, spatial_scales=SCALES, backend="cpu")
    for level in (-1, 3):
        with pytest.raises(ValueError, match="levels .* but there are 3"):
            run(maps, ALL, torch.full_like(LEVELS, level))
    for picture in (-1.0, 4.0, float("nan")):
        rois = ALL.clone()
        rois[3, 0] = picture
        with pytest.raises(ValueError, match="pictures .* but there are 4"):
            run(maps, rois, LEVELS)
    with pytest.raises(ValueError, match="8 levels at most, got 9"):
        pyramid_roi_align(maps * 3, ALL, LEVELS, 7, SCALES * 3, backend="cpu")
    with pytest.raises(ValueError, match="a level is empty"):
        run([*maps[:2], maps[2][:, :, :0]], ALL, LEVELS)


# --- the operator as torch sees it


@needs_compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own check
def test_opcheck():
    maps, scales = leaves(dtype=torch.float32), list(SCALES)
    operator = torch.ops.cascade_lab
    torch.library.opcheck(operator.pool_rois.default, (maps, ALL, LEVELS, 3, scales, 0, "cpu"))
    shapes = [length for level in maps for length in level.shape]
    grad = torch.randn(len(ALL), 3, 3, 3)
    torch.library.opcheck(operator.pool_rois_backward.default, (grad, shapes, ALL, LEVELS, scales, 0, "cpu"))


@needs_compiler
def test_compile_in_one_graph_with_sizes_that_change():
    def run(maps: list[Tensor], rois: Tensor, levels: Tensor) -> Tensor:
        return pyramid_roi_align(maps, rois, levels, 3, SCALES).sin()

    compiled = torch.compile(run, fullgraph=True, dynamic=True, backend="aot_eager")
    for count, channels in ((len(ALL), 4), (7, 8), (2, 6)):
        own = leaves(channels, torch.float32)
        eager = run(own, ALL[:count], LEVELS[:count])
        found = compiled(own, ALL[:count], LEVELS[:count])
        assert_close(found, eager)
        grads = [torch.autograd.grad(y.sum(), own) for y in (found, eager)]
        for a, b in zip(*grads, strict=True):
            assert_close(a, b)


@needs_compiler
def test_activation_checkpointing_changes_nothing():
    own = leaves(4, torch.float32)

    def run(*maps: Tensor) -> Tensor:
        return pyramid_roi_align(maps, ALL, LEVELS, 3, SCALES, backend="cpu")

    plain = torch.autograd.grad(run(*own).sum(), own)
    again = torch.autograd.grad(checkpoint(run, *own, use_reentrant=False).sum(), own)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@needs_compiler
def test_autocast_leaves_features_and_coordinates_as_they_are():
    own = pyramid(4, torch.float32)
    plain = pyramid_roi_align(own, ALL, LEVELS, 3, SCALES)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(pyramid_roi_align(own, ALL, LEVELS, 3, SCALES), plain)


@needs_compiler
def test_double_backward_is_refused():
    own = leaves(4)
    pooled = pyramid_roi_align(own, ALL, LEVELS, 3, SCALES, backend="cpu")
    grad = upstream(pooled).requires_grad_()
    first = torch.autograd.grad(pooled, own, grad, create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative"):
        torch.autograd.grad(first[0].sum(), grad)


def test_without_a_compiler_torchvision_reads(monkeypatch: pytest.MonkeyPatch, caplog):
    caplog.set_level(logging.INFO, module.__name__)
    monkeypatch.setattr(machines, "obstacle", lambda device: "nobody compiles here")
    own, other = leaves(), leaves()
    module.why.cache_clear()
    try:
        assert module.choose("cpu", torch.float64) == "torchvision"
        pooled = pyramid_roi_align(own, ALL, LEVELS, 3, SCALES, 2)
    finally:
        module.why.cache_clear()
    assert "nobody compiles here" in caplog.text
    assert_close(pooled, level_by_level(other, 3, 2), atol=1e-10, rtol=1e-10)
    pooled.sum().backward()
    assert all(level.grad is not None for level in own)


@needs_compiler
def test_with_a_compiler_the_kernels_read():
    assert module.choose("cpu", torch.float32) == "cpu"
    assert module.choose("cpu", torch.uint8) == "torchvision"


@pytest.mark.parametrize("switched_off", [False, True])
def test_on_the_meta_device_there_are_shapes(switched_off: bool, monkeypatch: pytest.MonkeyPatch):
    """Also where no kernel could run: torchvision's way asks for the numbers of the levels."""
    monkeypatch.setattr(machines, "are_switched_off", lambda: switched_off)
    maps = [level.to("meta").requires_grad_() for level in pyramid()]
    pooled = pyramid_roi_align(maps, ALL.to("meta"), LEVELS.to("meta"), 3, SCALES)
    assert pooled.is_meta and pooled.shape == (len(ALL), 3, 3, 3)
    pooled.sum().backward()
    assert [level.grad.shape for level in maps] == [level.shape for level in maps]


@needs_compiler
def test_kernels_that_compute_something_else_are_found(monkeypatch: pytest.MonkeyPatch):
    right = module.kernels.forward
    monkeypatch.setattr(module.kernels, "forward", lambda *args: right(*args) * 1.001)
    with pytest.raises(RuntimeError, match="differ from the reference by 1.0e-03"):
        module.self_check("cpu")


def test_deterministic_algorithms_keep_the_gpu_from_atomics():
    torch.use_deterministic_algorithms(True)
    try:
        assert module.choose("cuda", torch.float32) == "torchvision"
    finally:
        torch.use_deterministic_algorithms(False)


@pytest.mark.gpu
@pytest.mark.skipif(machines.obstacle("cuda") != "", reason=machines.obstacle("cuda") or "there is a GPU")
def test_gpu_kernels_equal_torchvision():
    own = [level.detach().cuda().requires_grad_() for level in pyramid(48, torch.float32)]
    other = [level.detach().clone().requires_grad_() for level in own]
    found = []
    for maps, backend in ((own, "cuda"), (other, "torchvision")):
        pooled = pyramid_roi_align(maps, ALL.cuda(), LEVELS.cuda(), 7, SCALES, backend=backend)
        found.append([pooled, *torch.autograd.grad(pooled, maps, upstream(pooled).cuda())])
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected, atol=1e-4, rtol=1e-4)
