"""The recorded launch, held to the equation and its gradients; and the stored one to what is recorded now."""

from dataclasses import fields, replace

import numpy as np
import pytest
import torch

from cascade_lab.errors import InputError
from cascade_lab.kernels import host_compiler
from cascade_lab.ops.dcnv3_reference import dcnv3_reference
from cascade_lab.widgets.kernel_trace import (
    KernelTrace,
    record_trace,
    small_example,
    small_trace,
    stored_trace,
)

needs_compiler = pytest.mark.skipif(host_compiler.find() is None, reason="no C++ compiler")


def gradients(trace: KernelTrace) -> dict[str, np.ndarray]:
    """Return output and gradients of the reference, in float64."""
    (height, width), groups = trace.size, trace.groups
    input, offset, logits = (
        torch.from_numpy(array).double().view(1, height, width, -1).requires_grad_()
        for array in (trace.input, trace.offset, trace.logits)
    )
    modulation = logits.view(1, height, width, groups, 9).softmax(-1).flatten(-2)
    output = dcnv3_reference(input, offset, modulation, groups=groups, offset_scale=float(trace.offset_scale))
    output.backward(torch.from_numpy(trace.grad_output).double()[None])
    found = {"output": output.detach(), "grad_input": input.grad, "grad_offset": offset.grad}
    found |= {"grad_logits": logits.grad}
    return {name: tensor[0].numpy().reshape(getattr(trace, name).shape) for name, tensor in found.items()}


@pytest.fixture(scope="module")
def other() -> KernelTrace:
    """Another size, one group, other channels, and a stretched grid."""
    generator = torch.Generator().manual_seed(5)
    shapes = (1, 4, 7, 2), (1, 4, 7, 18), (1, 4, 7, 9), (1, 4, 7, 2)
    return record_trace(
        *(torch.randn(shape, generator=generator) for shape in shapes), groups=1, offset_scale=2
    )


@pytest.mark.parametrize("which", ["stored", pytest.param("other", marks=needs_compiler)])
def test_output_and_gradients_are_those_of_the_equation(which: str, request: pytest.FixtureRequest):
    trace = stored_trace() if which == "stored" else request.getfixturevalue("other")
    for name, expected in gradients(trace).items():
        np.testing.assert_allclose(getattr(trace, name), expected, atol=2e-5, err_msg=name)
    (height, width), groups, channels = trace.size, trace.groups, trace.input.shape[2]
    row, column, group = np.indices((height, width, groups)).reshape(3, -1)
    np.testing.assert_array_equal(trace.places[:, :3], np.stack([row, column, group], axis=1))
    first = group * (channels // groups)
    np.testing.assert_array_equal(trace.sums[:, -1], trace.output[row, column, first])
    np.testing.assert_array_equal(trace.grads, trace.grad_output[row, column, first])
    np.testing.assert_allclose(trace.slopes[..., :2].reshape(trace.grad_offset.shape), trace.grad_offset)


@pytest.mark.parametrize("which", ["stored", pytest.param("other", marks=needs_compiler)])
def test_reads_and_weights_are_those_of_a_pencil(which: str, request: pytest.FixtureRequest):
    trace = stored_trace() if which == "stored" else request.getfixturevalue("other")
    width, channels = trace.size[1], trace.input.shape[2]
    np.testing.assert_array_equal(trace.reads, trace.adds)
    pixel, channel = np.divmod(trace.reads, channels)
    rows, columns = np.divmod(pixel, width)
    assert (channel == (trace.places[:, 2] * (channels // trace.groups))[:, None, None]).all()
    near_x = np.maximum(1 - np.abs(trace.points[..., :1] - columns), 0)
    near_y = np.maximum(1 - np.abs(trace.points[..., 1:] - rows), 0)
    np.testing.assert_allclose(trace.weights, trace.modulation[..., None] * near_x * near_y, atol=1e-6)
    np.testing.assert_allclose(trace.modulation.sum(1), 1, atol=1e-6)
    summed = np.zeros(trace.input.size)
    np.add.at(summed, trace.adds, trace.weights * trace.grads[:, None, None])
    first = np.arange(trace.groups) * (channels // trace.groups)
    np.testing.assert_allclose(
        summed.reshape(trace.input.shape)[..., first], trace.grad_input[..., first], atol=1e-5
    )


@needs_compiler
def test_the_stored_trace_is_what_is_recorded_now():
    stored, now = stored_trace(), record_trace(*small_example(), groups=2)
    for field in fields(KernelTrace):
        found, expected = getattr(stored, field.name), getattr(now, field.name)
        assert found.dtype == expected.dtype
        # Elsewhere exp may be rounded otherwise.
        np.testing.assert_allclose(found, expected, atol=1e-6, err_msg=f"{field.name}: make the file again")


def test_without_a_compiler_the_stored_trace_serves(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("CXX", "/nowhere/c++")
    np.testing.assert_array_equal(small_trace().sums, stored_trace().sums)


def test_thread_of():
    trace = stored_trace()
    thread = trace.thread_of(3, 4, 1)
    assert trace.places[thread, :3].tolist() == [3, 4, 1] and len(trace) == 60
    for place in ((5, 0, 0), (0, 6, 0), (0, 0, 2), (-1, 0, 0)):
        with pytest.raises(InputError, match=r"there are 5 rows, 6 columns and 2 groups"):
            trace.thread_of(*place)


def test_what_does_not_fit_together_is_refused():
    trace = stored_trace()
    with pytest.raises(InputError, match=r"sums has shape \(60, 8\), expected \(60, 9\); record it again"):
        replace(trace, sums=trace.sums[:, :8])


@pytest.mark.parametrize(
    "size, channels, message",
    [
        ((4, 4), 8, "8 channels in a group, at most 4"),
        ((16, 17), 2, r"\(2, 1, 1\) blocks; .* at most 256 pixels"),
    ],
)
def test_what_cannot_be_shown_is_refused(size: tuple[int, int], channels: int, message: str):
    shapes = ((1, *size, count) for count in (channels, 18, 9, channels))
    with pytest.raises(InputError, match=message):
        record_trace(*map(torch.zeros, shapes), groups=1)
