"""What only a GPU can show: the kernels on one, and how they get along with torch's streams and graphs."""

import math
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.commands.bench_timing import CudaClock
from cascade_lab.commands.gpu_day.memory import peak
from cascade_lab.kernels import cupy_backend, machines
from cascade_lab.layers.dcnv3 import DCNv3
from cascade_lab.ops.dcnv3 import choose, dcnv3, self_check
from cascade_lab.targets.sampler import evenly
from tests import tiny_detector

WHY_NOT = cupy_backend.why_not()
pytestmark = [pytest.mark.gpu, pytest.mark.skipif(bool(WHY_NOT), reason=WHY_NOT or "-")]
TWO_GPUS = pytest.mark.skipif(
    torch.cuda.device_count() < 2, reason=f"needs two GPUs, there are {torch.cuda.device_count()}"
)

# (N, H, W), groups, channels of a group, and what differs from 3 x 3 points with stride, dilation, padding 1
CASES = {
    "plain": ((2, 17, 23), 4, 16, {}),
    "one channel": ((1, 9, 7), 3, 1, {}),
    "odd width": ((2, 8, 9), 2, 5, {}),
    "wide group": ((1, 6, 6), 2, 64, {}),
    "wider than a warp": ((1, 5, 5), 1, 160, {}),
    "many groups": ((1, 7, 7), 80, 16, {}),
    "stride 2": ((2, 17, 16), 2, 16, {"stride": 2}),
    "dilation 2": ((1, 15, 12), 2, 16, {"dilation": 2, "padding": 2, "offset_scale": 2.0}),
    "unequal": ((1, 12, 14), 2, 8, {"kernel": (3, 5), "stride": (2, 1), "padding": (1, 2)}),
    "one point": ((1, 8, 8), 2, 16, {"kernel": 1, "padding": 0}),
    "many blocks": ((1, 128, 130), 4, 16, {}),
}
RULES = ("softmax", "sigmoid", "none")


def leaves(name: str, dtype: torch.dtype, device: str | torch.device = "cuda") -> tuple[list[Tensor], Tensor]:
    """Return input, offset and logits of a case as leaves, and a gradient of its output."""
    (n, h, w), groups, channels, more = CASES[name]
    kernel, stride, dilation, padding = (
        _pair(more.get(key, default))
        for key, default in (("kernel", 3), ("stride", 1), ("dilation", 1), ("padding", 1))
    )
    ho, wo = (
        (size + 2 * p - d * (k - 1) - 1) // s + 1
        for size, k, s, d, p in zip((h, w), kernel, stride, dilation, padding, strict=True)
    )
    points, channels = groups * kernel[0] * kernel[1], groups * channels
    random = torch.Generator().manual_seed(0)
    # Between 0.1 and 0.4 above a whole number: at whole ones, and with offset_scale 2 half-way, a rounding
    # decides which slope counts.
    moved = (2 * torch.randn(n, ho, wo, 2 * points, generator=random)).floor()
    offset = moved + 0.1 + 0.3 * torch.rand(moved.shape, generator=random)
    input, logits, grad = (
        torch.randn(n, *size, generator=random)
        for size in ((h, w, channels), (ho, wo, points), (ho, wo, channels))
    )
    # Rounded to bfloat16 first, so that every type computes on the same numbers.
    made = [tensor.to(torch.bfloat16).to(device, dtype) for tensor in (input, offset, logits, grad)]
    return [tensor.requires_grad_() for tensor in made[:3]], made[3]


def run(name: str, dtype: torch.dtype, rule: str, backend: str, device="cuda") -> list[Tensor]:
    """Return output and gradients."""
    inputs, grad = leaves(name, dtype, device)
    output = dcnv3(*inputs, groups=CASES[name][1], rule=rule, backend=backend, **CASES[name][3])
    return [output.detach(), *torch.autograd.grad(output, inputs, grad)]


# --- numbers


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize(
    "dtype, tolerance",
    [(torch.float64, 1e-9), (torch.float32, 1e-5), (torch.float16, 2e-3), (torch.bfloat16, 1.6e-2)],
    ids=str,
)
def test_kernels_equal_the_reference(name: str, dtype: torch.dtype, tolerance: float, rule: str):
    """The reference runs in float64 on the same numbers, on the CPU: nothing of it is the GPU's."""
    expected = run(name, torch.float64, rule, "reference", "cpu")
    for found, right in zip(run(name, dtype, rule, "cuda"), expected, strict=True):
        assert found.dtype == dtype and found.is_cuda
        largest = max(1.0, float(right.abs().max()))
        assert_close(found.cpu().double(), right, atol=tolerance * largest, rtol=0)


def test_far_and_broken_offsets_read_nothing_outside():
    """Offsets far away, infinite and not a number: no illegal address, and only their own outputs suffer."""
    inputs, _ = leaves("plain", torch.float32)
    input, offset, logits = (tensor.detach() for tensor in inputs)
    expected = dcnv3(input, offset, logits, groups=4, rule="softmax", backend="cuda")
    for bad in (1e9, -1e9, float("inf"), float("nan")):
        broken = offset.clone()
        broken[0, 0, 0] = bad
        found = dcnv3(input, broken, logits, groups=4, rule="softmax", backend="cuda")
        torch.cuda.synchronize()  # where an illegal address would show
        assert torch.equal(found.flatten(0, 2)[1:], expected.flatten(0, 2)[1:])


