"""A real Chromium, viewers exported to files, notebooks in JupyterLab. Skips, visibly, without Chromium."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.browser.pages import RUN_ALL, wait_until_still

ROOT = Path(__file__).parents[2]
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--no-default-browser-check",
    "--disable-dev-shm-usage",
    "--no-proxy-server",
    "--force-color-profile=srgb",
]


@pytest.fixture(scope="session")
def chromium() -> Iterator:
    if CHROMIUM is None:
        pytest.skip("no chromium on the path (apt-get install chromium)")
    if importlib.util.find_spec("playwright") is None:
        pytest.skip("no playwright (pip install playwright)")
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield browser
        browser.close()


@pytest.fixture
def open_page(chromium, tmp_path: Path) -> Iterator[Callable]:
    """Export a viewer, open the file, and insist afterwards on no complaint and no request to a network."""
    contexts, complaints, requests = [], [], []

    def open_(viewer, **context):
        context = {"viewport": {"width": 1280, "height": 900}, **context}
        contexts.append(chromium.new_context(**context))
        page = contexts[-1].new_page()
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on(
            "console", lambda message: complaints.append(message.text) if message.type == "error" else None
        )
        page.on("request", lambda request: requests.append(request.url))
        page.goto(viewer.to_html(tmp_path / "viewer.html").as_uri())
        page.wait_for_selector(".cascade-lab[data-painted]")
        wait_until_still(page)
        return page

    yield open_
    for context in contexts:
        context.close()
    assert not complaints
    assert {url.split(":")[0] for url in requests} <= {"file", "blob", "data"}


@pytest.fixture(scope="module")
def lab_notebooks(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder that JupyterLab serves: a copy of the notebooks, to which a test may add its own."""
    work = tmp_path_factory.mktemp("notebooks") / "work"
    shutil.copytree(ROOT / "notebooks", work, ignore=shutil.ignore_patterns(".ipynb_*"))
    return work


@pytest.fixture(scope="module")
def jupyter_lab(tmp_path_factory: pytest.TempPathFactory, lab_notebooks: Path) -> Iterator[str]:
    """Start JupyterLab on a copy of the notebooks, with every folder that it might write to elsewhere."""
    pytest.importorskip("jupyterlab", reason="no JupyterLab (pip install -e '.[lab]')")
    folder = tmp_path_factory.mktemp("lab")
    names = ["JUPYTER_CONFIG_DIR", "JUPYTER_DATA_DIR", "JUPYTER_RUNTIME_DIR", "JUPYTERLAB_SETTINGS_DIR",
             "IPYTHONDIR", "MPLCONFIGDIR", "HOME"]  # fmt: skip
    for name in names:
        (folder / name).mkdir()
    settings = (
        folder / "JUPYTERLAB_SETTINGS_DIR/@jupyterlab/apputils-extension/notification.jupyterlab-settings"
    )
    settings.parent.mkdir(parents=True)
    settings.write_text(
        json.dumps({"fetchNews": "false", "checkForUpdates": False, "doNotDisturbMode": True})
    )
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", "--ip=127.0.0.1", f"--port={port}", *root]
    command += [
        "--ServerApp.port_retries=0",
        f"--ServerApp.root_dir={lab_notebooks}",
        "--expose-app-in-browser",
    ]
    command += ["--IdentityProvider.token=t0ken", f"--LabApp.workspaces_dir={folder / 'workspaces'}"]
    environment = os.environ | {name: str(folder / name) for name in names}
    environment |= {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "CUDA_VISIBLE_DEVICES": ""}
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=lab_notebooks)
        try:
            _wait_for(port, server, folder / "lab.log")
            yield f"http://127.0.0.1:{port}/doc/tree/{{name}}?token=t0ken&reset"
        finally:
            server.terminate()
            server.wait(20)


def _wait_for(port: int, server: subprocess.Popen, log: Path) -> None:
    for _ in range(300):
        assert server.poll() is None, log.read_text()
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


@pytest.fixture
def open_notebook(chromium, jupyter_lab) -> Iterator[Callable]:
    """Open a notebook in JupyterLab, run all its cells, wait for a viewer; insist on no error, no network."""
    context = chromium.new_context(viewport={"width": 1400, "height": 1100})
    page = context.new_page()
    hosts, complaints = set(), []
    page.on(
        "request",
        lambda request: hosts.add(request.url.split("/")[2].split(":")[0] if "//" in request.url else ""),
    )
    page.on("pageerror", lambda error: complaints.append(str(error)))

    def open_(name: str, viewer: str, seconds: int = 90):
        page.goto(jupyter_lab.format(name=name))
        page.wait_for_function("() => window.jupyterapp?.shell?.currentWidget?.context", timeout=60_000)
        page.evaluate(RUN_ALL)
        page.wait_for_selector(f"{viewer}[data-painted]", timeout=seconds * 1000)
        wait_until_still(page, f"{viewer} .cl-canvas")
        return page

    yield open_
    errors = page.locator('.jp-OutputArea-output[data-mime-type="application/vnd.jupyter.error"]').count()
    context.close()
    assert not errors
    assert hosts <= {"127.0.0.1", ""}, "offline means offline"
    assert not complaints


@pytest.fixture(autouse=True)
def _browser_only(request: pytest.FixtureRequest) -> None:
    assert request.node.get_closest_marker("browser"), (
        "tests here are marked: pytestmark = pytest.mark.browser"
    )
