"""Print what ``cascade_lab/doctor.py`` finds, as text or JSON: ``cascade-lab doctor``.

Exit code 0 where the best DCNv3 kernels that this machine can have work; 1 where something that should work
does not: a GPU that cannot be used, a self-check that failed, or, without a usable GPU, no C++ compiler
(everything runs then, many times slower).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from cascade_lab.doctor import examine, next_steps
from cascade_lab.errors import InputError
from cascade_lab.kernels import inventory
from cascade_lab.overrides import override

USAGE = """usage: cascade-lab doctor [options]

  --json   the same as JSON, with keys that stay
  --extra  print only the pip extra with the right CuPy for the driver: cuda13 or cuda12

Exit code: 0 the best kernels for this machine work, 1 something that should work does not."""


@dataclass(frozen=True, kw_only=True)
class DoctorOptions:
    json: bool = False
    extra: bool = False


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for a wrong option, or --extra without a GPU."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    (options,) = override((DoctorOptions(),), arguments)
    if options.extra:
        extra = inventory.cupy_extra(inventory.driver())
        if not extra:
            raise InputError("--extra: no NVIDIA driver for CUDA 12 or newer is here, so no CuPy to choose")
        print(extra)
        return 0
    facts = examine()
    steps = next_steps(facts)
    code = int(any(step.essential for step in steps))
    told = {**facts, "next_steps": [vars(step) for step in steps], "exit_code": code}
    print(json.dumps(told, indent=1) if options.json else as_text(told))
    return code


def as_text(told: dict[str, Any]) -> str:
    """Return the whole report as aligned lines."""
    return "\n".join(
        [
            f"cascade_lab {told['cascade_lab']} on {told['platform']}",
            "",
            *_aligned(_overview(told)),
            "",
            "DCNv3 runs",
            *_aligned([(f"{device} tensors", _choice(told["dcnv3"][device])) for device in told["dcnv3"]]),
            "",
            "self-check against the reference: largest relative error of values and gradients",
            *(_aligned([_check_line(check) for check in told["self_checks"]]) or ["  no kernels to check"]),
            "",
            "next steps",
            *_step_lines(told),
        ]
    )


def _overview(told: dict[str, Any]) -> list[tuple[str, str]]:
    python, cpu, pytorch, here, cupy, compiler, cache = (
        told[name] for name in ("python", "processor", "torch", "driver", "cupy", "compiler", "cache")
    )
    build = f"built for CUDA {pytorch['cuda_build']}" if pytorch["cuda_build"] else "built without CUDA"
    sees = "sees a GPU" if pytorch["sees_cuda"] else "sees no GPU"
    drives = f"{here['version'] or 'version unknown'}, up to CUDA {here['cuda'] or 'unknown'}"
    named = f"{cupy['version']} ({', '.join(cupy['packages'])})"
    architectures = " ".join(f"sm_{architecture}" for architecture in cupy["architectures"])
    return [
        ("Python", f"{python['version']}, {python['path']}"),
        ("processor", f"{cpu['name']}, {cpu['cores']} cores, {'AVX-512' if cpu['avx512'] else 'no AVX-512'}"),
        ("torch", f"{pytorch['version']}, torchvision {pytorch['torchvision']}, {build}, {sees}"),
        ("driver", drives if here["version"] or here["cuda"] else "none"),
        ("GPU", "; ".join(map(_card, told["gpus"])) or "none"),
        ("CuPy", f"{named}, finds {'a' if cupy['finds_gpu'] else 'no'} GPU" if cupy["version"] else "none"),
        ("NVRTC", f"{cupy['nvrtc']}: {architectures}" if cupy["nvrtc"] else "none"),
        ("compiler", f"{compiler['path']}, {compiler['version']}" if compiler["path"] else "none"),
        ("cache", cache["problem"] or f"{cache['path']}, writable, yours alone"),
    ]


def _card(gpu: dict[str, Any]) -> str:
    memory = "" if gpu["memory_gib"] is None else f", {gpu['memory_gib']:g} GiB"
    return f"{gpu['name']}, compute capability {gpu['compute_capability']}{memory}"


def _choice(chosen: dict[str, Any]) -> str:
    backend = chosen["backend"]
    where = {"cpu": "the CPU kernels", "cuda": "the CUDA kernels", None: "nothing"}
    return f"{where.get(backend, f'plain PyTorch ({backend})')}: {chosen['why']}"


def _check_line(check: dict[str, Any]) -> tuple[str, str]:
    how = {True: "compiled and run", False: "taken from the cache and run", None: "run"}[check["compiled"]]
    result = f"passed  {check['error']:.1e}" if check["passed"] else f"FAILED  {check['message']}"
    return f"{check['machine']} {check['dtype']}", f"{result}  {how} in {check['seconds']:.2f} s"


def _step_lines(told: dict[str, Any]) -> list[str]:
    lines = []
    for step in told["next_steps"]:
        lines.append(f"  {'! ' if step['essential'] else ''}{step['about']}: {step['problem']}")
        lines.append(f"      {step['remedy']}")
    works = [] if told["exit_code"] else ["  The best kernels that this machine can have work."]
    return works + lines


def _aligned(rows: Sequence[tuple[str, str]]) -> list[str]:
    width = max((len(name) for name, _ in rows), default=0)
    return [f"  {name:<{width}}  {value}" for name, value in rows]
