"""What is written for others: read back by torch.load, safetensors, sha256sum and ourselves."""

import errno
import os
import subprocess
from pathlib import Path

import pytest
import safetensors.torch
import torch

from cascade_lab.errors import InputError
from cascade_lab.weights import load_file, official_state_dict, read_weights
from cascade_lab.weights.write import own, write_official, write_official_backbone, write_safetensors
from tests.tiny_detector import stages, tiny


def sums_hold(path: Path) -> bool:
    done = subprocess.run(["sha256sum", "-c", f"{path.name}.sha256"], cwd=path.parent, capture_output=True)
    return done.returncode == 0


def test_an_official_detector(tmp_path):
    donor, path = tiny(seed=1), tmp_path / "new" / "x.pth"
    digest = write_official(path, donor.state_dict(), ("a", "b", "c"))
    content = torch.load(path, weights_only=True)
    assert content["meta"] == {"CLASSES": ("a", "b", "c")} and list(content) == ["meta", "state_dict"]
    expected = official_state_dict(donor)
    assert list(content["state_dict"]) == list(expected)
    assert all(torch.equal(content["state_dict"][name], value) for name, value in expected.items())
    assert sums_hold(path) and digest in (tmp_path / "new" / "x.pth.sha256").read_text()
    assert {p.name for p in path.parent.iterdir()} == {"x.pth", "x.pth.sha256"}
    assert load_file(tiny(seed=2), path).is_empty


def test_an_official_detector_of_one_stage(tmp_path):
    donor = tiny(stages(1), seed=1)
    write_official(tmp_path / "x.pth", donor.state_dict(), None, single_stage=True)
    content = torch.load(tmp_path / "x.pth", weights_only=True)
    assert "roi_head.mask_head.conv_logits.weight" in content["state_dict"] and content["meta"] == {}
    assert load_file(tiny(stages(1), seed=2), tmp_path / "x.pth").is_empty


def test_an_official_backbone(tmp_path):
    donor, receiver = tiny(seed=1), tiny(seed=2)
    write_official_backbone(tmp_path / "x.pth", donor.state_dict())
    content = torch.load(tmp_path / "x.pth", weights_only=True)["model"]
    assert {key.split(".")[0] for key in content} == {"patch_embed", "levels"}
    report = load_file(receiver, tmp_path / "x.pth")
    assert not report.unexpected and not any(name.startswith("backbone.") for name in report.missing)
    for name, value in donor.backbone.state_dict().items():
        assert torch.equal(receiver.backbone.state_dict()[name], value)


def test_safetensors(tmp_path):
    donor, path = tiny(seed=1), tmp_path / "x.safetensors"
    write_safetensors(path, donor.state_dict(), ("a", "b", "c"))
    loaded = safetensors.torch.load_file(path)
    assert set(loaded) == set(donor.state_dict())
    assert all(torch.equal(loaded[name], value) for name, value in donor.state_dict().items())
    assert sums_hold(path) and read_weights(path).classes == ("a", "b", "c")
    assert load_file(tiny(seed=2), path).is_empty


def test_a_view_does_not_drag_its_storage_along(tmp_path):
    large = torch.zeros(1000, 1000)
    for view in (large[:2], large[:, :3], large.t()):
        assert own(view).untyped_storage().nbytes() == view.nbytes and torch.equal(own(view), view)
    assert own(large) is large
    write_official(tmp_path / "x.pth", {"rpn.conv.bias": large[0, :2]}, None)
    assert (tmp_path / "x.pth").stat().st_size < 10_000


@pytest.mark.parametrize("write", [write_official, write_safetensors])
def test_a_full_disk_leaves_what_was_there(tmp_path, monkeypatch, write):
    path = tmp_path / "x.safetensors"
    write(path, tiny(seed=1).state_dict(), None)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}

    def full(descriptor):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(InputError, match=r"x.safetensors: disk full, needs about .* name another --output"):
        write(path, tiny(seed=2).state_dict(), None)
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before
