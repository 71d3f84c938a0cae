"""One process: every helper is the identity. Two processes: sums, means, votes and averaged gradients."""

import signal
import textwrap

import pytest
import torch
from torch import nn

from cascade_lab.engine import distributed
from cascade_lab.losses import global_mean
from tests.processes import run_together, together


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
    assert distributed.share(7) == 7
    assert distributed.from_main(lambda: "decided") == "decided"
    assert distributed.from_all([3, 4]) == [3, 4]
    with distributed.averaging(module, now=False):
        distributed.barrier()
    distributed.cleanup()


def test_two_processes():
    run_together("""
        from torch import nn
        from cascade_lab.errors import InputError
        from cascade_lab.losses import global_mean
        r = d.rank()
        assert d.world_size() == 2 and d.is_main() == (r == 0)
        value = torch.tensor([1.0 + r], device=device)
        assert d.all_reduce_sum(value).item() == 3.0 and value.item() == 1.0 + r
        assert global_mean(value).item() == 1.5
        assert d.any_process(r == 1) and not d.any_process(False)
        assert d.from_main(lambda: ("decided by", d.rank())) == ("decided by", 0)
        assert d.from_all([r, 10 + r]) == [0, 10, 1, 11]
        assert d.share(6) == 3
        model = nn.Linear(1, 1, bias=False).to(device)
        wrapped = d.wrap(model)
        wrapped(torch.tensor([[2.0 + 4 * r]], device=device)).sum().backward()
        assert model.weight.grad.item() == 4.0   # the mean of 2 and 6
        model.weight.grad = None
        for number in range(2):
            with d.averaging(wrapped, now=number == 1):
                wrapped(torch.tensor([[2.0 + 4 * r]], device=device)).sum().backward()
            assert model.weight.grad.item() == (8.0 if number else 2.0 + 4 * r)
        try:
            d.share(7)
        except InputError as error:
            assert "data.images_per_batch: 7 does not divide by the 2 processes" in str(error)
        else:
            raise AssertionError
    """)


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGSTOP], ids=["killed", "silent"])
def test_nobody_waits_for_ever_for_a_process_that_is_gone(end: signal.Signals):
    """The other one fails: at once where the connection broke, and else after the timeout of 3 seconds."""
    script = textwrap.dedent("""
        import datetime, torch
        from cascade_lab.engine import distributed as d
        d.setup(datetime.timedelta(seconds=3))
        print("ready", flush=True)
        while True:
            d.all_reduce_sum(torch.ones(1))
    """)
    gone, left = together(["-c", script])
    try:
        for process in (gone, left):
            assert process.stdout is not None and process.stdout.readline() == "ready\n"
        gone.send_signal(end)
        _, stderr = left.communicate(timeout=60)
        assert left.returncode > 0, stderr
        assert "all_reduce" in stderr
    finally:
        for process in (gone, left):
            process.kill()
            process.communicate()
