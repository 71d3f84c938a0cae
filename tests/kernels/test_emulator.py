"""The emulator: small kernels with a planted fault, found for the right reason, and their right twins."""

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from cascade_lab.kernels import emulator, guard_pages, host_compiler, source
from cascade_lab.kernels.emulator import ORDERS, EmulatedKernel, EmulatorError, run_orders
from cascade_lab.kernels.guard_pages import FencedOutputs, Side, fence, is_fenced
from cascade_lab.kernels.steps import Address, Step, steps_from_json, steps_to_json

pytestmark = pytest.mark.skipif(
    host_compiler.find() is None,
    reason=f"no C++ compiler: none of {', '.join(host_compiler.COMPILERS)} is there",
)

TWINS = [
    "reverse",
    "block_sum",
    "swap_in_warp",
    "row_sums",
    "leave_before_barrier",
    "part_ways",
    "mix_shuffles",
]
TWINS += ["split_masks", "moved"]
OTHERS = [
    "copied",
    "added",
    "arrivals",
    "next_in_tile",
    "reverse_dynamic",
    "divided",
    "hungry",
    "on_line",
    "places",
]
OTHERS += ["shuffled<float, 32>", "shuffled<double, 8>", "shuffled<int, 4>", "shuffled<float, 3>"]
OTHERS += [
    "rounded<__half>",
    "rounded<__nv_bfloat16>",
    "extremes<float>",
    "extremes<double>",
    "extremes<int>",
]
NAMES = *(f"{name}<{right}>" for name in TWINS for right in ("true", "false")), *OTHERS


@pytest.fixture(scope="module")
def text() -> str:
    own = (Path(__file__).parent / "faulty.cu").read_text(encoding="utf-8")
    return own.replace('#include "floats.cuh"', source.read("floats.cuh"))


@pytest.fixture(scope="module")
def kernels(text: str) -> dict[str, EmulatedKernel]:
    return emulator.build(text, NAMES)


def floats(count: int) -> Tensor:
    """Return 1, 2, 3, ...: no two alike, and sums of them are exact."""
    return torch.arange(1, count + 1, dtype=torch.float32)


def nans(*shape: int) -> Tensor:
    return torch.full(shape, float("nan"))


def launcher(kernel: EmulatedKernel, blocks: int, threads: int, input: Tensor, size: int, *more: Any) -> Any:
    """Return a function that runs a kernel on ``input`` and returns its output of ``size`` numbers."""

    def run() -> dict[str, Tensor]:
        output = (
            nans(size).to(input.dtype) if input.is_floating_point() else torch.zeros(size, dtype=input.dtype)
        )
        kernel((blocks,), (threads,), [input.data_ptr(), output.data_ptr(), *map(np.int32, more)])
        return {"output": output}

    return run


# Barriers


def test_missing_barrier_in_a_reversal(kernels: dict[str, EmulatedKernel]):
    right = run_orders(launcher(kernels["reverse<true>"], 2, 64, floats(128), 128))["output"]
    assert torch.equal(right, floats(128).view(2, 64).flip(1).view(-1))
    faulty = launcher(kernels["reverse<false>"], 2, 64, floats(128), 128)
    with pytest.raises(EmulatorError, match=r"output `output` depends on the order .* barrier"):
        run_orders(faulty)


def test_missing_barrier_in_a_reduction(kernels: dict[str, EmulatedKernel]):
    right = run_orders(launcher(kernels["block_sum<true>"], 2, 64, floats(128), 2))["output"]
    assert right.tolist() == [64 * 65 / 2, 64 * 65 / 2 + 64 * 64]
    faulty = launcher(kernels["block_sum<false>"], 2, 64, floats(128), 2)
    with pytest.raises(EmulatorError, match="output `output` depends on the order"):
        run_orders(faulty)
    with emulator.emulating(order="descending"):
        assert torch.equal(faulty()["output"], right)  # one order alone is luck
    with pytest.raises(EmulatorError, match="ascending order, .* in random order 7"):
        run_orders(faulty, orders=("ascending", 7))


