"""What this machine can run, proved on a small case, and the next step for whatever is missing.

``cascade-lab doctor`` prints it.
"""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from cascade_lab import __version__
from cascade_lab.kernels import cupy_backend, host_compiler, inventory
from cascade_lab.kernels.machines import Machine
from cascade_lab.ops.dcnv3 import self_check, why

CHECKED = (torch.float32, torch.float16, torch.bfloat16)
ROOT = Path(__file__).parents[1]
INSTALL_COMPILER = {  # package manager -> what to type
    "apt-get": "apt-get install g++",
    "dnf": "dnf install gcc-c++",
    "zypper": "zypper install gcc-c++",
    "pacman": "pacman -S gcc",
    "apk": "apk add g++",
    "brew": "xcode-select --install",
    "conda": "conda install -c conda-forge cxx-compiler",
}
WHEELS = {"cuda13": "cu130", "cuda12": "cu126"}  # extra -> what PyTorch calls its build


@dataclass(frozen=True, kw_only=True)
class Step:
    """Something that is missing, and the way to mend it; ``essential`` ones make the exit code 1."""

    about: str
    problem: str
    remedy: str
    essential: bool


def examine() -> dict[str, Any]:
    """Return what there is, and how the kernels fared, as plain values."""
    with _quiet():
        checks = [check(machine, dtype) for machine in machines() for dtype in CHECKED]
        chosen = {device: choice(device) for device in ("cpu", "cuda")}
    return {
        "cascade_lab": __version__,
        "python": {"version": platform.python_version(), "path": sys.executable},
        "platform": platform.platform(),
        "processor": inventory.processor(),
        "torch": {
            "version": torch.__version__,
            "torchvision": version("torchvision"),
            "cuda_build": torch.version.cuda,
            "sees_cuda": torch.cuda.is_available(),
        },
        "driver": inventory.driver(),
        "gpus": inventory.gpus(),
        "cupy": inventory.cupy(),
        "compiler": inventory.compiler(),
        "cache": inventory.kernel_cache(),
        "dcnv3": chosen,
        "self_checks": checks,
    }


def machines() -> list[Machine]:
    """Return which kernels can be tried here."""
    found: list[Machine] = ["cpu"] if host_compiler.find() else []
    return found if cupy_backend.why_not() else [*found, "cuda"]


def check(machine: Machine, dtype: torch.dtype) -> dict[str, Any]:
    """Hold the kernels to the reference on the small case, and time that, compiling included."""
    before, error, message = _count_cached(), None, ""
    began = time.perf_counter()
    try:
        error = self_check(machine, dtype)
    except Exception as problem:  # whatever a compiler or a driver comes up with, a doctor reports it
        message = " ".join(str(problem).split())[:600] or type(problem).__name__
    return {
        "machine": machine,
        "dtype": str(dtype).removeprefix("torch."),
        "passed": not message,
        "error": error,
        "seconds": round(time.perf_counter() - began, 3),
        "compiled": _count_cached() > before if machine == "cpu" else None,  # CuPy keeps a cache of its own
        "message": message,
    }


def choice(device: str) -> dict[str, Any]:
    """Return which backend float32 tensors of a device get, and why."""
    try:
        backend, reason = why(device, torch.float32)
    except Exception as problem:  # see check()
        return {"backend": None, "why": " ".join(str(problem).split())[:600]}
    return {"backend": backend, "why": reason}


def next_steps(facts: dict[str, Any]) -> list[Step]:
    """Return what is missing and how to get it, essential first; from the facts alone, of any machine."""
    on_gpu, off_gpu = _gpu_steps(facts), _cpu_steps(facts)
    return sorted([*on_gpu, *off_gpu], key=lambda step: not step.essential)


