"""The operator as torch sees it: fake tensors, autograd, autocast, compile, export; who computes it."""

import logging
from functools import partial

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close
from torch.utils.checkpoint import checkpoint

from cascade_lab.kernels import cpu_backend, host_compiler, machines
from cascade_lab.ops import dcnv3 as module
from cascade_lab.ops.dcnv3 import dcnv3, modulate, why
from cascade_lab.ops.dcnv3_reference import dcnv3_reference

needs_compiler = pytest.mark.skipif(host_compiler.find() is None, reason="no C++ compiler on the PATH")
RULES = ("none", "softmax", "sigmoid")
SHAPES = (  # picture (N, H, W), groups, channels of a group, settings
    ((2, 5, 6), 2, 4, {}),
    ((1, 7, 9), 1, 16, {"stride": 2, "dilation": 2, "padding": 2, "offset_scale": 1.5}),
    ((1, 6, 5), 3, 3, {"kernel": (3, 5), "stride": (1, 2), "padding": (1, 2), "dilation": (2, 1)}),
    ((1, 5, 5), 1, 7, {"kernel": 2, "padding": 1}),
)


def leaves(picture, groups, channels, settings, dtype=torch.float64, seed=0) -> list[Tensor]:
    """Random tensors of fitting shapes; no read lies within 0.02 of a whole position: slopes jump there."""
    generator = torch.Generator().manual_seed(seed)
    n, h, w = picture
    kernel = settings.get("kernel", 3)
    kh, kw = (kernel, kernel) if isinstance(kernel, int) else kernel
    spread = {k: settings.get(k, d) for k, d in (("stride", 1), ("dilation", 1), ("padding", 1))}
    ho, wo = module.output_size((h, w), kernel, *spread.values())
    scale = settings.get("offset_scale", 1.0)
    whole = torch.randint(-3, 4, (n, ho, wo, groups * kh * kw * 2), generator=generator)
    part = torch.rand(whole.shape, generator=generator) * 0.46 + 0.02
    return [
        torch.randn(n, h, w, groups * channels, generator=generator, dtype=dtype),
        ((whole + part) / scale).to(dtype),
        torch.randn(n, ho, wo, groups * kh * kw, generator=generator, dtype=dtype),
    ]


@needs_compiler
@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize("case", SHAPES, ids=str)
def test_cpu_kernels_equal_the_reference(case, rule):
    *_, groups, channels, settings = case
    found = []
    for backend in ("cpu", "reference"):
        own = [x.requires_grad_() for x in leaves(*case)]
        output = dcnv3(*own, groups=groups, rule=rule, backend=backend, **settings)
        found.append([output, *torch.autograd.grad(output.sin().sum(), own)])
    for actual, expected in zip(*found, strict=True):
        assert_close(actual, expected, atol=1e-9, rtol=1e-9)


@pytest.mark.parametrize("rule", RULES)
def test_rules(rule):
    logits = torch.randn(1, 2, 2, 2 * 9)
    found = modulate(logits, 2, rule).view(4, 2, 9)
    by_hand = {
        "none": logits.view(4, 2, 9),
        "sigmoid": 1 / (1 + (-logits.view(4, 2, 9)).exp()),
        "softmax": logits.view(4, 2, 9).exp() / logits.view(4, 2, 9).exp().sum(-1, keepdim=True),
    }[rule]
    assert_close(found, by_hand)


@needs_compiler
@pytest.mark.parametrize("rule", RULES)
def test_gradcheck(rule):
    case = ((1, 3, 4), 2, 2, {"stride": 2, "padding": 1})
    own = [x.requires_grad_() for x in leaves(*case)]
    run = partial(dcnv3, groups=2, rule=rule, stride=2, backend="cpu")
    assert torch.autograd.gradcheck(run, own, nondet_tol=0.0)


