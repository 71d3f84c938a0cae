"""environment.yml and pyproject.toml name the same packages with the same floors."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[1]
CONDA_NAME = {"torch": "pytorch", "cupy-cuda13x": "cupy", "cupy-cuda12x": "cupy"}
CONDA_ONLY = {"python", "pip"}


@pytest.fixture(scope="module")
def project() -> dict:
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]


@pytest.fixture(scope="module")
def environment() -> dict:
    return yaml.safe_load((ROOT / "environment.yml").read_text())


def floors(requirements: list[str]) -> dict[str, str]:
    """Map conda names to floors: ["cupy-cuda13x[ctk]>=14.0"] -> {"cupy": "14.0"}."""
    found = {}
    for line in requirements:
        match = re.fullmatch(r"([\w-]+)(?:\[\w+\])?(?:>=([\d.]+))?", line)
        assert match, f"{line!r}: write it as name>=floor"
        name, floor = match.groups(default="")
        found[CONDA_NAME.get(name, name)] = floor
    return found


def test_conda_has_the_packages_and_floors_of_core_and_lab(project, environment):
    wanted = floors(project["dependencies"] + project["optional-dependencies"]["lab"])
    given = floors(environment["dependencies"])
    assert given["python"] == project["requires-python"].removeprefix(">=")
    assert {name: floor for name, floor in given.items() if name not in CONDA_ONLY} == wanted, (
        "a package or floor changed in one file only: change pyproject.toml and environment.yml together"
    )


def test_every_requirement_has_a_floor(project):
    groups = [project["dependencies"], *project["optional-dependencies"].values()]
    bare = [name for group in groups for name, floor in floors(group).items() if not floor]
    assert not bare, f"give a lowest version in pyproject.toml to {bare}"


def test_conda_forge_is_the_only_channel(environment):
    assert set(environment["channels"]) == {"conda-forge", "nodefaults"}, "mixed channels break at run time"


def test_gpu_packages_stay_commented(project, environment):
    text = (ROOT / "environment.yml").read_text()
    commented = re.findall(r"^#  - (.+)$", text, flags=re.MULTILINE)
    assert [line.split("=")[0].rstrip(">") for line in commented] == ["cupy", "cuda-version"], (
        "keep the GPU packages commented, one a line: a solve without a GPU has to succeed"
    )
    for extra in ("cuda13", "cuda12"):
        assert floors(commented[:1]) == floors(project["optional-dependencies"][extra])


def test_floors_reads_names_extras_and_versions():
    assert floors(["torch>=2.10", "cupy-cuda13x[ctk]>=14.0", "pip"]) == {
        "pytorch": "2.10",
        "cupy": "14.0",
        "pip": "",
    }
    with pytest.raises(AssertionError, match="write it as"):
        floors(["numpy==2.1"])
