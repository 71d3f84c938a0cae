"""The parts of the full-size bench, on a model that a test can afford."""

from pathlib import Path

import pytest
import torch
from PIL import Image

from cascade_lab.commands import bench_full_size
from cascade_lab.errors import InputError
from cascade_lab.recipes import nano


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(bench_full_size, "recipe", lambda name: nano())
    monkeypatch.setattr(bench_full_size, "PICTURE", (128, 192))
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


def test_a_picture_goes_through_and_is_drawn(tmp_path: Path):
    drawing = tmp_path / "drawn.png"
    row = bench_full_size.infer("any", "", str(drawing), 1)
    assert row["detections"] == 100  # without a threshold all places are filled
    assert row["cpu_s"] > 0 and row["peak_gib"] > 0.1
    with Image.open(drawing) as image:
        assert image.size[0] / image.size[1] == pytest.approx(192 / 128, abs=0.01)


def test_checkpointing_changes_no_gradient(tmp_path: Path):
    files = [tmp_path / f"{kind}.pt" for kind in (False, True)]
    for kind, file in zip((False, True), files, strict=True):
        assert bench_full_size.train("any", kind, str(file), 1)["checkpointing"] is kind
    assert bench_full_size.difference(*files) < 1e-5
    gradients = torch.load(files[0], weights_only=True)
    name = next(name for name in gradients if name.startswith("backbone."))
    gradients[name] *= 1.01
    torch.save(gradients, files[0])
    assert bench_full_size.difference(*files) == pytest.approx(0.01, rel=0.05)  # a difference is seen


def test_a_picture_that_is_not_there():
    with pytest.raises(InputError, match="option --picture: nowhere.jpg is no file"):
        bench_full_size.main(["--picture", "nowhere.jpg"])