@needs_compiler
@pytest.mark.filterwarnings("ignore:The .grad attribute of a Tensor that is not a leaf")  # torch's own check
def test_opcheck():
    tensors = [x.requires_grad_() for x in leaves((2, 4, 5), 2, 4, {}, torch.float32)]
    settings = (2, [3, 3], [1, 1], [1, 1], [1, 1], 1.0, "softmax", "cpu")
    torch.library.opcheck(torch.ops.cascade_lab.dcnv3.default, (*tensors, *settings))
    tensors = [x.detach() for x in tensors]
    torch.library.opcheck(
        torch.ops.cascade_lab.dcnv3_backward.default, (tensors[0].clone(), *tensors, *settings)
    )


@needs_compiler
def test_compile_in_one_graph_with_sizes_that_change():
    run = torch.compile(
        lambda *x: dcnv3(*x, groups=2, rule="softmax").sin(),
        fullgraph=True,
        dynamic=True,
        backend="aot_eager",
    )
    for size in ((1, 5, 6), (2, 8, 7)):
        own = [x.requires_grad_() for x in leaves(size, 2, 8, {}, torch.float32)]
        eager = dcnv3(*own, groups=2, rule="softmax", backend="cpu").sin()
        assert_close(run(*own), eager)
        for compiled, expected in zip(
            torch.autograd.grad(run(*own).sum(), own), torch.autograd.grad(eager.sum(), own), strict=True
        ):
            assert_close(compiled, expected)


@needs_compiler
@pytest.mark.parametrize("first", [True, False], ids=["kernels not tried yet", "kernels tried"])
def test_export_keeps_one_node(first):
    class Layer(torch.nn.Module):
        def forward(self, *x: Tensor) -> Tensor:
            return dcnv3(*x, groups=2, rule="softmax")

    inputs = tuple(leaves((1, 5, 6), 2, 4, {}, torch.float32))
    if first:
        why.cache_clear()
    program = torch.export.export(Layer(), inputs)
    named = [str(node.target) for node in program.graph.nodes if node.op == "call_function"]
    assert [name for name in named if "dcnv3" in name] == ["cascade_lab.dcnv3.default"]
    assert_close(program.module()(*inputs), Layer()(*inputs))


@needs_compiler
def test_activation_checkpointing_changes_nothing():
    own = [x.requires_grad_() for x in leaves((1, 5, 6), 2, 4, {}, torch.float32)]
    run = partial(dcnv3, groups=2, rule="softmax", backend="cpu")
    plain = torch.autograd.grad(run(*own).sum(), own)
    again = torch.autograd.grad(checkpoint(run, *own, use_reentrant=False).sum(), own)
    assert all(torch.equal(a, b) for a, b in zip(plain, again, strict=True))


@needs_compiler
def test_the_first_call_of_all_may_be_checkpointed():
    """The kernels are then tried, once, in the middle of a block whose saved tensors are counted."""
    own = [tensor.float().requires_grad_() for tensor in leaves(*SHAPES[0])]

    def run(*tensors: Tensor) -> Tensor:
        return dcnv3(*tensors, groups=SHAPES[0][1], rule="softmax")

    why.cache_clear()
    found = torch.autograd.grad(checkpoint(run, *own, use_reentrant=False).sum(), own)
    for a, b in zip(found, torch.autograd.grad(run(*own).sum(), own), strict=True):
        assert_close(a, b)


@needs_compiler
def test_autocast_runs_in_the_half_type():
    own = [x.requires_grad_() for x in leaves((1, 5, 6), 2, 4, {}, torch.float32)]
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output = dcnv3(*own, groups=2, rule="softmax")
    input, offset, logits = (x.detach().bfloat16().double() for x in own)
    expected = dcnv3_reference(input, offset, modulate(logits, 2, "softmax"), groups=2)
    assert output.dtype == torch.bfloat16
    assert_close(output.double(), expected, atol=0.02, rtol=0.01)
    output.float().sum().backward()
    assert all(x.grad is not None and x.grad.dtype == torch.float32 for x in own)


