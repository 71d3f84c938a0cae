"""Batch norm over two processes against PyTorch's over the whole batch in one."""

from pathlib import Path

import torch
from torch import nn
from torch.testing import assert_close

from cascade_lab.layers.sync_batch_norm import SyncBatchNorm
from tests.processes import run_together

ROWS = ((3, 3), (5, 1), (0, 4))  # maps that each process brings

# Two norms in a row; every row enters the loss with a weight of its own.
SCRIPT = """
    from cascade_lab.layers.norm import norm_layer
    for number, case in enumerate(torch.load(sys.argv[1] + "/cases")):
        norm = norm_layer("sync_batch", 3)
        norm.load_state_dict(case["state"])
        first = sum(case["rows"][: d.rank()])
        mine = slice(first, first + case["rows"][d.rank()])
        x = case["x"][mine].requires_grad_()
        y = norm(norm(x))
        (y * case["weight"][mine]).sum().backward()
        gradients = [d.all_reduce_sum(p.grad) for p in norm.parameters()]
        found = {"y": y.detach(), "x": x.grad, "state": norm.state_dict(), "parameters": gradients}
        torch.save(found, f"{sys.argv[1]}/{number}.{d.rank()}")
"""


def layer(kind: type[nn.BatchNorm2d] = nn.BatchNorm2d) -> nn.BatchNorm2d:
    norm = kind(3)
    nn.init.normal_(norm.weight)
    nn.init.normal_(norm.bias)
    return norm


def test_two_processes_are_one(tmp_path: Path):
    """A mean of 30 beside a deviation of 0.5: E[x^2] - E[x]^2 would lose four digits."""
    torch.manual_seed(0)
    layers, cases = [layer() for _ in ROWS], []
    for rows, one in zip(ROWS, layers, strict=True):
        x = 30 + 0.5 * torch.randn(sum(rows), 3, 2, 4)
        state = {name: value.clone() for name, value in one.state_dict().items()}
        cases.append({"rows": rows, "x": x, "weight": torch.randn_like(x), "state": state})
    torch.save(cases, tmp_path / "cases")
    run_together(SCRIPT, str(tmp_path))

    close = {"atol": 1e-5, "rtol": 1e-4}
    for number, (case, one) in enumerate(zip(cases, layers, strict=True)):
        x = case["x"].requires_grad_()
        y = one(one(x))
        (y * case["weight"]).sum().backward()
        parts = [torch.load(tmp_path / f"{number}.{rank}") for rank in range(2)]
        assert_close(torch.cat([part["y"] for part in parts]), y.detach(), **close)
        assert_close(torch.cat([part["x"] for part in parts]), x.grad, **close)
        for part in parts:
            assert part["state"].keys() == one.state_dict().keys()
            for name, value in one.state_dict().items():
                assert_close(part["state"][name], value, **close)
            for found, parameter in zip(part["parameters"], one.parameters(), strict=True):
                assert_close(found, parameter.grad, **close)


def test_no_map_anywhere_and_sums_too_large_for_half_types():
    """5000 x 20 ones in a channel: their sum exists neither in float16 nor, exactly, in bfloat16."""
    run_together("""
        from cascade_lab.layers.norm import norm_layer
        norm = norm_layer("sync_batch", 3)
        y = norm(torch.zeros(0, 3, 7, 7, requires_grad=True))
        y.sum().backward()
        assert y.shape == (0, 3, 7, 7)
        assert torch.equal(norm.running_mean, torch.zeros(3)) and torch.equal(norm.running_var, torch.ones(3))
        assert all(p.grad is not None and not p.grad.any() for p in norm.parameters())

        for kind in (torch.bfloat16, torch.float16):
            norm = norm_layer("sync_batch", 1)
            y = norm(torch.full((1, 1, 5000, 20), 1.0 + 2 * d.rank(), dtype=kind))
            assert y.dtype == kind and y.unique().item() == 2 * d.rank() - 1
            assert abs(norm.running_mean.item() - 0.2) < 1e-6 and norm.running_mean.dtype == torch.float32
    """)


def test_alone_and_in_evaluation_it_is_batch_norm():
    torch.manual_seed(0)
    own, plain = layer(SyncBatchNorm), layer()
    plain.load_state_dict(own.state_dict())
    for mode in (True, False):
        x = torch.randn(4, 3, 5, 5)
        assert torch.equal(own.train(mode)(x), plain.train(mode)(x))
