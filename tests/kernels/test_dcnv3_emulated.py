"""DCNv3 thread by thread, held to its equation in float64: as a GPU runs it, in several orders of threads,
with several threads to a group, and with nothing to touch round any tensor.
"""

from collections.abc import Callable, Mapping
from typing import Any

import pytest
import torch
from torch import Tensor

from cascade_lab.kernels import dcnv3, emulator, host_compiler
from cascade_lab.kernels.dcnv3 import Rule, Settings
from cascade_lab.kernels.emulator import run_orders
from cascade_lab.kernels.guard_pages import FencedOutputs, Side, fence, is_fenced
from cascade_lab.kernels.steps import Address
from cascade_lab.ops.dcnv3_reference import dcnv3_reference, output_size

pytestmark = pytest.mark.skipif(
    host_compiler.find() is None,
    reason=f"no C++ compiler: none of {', '.join(host_compiler.COMPILERS)} is there",
)


class Case:
    """One setting of the operator, with all that is not said left usual."""

    def __init__(
        self,
        *,
        size: tuple[int, int],
        channels: int,
        groups: int,
        rule: Rule,
        images: int = 1,
        far: float = 0,
        **other: Any,
    ) -> None:
        usual = {
            "kernel": (3, 3),
            "stride": (1, 1),
            "dilation": (1, 1),
            "padding": (1, 1),
            "offset_scale": 1.0,
        }
        self.settings = Settings(groups=groups, rule=rule, **(usual | other))
        self.size, self.channels, self.images, self.far = size, channels * groups, images, far


CASES = {
    "four_lanes": Case(size=(5, 6), channels=16, groups=3, rule="softmax", images=2),
    "one_lane": Case(size=(4, 6), channels=4, groups=2, rule="none", offset_scale=0.7),
    "one_channel": Case(size=(4, 5), channels=1, groups=4, rule="sigmoid"),
    "odd_channels": Case(size=(3, 4), channels=71, groups=2, rule="softmax"),
    "stride": Case(size=(7, 6), channels=16, groups=3, rule="softmax", stride=(2, 2)),
    "dilation": Case(size=(6, 7), channels=16, groups=3, rule="softmax", dilation=(2, 2), padding=(2, 2)),
    "five_by_five": Case(size=(5, 4), channels=8, groups=2, rule="softmax", kernel=(5, 5), padding=(2, 2)),
    "unequal": Case(
        size=(6, 7),
        channels=4,
        groups=2,
        rule="sigmoid",
        kernel=(3, 5),
        stride=(2, 1),
        dilation=(1, 2),
        padding=(0, 3),
        offset_scale=1.3,
    ),
    "far_outside": Case(size=(4, 4), channels=16, groups=3, rule="softmax", far=1e6),
    "many_groups": Case(size=(2, 2), channels=8, groups=160, rule="softmax"),
}
DOUBLE, FLOAT = torch.float64, torch.float32
TOLERANCE = {DOUBLE: 1e-9, FLOAT: 1e-5, torch.float16: 2**-11, torch.bfloat16: 2**-8}


