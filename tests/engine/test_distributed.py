"""One process: every helper is the identity. Two processes: sums, means, votes and averaged gradients."""

import os
import socket
import subprocess
import sys
import textwrap

import torch
from torch import nn

from cascade_lab.engine import distributed
from cascade_lab.losses import global_mean


def test_alone_everything_is_the_identity():
    assert (distributed.rank(), distributed.world_size(), distributed.is_main()) == (0, 1, True)
    value = torch.tensor([1.0, 2.0], requires_grad=True)
    assert torch.equal(distributed.all_reduce_sum(value), torch.tensor([1.0, 2.0]))
    assert torch.equal(global_mean(value), torch.tensor([1.0, 2.0]))
    assert not distributed.all_reduce_sum(value).requires_grad
    assert distributed.any_process(True)
    assert not distributed.any_process(False)
    module = nn.Linear(1, 1)
    assert distributed.wrap(module) is module
    distributed.barrier()
    distributed.cleanup()


def test_two_processes():
    script = textwrap.dedent("""
        import torch
        from torch import nn
        from cascade_lab.engine import distributed as d
        from cascade_lab.losses import global_mean
        device = d.setup()
        r = d.rank()
        assert d.world_size() == 2 and d.is_main() == (r == 0)
        value = torch.tensor([1.0 + r], device=device)
        assert d.all_reduce_sum(value).item() == 3.0 and value.item() == 1.0 + r
        assert global_mean(value).item() == 1.5
        assert d.any_process(r == 1) and not d.any_process(False)
        model = nn.Linear(1, 1, bias=False).to(device)
        wrapped = d.wrap(model)
        wrapped(torch.tensor([[2.0 + 4 * r]], device=device)).sum().backward()
        assert model.weight.grad.item() == 4.0   # the mean of 2 and 6
        d.barrier()
        d.cleanup()
    """)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
    group["CUDA_VISIBLE_DEVICES"] = ""  # two processes on one GPU would not get along
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", script],
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(2)
    ]
    for process in processes:
        _, stderr = process.communicate(timeout=120)
        assert process.returncode == 0, stderr
