"""Compile the CUDA sources as CuPy would, without a GPU, and read the machine code that comes out.

    python tests/kernels/sass.py [ARCH ...]     # a table of every instance of the DCNv3 kernels

Needs CuPy (for NVRTC), the CUDA headers and nvdisasm; ``why_not`` says what is missing. CuPy's own RawModule
compiles nothing where there is no driver, its binding of NVRTC does.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import torch

from cascade_lab.kernels import cupy_backend, dcnv3, source
from cascade_lab.kernels.dcnv3 import Rule, Settings

# What CuPy 14 adds to the options it is given (cupy/cuda/compiler.py); ptxas is asked to tell what it used.
CUPY_FLAGS = ("-ftz=true", "--device-as-default-execution-space")
TELL = "--ptxas-options=-v"
ARCHITECTURES = (75, 80, 86, 89, 90, 100, 120)
POINTS = 9  # of a 3x3 kernel: how often its loops run


def instances() -> tuple[list[str], list[str]]:
    """Return the DCNv3 instances that matter most, and the others that must compile cleanly."""

    def both(dtype: torch.dtype, rule: Rule = "softmax", kernel: int = 3, channels: int = 16) -> list[str]:
        settings = Settings(
            groups=4, kernel=(kernel, kernel), stride=(1, 1), dilation=(1, 1),
            padding=(kernel // 2, kernel // 2), offset_scale=1.0, rule=rule,
        )  # fmt: skip
        kernels = ("dcnv3_forward", "dcnv3_backward")
        return [dcnv3.instance(name, "cuda", dtype, settings, channels) for name in kernels]

    main, others = [], []
    for dtype in (torch.float32, torch.float16, torch.bfloat16):
        main += both(dtype, "none") + both(dtype, "softmax")
        others += both(dtype, "sigmoid") + both(dtype, kernel=5)
    others += both(torch.float64, "none") + both(torch.float64, "softmax") + both(torch.float64, "sigmoid")
    others += both(torch.float64, kernel=5)
    for channels in (8, 32, 71):
        others += both(torch.float32, channels=channels) + both(torch.float32, kernel=5, channels=channels)
    return main, others


@dataclass(frozen=True, kw_only=True)
class Code:
    """The machine code (SASS) of one kernel instance."""

    name: str
    arch: int
    registers: int  # of a thread
    stack: int  # bytes of slow local memory that a thread has
    spills: int  # bytes that go there and back because registers ran out
    instructions: tuple[str, ...]  # in order, as "@P0 LDG.E.128 R4, [R2.64]", without the padding at the end
    labels: dict[str, int]  # which instruction each names

    @property
    def vector(self) -> int:
        """How many channels a thread holds."""
        return int(self.name.split(",")[2])

    def find(self, pattern: str) -> list[str]:
        """Return the opcodes that begin with a regular expression."""
        return [opcode for opcode in map(_opcode, self.instructions) if re.match(pattern, opcode)]

    @cached_property
    def usual_path(self) -> set[int]:
        """What can be reached without the subroutines of rare cases, such as dividing by tiny numbers."""
        return self._reachable(0, self._next, without=-1)

    def executed(self, trips: int = POINTS) -> int:
        """Return how many instructions a thread runs if loops make ``trips`` turns; both sides of an if."""
        before: dict[int, list[int]] = {}
        for at in self.usual_path:
            for after in self._next(at):
                before.setdefault(after, []).append(at)
        runs = dict.fromkeys(self.usual_path, 1)
        for at in sorted(self.usual_path):
            for start in self._next(at):
                if start > at or at in self._reachable(0, self._next, without=start):
                    continue  # not the end of a loop: what jumps back there is not always entered through it
                body = self._reachable(at, lambda i: before.get(i, []), without=start) | {start}
                for i in body:
                    runs[i] *= trips
        return sum(runs.values())

    def _next(self, at: int) -> list[int]:
        """Where execution may go on; calls return, and BRA.DIV is for threads that have drifted apart."""
        text = self.instructions[at]
        opcode, target = _opcode(text), re.search(r"`\((\S+?)\)", text)
        follows = [at + 1] if at + 1 < len(self.instructions) else []
        always = not text.startswith("@")
        if opcode.startswith("BRA") and not opcode.startswith("BRA.DIV") and target:
            conditional = not always or re.search(r"\bU?P\d", text.split("`")[0])
            return [self.labels[target[1]], *(follows if conditional else [])]
        return [] if always and opcode.startswith(("EXIT", "RET")) else follows

    @staticmethod
    def _reachable(start, step, without: int) -> set[int]:
        seen, left = set(), [start]
        while left:
            at = left.pop()
            if at != without and at not in seen:
                seen.add(at)
                left += step(at)
        return seen


def why_not() -> str:
    """Return what keeps this machine from compiling and disassembling; empty where nothing does."""
    if importlib.util.find_spec("cupy_backends") is None:
        return "CuPy is not installed: no NVRTC to compile with"
    if include_folder() is None:
        return "no CUDA headers: neither in a wheel (cupy[ctk]) nor beside nvcc"
    return "" if disassembler() else "no nvdisasm: neither on the PATH, nor in triton or a CUDA wheel"


def architectures() -> tuple[int, ...]:
    """Return the architectures that this NVRTC compiles for."""
    from cupy_backends.cuda.libs import nvrtc

    return tuple(nvrtc.getSupportedArchs())


@lru_cache
def compile(text: str, names: tuple[str, ...], arch: int) -> dict[str, Code]:
    """Compile instances of the kernels in CUDA source text, each named with its template arguments.

    Raises RuntimeError with NVRTC's log where it refuses.
    """
    from cupy_backends.cuda.libs import nvrtc

    program = nvrtc.createProgram(text, "kernels.cu", (), ())
    flags = (*cupy_backend.FLAGS, *CUPY_FLAGS, f"-I{include_folder()}", f"-arch=sm_{arch}", TELL)
    try:
        for name in names:
            nvrtc.addNameExpression(program, name)
        try:
            nvrtc.compileProgram(program, flags)
        except nvrtc.NVRTCError as error:
            raise RuntimeError(nvrtc.getProgramLog(program)) from error
        lowered = {nvrtc.getLoweredName(program, name): name for name in names}
        told = dict(_used(nvrtc.getProgramLog(program)))
        cubin = nvrtc.getCUBIN(program) + b"\0"  # CuPy drops the last byte
    finally:
        nvrtc.destroyProgram(program)
    made = {}
    for mangled, instructions, labels in _functions(_disassemble(cubin)):
        registers, stack, spills = told[mangled]
        made[lowered[mangled]] = Code(
            name=lowered[mangled], arch=arch, registers=registers, stack=stack, spills=spills,
            instructions=instructions, labels=labels,
        )  # fmt: skip
    return {name: made[name] for name in names}


@lru_cache
def include_folder() -> Path | None:
    """Return the folder of ``cuda_fp16.h``: of the wheels, else of the toolkit."""
    nvcc = shutil.which("nvcc")
    folders = _in_package("nvidia", "*/include")
    folders += [folder / "include" for folder in Path(nvcc).resolve().parents[1:2]] if nvcc else []
    folders += [Path(os.environ.get("CUDA_PATH") or "/usr/local/cuda") / "include"]
    return next((folder for folder in folders if (folder / "cuda_fp16.h").is_file()), None)


@lru_cache
def disassembler() -> str | None:
    """Return the path of nvdisasm."""
    folders = _in_package("triton", "backends/nvidia/bin") + _in_package("nvidia", "*/bin")
    return shutil.which("nvdisasm") or shutil.which("nvdisasm", path=os.pathsep.join(map(str, folders)))


def report(archs: tuple[int, ...]) -> str:
    """Return a table: one line for every DCNv3 instance and architecture."""
    main, others = instances()
    head = ("sm", "registers", "stack", "spills", "size", "run", "per channel")
    lines = [f"{'instance':52} " + " ".join(f"{word:>{max(5, len(word))}}" for word in head)]
    for arch in archs:
        for code in compile(source.read(dcnv3.FILE), (*main, *others), arch).values():
            run = code.executed() if ", 3, " in code.name and ", 0, " not in code.name else 0
            each = f"{run:5} {run / code.vector:11.0f}" if run else f"{'-':>5} {'-':>11}"
            lines.append(
                f"{code.name:52} {arch:5} {code.registers:9} {code.stack:5} {code.spills:6} "
                f"{len(code.instructions):5} {each}"
            )
    return "\n".join(lines)


def _in_package(package: str, pattern: str) -> list[Path]:
    """Return matching folders of an installed package, which is not imported."""
    found = importlib.util.find_spec(package)
    roots = (found.submodule_search_locations or []) if found else []
    return sorted(path for root in roots for path in Path(root).glob(pattern))


def _disassemble(cubin: bytes) -> str:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(disassembler()), "-c", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout


def _used(log: str) -> Iterator[tuple[str, tuple[int, int, int]]]:
    """Read what ptxas says of every kernel: registers, bytes of stack, bytes of spills."""
    kernel, stack, spills = "", 0, 0
    for line in log.splitlines():
        if found := re.search(r"Compiling entry function '(\w+)'", line):
            kernel, stack, spills = found[1], 0, 0
        elif found := re.search(
            r"(\d+) bytes stack frame, (\d+) bytes spill stores, (\d+) bytes spill loads", line
        ):
            stack, spills = stack + int(found[1]), spills + int(found[2]) + int(found[3])
        elif found := re.search(r"Used (\d+) registers", line):
            yield kernel, (int(found[1]), stack, spills)


def _functions(sass: str) -> Iterator[tuple[str, tuple[str, ...], dict[str, int]]]:
    """Read name, instructions and labels of every function in what nvdisasm prints."""
    for section in re.split(r"^\s*\.section\s+", sass, flags=re.MULTILINE)[1:]:
        name = re.match(r"\.text\.([^,\s]+)", section)
        if not name:
            continue
        instructions: list[str] = []
        labels: dict[str, int] = {}
        for line in section.splitlines():
            if found := re.match(r"([.$\w]+):", line):
                labels[found[1]] = len(instructions)
            elif found := re.match(r"\s*/\*[0-9a-f]{4,}\*/\s+(.*?)\s*;", line):
                instructions.append(" ".join(found[1].split()))
        while instructions and _opcode(instructions[-1]) == "NOP":
            instructions.pop()
        yield name[1], tuple(instructions), labels


def _opcode(instruction: str) -> str:
    """Return the word after the predicate, such as LDG.E.128."""
    words = instruction.split()
    return words[1] if words[0].startswith("@") else words[0]


if __name__ == "__main__":
    if reason := why_not():
        sys.exit(reason)
    print(report(tuple(map(int, sys.argv[1:])) or ARCHITECTURES))
