"""A wheel carries every file of the package, and each of its modules imports outside this checkout."""

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "cascade_lab"

FIND_SOURCES = """
from cascade_lab.kernels import source
assert source.folder().is_relative_to(wheel), source.folder()
assert "dcnv3_forward" in source.read("dcnv3.cu")
"""
IMPORT_ALL = """
import importlib, pathlib, sys
wheel = pathlib.Path(sys.argv[1])
sys.path.insert(0, str(wheel))
for path in sorted(wheel.glob("cascade_lab/**/*.py")):
    parts = path.relative_to(wheel).with_suffix("").parts
    if parts[-1] != "__main__":
        module = importlib.import_module(".".join(parts[:-1] if parts[-1] == "__init__" else parts))
        assert module.__file__ == str(path), module.__file__
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build in a copy: leftovers of an earlier build must not get into the wheel."""
    source, target = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "setup.py", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    shutil.copytree(PACKAGE, source / PACKAGE.name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copytree(ROOT / "cuda_src", source / "cuda_src")
    command = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "--quiet"]
    subprocess.run([*command, "--wheel-dir", str(target), str(source)], check=True, timeout=300)
    (built,) = target.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_carries_every_file_of_the_package(wheel: Path):
    kept = {path.relative_to(ROOT).as_posix() for path in PACKAGE.rglob("*") if path.is_file()}
    kept = {name for name in kept if "__pycache__" not in name}
    with zipfile.ZipFile(wheel) as archive:
        missing = kept - set(archive.namelist())
    assert not missing, f"add a pattern to [tool.setuptools.package-data] in pyproject.toml for {missing}"


@pytest.mark.slow
def test_wheel_carries_the_cuda_sources(wheel: Path):
    kept = {path.relative_to(ROOT).as_posix() for path in (ROOT / "cuda_src").rglob("*") if path.is_file()}
    assert {"cuda_src/dcnv3.cu", "cuda_src/host/cpu.h", "cuda_src/host/emulator.h"} <= kept
    with zipfile.ZipFile(wheel) as archive:
        assert {f"cascade_lab/{name}" for name in kept} <= set(archive.namelist())


@pytest.mark.slow
def test_wheel_carries_nothing_else(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.split("/")[0] for name in archive.namelist()}
        names = [name for name in archive.namelist() if "__pycache__" in name]
    assert {top for top in tops if not top.endswith(".dist-info")} == {"cascade_lab"}
    assert not names


@pytest.mark.slow
def test_wheel_names_the_command(wheel: Path):
    with zipfile.ZipFile(wheel) as archive:
        (entry,) = [name for name in archive.namelist() if name.endswith("entry_points.txt")]
        assert "cascade-lab = cascade_lab.cli:main" in archive.read(entry).decode()
        assert "cascade_lab/cli.py" in archive.namelist(), "the command's module is missing from the wheel"


@pytest.mark.slow
def test_every_module_of_the_wheel_imports(wheel: Path, tmp_path: Path):
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(tmp_path)
    run = subprocess.run(
        [sys.executable, "-I", "-c", IMPORT_ALL + FIND_SOURCES, str(tmp_path)],
        capture_output=True,
        text=True,
        timeout=300,
        cwd=tmp_path,
    )
    assert run.returncode == 0, run.stderr