def test_views_that_are_not_contiguous_or_not_aligned():
    (input, offset, logits), _ = leaves("odd width", torch.float16)
    expected = dcnv3(input, offset, logits, groups=2, backend="cuda")
    shifted = torch.empty(input.numel() + 1, dtype=input.dtype, device="cuda")[1:].view_as(input)
    shifted.copy_(input.detach())
    turned = offset.detach().transpose(1, 2).contiguous().transpose(1, 2)
    assert shifted.data_ptr() % 16 and not turned.is_contiguous()
    assert torch.equal(dcnv3(shifted, turned, logits, groups=2, backend="cuda"), expected)


def test_self_check_and_choice():
    for dtype in (torch.float32, torch.float16, torch.bfloat16, torch.float64):
        assert 0 <= self_check("cuda", dtype) < 64 * torch.finfo(dtype).eps
        assert choose("cuda", dtype) == "cuda"
    assert machines.machine_for("cuda") == "cuda"


# --- torch's streams, devices and graphs


def test_it_runs_on_the_current_stream():
    """On a side stream behind a long fill: read is what that stream wrote, not what was there before."""
    (input, offset, logits), _ = leaves("many blocks", torch.float32)
    arguments = {"groups": 4, "rule": "softmax", "backend": "cuda"}
    with torch.no_grad():
        expected = dcnv3(input, offset, logits, **arguments)
        busy = torch.empty(2**28, device="cuda")
        late = torch.zeros_like(input)
        side = torch.cuda.Stream()
        torch.cuda.synchronize()
        with torch.cuda.stream(side):
            for _ in range(20):  # some milliseconds
                busy.fill_(1.0)
            late.copy_(input)
            found = dcnv3(late, offset, logits, **arguments)
            done = side.record_event()
        assert not done.query(), "the launch waited for the stream, or the fill was too short to tell"
        side.synchronize()
    assert torch.equal(found, expected)


def test_the_backward_runs_on_the_stream_of_the_forward():
    inputs, grad = leaves("many blocks", torch.float32)
    expected = run("many blocks", torch.float32, "softmax", "cuda")
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        output = dcnv3(*inputs, groups=4, rule="softmax", backend="cuda")
        grads = torch.autograd.grad(output, inputs, grad)
    side.synchronize()
    for found, right in zip([output, *grads], expected, strict=True):
        assert_close(found, right, atol=1e-4, rtol=1e-4)  # atomic additions come in no fixed order


@TWO_GPUS
def test_tensors_of_another_device_than_the_current_one():
    expected = run("plain", torch.float32, "softmax", "cuda", "cuda:0")
    with torch.cuda.device(0):
        found = run("plain", torch.float32, "softmax", "cuda", "cuda:1")
        assert torch.cuda.current_device() == 0
    for a, b in zip(found, expected, strict=True):
        assert a.device == torch.device("cuda", 1)
        assert_close(a.to("cuda:0"), b, atol=1e-5, rtol=1e-5)


def test_a_cuda_graph_after_warm_up():
    (input, offset, logits), _ = leaves("plain", torch.float32)
    arguments = {"groups": 4, "rule": "softmax", "backend": "cuda"}
    with torch.no_grad():
        static = input.detach().clone()
        side = torch.cuda.Stream()
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):  # compiling and loading must not happen while capturing
            dcnv3(static, offset, logits, **arguments)
        torch.cuda.current_stream().wait_stream(side)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph):
            captured = dcnv3(static, offset, logits, **arguments)
        for factor in (1.0, 2.0):
            static.copy_(factor * input)
            graph.replay()
            torch.cuda.synchronize()
            assert torch.equal(captured, dcnv3(factor * input, offset, logits, **arguments))


@pytest.mark.parametrize("compiler", ["aot_eager", "inductor"])
@pytest.mark.filterwarnings("ignore")  # inductor has advice of its own to give
def test_torch_compile_of_the_layer(compiler: str):
    torch.manual_seed(0)
    layer, picture = DCNv3(32, 2).cuda(), torch.randn(2, 12, 13, 32, device="cuda")
    for linear in (layer.offset, layer.modulation):
        torch.nn.init.normal_(linear.weight, std=0.3)
    compiled = torch.compile(layer, fullgraph=True, backend=compiler)
    assert_close(compiled(picture), layer(picture), atol=1e-4, rtol=1e-3)
    grads = [
        torch.autograd.grad(run(picture).square().sum(), [layer.offset.weight])[0]
        for run in (compiled, layer)
    ]
    assert_close(*grads, atol=1e-3 * float(grads[1].abs().max()), rtol=1e-3)


