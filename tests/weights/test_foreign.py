"""Files that hold foreign objects are read without their packages; files that hold programs run nothing."""

import io
import os
import pickle
import struct
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path

import numpy as np
import pytest
import torch

from cascade_lab.errors import InputError
from cascade_lab.weights import read_weights
from cascade_lab.weights.foreign import StandIn, read_foreign

WEIGHT = torch.arange(6.0).reshape(2, 3)


@pytest.fixture
def foreign(monkeypatch):
    """A package named mmengine that is there while a file is written, and gone when it is read."""
    modules = {}

    def add(module: str, **attributes):
        made = types.ModuleType(module)
        for name, value in attributes.items():
            value.__module__, value.__qualname__, value.__name__ = module, name, name
            setattr(made, name, value)
        monkeypatch.setitem(sys.modules, module, made)
        modules[module] = made
        return made

    yield add
    for module in modules:
        sys.modules.pop(module, None)


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_objects_of_the_packages_that_trained_it_become_stand_ins(tmp_path: Path, foreign, zipped: bool):
    buffer = type("HistoryBuffer", (), {"__init__": lambda self: setattr(self, "log", np.arange(3))})
    config = type("CfgNode", (dict,), {"__init__": lambda self, *a: (dict.__init__(self, *a), None)[1]})
    foreign("mmengine", None_=type("None_", (), {}))
    foreign("mmengine.logging", HistoryBuffer=buffer)
    foreign("yacs", None_=type("None_", (), {}))
    foreign("yacs.config", CfgNode=config)
    node = config({"MODEL": "x"})
    node.frozen = True
    content = {
        "meta": {"CLASSES": ("cat",), "best": np.float64(0.5), "array": np.ones(3), "loss": buffer()},
        "config": node,
        "state_dict": OrderedDict(a=WEIGHT),
        "path": Path("runs"),
    }
    path = tmp_path / "x.pth"
    torch.save(content, path, _use_new_zipfile_serialization=zipped)
    for name in ("mmengine", "mmengine.logging", "yacs", "yacs.config"):
        sys.modules.pop(name)
    with pytest.raises(pickle.UnpicklingError):  # why all this is needed
        torch.load(path, weights_only=True)
    read = read_foreign(path)
    assert torch.equal(read["state_dict"]["a"], WEIGHT)
    assert type(read["meta"]["loss"]) is type(read["meta"]["best"]) is type(read["path"]) is StandIn
    assert vars(read["meta"]["loss"]) == {} and read["config"] == {"MODEL": "x"}
    assert read_weights(path).classes == ("cat",)
    assert not {"mmengine", "yacs"} & set(sys.modules)


def test_stand_ins_are_allowed_for_one_file_only(tmp_path: Path):
    before = set(torch.serialization.get_safe_globals())
    torch.save({"a": WEIGHT, "b": np.float64(1)}, tmp_path / "x.pth")
    read_foreign(tmp_path / "x.pth")
    assert set(torch.serialization.get_safe_globals()) == before


def test_a_module_of_a_listed_name_is_never_imported(tmp_path: Path, monkeypatch):
    """A package called mmcv that lies in the way leaves its mark when imported; it is not."""
    (tmp_path / "mmcv.py").write_text(f"open({str(tmp_path / 'canary')!r}, 'w')\nclass X: pass\n")
    monkeypatch.syspath_prepend(tmp_path)
    path = tmp_path / "x.pth"
    path.write_bytes(zip_with(b"\x80\x02cmmcv\nX\n)R."))
    with pytest.raises(InputError, match="holds a StandIn where a dict"):
        read_foreign(path)
    assert not (tmp_path / "canary").exists() and "mmcv" not in sys.modules


# --- programs in disguise. CANARY stands for a path; a program that runs makes that file.


class Calls:
    def __init__(self, function, *arguments):
        self.call = function, arguments

    def __reduce__(self):
        return self.call


def zip_with(program: bytes, name: str = "x/data.pkl", compression: int = zipfile.ZIP_STORED) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compression) as archive:
        archive.writestr(name, program)
        archive.writestr("x/version", b"3\n")
        archive.writestr("x/byteorder", b"little")
    return buffer.getvalue()


def torch_file(content: object, zipped: bool = True) -> bytes:
    buffer = io.BytesIO()
    torch.save(content, buffer, _use_new_zipfile_serialization=zipped)
    return buffer.getvalue()


def touch(canary: str) -> str:
    return f"open({canary!r}, 'w').close()"


def text(value: str) -> bytes:
    return b"X" + struct.pack("<I", len(value.encode())) + value.encode()


def called(name: str, *arguments: bytes) -> bytes:
    """The opcodes that import a name and call it."""
    return b"c" + name.encode() + b"\n(" + b"".join(arguments) + b"tR"


SYSTEM = called("builtins\ngetattr", called("builtins\n__import__", text("os")), text("system"))
OLD_SYSTEM = SYSTEM.replace(b"builtins", b"__builtin__")


