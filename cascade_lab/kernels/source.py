"""The text of ``cuda_src``: found, made whole, and read for what its kernels expect."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from cascade_lab.errors import InputError

# In an installed package the folder lies beside this one, in a checkout beside the package.
PLACES = (Path(__file__).parents[1] / "cuda_src", Path(__file__).parents[2] / "cuda_src")
SCALARS = {"int": "i4", "unsigned": "u4", "long long": "i8", "float": "f4", "double": "f8", "bool": "?"}

_INCLUDE = re.compile(r'^[ \t]*#include "([^"]+)"[^\n]*$', re.MULTILINE)


def folder() -> Path:
    """Return the folder of the CUDA sources. Raises InputError where it is missing."""
    for place in PLACES:
        if (place / "floats.cuh").is_file():
            return place
    raise InputError(f"{PLACES[0]}: missing; install cascade_lab again, its CUDA sources are not there")


@lru_cache
def read(name: str, instead: tuple[tuple[str, str], ...] = ()) -> str:
    """Return a source file with our own headers put in place, each once.

    CuPy keeps compiled kernels under the text that it was given, not under the headers which that includes:
    with the headers inside the text, an edit in one of them is seen.

    Args:
        instead: (header, the one to take in its place), such as the host's ``floats.h`` for ``floats.cuh``.
    """
    seen: set[str] = set()

    def expand(file: str) -> str:
        if file in seen:
            return ""
        seen.add(file)
        text = (folder() / file).read_text(encoding="utf-8").replace("#pragma once\n", "")
        return _INCLUDE.sub(lambda match: expand(dict(instead).get(match[1], match[1])), text)

    return expand(name)


def parameters(source: str, kernel: str) -> list[tuple[str, np.dtype | None]]:
    """Return name and type of every parameter of a ``__global__`` function; None stands for any pointer.

    Raises ValueError where the source has no such kernel, or a parameter of a type that is not known here.
    """
    found = re.search(rf"__global__[^;{{]*?\b{kernel}\s*\(([^)]*)\)", source)
    if not found:
        raise ValueError(f"the source has no kernel {kernel}")
    listed = []
    for parameter in found[1].split(","):
        words = re.sub(r"\b(const|__restrict__|typename)\b", " ", parameter)
        name = words.split()[-1].strip("*")
        kind = words[: words.rindex(name)].strip()
        listed.append((name, None if "*" in words else _type(source, " ".join(kind.split()))))
    return listed


@lru_cache
def structure(source: str, name: str) -> np.dtype:
    """Return a C++ struct of plain numbers as numpy lays it out in memory."""
    found = re.search(rf"\bstruct {name} {{(.*?)}};", source, re.DOTALL)
    if not found:
        raise ValueError(f"the source has no struct {name}")
    fields: list[tuple[str, np.dtype]] = []
    for line in filter(None, (part.strip() for part in re.sub(r"//[^\n]*", "", found[1]).split(";"))):
        kind, names = re.fullmatch(r"((?:long long|\w+))\s+(.+)", line, re.DOTALL).groups()  # type: ignore
        fields += [(member.strip(), _type(source, kind)) for member in names.split(",")]
    return np.dtype(fields, align=True)


def as_argument(source: str, name: str, values: Mapping[str, Any]) -> np.ndarray:
    """Return one struct by value, filled by name. Raises ValueError unless every field is given."""
    kind = structure(source, name)
    if set(kind.names or ()) != set(values):
        raise ValueError(f"struct {name} has {kind.names}, got {tuple(values)}")
    return np.array(tuple(values[field] for field in kind.names or ()), dtype=kind)


def _type(source: str, kind: str) -> np.dtype:
    return np.dtype(SCALARS[kind]) if kind in SCALARS else structure(source, kind)
