"""``cascade-lab doctor``: what it says here, with things missing, and of machines that are made up."""

import copy
import json
import os
import re
import shutil
import stat
from pathlib import Path

import pytest
import torch

from cascade_lab import cli, doctor
from cascade_lab.commands.doctor import as_text
from cascade_lab.kernels import cpu_backend, cupy_backend, host_compiler, inventory, machines
from cascade_lab.ops.dcnv3 import why

NEEDS_COMPILER = pytest.mark.skipif(host_compiler.find() is None, reason="no C++ compiler on the PATH")
NO_GPU_HERE = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU, so nothing is missing")
H100 = {"name": "NVIDIA H100", "compute_capability": "9.0", "memory_gib": 80.0}


@pytest.fixture(autouse=True)
def _choose_anew():
    """Choice and kernels are kept for the life of a process: neither take them in, nor leave them behind."""
    kept = (why, machines.obstacle, cpu_backend.load)
    for function in kept:
        function.cache_clear()
    yield
    for function in kept:
        function.cache_clear()


def run(capsys, *arguments: str) -> tuple[int, str, str]:
    code = cli.main(["doctor", *arguments])
    printed = capsys.readouterr()
    return code, printed.out, printed.err


# --- this machine


@NEEDS_COMPILER
def test_json_has_its_keys_and_the_self_check_passes(capsys):
    code, out, err = run(capsys, "--json")
    told = json.loads(out)
    assert list(told) == [
        "cascade_lab", "python", "platform", "processor", "torch", "driver", "gpus", "cupy", "compiler",
        "cache", "dcnv3", "self_checks", "next_steps", "exit_code",
    ]  # fmt: skip
    assert set(told["cupy"]) == {"packages", "version", "finds_gpu", "nvrtc", "architectures", "problem"}
    assert told["compiler"]["path"] == shutil.which(told["compiler"]["path"])
    assert told["torch"]["version"] == torch.__version__
    cpu = {check["dtype"]: check for check in told["self_checks"] if check["machine"] == "cpu"}
    assert list(cpu) == ["float32", "float16", "bfloat16"]
    for name, check in cpu.items():
        assert check["passed"] and 0 < check["error"] < 64 * torch.finfo(getattr(torch, name)).eps, check
    assert (
        told["dcnv3"]["cpu"]["backend"] == "cpu" and told["compiler"]["path"] in told["dcnv3"]["cpu"]["why"]
    )
    assert code == told["exit_code"] == int(any(step["essential"] for step in told["next_steps"]))
    assert err == ""


@NEEDS_COMPILER
@NO_GPU_HERE
def test_a_compiler_and_no_gpu_is_as_good_as_it_gets_here(capsys, monkeypatch):
    folders = os.environ["PATH"].split(os.pathsep)
    without = [folder for folder in folders if not (Path(folder) / "nvidia-smi").exists()]
    monkeypatch.setenv("PATH", os.pathsep.join(without))
    code, out, _ = run(capsys)
    assert code == 0
    assert "The best kernels that this machine can have work." in out
    assert "nothing to do: this machine computes on its processor" in out
    assert out.count("passed") == 3


@NEEDS_COMPILER
def test_compiling_is_told_from_the_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("CASCADE_LAB_CACHE", str(tmp_path))
    cpu_backend.load.cache_clear()
    first = doctor.check("cpu", torch.float32)
    cpu_backend.load.cache_clear()
    second = doctor.check("cpu", torch.float32)
    assert (first["compiled"], second["compiled"]) == (True, False)
    assert first["error"] == second["error"] is not None
    assert first["seconds"] > second["seconds"]


@NO_GPU_HERE
@pytest.mark.parametrize("named", ["/nonexistent", None])
def test_a_missing_compiler_and_what_to_type(capsys, monkeypatch, tmp_path, named):
    """With CXX pointing nowhere, the way out is to unset it; with nothing on the PATH, to install one."""
    if named:
        if host_compiler.find() is None:
            pytest.skip("no C++ compiler on the PATH, so unsetting CXX would not help")
        monkeypatch.setenv("CXX", named)
    else:
        monkeypatch.delenv("CXX", raising=False)
        monkeypatch.setenv("PATH", str(tmp_path))
        _program(tmp_path / "apt-get", "")
    code, out, _ = run(capsys, "--json")
    told = json.loads(out)
    assert code == 1
    assert told["compiler"]["path"] is None and told["self_checks"] == []
    assert told["dcnv3"]["cpu"]["backend"] == "grid_sample", told["dcnv3"]
    step = told["next_steps"][0]
    assert step["about"] == "compiler" and step["essential"] and "many times slower" in step["problem"]
    assert step["remedy"] == ("unset CXX" if named else "apt-get install g++")
    assert (named or "") in step["problem"]


