"""Measure this machine: ``cascade-lab bench WHAT``, with WHAT as in ``USAGE``."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch

from cascade_lab.commands import (
    bench_backbone,
    bench_dcnv3,
    bench_full_size,
    bench_loader,
    bench_mask_paste,
    bench_model,
    bench_roi_align,
    bench_training,
)
from cascade_lab.commands.figure_file import check_figure_name, write_figure
from cascade_lab.errors import InputError
from cascade_lab.kernels import cupy_backend, host_compiler
from cascade_lab.overrides import override, split_named
from cascade_lab.viz.bench import ratio_bars

USAGE = """usage: cascade-lab bench WHAT [options]

  dcnv3          the operator: our kernels, the usual way over grid_sample, torchvision
  backbone       a whole InternImage-T at 512 x 512: our kernels, grid_sample
  roi_align      RoIAlign over a pyramid: our kernels, torchvision
  mask_paste     putting masks into a picture: our kernel, grid_sample mask by mask
  training       a step of `make demo` (CPU): our kernels, grid_sample and torchvision
  loader         reading and changing pictures as the published recipes do (CPU): pictures a second
  model          whole detectors beside torchvision's Mask R-CNN: forward, bfloat16, training step
  full_size      InternImage-L and -XL on a CPU: one picture, one training step; its options: --picture FILE,
                 --output FOLDER, --threads N
  --device D     cpu or cuda (default: cpu)
  --json         rows and machine as JSON
  --output FILE  dcnv3 only: draw the ratios, as PNG or SVG
  --threads N    model only: threads of the processor (default: 1)
  --root DIR     training only: the pictures (default: data/shapes)
  --data DIR     loader only: a folder in COCO format (default: shapes drawn for it)
  --quick        fewer repetitions, and float32 only

