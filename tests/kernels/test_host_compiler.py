"""The cache of compiled kernels is private and never stale, and a failing compiler says why in one line."""

from __future__ import annotations

import ctypes
import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from cascade_lab.kernels import host_compiler
from cascade_lab.kernels.host_compiler import CompileError, cache_folder, find, library

FLAGS = ("-std=c++17", "-O0")
needs_compiler = pytest.mark.skipif(find() is None, reason="no C++ compiler on the PATH")


def returns(number: int) -> str:
    return f'extern "C" int answer() {{ return {number}; }}\n'


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that compiled kernels go to, in a place of this test's own."""
    monkeypatch.setenv("CASCADE_LAB_CACHE", str(tmp_path))
    host_compiler.version.cache_clear()
    return tmp_path / "cascade_lab" / "kernels"


@pytest.fixture
def pretend(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Make a shell script the compiler; it is told to say its version like any other."""

    def pretend(script: str, version: str = "pretended 1.0") -> Path:
        path = tmp_path / "compiler"
        path.write_text(f'#!/bin/sh\n[ "$1" = --version ] && echo {version} && exit\n{script}\n')
        path.chmod(0o755)
        monkeypatch.setenv("CXX", str(path))
        host_compiler.version.cache_clear()
        return path

    return pretend


def modes(*paths: Path) -> list[int]:
    return [stat.S_IMODE(path.stat().st_mode) for path in paths]


def test_folder_is_made_for_its_owner_alone(cache: Path):
    before = os.umask(0)
    try:
        assert cache_folder() == cache
    finally:
        os.umask(before)
    assert modes(cache) == [0o700]


def test_folder_of_its_owner_is_closed_again(cache: Path):
    cache.mkdir(parents=True)
    cache.chmod(0o777)
    cache_folder()
    assert modes(cache) == [0o700]


def test_folder_of_somebody_else_is_refused(cache: Path, monkeypatch: pytest.MonkeyPatch):
    cache_folder()
    monkeypatch.setattr(os, "getuid", lambda: cache.stat().st_uid + 1)
    with pytest.raises(CompileError, match="kernels: is not yours alone; set CASCADE_LAB_CACHE"):
        cache_folder()


def test_folder_that_cannot_be_made(cache: Path):
    cache.parent.write_text("a file where a folder should be")
    with pytest.raises(CompileError, match="kernels: cannot be made .*; set CASCADE_LAB_CACHE"):
        cache_folder()


def test_folder_without_a_setting(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CASCADE_LAB_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    assert cache_folder() == tmp_path / "xdg" / "cascade_lab" / "kernels"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert cache_folder() == tmp_path / "home" / ".cache" / "cascade_lab" / "kernels"


@needs_compiler
def test_library_is_compiled_once(cache: Path):
    assert library(returns(41), FLAGS).answer() == 41
    (made,) = cache.iterdir()  # and nothing is left of the compiling
    assert made.suffix == ".so" and modes(made) == [0o700]
    written = made.stat().st_mtime_ns
    assert isinstance(library(returns(41), FLAGS), ctypes.CDLL)
    assert made.stat().st_mtime_ns == written


@needs_compiler
@pytest.mark.parametrize("mode", [0o720, 0o702, 0o777])
def test_library_that_others_may_write_is_refused(cache: Path, mode: int):
    library(returns(42), FLAGS)
    (made,) = cache.iterdir()
    made.chmod(mode)
    with pytest.raises(CompileError, match=rf"{made.name}: is not yours alone"):
        library(returns(42), FLAGS)


@needs_compiler
def test_key_follows_source_flags_version_and_processor(cache: Path, monkeypatch: pytest.MonkeyPatch):
    def made() -> int:
        return len(list(cache.iterdir()))

    library(returns(43), FLAGS)
    assert made() == 1
    assert library(returns(44), FLAGS).answer() == 44
    assert made() == 2
    library(returns(43), (*FLAGS, "-DANYTHING"))
    assert made() == 3
    with monkeypatch.context() as other:
        other.setattr(host_compiler, "version", lambda compiler: "another compiler")
        library(returns(43), FLAGS)
    assert made() == 4
    with monkeypatch.context() as other:
        other.setattr(host_compiler, "processor", lambda: "another processor")
        library(returns(43), FLAGS)
    assert made() == 5
    library(returns(43), FLAGS)
    assert made() == 5


def test_version_is_part_of_the_key(cache: Path, pretend):
    """The same path may hold another compiler tomorrow."""
    path = pretend("", version="pretended 1.0")
    assert host_compiler.version(str(path)) == f"{path} pretended 1.0"
    pretend("", version="pretended 2.0")
    assert host_compiler.version(str(path)) == f"{path} pretended 2.0"


def test_processor_says_what_code_may_run():
    if not Path("/proc/cpuinfo").exists():
        pytest.skip("no /proc/cpuinfo on this system")
    flags = host_compiler.processor().split()
    assert len(flags) > 5
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith(("flags", "Features")):
            assert set(line.split(":")[1].split()) <= set(flags)


def test_named_compiler_is_taken(pretend):
    path = pretend("exit 1")
    assert find() == str(path)


def test_named_compiler_that_is_not_there_is_none(monkeypatch: pytest.MonkeyPatch):
    """Whoever names a compiler does not want another one."""
    monkeypatch.setenv("CXX", "no-such-compiler")
    assert find() is None
    with pytest.raises(CompileError, match="no C\\+\\+ compiler"):
        library(returns(45), FLAGS)


def test_no_compiler_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find() is None
    with pytest.raises(CompileError) as error:
        library(returns(45), FLAGS)
    assert str(error.value) == "no C++ compiler: none of g++, c++, clang++ is on the PATH"


def test_first_known_compiler_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    for name in ("clang++", "c++"):
        (tmp_path / name).touch(mode=0o755)
    assert find() == str(tmp_path / "c++")


@needs_compiler
def test_refused_source_says_why_in_one_line(cache: Path):
    with pytest.raises(
        CompileError, match=r"refused the kernels: kernels\.cpp:1:\d+: .*error.*nowhere"
    ) as error:
        library("int answer() { return nowhere; }\n", FLAGS)
    assert "\n" not in str(error.value)
    assert not list(cache.iterdir())


def test_compiler_that_only_fails(cache: Path, pretend):
    pretend("echo something odd >&2; exit 3")
    with pytest.raises(CompileError, match="compiler refused the kernels: something odd"):
        library(returns(46), FLAGS)
    assert not list(cache.iterdir())


def test_compiler_that_never_ends(pretend, monkeypatch: pytest.MonkeyPatch):
    pretend("exec sleep 60")
    host_compiler.version(str(find()))
    monkeypatch.setattr(host_compiler, "SECONDS", 0.2)
    with pytest.raises(CompileError, match="timed out"):
        library(returns(47), FLAGS)


@needs_compiler
def test_several_processes_at_once(cache: Path):
    """Each compiles for itself or takes what is there; none loads half a file."""
    code = (
        "from cascade_lab.kernels.host_compiler import library\n"
        f"print(library({returns(48)!r}, {FLAGS!r}).answer())"
    )
    running = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(3)
    ]
    assert [process.communicate(timeout=120)[0].strip() for process in running] == ["48"] * 3
    assert len(list(cache.iterdir())) == 1
