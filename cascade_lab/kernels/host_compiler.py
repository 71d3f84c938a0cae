"""The host's C++ compiler, and a cache of what it made."""

from __future__ import annotations

import ctypes
import hashlib
import os
import platform
import shutil
import stat
import subprocess
import tempfile
from functools import lru_cache
from pathlib import Path

COMPILERS = ("g++", "c++", "clang++")
SECONDS = 300


class CompileError(RuntimeError):
    """There is no usable compiler, or it refused the source."""


def find() -> str | None:
    """Return the path of the C++ compiler: ``$CXX``, else the first of ``COMPILERS``; None where none is."""
    named = os.environ.get("CXX")
    found = (shutil.which(name) for name in ([named] if named else COMPILERS))
    return next(filter(None, found), None)


def library(source: str, flags: tuple[str, ...]) -> ctypes.CDLL:
    """Compile C++ source to a shared library, or take it from the cache, and load it.

    The key is a hash of source, flags, compiler version and processor, so nothing stale is ever loaded.

    Raises:
        CompileError: no compiler, a compiler that fails, or a cache that others could write to.
    """
    compiler = find()
    if compiler is None:
        named = os.environ.get("CXX")
        missing = f"CXX={named} is not there" if named else f"none of {', '.join(COMPILERS)} is on the PATH"
        raise CompileError(f"no C++ compiler: {missing}")
    parts = (source, " ".join(flags), version(compiler), processor())
    key = hashlib.sha256("\0".join(parts).encode()).hexdigest()[:32]
    path = cache_folder() / f"{key}.so"
    if not path.exists():
        _compile(compiler, source, flags, path)
    _check_private(path)
    return ctypes.CDLL(str(path))


def cache_folder() -> Path:
    """Return the user's own folder for compiled kernels, made with mode 0700 if need be.

    Raises CompileError where it belongs to somebody else, or others may write to it.
    """
    base = os.environ.get("CASCADE_LAB_CACHE") or os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    folder = Path(base) / "cascade_lab" / "kernels"
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise CompileError(f"{folder}: cannot be made ({error.strerror}); set CASCADE_LAB_CACHE") from error
    if folder.stat().st_uid == os.getuid():
        folder.chmod(0o700)
    _check_private(folder)
    return folder


@lru_cache
def version(compiler: str) -> str:
    """Return the first line that the compiler says of itself."""
    said = subprocess.run(
        [compiler, "--version"], capture_output=True, text=True, timeout=SECONDS, check=False
    )
    return f"{compiler} {said.stdout.splitlines()[0] if said.stdout else ''}"


@lru_cache
def processor() -> str:
    """Return what the processor calls itself and what it can do; code for one may not run on another."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return f"{platform.machine()} {platform.processor()}"
    told = dict(line.split(":", 1) for line in reversed(lines) if ":" in line)
    named = {name.strip(): value.strip() for name, value in told.items()}
    return f"{named.get('model name', platform.machine())} {named.get('flags') or named.get('Features', '')}"


def _compile(compiler: str, source: str, flags: tuple[str, ...], path: Path) -> None:
    with tempfile.TemporaryDirectory(dir=path.parent) as folder:
        text, made = Path(folder) / "kernels.cpp", Path(folder) / "kernels.so"
        text.write_text(source, encoding="utf-8")
        command = [compiler, *flags, "-shared", "-fPIC", str(text), "-o", str(made)]
        try:
            done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise CompileError(f"{compiler}: {error}") from error
        if done.returncode:
            first = next((line for line in done.stderr.splitlines() if "error" in line), done.stderr[:300])
            raise CompileError(f"{compiler} refused the kernels: {first.replace(str(text), 'kernels.cpp')}")
        made.chmod(0o700)
        os.replace(made, path)  # another process may have been as fast; either file will do


def _check_private(path: Path) -> None:
    """Never load code that somebody else could have put there."""
    seen = path.stat()
    if seen.st_uid != os.getuid() or seen.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise CompileError(f"{path}: is not yours alone; set CASCADE_LAB_CACHE to a folder that is")