def test_missing_barrier_of_a_warp(kernels: dict[str, EmulatedKernel]):
    right = run_orders(launcher(kernels["swap_in_warp<true>"], 1, 64, floats(64), 64))["output"]
    assert torch.equal(right, floats(64).view(32, 2).flip(1).view(-1))
    with pytest.raises(EmulatorError, match="output `output` depends on the order"):
        run_orders(launcher(kernels["swap_in_warp<false>"], 1, 64, floats(64), 64))


def test_the_order_of_blocks_must_not_matter_either(kernels: dict[str, EmulatedKernel]):
    run = launcher(kernels["arrivals"], 3, 1, torch.zeros(1, dtype=torch.int32), 4)
    assert run()["output"].tolist() == [3, 0, 1, 2]
    with pytest.raises(EmulatorError, match=r"element \(1,\) is 0 in ascending order, 2 in descending order"):
        run_orders(run)


def test_shared_memory_is_poisoned_in_every_block(kernels: dict[str, EmulatedKernel]):
    """Without the barrier, the first half of the threads reads what nobody has written in this block."""
    output = launcher(kernels["reverse<false>"], 2, 64, floats(128), 128)()["output"].view(2, 64)
    assert output[:, :32].isnan().all() and not output[:, 32:].isnan().any()


def test_random_orders_differ_by_seed_alone(kernels: dict[str, EmulatedKernel]):
    run = launcher(kernels["reverse<false>"], 1, 64, floats(64), 64)
    outputs = []
    for seed in (1, 1, 2, 3):
        with emulator.emulating(order=seed):
            outputs.append(run()["output"].nan_to_num(0))
    assert torch.equal(outputs[0], outputs[1])
    assert not torch.equal(outputs[0], outputs[2]) and not torch.equal(outputs[2], outputs[3])


def test_rounding_is_forgiven_where_asked(kernels: dict[str, EmulatedKernel]):
    number = iter((1.0, 1.5))
    with pytest.raises(EmulatorError, match=r"output `sum` .* element \(0,\) is 1.0 in ascending .* 1.5 in"):
        run_orders(lambda: {"sum": np.array([next(number)])}, orders=("ascending", 1))
    number = iter((1.0, 1.5, float("nan")))
    run_orders(lambda: {"sum": np.array([next(number)])}, orders=("ascending", 1), rounding={"sum": 0.5})
    number = iter((1.0, float("nan")))
    with pytest.raises(EmulatorError, match="nan"):
        run_orders(lambda: {"sum": np.array(next(number))}, orders=("ascending", 1), rounding={"sum": 0.5})


# Threads that wait for ever


def test_shuffle_after_an_early_return(kernels: dict[str, EmulatedKernel]):
    right = run_orders(launcher(kernels["row_sums<true>"], 1, 64, floats(40), 8, 40))["output"]
    assert torch.equal(right[:5], floats(40).view(5, 8).sum(1)) and right[5:].isnan().all()
    message = (
        r"deadlock: thread \(32, 0, 0\) of block \(0, 0, 0\) waits in __shfl_xor_sync:"
        r" of the 32 threads that must come there, 24 have exited$"
    )
    for order in ORDERS:
        with emulator.emulating(order=order), pytest.raises(EmulatorError, match=message):
            launcher(kernels["row_sums<false>"], 1, 64, floats(40), 8, 40)()


def test_barrier_after_an_early_return(kernels: dict[str, EmulatedKernel]):
    right = run_orders(launcher(kernels["leave_before_barrier<true>"], 1, 48, floats(1), 40, 40))["output"]
    assert right.eq(1).all()
    with pytest.raises(
        EmulatorError, match=r"^deadlock: .* waits in __syncthreads: of the 48 .*, 8 have exited$"
    ):
        launcher(kernels["leave_before_barrier<false>"], 1, 48, floats(1), 40, 40)()


