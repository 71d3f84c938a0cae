"""Options and fixtures of all tests.

``--oracle-dir DIR`` names a folder of golden data; without it ``../shared/oracle`` beside the repository is
used if it is there. Sub-folders hold any number of files with any names, so a test asks for a pattern:

    @pytest.mark.oracle_files("dcnv3/*.npz")
    def test_forward(oracle_file: Path): ...     # runs once for every file that matches

and tests of components, whose file names are fixed, ask for one: ``component("nms.npz")["single/keep"]``.
"""

from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch

DEFAULT_ORACLE = Path(__file__).parents[1] / ".." / "shared" / "oracle"
ABSENT = "no golden data: ../shared/oracle is not there and no --oracle-dir was given"


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--oracle-dir", metavar="DIR", type=Path, help="golden data (default: ../shared/oracle)")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "oracle_files(pattern): one run for every matching file of golden data"
    )
    if "s" not in config.option.reportchars:  # a test that was skipped says why, without being asked
        config.option.reportchars += "s"
    given = config.getoption("--oracle-dir")
    if given and not given.is_dir():
        raise pytest.UsageError(f"--oracle-dir: {given} is not a folder")


def pytest_report_header(config: pytest.Config) -> str:
    return f"oracle: {find_oracle(config) or ABSENT}"


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "oracle_file" not in metafunc.fixturenames:
        return
    marker = metafunc.definition.get_closest_marker("oracle_files")
    assert marker, f"{metafunc.definition.nodeid} wants oracle_file: mark it with oracle_files(pattern)"
    folder, pattern = find_oracle(metafunc.config), marker.args[0]
    files = sorted(folder.glob(pattern)) if folder else []
    reason = f"no file matches {pattern} in {folder}" if folder else ABSENT
    missing = pytest.param(None, marks=pytest.mark.skip(reason=reason), id="none")
    metafunc.parametrize("oracle_file", [pytest.param(f, id=f.stem) for f in files] or [missing])


@pytest.fixture(scope="session")
def oracle_dir(pytestconfig: pytest.Config) -> Path:
    """The folder of golden data; skips where there is none."""
    folder = find_oracle(pytestconfig)
    if folder is None:
        pytest.skip(ABSENT)
    return folder


@pytest.fixture
def component(oracle_dir: Path) -> Callable[[str], Mapping[str, np.ndarray]]:
    """Open a file of ``components/`` by name; skips where it is not there."""

    def load(name: str) -> Mapping[str, np.ndarray]:
        path = oracle_dir / "components" / name
        if not path.is_file():
            pytest.skip(f"no components/{name} in {oracle_dir}")
        with np.load(path, allow_pickle=False) as arrays:
            return dict(arrays)

    return load


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Let PyTorch count in one thread: another number of them adds up in another order, to other bits."""
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


def find_oracle(config: pytest.Config) -> Path | None:
    """Return the folder of golden data, or None."""
    return config.getoption("--oracle-dir") or (DEFAULT_ORACLE.resolve() if DEFAULT_ORACLE.is_dir() else None)