def arguments(*values: str) -> bytes:
    """The opcodes that call what was imported last."""
    return b"(" + b"".join(map(text, values)) + b"tR"


def shell(canary: str) -> Calls:
    return Calls(os.system, f"touch {canary}")


def handwritten(program: bytes) -> bytes:
    return zip_with(b"\x80\x02" + program + b".")


PROGRAMS = {
    "os.system": lambda c: torch_file({"state_dict": shell(c)}),
    "os.system in meta": lambda c: torch_file({"state_dict": {"a": WEIGHT}, "meta": shell(c)}),
    "os.system, legacy": lambda c: torch_file({"state_dict": shell(c)}, zipped=False),
    "bare pickle": lambda c: pickle.dumps({"state_dict": shell(c)}),
    "bare pickle, protocol 0": lambda c: pickle.dumps(shell(c), protocol=0),
    "eval": lambda c: torch_file({"a": Calls(eval, touch(c))}),
    "exec": lambda c: torch_file({"a": Calls(exec, touch(c))}),
    "open": lambda c: torch_file({"a": Calls(open, c, "w")}),
    "subprocess": lambda c: torch_file({"a": Calls(subprocess.Popen, ["touch", c])}),
    "getattr chain": lambda c: handwritten(SYSTEM + arguments(f"touch {c}")),
    "getattr of python 2": lambda c: handwritten(OLD_SYSTEM + arguments(f"touch {c}")),
    "dotted name": lambda c: handwritten(b"cmmcv\n..os.system\n" + arguments(f"touch {c}") + b"0" + SYSTEM),
    "numpy's gadget": lambda c: handwritten(
        called("numpy.testing._private.utils\nruncstring", text(touch(c)), b"}")
    ),
    "numpy's gadget in meta": lambda c: handwritten(
        b"}" + text("meta") + called("numpy.f2py.diagnose\nrun_command", text(f"touch {c}")) + b"s"
    ),
    "torch's gadget, hub": lambda c: handwritten(called("torch.hub\n_import_module", text("x"), text(c))),
    "torch's gadget, load": lambda c: handwritten(called("torch.serialization\nload", text(c))),
    "torch's gadget, jit": lambda c: handwritten(
        called("torch.jit.unsupported_tensor_ops\nexecWrapper", text(touch(c)), b"}", b"}")
    ),
    "torch's gadget, storage": lambda c: handwritten(called("torch.storage\n_load_from_bytes", text(c))),
    "stacked global": lambda c: zip_with(
        b"\x80\x04" + text("os") + text("system") + b"\x93" + arguments(f"touch {c}") + b"."
    ),
    "inst": lambda c: zip_with(b"(" + text(f"touch {c}") + b"ios\nsystem\n."),
    "obj": lambda c: zip_with(b"(cos\nsystem\n" + text(f"touch {c}") + b"o."),
    "extension": lambda c: handwritten(b"\x82\x01)R"),
    "state of a stand-in": lambda c: handwritten(b"cmmcv\nX\n)\x81}" + text("a") + b"cos\nsystem\nsb"),
    "method of a stand-in": lambda c: handwritten(
        called("builtins\ngetattr", b"cmmcv\nX\n", text("__init__"))
    ),
    "zip in a zip": lambda c: zip_with(torch_file({"a": shell(c)})),
    "two zips": lambda c: torch_file({"a": WEIGHT})[:-22] + zip_with(pickle.dumps(shell(c), 2)),
    "pickle before a zip": lambda c: pickle.dumps(shell(c), 2) + torch_file({"a": WEIGHT}),
    "torchscript": lambda c: zip_with(pickle.dumps(shell(c), 2), "x/constants.pkl"),
    "persistent id": lambda c: handwritten(text(c) + b"Q"),
}


@pytest.mark.parametrize("kind", PROGRAMS)
def test_programs_run_nothing(tmp_path: Path, kind: str):
    canary, path = tmp_path / "canary", tmp_path / "x.pth"
    path.write_bytes(PROGRAMS[kind](str(canary)))
    with pytest.raises(InputError) as caught:
        read_weights(path)
    assert not canary.exists()
    assert str(caught.value).startswith(str(path)) and len(str(caught.value).splitlines()) == 1
    assert "weights_only" not in str(caught.value), "the message advises to load it unsafely"
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    "name",
    ["builtins eval", "builtins getattr", "os system", "subprocess Popen", "numpy.f2py.diagnose run_command",
     "numpy.core.multiarray.x eval", "torch.hub load", "torch._utils _rebuild_x", "mmcv_evil X", "mmdetx.a b",
     "numpy ndarray_x"],
)  # fmt: skip
def test_only_listed_names_get_stand_ins(tmp_path: Path, name: str):
    """Beside good weights, in a part of the file that nobody needs: refused all the same."""
    good, path = torch_file({"state_dict": {"a": WEIGHT}, "meta": np.dtype("float64")}), tmp_path / "x.pth"
    path.write_bytes(good)
    assert torch.equal(read_weights(path).state["a"], WEIGHT)
    with zipfile.ZipFile(io.BytesIO(good)) as archive:
        parts = {entry.filename: archive.read(entry) for entry in archive.infolist()}
    for entry, data in parts.items():
        parts[entry] = data.replace(b"cnumpy\ndtype\n", b"c" + name.replace(" ", "\n").encode() + b"\n")
    with zipfile.ZipFile(path, "w") as archive:
        for entry, data in parts.items():
            archive.writestr(entry, data)
    with pytest.raises(InputError, match="not a readable checkpoint .*(ed global|ed GLOBAL)"):
        read_weights(path)