def test_some_at_a_barrier_and_others_in_a_shuffle(kernels: dict[str, EmulatedKernel]):
    right = run_orders(launcher(kernels["part_ways<true>"], 1, 40, floats(40), 40))["output"]
    assert torch.equal(right, torch.tensor([1.0] * 32 + [33.0] * 8))
    message = r"waits in __syncthreads: of the 40 .*, 0 have exited and 30 wait in __shfl_sync$"
    with pytest.raises(EmulatorError, match=message):
        launcher(kernels["part_ways<false>"], 1, 40, floats(40), 40)()


def test_some_in_another_shuffle(kernels: dict[str, EmulatedKernel]):
    right = run_orders(launcher(kernels["mix_shuffles<true>"], 1, 32, floats(32), 32))["output"]
    assert torch.equal(right, floats(32).view(16, 2).flip(1).view(-1))
    with pytest.raises(EmulatorError, match="waits in __shfl_down_sync: .* and 24 wait in __shfl_xor_sync$"):
        launcher(kernels["mix_shuffles<false>"], 1, 32, floats(32), 32)()


def test_masks_that_differ(kernels: dict[str, EmulatedKernel]):
    right = run_orders(launcher(kernels["split_masks<true>"], 1, 32, floats(32), 32))["output"]
    assert torch.equal(right, floats(32).view(16, 2).flip(1).view(-1))
    with pytest.raises(EmulatorError, match="waits in __shfl_xor_sync: .* 16 wait in it with another mask$"):
        launcher(kernels["split_masks<false>"], 1, 32, floats(32), 32)()


# Memory


@pytest.mark.parametrize(
    "read, write, message",
    [
        (2, 0, r"thread \(30, 0, 0\) of block \(1, 0, 0\) .*, 0 bytes after the end of argument `input`$"),
        (100, 0, r"thread \(0, 0, 0\) of block \(0, 0, 0\) .*, 144 bytes after the end of argument `input`$"),
        (0, 2, r"thread \(30, 0, 0\) of block \(1, 0, 0\) .*, 0 bytes after the end of argument `output`$"),
        (
            -3,
            0,
            r"thread \(0, 0, 0\) of block \(0, 0, 0\) .*, 12 bytes before the beginning of argument `input`$",
        ),
        (
            0,
            -1,
            r"thread \(0, 0, 0\) of block \(0, 0, 0\) .*, 4 bytes before the beginning of argument `output`$",
        ),
    ],
)
def test_out_of_bounds(kernels: dict[str, EmulatedKernel], read: int, write: int, message: str):
    side: Side = "after" if read + write > 0 else "before"
    input, output = fence(floats(64), side), fence(nans(64).numpy(), side)
    args = [input.data_ptr(), output.ctypes.data, *map(np.int32, (read, write, 64))]
    with pytest.raises(
        EmulatorError, match="^out of bounds: " + message.replace(".*", "touched address 0x[0-9a-f]+")
    ):
        kernels["moved<false>"]((2,), (32,), args)
    kernels["moved<true>"]((2,), (32,), args)
    expected = nans(64)
    inside = [i for i in range(64) if 0 <= i + read < 64 and 0 <= i + write < 64]
    expected[[i + write for i in inside]] = input[[i + read for i in inside]]
    assert_close(torch.from_numpy(output), expected, rtol=0, atol=0, equal_nan=True)


def test_out_of_bounds_of_shared_memory(kernels: dict[str, EmulatedKernel]):
    assert torch.equal(launcher(kernels["next_in_tile"], 1, 32, floats(32), 32, 0)()["output"], floats(32))
    message = (
        r"^out of bounds: thread \(30, .* touched byte 128 of shared memory `tile`, which has 128 bytes$"
    )
    with pytest.raises(EmulatorError, match=message):
        launcher(kernels["next_in_tile"], 1, 32, floats(32), 32, 2)()