def _gpu_steps(facts: dict[str, Any]) -> list[Step]:
    """Return the first obstacle between the GPU and our kernels; those behind it show once it is gone."""
    here, cupy = facts["driver"], facts["cupy"]
    if not facts["gpus"]:
        nothing = "nothing to do: this machine computes on its processor"
        return [Step(about="GPU", problem="no NVIDIA GPU found", remedy=nothing, essential=False)]

    def step(about: str, problem: str, remedy: str) -> list[Step]:
        return [Step(about=about, problem=problem, remedy=remedy, essential=True)]

    if not here["cuda"]:
        return step(
            "driver",
            "nvidia-smi lists a GPU, but libcuda.so.1 cannot be loaded",
            "put its folder into LD_LIBRARY_PATH; start a container with --gpus all",
        )
    extra = inventory.cupy_extra(here)
    if not extra:
        return step("driver", f"it runs CUDA {here['cuda']} at most", "install NVIDIA driver 525 or newer")
    if not facts["torch"]["sees_cuda"]:
        return step("torch", *_why_torch_sees_none(here["cuda"], facts["torch"]["cuda_build"], extra))
    packages, install = " ".join(cupy["packages"]), _install(extra)
    anew = f"{sys.executable} -m pip uninstall -y {packages} && {install}" if packages else install
    if len(cupy["packages"]) > 1:
        return step("CuPy", f"{packages} are installed together and break each other", anew)
    if not cupy["version"]:
        return step("CuPy", f"cannot be used: {cupy['problem']}", anew)
    if not cupy["finds_gpu"]:
        return step("CuPy", "finds no GPU although torch does", anew)
    if cupy["problem"]:
        return step("NVRTC", cupy["problem"], anew)
    for gpu in facts["gpus"]:
        if int(gpu["compute_capability"].replace(".", "")) < min(cupy["architectures"]):
            problem = f"NVRTC {cupy['nvrtc']} no longer compiles for the {gpu['name']}"
            return step("GPU", problem, "compute on the CPU, or install a CuPy for an older CUDA")
    return _failed(facts, "cuda", install)


def _install(extra: str) -> str:
    here = (ROOT / "pyproject.toml").is_file()  # a checkout, else an installed package
    return f"{sys.executable} -m pip install " + (
        f'-e "{ROOT}[{extra}]"' if here else f'"cascade-lab[{extra}]"'
    )


def _why_torch_sees_none(cuda: str, build: str | None, extra: str) -> tuple[str, str]:
    """Return what keeps torch from the GPU, and what to type; ``cuda`` is the newest that the driver runs."""
    anew = f"install the {WHEELS[extra]} build of torch and torchvision anew; pytorch.org tells the command"
    if build is None:
        return "there is a GPU, but this PyTorch was built without CUDA", anew
    if int(build.split(".")[0]) > int(cuda.split(".")[0]):
        return f"PyTorch is built for CUDA {build}, and the driver runs {cuda} at most", anew
    hidden = os.environ.get("CUDA_VISIBLE_DEVICES")
    if hidden is not None:
        return f"CUDA_VISIBLE_DEVICES={hidden!r} hides the GPU", "unset CUDA_VISIBLE_DEVICES"
    tells = f'{sys.executable} -c "import torch; torch.zeros(1).cuda()"'
    return "PyTorch does not see the GPU", f"{tells} tells why"


def _cpu_steps(facts: dict[str, Any]) -> list[Step]:
    used = any(c["passed"] for c in facts["self_checks"] if c["machine"] == "cuda")
    slow = "without a C++ compiler DCNv3 runs as plain PyTorch on the CPU, many times slower"
    if facts["compiler"]["path"] is None:
        named = facts["compiler"]["CXX"]
        others = [name for name in host_compiler.COMPILERS if shutil.which(name)]
        install = next((do for name, do in INSTALL_COMPILER.items() if shutil.which(name)), "install GCC 12")
        remedy = "unset CXX" if named and others else install
        problem = f"CXX names {named}, which is not there; {slow}" if named else slow
        return [Step(about="compiler", problem=problem, remedy=remedy, essential=not used)]
    if facts["cache"]["problem"]:
        remedy = 'export CASCADE_LAB_CACHE="$HOME/.cascade_lab", or another folder of your own'
        return [Step(about="cache", problem=facts["cache"]["problem"], remedy=remedy, essential=not used)]
    return _failed(facts, "cpu", "install GCC 12 or newer and name it: export CXX=/path/to/g++")


def _failed(facts: dict[str, Any], machine: str, remedy: str) -> list[Step]:
    """Return a step for each message of the self-checks of one machine that failed."""
    failed = [c for c in facts["self_checks"] if c["machine"] == machine and not c["passed"]]
    messages = {c["message"]: [d["dtype"] for d in failed if d["message"] == c["message"]] for c in failed}
    found = []
    for message, dtypes in messages.items():
        about = f"{machine} kernels, {', '.join(dtypes)}"
        wrong = "differ from the reference" in message
        do = "report it with the output of cascade-lab doctor --json, and do not train with them"
        found.append(Step(about=about, problem=message, remedy=do if wrong else remedy, essential=True))
    return found


def _count_cached() -> int:
    try:
        return sum(1 for _ in host_compiler.cache_folder().glob("*.so"))
    except (OSError, host_compiler.CompileError):
        return 0


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Hold back what the choice of a backend logs; the report says it in its own place."""
    log = logging.getLogger("cascade_lab")
    level = log.level
    log.setLevel(logging.ERROR)
    try:
        yield
    finally:
        log.setLevel(level)