def test_a_missing_compiler_in_words(capsys, monkeypatch):
    monkeypatch.setenv("CXX", "/nonexistent")
    monkeypatch.setattr(cupy_backend, "why_not", lambda: "torch finds no CUDA device")
    code, out, _ = run(capsys)
    assert code == 1
    assert "! compiler: CXX names /nonexistent, which is not there" in out
    assert "no kernels to check" in out and "The best kernels" not in out


@NEEDS_COMPILER
def test_kernels_that_compute_something_else(capsys, monkeypatch):
    def differs(machine, dtype):
        raise RuntimeError(f"the DCNv3 kernels ({machine}) differ from the reference by 1.0e+00")

    monkeypatch.setattr(doctor, "self_check", differs)
    code, out, _ = run(capsys)
    assert code == 1
    assert out.count("FAILED") == 3
    assert "do not train with them" in out


@NEEDS_COMPILER
def test_a_compiler_that_refuses(capsys, monkeypatch):
    def refuses(machine, dtype):
        if dtype == torch.float16:
            raise host_compiler.CompileError("g++ refused the kernels: unknown type _Float16")
        return 1e-7

    monkeypatch.setattr(doctor, "self_check", refuses)
    code, out, _ = run(capsys, "--json")
    (step,) = [step for step in json.loads(out)["next_steps"] if step["essential"]]
    assert code == 1
    assert step["about"] == "cpu kernels, float16" and "GCC 12 or newer" in step["remedy"]