def test_memory_whose_size_the_launch_gives(kernels: dict[str, EmulatedKernel]):
    input, output = floats(32), nans(32)
    args = [input.data_ptr(), output.data_ptr()]
    kernels["reverse_dynamic"]((1,), (32,), args, shared_mem=128)
    assert torch.equal(output, floats(32).flip(0))
    with pytest.raises(
        EmulatorError, match=r"thread \(28, .* byte 112 of shared memory `extern`, which has 112"
    ):
        kernels["reverse_dynamic"]((1,), (32,), args, shared_mem=112)
    with pytest.raises(EmulatorError, match="touched address 0, or"):
        kernels["reverse_dynamic"]((1,), (32,), args)


def test_misaligned(kernels: dict[str, EmulatedKernel]):
    input = fence(floats(20), "before")  # a page begins at a multiple of 16
    right = launcher(kernels["copied"], 1, 4, input, 16, 4)()["output"]
    assert torch.equal(right, floats(20)[4:])
    address = f"{input.data_ptr() + 12:#x}"
    with pytest.raises(
        EmulatorError, match=f"^misaligned: .* address {address}, which is not a multiple of 16$"
    ):
        launcher(kernels["copied"], 1, 4, input, 16, 3)()


def test_other_faults_of_a_kernel(kernels: dict[str, EmulatedKernel]):
    numbers = torch.arange(4, dtype=torch.int32)
    assert launcher(kernels["divided"], 1, 4, numbers, 4, 2)()["output"].tolist() == [0, 0, 1, 1]
    with pytest.raises(EmulatorError, match=r"^division by zero: thread \(0, 0, 0\)"):
        launcher(kernels["divided"], 1, 4, numbers, 4, 0)()
    with pytest.raises(EmulatorError, match="^too much: .* needs stack$"):
        kernels["hungry"]((1,), (4,), [numbers.data_ptr()])
    with pytest.raises(EmulatorError, match="^undefined: .* width of 3"):
        launcher(kernels["shuffled<float, 3>"], 1, 32, floats(32), 96, 1)()
    for grid, block in (((1,), (1025,)), ((0,), (32,)), ((1, 70000), (1,)), ((1,), (1, 1, 65))):
        with pytest.raises(EmulatorError, match="no GPU launches"):
            kernels["hungry"](grid, block, [numbers.data_ptr()])
    assert launcher(kernels["divided"], 1, 4, numbers, 4, 1)()["output"].tolist() == [
        0,
        1,
        2,
        3,
    ]  # all goes on


def test_wrong_arguments(kernels: dict[str, EmulatedKernel], text: str):
    kernel, input, output = kernels["on_line"], floats(8), nans(8)
    tensors = [input.data_ptr(), output.data_ptr()]
    line = source.as_argument(text, "Line", {"slope": 2.0, "start": 1.0, "count": 8})
    kernel((1,), (8,), [*tensors, line, np.float32(10), np.int32(0)])
    assert torch.equal(output, 10 * (1 + 2 * floats(8)))
    unaligned = np.array((2.0, 8, 1.0), dtype=[("slope", "f8"), ("count", "i4"), ("start", "f4")])
    for wrong, message in (
        ([*tensors, line, np.float32(10)], "takes 5 arguments, got 4"),
        ([*tensors, line, np.float32(10), np.int32(0), np.int32(0)], "takes 5 arguments, got 6"),
        ([input, output.data_ptr(), line, np.float32(10), np.int32(0)], "pass tensors as data_ptr"),
        ([*tensors, line, 10.0, np.int32(0)], "argument factor must be float32, got float64"),
        ([*tensors, line, np.int32(10), np.int32(0)], "argument factor must be float32, got int32"),
        ([*tensors, line, np.float32(10), 0], "argument first must be int32, got int64"),
        (
            [np.float32(1), output.data_ptr(), line, np.float32(10), np.int32(0)],
            "argument input must be an address",
        ),
        ([*tensors, unaligned, np.float32(10), np.int32(0)], "argument line must be a struct"),
        ([*tensors, np.float64(2), np.float32(10), np.int32(0)], "argument line must be a struct"),
    ):
        with pytest.raises(TypeError, match=message):
            kernel((1,), (8,), wrong)


# What CUDA offers


