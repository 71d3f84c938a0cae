"""Whole detectors measured beside torchvision's Mask R-CNN: ``cascade-lab bench model``."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import Any, NamedTuple

import torch
from tqdm import tqdm

from cascade_lab.commands.bench_models import Ours, Torchvision, pictures
from cascade_lab.commands.bench_timing import (
    Clock,
    CudaClock,
    Effort,
    HostClock,
    Times,
    interleave,
    machine,
    short,
)
from cascade_lab.kernels import host_compiler

MODELS = {"cascade T": "cascade_internimage_t_fpn_1x_coco"}
SIDE, BATCH = 512, 2
EFFORT, QUICK = Effort(seconds=150.0, fewest=3, most=6), Effort(seconds=30.0, fewest=2, most=2)


class Row(NamedTuple):
    """What is measured; ``against`` is what torchvision does meanwhile."""

    what: str
    against: str


FORWARD, SEVERAL, BFLOAT16, STEP = WHAT = (
    "forward",
    f"forward, {BATCH} pictures",
    "forward, bfloat16",
    "training step",
)
ROWS = (
    Row(FORWARD, FORWARD),
    Row(SEVERAL, SEVERAL),
    Row(BFLOAT16, FORWARD),
    Row(BFLOAT16, BFLOAT16),
    Row(STEP, STEP),
)


def bench_model(
    device: str = "cpu",
    threads: int = 1,
    effort: Effort = EFFORT,
    clock: Clock | None = None,
    side: int = SIDE,
    models: Mapping[str, str] = MODELS,
) -> dict[str, Any]:
    """Measure all in turn, on pictures of ``side`` x ``side``; return {"rows": [...], "machine": {...}}.

    ``ratio`` is our time over torchvision's: 3 is three times slower.
    """
    clock = clock or (CudaClock() if device == "cuda" else HostClock())
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        calls, work = contestants(models, device, side)
        with tqdm(total=effort.most + 1, disable=None, desc="bench model", unit="round") as bar:
            times = interleave(calls, clock, effort, after_round=bar.update)
    finally:
        torch.set_num_threads(before)
    common = {"shape": [3, side, side], "threads": threads, "rounds": times.rounds, "device": device}
    rows = [
        {"name": name, **common, **compared(times, name, row), **work[name]}
        for name in models
        for row in ROWS
    ]
    here = machine(device) | {"bfloat16": bfloat16()}
    return {"rows": [{key: short(value) for key, value in row.items()} for row in rows], "machine": here}


def contestants(
    models: Mapping[str, str], device: str, side: int
) -> tuple[dict[str, Callable[[], object]], dict[str, dict[str, Any]]]:
    """Return what is called, by name, and how much work a forward pass of each model and torchvision does."""
    one, several = pictures(1, side), pictures(BATCH, side)
    theirs = [Torchvision(of, device) for of in (one, several)]
    calls = _of("torchvision", *theirs)
    work = {}
    for name, recipe in models.items():
        ours = [Ours(recipe, of, device) for of in (one, several)]
        calls |= _of(name, *ours)
        done, same = ours[0].work(), theirs[0].work()
        work[name] = {**asdict(done), **{f"torchvision_{key}": value for key, value in asdict(same).items()}}
    return calls, work


def compared(times: Times, name: str, row: Row) -> dict[str, Any]:
    """Return the milliseconds of both, and ours over theirs, of the processor and on the wall."""
    ours, theirs = f"{name}: {row.what}", f"torchvision: {row.against}"
    return {
        "what": row.what,
        "against": row.against,
        "ratio": times.cpu(ours) / times.cpu(theirs),
        "wall_ratio": times.wall(ours) / times.wall(theirs),
        "ms": times.cpu(ours),
        "torchvision_ms": times.cpu(theirs),
    }


def bfloat16() -> str:
    """Return which bfloat16 instructions the processor has: of matrices, of vectors, or none."""
    flags = host_compiler.processor().split()
    named = {"amx_bf16": "AMX, bfloat16 matrices", "avx512_bf16": "AVX-512 bfloat16 vectors"}
    return next((words for flag, words in named.items() if flag in flags), "no bfloat16 instructions")


def as_text(found: Mapping[str, Any]) -> str:
    """Return a line about the machine and the work, and a table."""
    rows = found["rows"]
    first, cpu = rows[0], found["machine"]["processor"]
    side, threads = first["shape"][-1], first["threads"]
    lines = [
        f"{cpu['name']}, {cpu['cores']} cores, {found['machine']['bfloat16']};"
        f" torch {found['machine']['torch']}",
        f"{side} x {side}, {first['device']}, {threads} thread{'s' if threads > 1 else ''},"
        f" {first['rounds']} rounds; random weights.",
        f"{first['proposals']} boxes reach the last stage"
        f" ({first['torchvision_proposals']} in torchvision), {first['detections']} get masks"
        f" ({first['torchvision_detections']}).",
        "Milliseconds, beside torchvision's maskrcnn_resnet50_fpn, and how many times longer ours take.",
        "",
        f"{'':<34}{'ms':>9}  {'torchvision':<24}{'ms':>9}{'ratio':>8}{'on the wall':>13}",
    ]
    for row in rows:
        lines.append(
            f"{row['name'] + ': ' + row['what']:<34}{row['ms']:>9.0f}  {row['against']:<24}"
            f"{row['torchvision_ms']:>9.0f}{row['ratio']:>8.2f}{row['wall_ratio']:>13.2f}"
        )
    return "\n".join(lines)


def _of(name: str, one: Ours | Torchvision, several: Ours | Torchvision) -> dict[str, Callable[[], object]]:
    calls = (one.predict(), several.predict(), one.predict("bfloat16"), one.step())
    return {f"{name}: {what}": call for what, call in zip(WHAT, calls, strict=True)}