@pytest.mark.parametrize("kind", ["os.system", "eval", "os.system, legacy", "bare pickle"])
def test_the_programs_would_run_elsewhere(tmp_path: Path, kind: str):
    """The canary sings when such a file is loaded carelessly, so its silence above means something."""
    path = tmp_path / "x.pth"
    path.write_bytes(PROGRAMS[kind](str(tmp_path / "canary")))
    if kind == "bare pickle":
        pickle.loads(path.read_bytes())
    else:
        torch.load(path, weights_only=False)
    assert (tmp_path / "canary").exists()


# --- damage


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_every_truncation_is_one_error(tmp_path: Path, zipped: bool):
    whole, path = torch_file({"state_dict": {"a": torch.rand(400)}}, zipped), tmp_path / "x.pth"
    for kept in [0, 1, 3, 4, 10, *range(50, len(whole) - 1, max(1, len(whole) // 40)), len(whole) - 1]:
        path.write_bytes(whole[:kept])
        with pytest.raises(InputError, match="not a readable checkpoint"):
            read_weights(path)


@pytest.mark.parametrize(
    "content",
    [b"<!DOCTYPE html><html>", b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n", b"\x00" * 999,
     b"(" * 200_000, b"\x80\x02" + b"]" * 100_000 + b"a" * 99_999 + b"."],
    ids=["html", "git lfs", "zeros", "marks", "deep"],
)  # fmt: skip
def test_what_is_no_checkpoint(tmp_path: Path, content: bytes):
    for data in (content, zip_with(content)):
        (tmp_path / "x.pth").write_bytes(data)
        with pytest.raises(InputError) as caught:
            read_weights(tmp_path / "x.pth")
        assert len(str(caught.value)) < 400 + len(str(tmp_path))


def test_a_compressed_bomb_is_not_unpacked(tmp_path: Path):
    bomb = zip_with(b"\x80\x02" + text("0" * 50_000_000) + b".", compression=zipfile.ZIP_DEFLATED)
    assert len(bomb) < 100_000
    (tmp_path / "x.pth").write_bytes(bomb)
    with pytest.raises(InputError, match="it is compressed"):
        read_weights(tmp_path / "x.pth")


def storage(count: int) -> bytes:
    number = b"\x8a\x08" + struct.pack("<q", count)
    pid = b"(" + text("storage") + b"ctorch\nFloatStorage\n" + text("0") + text("cpu") + number + b"tQ"
    one = b"K\x01\x85"
    size = b"\x8a\x08" + struct.pack("<q", count) + b"\x85"
    ordered = called("collections\nOrderedDict")
    return b"\x80\x02}" + text("a") + called(
        "torch._utils\n_rebuild_tensor_v2", pid, b"K\x00", size, one, b"\x89", ordered
    ) + b"s."  # fmt: skip


@pytest.mark.parametrize("count", [5, 10**9, 2**40, 2**62, -1])
def test_claims_of_more_than_the_file_holds(tmp_path: Path, count: int):
    """A tensor of ``count`` numbers over a record of four: refused without taking that memory."""
    buffer = io.BytesIO(zip_with(storage(count)))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("x/data/0", struct.pack("<4f", 1, 2, 3, 4))
    (tmp_path / "x.pth").write_bytes(buffer.getvalue())
    with pytest.raises(InputError):
        read_weights(tmp_path / "x.pth")


def test_the_file_of_that_test_is_right_when_it_claims_what_it_holds(tmp_path: Path):
    buffer = io.BytesIO(zip_with(storage(4)))
    with zipfile.ZipFile(buffer, "a") as archive:
        archive.writestr("x/data/0", struct.pack("<4f", 1, 2, 3, 4))
    (tmp_path / "x.pth").write_bytes(buffer.getvalue())
    assert read_weights(tmp_path / "x.pth").state["a"].tolist() == [1, 2, 3, 4]


def test_broken_safetensors(tmp_path: Path):
    path = tmp_path / "x.safetensors"
    for content in (b"", b"x" * 20, struct.pack("<Q", 2**60) + b"{}", struct.pack("<Q", 2) + b"{}"[:1]):
        path.write_bytes(content)
        with pytest.raises(InputError, match="not a readable checkpoint"):
            read_weights(path)


def test_not_a_file(tmp_path: Path):
    with pytest.raises(InputError, match="no such file; cascade-lab weights get"):
        read_weights(tmp_path / "absent.pth")
    with pytest.raises(InputError, match="is a folder"):
        read_weights(tmp_path)