@pytest.mark.parametrize("half", [torch.float16, torch.bfloat16], ids=str)
def test_autocast_computes_in_the_half_type(half: torch.dtype):
    inputs, grad = leaves("plain", torch.float32)
    with torch.autocast("cuda", dtype=half):
        output = dcnv3(*inputs, groups=4, rule="softmax", backend="auto")
    assert output.dtype == half
    grads = torch.autograd.grad(output, inputs, grad.to(half))
    assert all(found.dtype == torch.float32 for found in grads)
    expected = run("plain", half, "softmax", "cuda")
    assert torch.equal(output.detach(), expected[0])


def test_asking_for_determinism_raises_in_the_backward_only():
    inputs, grad = leaves("plain", torch.float32)
    torch.use_deterministic_algorithms(True)
    try:
        output = dcnv3(*inputs, groups=4, rule="softmax", backend="cuda")
        with pytest.raises(RuntimeError, match="adds atomically on a GPU"):
            torch.autograd.grad(output, inputs, grad)
    finally:
        torch.use_deterministic_algorithms(False)
    with torch.no_grad():
        again = dcnv3(*inputs, groups=4, rule="softmax", backend="cuda")
    assert torch.equal(output, again)


# --- memory


def test_no_tensor_is_copied():
    """A forward allocates its output, and a backward its gradients."""
    rows = 2 * 200 * 320
    size = {"input": rows * 160, "offset": rows * 180, "logits": rows * 90}
    made = {name: torch.randn(2, 200, 320, count // rows, device="cuda") for name, count in size.items()}
    inputs = [tensor.requires_grad_() for tensor in made.values()]
    grad = torch.randn_like(made["input"])
    output = dcnv3(*inputs, groups=10, rule="softmax", backend="cuda")
    torch.autograd.grad(output, inputs, grad)  # compiles
    del output

    spare = 2**21  # the allocator rounds up
    begin = _peak_from_here()
    output = dcnv3(*inputs, groups=10, rule="softmax", backend="cuda")
    assert torch.cuda.max_memory_allocated() - begin <= 4 * size["input"] + spare
    begin = _peak_from_here()
    torch.autograd.grad(output, inputs, grad)
    assert torch.cuda.max_memory_allocated() - begin <= 4 * sum(size.values()) + 3 * spare


def test_activation_checkpointing_saves_memory():
    backbone = replace(tiny_detector.BACKBONE, channels=32, groups=(2, 4, 8, 16), depths=(3, 3, 3, 3))
    kept, again = (peak(backbone, (512, 512), "float32", checkpointing) for checkpointing in (False, True))
    assert again["peak_gib"] < kept["peak_gib"]


# --- all together


def test_a_training_step_is_finite_and_like_that_of_the_cpu(monkeypatch):
    """The tiny detector, with the same weights and the same choice of samples on both devices.

    The losses may be a little apart: a rounding that swaps two proposals changes a sample.
    """
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    losses = {}
    for device in ("cpu", "cuda"):
        detector = tiny_detector.tiny().to(device).train()
        targets = [tiny_detector.objects().to(device) for _ in range(2)]
        output = detector(tiny_detector.pictures().to(device), targets, evenly)
        output.total.backward()
        assert not tiny_detector.without_gradient(detector)
        assert all(p.grad.isfinite().all() for p in detector.parameters() if p.grad is not None)
        losses[device] = float(output.total.detach())
    assert losses["cuda"] == pytest.approx(losses["cpu"], rel=0.05)


def test_training_steps_lower_the_loss():
    """Half types learn to look one pixel to the left."""
    torch.manual_seed(0)
    layer, picture = DCNv3(32, 2).cuda(), torch.randn(2, 16, 16, 32, device="cuda")
    wanted = picture.roll(1, dims=2)
    optimizer = torch.optim.AdamW(layer.parameters(), lr=1e-2)
    found = []
    for _ in range(60):
        with torch.autocast("cuda", dtype=torch.bfloat16):
            loss = (layer(picture) - wanted).float().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        found.append(float(loss.detach()))
    assert all(map(math.isfinite, found)) and found[-1] < 0.8 * found[0]


def test_the_clock_of_the_bench():
    """Twice the work takes about twice the time, and a copy is no faster than any memory there is."""
    clock = CudaClock()
    data = torch.empty(2**28, device="cuda")
    once = min(clock.time(lambda: data.fill_(1.0), 1).wall for _ in range(5))
    twice = min(clock.time(lambda: data.fill_(1.0).fill_(2.0), 1).wall for _ in range(5))
    assert 1.6 < twice / once < 2.4
    assert 50 < clock.copy_bandwidth() < 20_000


def test_a_process_that_hides_the_gpu_goes_on_without():
    """CUDA_VISIBLE_DEVICES empty: the CPU kernels or plain PyTorch, and no error."""
    code = "import torch; from cascade_lab.ops.dcnv3 import choose; print(choose('cuda', torch.float32))"
    done = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "CUDA_VISIBLE_DEVICES": ""},
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "grid_sample"


def _pair(value: int | tuple[int, int]) -> tuple[int, int]:
    return value if isinstance(value, tuple) else (value, value)


def _peak_from_here() -> int:
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    return torch.cuda.memory_allocated()
