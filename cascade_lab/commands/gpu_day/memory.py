"""How much memory a forward and backward pass of InternImage-L takes at its peak.

    python -m cascade_lab.commands.gpu_day.memory

Prints JSON. Weights, gradients and activations; no optimizer, no detector on top.
"""

from __future__ import annotations

import json
import sys
import time
from dataclasses import replace
from typing import Any

import torch

from cascade_lab.backbones.internimage import InternImage, InternImageConfig
from cascade_lab.engine.precision import autocast
from cascade_lab.recipes.published import L

SIZE = (800, 1280)


def main() -> int:
    rows = [
        peak(L, SIZE, precision, checkpointing)
        for precision in ("float32", "bfloat16")
        for checkpointing in (True, False)
    ]
    what = f"InternImage-L, 1 picture of {SIZE[0]} x {SIZE[1]}, {torch.cuda.get_device_name()}"
    print(json.dumps({"what": what, "rows": rows}, indent=1))
    return 0


def peak(
    config: InternImageConfig, size: tuple[int, int], precision: str, checkpointing: bool
) -> dict[str, Any]:
    """Return the peak in GiB and the seconds of the second pass; None for both where it does not fit."""
    told = {"precision": precision, "checkpointing": checkpointing, "peak_gib": None, "seconds": None}
    torch.cuda.empty_cache()
    try:
        torch.manual_seed(0)
        model = InternImage(replace(config, activation_checkpointing=checkpointing)).cuda().train()
        pixels = torch.randn(1, 3, *size, device="cuda")
        for _ in range(2):  # the first one compiles the kernels
            torch.cuda.reset_peak_memory_stats()
            torch.cuda.synchronize()
            began = time.perf_counter()
            with autocast("bfloat16" if precision == "bfloat16" else "float32", "cuda"):
                maps = model(pixels)
            torch.stack([level.float().square().mean() for level in maps]).sum().backward()
            torch.cuda.synchronize()
            told["seconds"] = round(time.perf_counter() - began, 3)
            told["peak_gib"] = round(torch.cuda.max_memory_allocated() / 2**30, 2)
    except torch.cuda.OutOfMemoryError:
        told |= {"peak_gib": None, "seconds": None}
    return told


if __name__ == "__main__":
    sys.exit(main())