def test_a_cache_that_cannot_be_made(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("CASCADE_LAB_CACHE", str(tmp_path / "file"))
    cache = inventory.kernel_cache()
    assert not cache["writable"] and "file" in cache["problem"]
    (step,) = doctor.next_steps(machine(cache=cache))
    assert step.about == "cache" and "export CASCADE_LAB_CACHE" in step.remedy


@pytest.mark.parametrize("arguments", [["--jsn"], ["--json", "3"], ["now"]])
def test_bad_usage(capsys, arguments):
    code, out, err = run(capsys, *arguments)
    assert (code, out, len(err.splitlines())) == (2, "", 1)


@NO_GPU_HERE
def test_no_extra_without_a_driver(capsys, monkeypatch):
    monkeypatch.setattr(inventory, "driver", lambda: {"version": None, "cuda": None})
    code, out, err = run(capsys, "--extra")
    assert (code, out) == (2, "") and "no NVIDIA driver" in err


@pytest.mark.parametrize(
    "cuda, extra", [("13.0", "cuda13"), ("14.1", "cuda13"), ("12.4", "cuda12"), ("11.8", ""), (None, "")]
)
def test_the_driver_decides_which_cupy(capsys, monkeypatch, cuda, extra):
    assert inventory.cupy_extra({"cuda": cuda}) == extra
    monkeypatch.setattr(inventory, "driver", lambda: {"version": "1", "cuda": cuda})
    if extra:
        assert run(capsys, "--extra") == (0, f"{extra}\n", "")


# --- made-up machines


def machine(**changed) -> dict:
    """Return the facts of a machine where all is well, with a GPU, except for what is ``changed``."""
    checks = [{"machine": m, "dtype": "float32", "passed": True, "message": ""} for m in ("cpu", "cuda")]
    facts = {
        "torch": {"cuda_build": "13.0", "sees_cuda": True},
        "driver": {"version": "580.1", "cuda": "13.0"},
        "gpus": [H100],
        "cupy": {
            "packages": ["cupy-cuda13x"],
            "version": "14.2.0",
            "finds_gpu": True,
            "nvrtc": "13.0",
            "architectures": [75, 80, 90],
            "problem": "",
        },
        "compiler": {"path": "/usr/bin/g++", "version": "12.2", "CXX": None},
        "cache": {"path": "/cache", "problem": ""},
        "self_checks": checks,
    }
    facts = copy.deepcopy(facts)
    for name, value in changed.items():
        facts[name] = {**facts[name], **value} if isinstance(value, dict) else value
    return facts


def test_nothing_is_missing_where_all_is_well():
    assert doctor.next_steps(machine()) == []


NO_CUPY = {"packages": [], "version": None, "finds_gpu": False, "problem": "No module named 'cupy'"}


@pytest.mark.parametrize(
    "changed, about, remedy",
    [
        ({"driver": {"cuda": None}}, "driver", "LD_LIBRARY_PATH"),
        ({"driver": {"cuda": "11.4"}}, "driver", "driver 525 or newer"),
        (
            {"torch": {"cuda_build": None, "sees_cuda": False}},
            "torch",
            "the cu130 build of torch",
        ),
        ({"torch": {"sees_cuda": False}, "driver": {"cuda": "12.8"}}, "torch", "the cu126 build of torch"),
        ({"torch": {"sees_cuda": False}}, "torch", "unset CUDA_VISIBLE_DEVICES"),
        ({"cupy": NO_CUPY}, "CuPy", r"-m pip install .*\[cuda13\]"),
        ({"cupy": NO_CUPY, "driver": {"cuda": "12.8"}}, "CuPy", r"-m pip install .*\[cuda12\]"),
        (
            {"cupy": {"packages": ["cupy-cuda12x", "cupy-cuda13x"]}},
            "CuPy",
            r"uninstall -y cupy-cuda12x cupy-cuda13x && .*\[cuda13\]",
        ),
        ({"cupy": {"finds_gpu": False}}, "CuPy", "uninstall -y cupy-cuda13x && "),
        ({"cupy": {"problem": "no libnvrtc.so.13"}}, "NVRTC", "pip install"),
        ({"gpus": [{**H100, "compute_capability": "6.1"}]}, "GPU", "older CUDA"),
    ],
)
def test_every_obstacle_to_the_gpu_has_a_next_step(monkeypatch, changed, about, remedy):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    steps = doctor.next_steps(machine(**changed))
    assert [step.about for step in steps] == [about]
    assert steps[0].essential and re.search(remedy, steps[0].remedy), steps[0].remedy


def test_half_types_that_fail_on_the_gpu():
    checks = machine()["self_checks"]
    failed = {"machine": "cuda", "dtype": "float16", "passed": False, "message": "cannot open cuda_fp16.h"}
    (step,) = doctor.next_steps(machine(self_checks=[*checks, failed]))
    assert step.about == "cuda kernels, float16" and step.essential and "[cuda13]" in step.remedy


def test_a_missing_compiler_does_not_matter_beside_a_gpu_that_works():
    (step,) = doctor.next_steps(machine(compiler={"path": None}))
    assert step.about == "compiler" and not step.essential


def test_gpus_that_only_the_driver_sees(monkeypatch, tmp_path):
    """A GPU that torch does not see is read off nvidia-smi, in the words of its --query-gpu."""
    script = """
    case "$1" in
      --query-gpu=name,compute_cap,memory.total)
        echo "NVIDIA H100, 9.0, 81920"; echo "NVIDIA GB10, 12.1, [N/A]";;
      --query-gpu=driver_version) echo 580.95;;
      *) exit 1;;
    esac"""
    _program(tmp_path / "nvidia-smi", script)
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert inventory.gpus() == [
        H100,
        {"name": "NVIDIA GB10", "compute_capability": "12.1", "memory_gib": None},
    ]
    assert inventory.driver()["version"] == "580.95"


def test_text_of_a_gpu_machine():
    facts = machine(torch={"version": "2.10", "torchvision": "0.25"})
    facts |= {
        "cascade_lab": "1",
        "platform": "Linux",
        "python": {"version": "3.11", "path": "/py"},
        "processor": {"name": "CPU", "cores": 8, "avx512": False},
        "gpus": [H100, {**H100, "name": "GB10", "memory_gib": None}],
        "dcnv3": {"cuda": {"backend": "cuda", "why": "CuPy and a GPU are there"}},
        "next_steps": [],
        "exit_code": 0,
        "self_checks": [
            {"machine": "cuda", "dtype": "float32", "passed": True, "error": 2e-7, "seconds": 1.5,
             "compiled": None, "message": ""}
        ],
    }  # fmt: skip
    text = as_text(facts)
    assert "NVIDIA H100, compute capability 9.0, 80 GiB; GB10, compute capability 9.0\n" in text
    assert "NVRTC      13.0: sm_75 sm_80 sm_90" in text and "no AVX-512" in text
    assert "cuda float32  passed  2.0e-07  run in 1.50 s" in text


def _program(path: Path, script: str) -> None:
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