def tensors(case: Case, dtype: torch.dtype) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return input, offset, logits and grad_output; no offset is near a whole number, where slopes jump."""
    generator = torch.Generator().manual_seed(0)
    s, points = case.settings, case.settings.groups * case.settings.kernel[0] * case.settings.kernel[1]
    out = output_size(case.size, s.kernel, s.stride, s.dilation, s.padding)

    def normal(*shape: int) -> Tensor:
        return torch.randn(case.images, *shape, generator=generator, dtype=DOUBLE)

    whole = (normal(*out, 2 * points) * 1.5).round()
    part = torch.rand(whole.shape, generator=generator, dtype=DOUBLE) * 0.6 + 0.2
    far = torch.where(normal(*out, 2 * points) > 0.5, normal(*out, 2 * points) * case.far, 0)
    made = (
        normal(*case.size, case.channels),
        whole + part + far,
        normal(*out, points),
        normal(*out, case.channels),
    )
    input, offset, logits, grad_output = (tensor.to(dtype) for tensor in made)
    return input, offset, logits, grad_output


def emulated(case: Case, given: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    input, offset, logits, grad_output = given
    output = dcnv3.forward("emulator", input, offset, logits, case.settings)
    grads = dcnv3.backward("emulator", grad_output, input, offset, logits, case.settings)
    return dict(zip(("output", "grad_input", "grad_offset", "grad_logits"), (output, *grads), strict=True))


def expected(case: Case, given: tuple[Tensor, Tensor, Tensor, Tensor]) -> dict[str, Tensor]:
    """Compute the same numbers in plain PyTorch and float64."""
    input, offset, logits = (tensor.to(DOUBLE).requires_grad_() for tensor in given[:3])
    s = case.settings
    each = logits.unflatten(-1, (s.groups, -1))
    rules: Mapping[str, Callable[[], Tensor]] = {
        "none": lambda: each,
        "sigmoid": each.sigmoid,
        "softmax": lambda: each.softmax(-1),
    }
    output = dcnv3_reference(
        input,
        offset,
        rules[s.rule]().flatten(-2),
        groups=s.groups,
        kernel=s.kernel,
        stride=s.stride,
        dilation=s.dilation,
        padding=s.padding,
        offset_scale=s.offset_scale,
    )
    grads = torch.autograd.grad(output, (input, offset, logits), given[3].to(DOUBLE))
    return dict(
        zip(("output", "grad_input", "grad_offset", "grad_logits"), (output.detach(), *grads), strict=True)
    )


def check(case: Case, found: Mapping[str, Tensor], right: Mapping[str, Tensor]) -> None:
    for name, values in right.items():
        assert not found[name].isnan().any(), f"{name} is not all written"
        allowed = TOLERANCE[found[name].dtype]
        error = float((found[name].to(DOUBLE) - values).abs().max() / values.abs().max())
        assert error <= allowed, f"{name}: {error:.1e} of the largest"


@pytest.mark.parametrize("dtype", [DOUBLE, FLOAT])
@pytest.mark.parametrize("name", CASES)
def test_equation(name: str, dtype: torch.dtype):
    given = tensors(CASES[name], dtype)
    check(CASES[name], emulated(CASES[name], given), expected(CASES[name], given))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["four_lanes", "odd_channels", "unequal"])
def test_half_types(name: str, dtype: torch.dtype):
    given = tensors(CASES[name], dtype)
    check(CASES[name], emulated(CASES[name], given), expected(CASES[name], given))


@pytest.mark.parametrize(
    "name, dtype", [("four_lanes", FLOAT), ("odd_channels", FLOAT), ("four_lanes", torch.float16)]
)
def test_all_orders(name: str, dtype: torch.dtype):
    """The threads that add to grad_input do so in another order, so its sums round differently."""
    case = CASES[name]
    given = tensors(case, dtype)
    rounding = {"grad_input": TOLERANCE[dtype] * float(expected(case, given)["grad_input"].abs().max())}
    found = run_orders(lambda: emulated(case, given), rounding=rounding)
    check(case, found, expected(case, given))


def test_as_on_sm_90():
    """Four floats are added at once there; the sums are the same to the last bit."""
    given = tensors(CASES["four_lanes"], FLOAT)
    old = emulated(CASES["four_lanes"], given)
    with emulator.emulating(architecture=900):
        new = emulated(CASES["four_lanes"], given)
    for name, values in old.items():
        assert torch.equal(values, new[name]), name


@pytest.mark.parametrize("side", ["before", "after"])
@pytest.mark.parametrize(
    "dtype, case",
    [
        (FLOAT, Case(size=(4, 6), channels=16, groups=3, rule="softmax", far=1e6)),
        (
            FLOAT,
            Case(size=(4, 4), channels=71, groups=1, rule="sigmoid", kernel=(3, 5), padding=(1, 2), far=9),
        ),
        (torch.float16, Case(size=(4, 4), channels=16, groups=2, rule="softmax", images=2, far=9)),
        (
            torch.bfloat16,
            Case(size=(4, 4), channels=4, groups=1, rule="none", kernel=(5, 5), padding=(2, 2), far=9),
        ),
    ],
    ids=["four_lanes", "odd_channels", "half", "bfloat16"],
)
def test_touches_its_tensors_only(dtype: torch.dtype, case: Case, side: Side):
    plain = tensors(case, dtype)
    input, offset, logits, grad_output = plain
    given = (fence(input, side), fence(offset, side), fence(logits, side), fence(grad_output, side))
    assert all(tensor.data_ptr() % 16 == 0 for tensor in given), "sizes must be multiples of 16 bytes"
    with FencedOutputs(side):
        found = emulated(case, given)
    assert is_fenced(found["output"]) and is_fenced(found["grad_offset"])
    check(case, found, expected(case, plain))


@pytest.mark.parametrize("wild", [float("nan"), float("inf"), float("-inf"), 3e38])
def test_stays_inside_for_any_offset(wild: float):
    case = Case(size=(4, 4), channels=4, groups=2, rule="softmax")
    for side in ("before", "after"):
        given = [fence(tensor, side) for tensor in tensors(case, FLOAT)]
        given[1].fill_(wild)
        with FencedOutputs(side):
            found = emulated(case, (given[0], given[1], given[2], given[3]))
        assert not found["output"].isnan().any()


def test_steps():
    """Zero offsets, so the addresses can be worked by hand: point k = column * 3 + row of a 3 x 3 grid."""
    case = Case(size=(4, 5), channels=4, groups=2, rule="none")
    input, offset, logits, _ = tensors(case, torch.float32)
    pixel, group = 1 * 5 + 2, 1  # y = 1, x = 2; in a row of threads each has a group of its own
    with emulator.recording(((0, 0, 0), (group, pixel, 0))) as steps:
        output = dcnv3.forward("emulator", input, torch.zeros_like(offset), logits, case.settings)
    assert {(step.block, step.thread) for step in steps} == {((0, 0, 0), (group, pixel, 0))}
    for k in range(9):
        y, x = 1 + k % 3 - 1, 2 + k // 3 - 1
        corners = {
            Address("input", ((y + down) * 5 + x + right) * 8 + 4) for down in (0, 1) for right in (0, 1)
        }
        reads = [step.addresses for step in steps if step.name == "read" and step.values[0] == k]
        assert {address for addresses in reads for address in addresses} == corners
    assert (steps[-1].name, steps[-1].values[-1]) == ("sum", output[0, 1, 2, 4].item())
    told = [step.values for step in steps if step.name == "place"]
    assert told == [(1, 0, group, 1, 2, (pixel * 2 + group) * 9, group * 4, (pixel * 2 + group) * 4)]


def test_steps_tell_all_that_the_backward_adds():
    """Added up where they point to, the additions of all threads are the gradient of the input."""
    case = Case(size=(4, 5), channels=4, groups=2, rule="softmax", offset_scale=1.5)
    input, offset, logits, grad_output = tensors(case, FLOAT)
    everyone = [((0, 0, 0), (x, y, 0)) for y in range(4 * 5) for x in range(2)]
    with emulator.recording(*everyone) as steps:
        dcnv3.backward("emulator", grad_output, input, offset, logits, case.settings)
    right = expected(case, (input, offset, logits, grad_output))
    summed = torch.zeros(input.numel(), dtype=DOUBLE)
    for step in steps:
        if step.name == "add":
            _, *weights, grad = step.values
            assert [address.argument for address in step.addresses] == ["grad_input"] * 4
            for address, weight in zip(step.addresses, weights, strict=True):
                summed[address.element] += weight * grad
    first = summed.view(input.shape)[..., ::4]  # the steps tell the first channel of a thread
    torch.testing.assert_close(first, right["grad_input"][..., ::4], atol=1e-5, rtol=1e-5)
    dots = torch.tensor([step.values for step in steps if step.name == "dots"], dtype=DOUBLE)
    torch.testing.assert_close(
        dots[:, 6:8].reshape(right["grad_offset"].shape), right["grad_offset"], atol=1e-5, rtol=1e-5
    )


def test_grid_and_block_have_a_thread_for_every_output():
    for machine, kernel, across, pixels in (
        ("cuda", "dcnv3_forward", 2, 30), ("cuda", "dcnv3_backward", 40, 64000),
        ("cuda", "dcnv3_forward", 640, 7),
        ("cpu", "dcnv3_forward", 10, 100), ("cpu", "dcnv3_backward", 10, 100),
    ):  # fmt: skip
        grid, block = dcnv3.grid_and_block(machine, kernel, across, pixels, 3)
        assert grid[2] == 3 and block[0] * block[1] <= 1024
        assert across <= grid[1] * block[0] < across + block[0]
        assert pixels <= grid[0] * block[1] < pixels + block[1]