@pytest.mark.parametrize(
    "kind, width, threads",
    [("float", 32, 64), ("float", 32, 40), ("double", 8, 32), ("int", 4, 32)],
)
@pytest.mark.parametrize("by", [1, 3, 5])
def test_shuffles(kernels: dict[str, EmulatedKernel], kind: str, width: int, threads: int, by: int):
    """Held to the rules of the programming guide, lane by lane."""
    dtype = {"float": torch.float32, "double": torch.float64, "int": torch.int32}[kind]
    input = floats(threads).to(dtype)
    output = launcher(kernels[f"shuffled<{kind}, {width}>"], 1, threads, input, 3 * threads, by)()["output"]
    for lane in range(threads):
        first = lane - lane % width
        last = first + width - 1
        xor = lane // 32 * 32 + (lane % 32 ^ by)
        sources = (first + by % width, lane if xor > last else xor, lane if lane + by > last else lane + by)
        for kind_of, lane_read in enumerate(sources):
            found = output[kind_of * threads + lane]
            if lane_read < threads:
                assert found == input[lane_read], (kind_of, lane)
            else:
                assert found.isnan()  # nobody is there to give a value


@pytest.mark.parametrize("kind, dtype", [("__half", torch.float16), ("__nv_bfloat16", torch.bfloat16)])
def test_rounding_of_half_types(kernels: dict[str, EmulatedKernel], kind: str, dtype: torch.dtype):
    """Every bit as torch has it, ties, subnormal numbers and overflow included."""
    exponents = torch.arange(-30, 17, dtype=torch.float32).view(-1, 1)
    steps = torch.tensor([1, 1 + 2**-11, 1 + 3 * 2**-11, 1 + 2**-8, 1 + 3 * 2**-8, 1.2, 1 + 2**-11 + 2**-20])
    special = torch.tensor([0.0, -0.0, 65519.0, 65520.0, 3.4e38, float("inf"), float("nan")])
    input = torch.cat([(2**exponents * steps).view(-1), (-(2**exponents)).view(-1), special])
    narrow, wide = torch.zeros(len(input), dtype=dtype), nans(len(input))
    kernels[f"rounded<{kind}>"]((1,), (len(input),), [t.data_ptr() for t in (input, narrow, wide)])
    expected = input.to(dtype)
    assert torch.equal(narrow[:-1].view(torch.int16), expected[:-1].view(torch.int16))
    assert torch.equal(wide[:-1], expected[:-1].float()) and narrow[-1].isnan() and wide[-1].isnan()


@pytest.mark.parametrize(
    "kind, dtype", [("float", torch.float32), ("double", torch.float64), ("int", torch.int32)]
)
def test_extremes(kernels: dict[str, EmulatedKernel], kind: str, dtype: torch.dtype):
    numbers = [float("nan"), -1.0, 2.0, float("inf")] if dtype.is_floating_point else [-5, -1, 2, 9]
    a, b = torch.tensor([[x, y] for x in numbers for y in numbers], dtype=dtype).T.contiguous()
    least, most = torch.zeros_like(a), torch.zeros_like(a)
    kernels[f"extremes<{kind}>"]((1,), (16,), [t.data_ptr() for t in (a, b, least, most)])
    assert_close(least, a.fmin(b), rtol=0, atol=0, equal_nan=True)
    assert_close(most, a.fmax(b), rtol=0, atol=0, equal_nan=True)


def test_every_thread_of_every_block_runs_once(kernels: dict[str, EmulatedKernel]):
    def run() -> dict[str, Tensor]:
        output = torch.full((2 * 3 * 4, 3 * 2 * 5), -1, dtype=torch.int32)
        kernels["places"]((2, 3, 4), (3, 2, 5), [output.data_ptr()])
        return {"output": output}

    expected = torch.arange(24).view(24, 1) * 1000 + torch.arange(30)
    assert torch.equal(run_orders(run)["output"].long(), expected)