@needs_compiler
def test_double_backward_is_refused_in_words():
    own = [x.requires_grad_() for x in leaves((1, 4, 4), 1, 4, {})]
    (first,) = torch.autograd.grad(dcnv3(*own, groups=1, backend="cpu").sum(), own[:1], create_graph=True)
    with pytest.raises(RuntimeError, match="no second derivative.*backend='reference'"):
        first.sum().backward()


@needs_compiler
@pytest.mark.parametrize("groups", [1, 5])
def test_any_number_of_threads_gives_the_same_bits(groups, monkeypatch):
    monkeypatch.setattr(cpu_backend, "THREADS_WORTH_A_WORKER", 1)
    own = [x.requires_grad_() for x in leaves((2, 17, 13), groups, 16, {}, torch.float32)]
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            output = dcnv3(*own, groups=groups, rule="softmax", backend="cpu")
            found.append([output, *torch.autograd.grad(output.square().sum(), own)])
    finally:
        torch.set_num_threads(before)
    assert all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other, strict=True))


@needs_compiler
def test_views_and_empty_batches():
    input, offset, logits = leaves((1, 6, 5), 2, 8, {}, torch.float32)
    shifted = torch.zeros(input.numel() + 1)[1:].view_as(input).copy_(input)  # not aligned to 16 bytes
    across = input.transpose(1, 2).contiguous().transpose(1, 2)  # not contiguous
    expected = dcnv3(input, offset, logits, groups=2, backend="cpu")
    for same in (shifted, across):
        assert torch.equal(dcnv3(same, offset, logits, groups=2, backend="cpu"), expected)
    none = [x[:0].requires_grad_() for x in (input, offset, logits)]
    output = dcnv3(*none, groups=2, backend="cpu")
    output.sum().backward()
    assert output.shape == (0, 6, 5, 16) and none[0].grad is not None


@pytest.mark.parametrize("name", ["offset", "modulation"])
def test_shapes_that_do_not_fit_are_refused(name):
    tensors = dict(zip(("input", "offset", "modulation"), leaves((1, 4, 4), 1, 4, {}), strict=True))
    tensors[name] = tensors[name][..., :-1]
    with pytest.raises(ValueError, match=f"{name} must be"):
        dcnv3(*tensors.values(), groups=1)


@needs_compiler
def test_auto_takes_the_kernels_and_says_so_once(caplog):
    why.cache_clear()
    caplog.set_level(logging.INFO, logger=module.__name__)
    for _ in range(2):
        dcnv3(*leaves((1, 4, 4), 1, 4, {}, torch.float32), groups=1)
    assert [record.levelname for record in caplog.records] == ["INFO"]
    assert "cpu kernels (a C++ compiler is there" in caplog.text


@pytest.mark.parametrize(("dtype", "taken"), [(torch.float32, "grid_sample"), (torch.float64, "reference")])
def test_without_a_compiler_auto_is_plain_pytorch_and_warns_once(caplog, monkeypatch, dtype, taken):
    why.cache_clear()
    machines.obstacle.cache_clear()
    cpu_backend.load.cache_clear()
    monkeypatch.setenv("CXX", "/nowhere/g++")
    case = leaves((1, 4, 4), 1, 4, {}, dtype)
    outputs = [dcnv3(*case, groups=1) for _ in range(2)]
    why.cache_clear()
    machines.obstacle.cache_clear()
    assert torch.equal(outputs[0], dcnv3(*case, groups=1, backend=taken))
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "no C++ compiler" in caplog.text and "cascade-lab doctor" in caplog.text


@needs_compiler
def test_wrong_kernels_are_found_before_they_are_used(monkeypatch):
    why.cache_clear()
    right = module.kernels.forward
    monkeypatch.setattr(module.kernels, "forward", lambda *args: right(*args) * 1.001)
    with pytest.raises(RuntimeError, match="differ from the reference by"):
        dcnv3(*leaves((1, 4, 4), 1, 4, {}, torch.float32), groups=1)
    why.cache_clear()
