"""Several processes with gloo on the CPU, as torchrun would start them."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import textwrap
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).parents[1]


def together(arguments: Sequence[str], count: int = 2) -> list[subprocess.Popen[str]]:
    """Start ``python *arguments`` as ``count`` processes that know of each other."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = str(probe.getsockname()[1])
    group = {"WORLD_SIZE": str(count), "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    group |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    group["CUDA_VISIBLE_DEVICES"] = ""  # two processes on one GPU would not get along
    return [
        subprocess.Popen(
            [sys.executable, *arguments],
            env=os.environ | group | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for rank in range(count)
    ]


def run_together(script: str, *arguments: str, count: int = 2) -> list[str]:
    """Run a script in ``count`` processes until all have ended well; return what each printed.

    ``device`` and ``d`` (engine.distributed) are there when it begins, and the group is left when it ends.
    The script is the body of a function: what it made, such as a wrapped model, which knows the group, is
    gone before the group is.
    """
    head = "import sys, torch\nfrom cascade_lab.engine import distributed as d\ndevice = d.setup()\n"
    body = "def script():\n" + textwrap.indent(textwrap.dedent(script), "    ")
    text = f"{head}{body}\nscript()\nd.barrier()\nd.cleanup()\n"
    return end_well(together(["-c", text, *arguments], count))


def end_well(started: Sequence[subprocess.Popen[str]]) -> list[str]:
    """Wait for processes, of which none may fail; return what each printed."""
    try:
        said = [process.communicate(timeout=180) for process in started]
    finally:
        for process in started:
            process.kill()
            process.communicate()
    assert not any(process.returncode for process in started), "\n".join(stderr for _, stderr in said)
    return [stdout for stdout, _ in said]
