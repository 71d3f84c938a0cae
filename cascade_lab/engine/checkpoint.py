"""Checkpoints that survive a kill at any moment, a full disk, and a flipped bit.

A checkpoint is a file ``step_00000500.pt`` with ``step_00000500.pt.sha256`` beside it. It exists from the
moment the first file gets its name, which is the last thing that ``save`` does.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import torch
from torch import Tensor

from cascade_lab.errors import InputError

KEPT = 2  # with a single one there would be nothing to fall back on


def save(folder: Path, state: dict[str, Any], keep: int = KEPT) -> Path:
    """Write ``state`` (tensors and plain JSON types) as the checkpoint of ``state["step"]``.

    Older checkpoints beyond the newest ``keep`` are removed afterwards.

    Raises:
        InputError: the disk is full or cannot be written; the older checkpoints are untouched.
    """
    path = at(folder, state["step"])
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for left_over in folder.glob("*.partial"):
            left_over.unlink()
        write_with_digest(path, lambda file: torch.save(state, file))
    except (OSError, RuntimeError) as error:
        remedy = "the older checkpoints are intact: make room and continue with --resume"
        raise explained(error, path, size(state), remedy) from error
    for old in [other for other in paths(folder) if other.name <= path.name][:-keep]:
        old.unlink()
        old.with_suffix(".pt.sha256").unlink(missing_ok=True)
    return path


def at(folder: Path, step: int) -> Path:
    """Return where the checkpoint of a step lies, or would lie."""
    return folder / f"step_{step:08d}.pt"


def paths(folder: Path) -> list[Path]:
    """Return the checkpoints in ``folder``, oldest first, whether they verify or not."""
    if not folder.is_dir():
        return []
    return sorted(path for path in folder.iterdir() if re.fullmatch(r"step_\d{8,}\.pt", path.name))


def load(path: Path) -> dict[str, Any]:
    """Verify and read one checkpoint, onto the CPU.

    Raises:
        InputError: the file is missing, damaged, or holds anything but tensors and plain types.
    """
    digest = path.with_suffix(".pt.sha256")
    try:
        if digest.read_text().split()[0] != sha256(path):
            raise InputError(f"{path}: the file is not what was written (SHA-256 differs); use an older one")
        return torch.load(path, map_location="cpu", weights_only=True)
    except InputError:
        raise
    # torch.load reports damage as four unrelated types, down to IndexError and EOFError.
    except Exception as error:
        reason = str(error).strip().split("\n")[0] or type(error).__name__
        raise InputError(f"{path}: not a readable checkpoint ({reason}); use an older one") from error


def load_newest(folder: Path) -> dict[str, Any] | None:
    """Read the newest checkpoint that verifies; say so on stderr when a newer one had to be skipped.

    Returns None where there is no checkpoint at all.

    Raises:
        InputError: there are checkpoints, and none verifies.
    """
    found = paths(folder)
    for path in reversed(found):
        try:
            return load(path)
        except InputError as error:
            print(f"skipped: {error}", file=sys.stderr)
    if found:
        raise InputError(f"{folder}: none of {len(found)} checkpoints is intact; start again in a new folder")
    return None


def write_with_digest(path: Path, content: Callable[[IO[bytes]], Any]) -> str:
    """Replace ``path`` by what ``content`` writes, with ``path``.sha256 beside it; return the SHA-256.

    The digest gets its name first, so a file that has its name also has its digest. OSError and RuntimeError
    (torch.save) reach the caller; ``explained`` turns them into a line.
    """
    partial = path.with_name(path.name + ".partial")
    partial_digest = path.with_suffix(".sha256.partial")
    try:
        _write(partial, content)
        found = sha256(partial)
        _write(partial_digest, lambda file: file.write(f"{found}  {path.name}\n".encode()))
        os.replace(partial_digest, path.with_name(path.name + ".sha256"))
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        partial_digest.unlink(missing_ok=True)
        raise
    _sync(path.parent)
    return found


def write_text(path: Path, text: str) -> None:
    """Replace ``path`` with ``text``, as ``write_bytes`` does."""
    write_bytes(path, text.encode())


def write_bytes(path: Path, content: bytes) -> None:
    """Replace ``path`` with ``content`` such that a reader sees the old content or the new, never a part."""
    partial = path.with_name(path.name + ".partial")
    try:
        _write(partial, lambda file: file.write(content))
        os.replace(partial, path)
    except BaseException:
        partial.unlink(missing_ok=True)
        raise
    _sync(path.parent)


def sha256(path: Path) -> str:
    """Return the SHA-256 of a file, as sha256sum prints it."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def explained(error: BaseException, path: Path, needed: int, remedy: str) -> Exception:
    """Return the error to raise for a write of ``needed`` bytes that failed; ``remedy`` is for a full disk.

    torch.save hides a full disk behind a RuntimeError: look down the chain.
    """
    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, OSError):
        cause = cause.__context__
    if cause is None:
        return RuntimeError(f"{path}: could not be written ({error})")
    if cause.errno not in (errno.ENOSPC, errno.EDQUOT):
        return InputError(f"{path}: cannot be written ({cause.strerror}); choose another --output")
    free = shutil.disk_usage(path.parent).free
    return InputError(
        f"{path}: disk full, needs about {_mebibytes(needed)}, {_mebibytes(free)} free; {remedy}"
    )


def size(value: Any) -> int:
    """Return the bytes of all tensors in nested dicts and lists."""
    if isinstance(value, Tensor):
        return value.nbytes
    if isinstance(value, dict):
        return sum(map(size, value.values()))
    return sum(map(size, value)) if isinstance(value, list | tuple) else 0


def _write(path: Path, content: Callable[[IO[bytes]], Any]) -> None:
    """Write a file and wait until it is on the disk; leave nothing behind on failure."""
    try:
        with open(path, "wb") as file:
            content(file)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        path.unlink(missing_ok=True)
        raise


def _sync(folder: Path) -> None:
    """Wait until the names in ``folder`` are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _mebibytes(count: int) -> str:
    return f"{count / 2**20:,.1f} MiB"