The kernels are timed in turn in one run. On a CPU times are those of the processor, so other programs disturb
them less; on a GPU they are between CUDA events, with the bandwidth of a copy beside them."""

WHAT = ("dcnv3", "backbone", "roi_align", "mask_paste", "training", "loader", "model", "full_size")


class Column(NamedTuple):
    over: str
    heading: str
    key: str


COLUMNS = (
    Column("forward", "ms", "forward_ms"),
    Column("", "others", "forward_ratio"),
    Column("", "on the wall", "forward_wall_ratio"),
    Column("", "torchvision", "forward_ratio_to_torchvision"),
    Column("", "of a copy", "forward_share_of_copy"),
    Column("+ backward", "ms", "forward_backward_ms"),
    Column("", "others", "forward_backward_ratio"),
    Column("", "on the wall", "forward_backward_wall_ratio"),
    Column("", "of a copy", "forward_backward_share_of_copy"),
    Column("", "rounds", "rounds"),
)


@dataclass(frozen=True, kw_only=True)
class BenchOptions:
    device: str = "cpu"
    json: bool = False
    output: str = ""
    root: str = "data/shapes"
    data: str = ""
    threads: int = 1
    quick: bool = False

    def __post_init__(self) -> None:
        if self.device not in ("cpu", "cuda"):
            raise InputError(f"option --device: {self.device!r} must be cpu or cuda")
        if self.threads < 1:
            raise InputError(f"option --threads: {self.threads} must be 1 or more")
        check_figure_name("--output", self.output)


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for anything the user can mend."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    named, rest = split_named(arguments)
    if len(named) != 1 or named[0] not in WHAT:
        near = difflib.get_close_matches(" ".join(named), WHAT, n=1, cutoff=0.3) or WHAT
        raise InputError(f"arguments: name one thing to measure, such as {' or '.join(near)}")
    if named[0] == "full_size":
        return bench_full_size.main(rest)
    (options,) = override((BenchOptions(),), rest)
    if options.output and named[0] != "dcnv3":
        raise InputError(f"option --output: {named[0]} draws nothing; leave it out")
    if options.data and named[0] != "loader":
        raise InputError(f"option --data: {named[0]} reads no such folder; leave it out")
    if options.threads != 1 and named[0] != "model":
        raise InputError(f"option --threads: {named[0]} chooses its own; leave it out")
    if named[0] == "loader":
        return _loader(options)
    _check(options)
    if named[0] == "model":
        return _model(options)
    if named[0] == "training":
        if options.device != "cpu":
            raise InputError("option --device: training is measured on the CPU only; leave it out")
        effort = bench_training.QUICK if options.quick else bench_training.EFFORT
        found = bench_training.bench_training(options.root, effort)
    elif named[0] == "roi_align":
        threads = [1] if options.device == "cuda" else bench_dcnv3.all_threads()
        effort = bench_roi_align.QUICK if options.quick else bench_roi_align.EFFORT
        found = bench_roi_align.bench_roi_align(options.device, threads, effort)
    elif named[0] == "mask_paste":
        effort = bench_mask_paste.QUICK if options.quick else bench_mask_paste.EFFORT
        found = bench_mask_paste.bench_mask_paste(options.device, effort)
    elif named[0] == "backbone":
        effort = bench_backbone.QUICK if options.quick else bench_backbone.EFFORT
        found = bench_backbone.bench_backbone(options.device, effort=effort)
    else:
        found = _dcnv3(options)
        if options.output:
            _draw(found, Path(options.output))
    print(json.dumps(found, indent=1) if options.json else as_text(found))
    return 0


def _loader(options: BenchOptions) -> int:
    if options.device != "cpu":
        raise InputError("option --device: the loader runs on the CPU only; leave it out")
    found = bench_loader.bench_loader(
        options.data, bench_loader.QUICK if options.quick else bench_loader.FULL
    )
    text = f"{describe(found['machine'])}\n{bench_loader.as_text(found)}"
    print(json.dumps(found, indent=1) if options.json else text)
    return 0


def as_text(found: Mapping[str, Any]) -> str:
    """Return a line about the machine, and a table for each element type, number of threads and softmax."""
    groups: dict[str, list[Mapping[str, Any]]] = {}
    for row in found["rows"]:
        soft = {True: ", softmax included", False: ", without softmax", None: ""}[row.get("softmax")]
        title = f"{row['dtype']}, {row['threads']} thread{'s' if row['threads'] > 1 else ''}{soft}"
        groups.setdefault(title, []).append(row)
    lines = [
        describe(found["machine"]),
        "Our milliseconds, and how many times longer the others take; medians over the rounds.",
    ]
    for title, rows in groups.items():
        columns = [column for column in COLUMNS if any(row.get(column.key) is not None for row in rows)]
        if all(row["threads"] == 1 for row in rows):
            columns = [column for column in columns if "wall" not in column.key]
        lines += ["", title]
        named = [rows[0].get("against", "others") if c.heading == "others" else c.heading for c in columns]
        for heading in ([c.over for c in columns], named):
            lines.append((" " * 16 + "".join(f"{word:>13}" for word in heading)).rstrip())
        for row in rows:
            cells = [f"{_number(row[column.key]):>13}" for column in columns]
            lines.append(f"  {row['name']:<14}" + "".join(cells))
    return "\n".join(lines)


def describe(machine: Mapping[str, Any]) -> str:
    """Return the machine in one line."""
    cpu = machine["processor"]
    parts = [f"{cpu['name']}, {cpu['cores']} cores, {'AVX-512' if cpu['avx512'] else 'no AVX-512'}"]
    parts += [gpu["name"] for gpu in machine.get("gpus", ())]
    if "copy_gb_per_s" in machine:
        parts.append(f"copies {machine['copy_gb_per_s']:g} GB/s on the device")
    return "; ".join([*parts, f"torch {machine['torch']}"])


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3g}" if value < 1000 else f"{value:.0f}"


def _check(options: BenchOptions) -> None:
    """Raise InputError where the device's kernels cannot run: before minutes are spent."""
    if options.device == "cuda" and cupy_backend.why_not():
        raise InputError(
            f"option --device: no kernels for cuda: {cupy_backend.why_not()}; see cascade-lab doctor"
        )
    if options.device == "cpu" and host_compiler.find() is None:
        raise InputError("no C++ compiler, so there are no kernels to measure; see cascade-lab doctor")
    folder = Path(options.output).parent
    if options.output and not folder.is_dir():
        raise InputError(f"option --output: {folder}: no such folder; make it first")


def _model(options: BenchOptions) -> int:
    effort = bench_model.QUICK if options.quick else bench_model.EFFORT
    found = bench_model.bench_model(options.device, options.threads, effort)
    print(json.dumps(found, indent=1) if options.json else bench_model.as_text(found))
    return 0


def _dcnv3(options: BenchOptions) -> dict[str, Any]:
    on_gpu = options.device == "cuda"
    shapes = bench_dcnv3.SHAPES | (bench_dcnv3.ON_GPU if on_gpu else {})
    dtypes = (torch.float32,) if options.quick else bench_dcnv3.DTYPES
    asked = bench_dcnv3.cases(shapes, dtypes, [1] if on_gpu else bench_dcnv3.all_threads())
    headline, others = bench_dcnv3.HEADLINE, bench_dcnv3.OTHERS
    if options.quick:
        asked = [case for case in asked if case.softmax or case.threads == 1]
        headline, others = bench_dcnv3.QUICK_HEADLINE, bench_dcnv3.QUICK_OTHERS
    return bench_dcnv3.bench_dcnv3(asked, options.device, headline, others)


def _draw(found: Mapping[str, Any], path: Path) -> None:
    write_figure(ratio_bars(found["rows"], describe(found["machine"])), path)