def test_atomic_additions_four_at_a_time(text: str, kernels: dict[str, EmulatedKernel]):
    """From sm_90 on the four must be aligned; a multiple of 4 bytes is enough before."""
    with emulator.emulating(architecture=900):
        new = emulator.build(text, ("added",))["added"]
    input = floats(12)
    for kernel in (kernels["added"], new):
        output = torch.ones(8)
        kernel((1,), (3,), [input.data_ptr(), output.data_ptr(), np.int32(4)])
        assert output.tolist() == [1, 1, 1, 1, 1 + 1 + 5 + 9, 1 + 2 + 6 + 10, 1 + 3 + 7 + 11, 1 + 4 + 8 + 12]
    output = fence(torch.ones(8), "before")
    arguments = [input.data_ptr(), output.data_ptr(), np.int32(1)]
    kernels["added"]((1,), (3,), arguments)
    with pytest.raises(EmulatorError, match=f"^misaligned: .* address {output.data_ptr() + 4:#x}"):
        new((1,), (3,), arguments)


def test_the_stacks_of_other_processors(
    text: str, kernels: dict[str, EmulatedKernel], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(emulator, "FLAGS", (*emulator.FLAGS, "-DPORTABLE_STACKS"))
    names = ("block_sum<true>", "row_sums<false>", "moved<false>")
    portable = emulator.build(text + "// slower", names)
    assert launcher(portable["block_sum<true>"], 2, 64, floats(128), 2)()["output"].tolist() == [2080, 6176]
    with pytest.raises(EmulatorError, match="24 have exited"):
        launcher(portable["row_sums<false>"], 1, 64, floats(40), 8, 40)()
    with pytest.raises(EmulatorError, match="0 bytes after the end of argument `input`"):
        launcher(portable["moved<false>"], 1, 64, fence(floats(63)), 64, 0, 0, 64)()


# Steps


def test_steps_of_chosen_threads(kernels: dict[str, EmulatedKernel]):
    output = torch.zeros(12, 6, dtype=torch.int32)
    args = [output.data_ptr()]
    with emulator.recording(((1, 0, 0), (2, 1, 0)), ((2, 1, 1), (0, 0, 0))) as steps:
        kernels["places"]((3, 2, 2), (3, 2), args)
    kernels["places"]((3, 2, 2), (3, 2), args)
    assert steps == [
        Step((1, 0, 0), (2, 1, 0), "place", (1.0, 2.5), (Address("output", 5),)),
        Step((2, 1, 1), (0, 0, 0), "place", (11.0, 0.0), (Address("output", 0),)),
    ]


def test_steps_as_text():
    nan = float("nan")
    steps = [
        Step((1, 2, 3), (4, 5, 6), "read", (0.1, float("inf"), nan), (Address("input", -3),)),
        Step((0, 0, 0), (0, 0, 0), "sum", (), ()),
    ]
    text = steps_to_json(steps)
    assert not re.search(r"[^\"]\b(NaN|Infinity)\b", text)
    back = steps_from_json(text)
    assert np.isnan(back[0].values[2])
    assert [replace(step, values=step.values[:2]) for step in back] == [
        replace(step, values=step.values[:2]) for step in steps
    ]


# Fences


def test_outputs_are_poisoned():
    like = torch.ones(2, 3)
    with FencedOutputs():
        made = [torch.empty_like(like), like.new_empty(3), torch.empty_like(like, dtype=torch.int32)]
        zeros = torch.zeros_like(like)
    assert all(map(is_fenced, (*made, zeros))) and not is_fenced(torch.empty_like(like))
    assert (
        made[0].isnan().all() and made[1].isnan().all() and made[2].eq(-(2**31)).all() and zeros.eq(0).all()
    )
    assert [tuple(tensor.shape) for tensor in (*made, zeros)] == [(2, 3), (3,), (2, 3), (2, 3)]


def test_fenced_memory_is_found_while_it_lives():
    values = fence(torch.ones(3))
    address = values.data_ptr()
    assert guard_pages.fenced_at(address + 12) == (address, 12) == guard_pages.fenced_at(address - 1)
    del values
    assert guard_pages.fenced_at(address) is None
