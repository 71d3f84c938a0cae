"""Read a file that somebody else wrote, without running anything that stands in it.

A checkpoint is a pickle, and a pickle is a small program: "import this name, call it with that". PyTorch's
own ``weights_only`` reader follows only calls that build tensors and plain values. Official files also hold
objects of the packages that trained them (log buffers, configurations, NumPy scalars). Those names get a
stand-in, an empty object that accepts everything and does nothing, so that the tensors beside them can be
read. Nothing of such a package is imported, and every other name ends in one InputError.
"""

from __future__ import annotations

import io
import pickletools
import re
import warnings
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open

from cascade_lab.errors import InputError

# What lies in official checkpoints beside the tensors: objects of mmdetection's family in "meta" and
# "optimizer", of yacs in the "config" of the classification trainer, and NumPy's numbers and arrays.
FOREIGN = re.compile(
    r"(mmcv|mmengine|mmdet|mmcls|mmpretrain|mmseg|timm|yacs|addict)\..*"
    r"|numpy\.((_?core\.(multiarray|numeric)\.)?(ndarray|dtype|scalar|_reconstruct|_frombuffer)|dtypes\.\w+)"
    r"|argparse\.Namespace|pathlib\.(Posix|Windows)Path|datetime\.datetime"
)
# Classes that derive from dict are filled item by item, which the reader allows for these types only.
DICTIONARIES = ("CfgNode", "ConfigDict", "Dict")
LARGEST_PICKLE = 64 * 2**20  # without its tensors a file of InternImage-XL and its average has 0.26 MB
ZIP_MAGIC = b"PK\x03\x04"
LEGACY_PICKLES = 5  # magic number, protocol, system, content, names of the storages


class StandIn:
    """An object of a class that is not here: takes any argument and any state, and keeps nothing."""

    def __new__(cls, *_: Any) -> StandIn:
        return super().__new__(cls)

    def __init__(self, *_: Any) -> None:
        pass

    def __setstate__(self, _: Any) -> None:
        pass


def read_foreign(path: Path) -> dict[str, Any]:
    """Return the content of a checkpoint on the CPU; foreign objects in it are stand-ins.

    Reads PyTorch's zip format, its older one, and safetensors (by the ending of the name; its metadata stands
    under "__metadata__", its tensors under "state_dict").

    Raises:
        InputError: absent, damaged, no checkpoint, or a program in disguise.

    Source: ``torch.load`` with ``weights_only=True`` and its documented ``safe_globals``.
    """
    if path.is_dir():
        raise InputError(f"{path}: is a folder; name a file in it")
    if not path.is_file():
        raise InputError(f"{path}: no such file; cascade-lab weights get fetches the published ones")
    try:
        content = _read_safetensors(path) if path.suffix == ".safetensors" else _read_pickled(path)
    # Damage is reported as half a dozen unrelated types, down to IndexError, RecursionError and MemoryError.
    except Exception as error:
        raise InputError(
            f"{path}: not a readable checkpoint ({_reason(error)}); fetch it again, or ask where it came from"
        ) from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds a {type(content).__name__} where a dict of tensors should be")
    return content


def _read_safetensors(path: Path) -> dict[str, Any]:
    with safe_open(path, framework="pt") as file:
        return {
            "__metadata__": file.metadata() or {},
            "state_dict": {key: file.get_tensor(key) for key in file.keys()},  # noqa: SIM118 - not a dict
        }


def _read_pickled(path: Path) -> Any:
    stand_ins: list[Any] = [
        (OrderedDict if name.rsplit(".", 1)[-1] in DICTIONARIES else StandIn, name)
        for name in _names_in(path)
        if FOREIGN.fullmatch(name)
    ]
    with warnings.catch_warnings(), torch.serialization.safe_globals(stand_ins):
        warnings.simplefilter("ignore")  # about pickle protocols and formats: it loads or it does not
        return torch.load(path, map_location="cpu", weights_only=True)


def _names_in(path: Path) -> set[str]:
    """Return every name that the pickles of a file would import, by reading them as text."""
    found: set[str] = set()
    with open(path, "rb") as file:
        if file.read(len(ZIP_MAGIC)) == ZIP_MAGIC:
            pickles: list[Any] = [_pickle_of_zip(file)]
        else:
            file.seek(0)
            pickles = [file] * LEGACY_PICKLES
        for pickle in pickles:
            for opcode, argument, _ in pickletools.genops(pickle):
                if opcode.name == "GLOBAL":
                    found.add(str(argument).replace(" ", ".", 1))
    return found


def _pickle_of_zip(file: Any) -> io.BytesIO:
    """Return the one pickle in a zip, which PyTorch never compresses: what is compressed may be a bomb."""
    with zipfile.ZipFile(file) as archive:
        if any(entry.compress_type != zipfile.ZIP_STORED for entry in archive.infolist()):
            raise ValueError("it is compressed, which PyTorch's own files never are")
        entries = [e for e in archive.infolist() if e.filename.split("/")[1:] == ["data.pkl"]]
        if len(entries) != 1:
            raise ValueError(f"it holds {len(entries)} files data.pkl, not one")
        if entries[0].file_size > LARGEST_PICKLE:
            raise ValueError(f"its data.pkl has {entries[0].file_size:,} bytes")
        return io.BytesIO(archive.read(entries[0]))


def _reason(error: Exception) -> str:
    """Return the heart of the matter in a few words, printable whatever the file put into it.

    PyTorch wraps the reason into advice to load the file unsafely; what it wraps is the error before.
    """
    if "Weights only load failed" in str(error) and error.__context__ is not None:
        return _reason(error.__context__) if isinstance(error.__context__, Exception) else ""
    words = "".join(c if c.isprintable() else " " for c in str(error).split("\n")[0])
    sentence = re.split(r"(?<=\w)\. |\. Please|; please", words.strip())[0]
    return sentence[:160] or type(error).__name__
