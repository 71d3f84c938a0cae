"""Checkpoints: round trip, order of writing, damage of every kind, a full disk."""

import errno
import hashlib
import os
import pickle
import random

import pytest
import torch

from cascade_lab.engine import checkpoint
from cascade_lab.errors import InputError


def state(step: int) -> dict:
    generator = torch.Generator().manual_seed(step)
    return {
        "step": step,
        "detector": {"w": torch.rand(40, 5, generator=generator), "n": torch.tensor(step)},
        "optimizer": {"state": {0: {"exp_avg": torch.ones(3)}}, "param_groups": [{"betas": (0.9, 0.999)}]},
        "ema": None,
        "recipe": {"name": "x", "sizes": [1, 2]},
    }


def test_round_trip_is_exact(tmp_path):
    path = checkpoint.save(tmp_path / "new" / "folder", state(500))
    assert path.name == "step_00000500.pt"
    read = checkpoint.load_newest(path.parent)
    assert read is not None
    assert torch.equal(read["detector"]["w"], state(500)["detector"]["w"])
    assert read["recipe"] == {"name": "x", "sizes": [1, 2]}
    assert read["optimizer"]["param_groups"][0]["betas"] == (0.9, 0.999)


def test_digest_is_what_sha256sum_reads(tmp_path):
    path = checkpoint.save(tmp_path, state(1))
    digest, name = (tmp_path / "step_00000001.pt.sha256").read_text().split()
    assert name == path.name
    assert digest == hashlib.sha256(path.read_bytes()).hexdigest()


def test_keeps_the_newest_two_and_no_leftovers(tmp_path):
    (tmp_path / "step_00000001.pt.partial").write_bytes(b"from a killed run")
    for step in (9, 10, 11, 100):
        checkpoint.save(tmp_path, state(step))
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "step_00000011.pt",
        "step_00000011.pt.sha256",
        "step_00000100.pt",
        "step_00000100.pt.sha256",
    ]


def test_files_reach_the_disk_before_they_get_their_names(tmp_path, monkeypatch):
    """fsync, then rename, digest first; the folder last."""
    calls = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda fd: (calls.append(os.readlink(f"/proc/self/fd/{fd}")), fsync(fd)))
    monkeypatch.setattr(os, "replace", lambda a, b: (calls.append(f"-> {b.name}"), replace(a, b)))
    checkpoint.save(tmp_path, state(3))
    assert [call.removeprefix(str(tmp_path)) for call in calls] == [
        "/step_00000003.pt.partial",
        "/step_00000003.sha256.partial",
        "-> step_00000003.pt.sha256",
        "-> step_00000003.pt",
        "",
    ]


def test_nothing_there(tmp_path):
    assert checkpoint.load_newest(tmp_path / "nowhere") is None
    assert checkpoint.paths(tmp_path) == []


def test_any_flipped_bit_falls_back_to_the_one_before(tmp_path, capsys):
    checkpoint.save(tmp_path, state(1))
    path = checkpoint.save(tmp_path, state(2))
    whole = path.read_bytes()
    draw = random.Random(0)
    for _ in range(50):
        damaged = bytearray(whole)
        damaged[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(damaged)
        read = checkpoint.load_newest(tmp_path)
        assert read is not None
        assert read["step"] == 1
    assert "step_00000002.pt: the file is not what was written" in capsys.readouterr().err
    path.write_bytes(whole)
    assert checkpoint.load_newest(tmp_path)["step"] == 2


@pytest.mark.parametrize("kept", [0, 1, 100, -1])
def test_truncated_file_or_missing_digest_falls_back(tmp_path, kept, capsys):
    checkpoint.save(tmp_path, state(1))
    path = checkpoint.save(tmp_path, state(2))
    path.write_bytes(path.read_bytes()[:kept])
    assert checkpoint.load_newest(tmp_path)["step"] == 1
    path.with_suffix(".pt.sha256").unlink()
    assert checkpoint.load_newest(tmp_path)["step"] == 1
    assert "skipped" in capsys.readouterr().err


def test_none_intact_is_an_error_not_a_fresh_start(tmp_path, capsys):
    checkpoint.save(tmp_path, state(1)).write_bytes(b"")
    with pytest.raises(InputError, match="none of 1 checkpoints is intact"):
        checkpoint.load_newest(tmp_path)


class Evil:
    def __reduce__(self):
        return os.mkdir, (os.environ["EVIL_FOLDER"],)


@pytest.mark.parametrize("kind", ["torch", "pickle"])
def test_code_in_a_checkpoint_does_not_run(tmp_path, monkeypatch, kind):
    monkeypatch.setenv("EVIL_FOLDER", str(tmp_path / "evil"))
    path = tmp_path / "step_00000001.pt"
    if kind == "torch":
        torch.save({"step": Evil()}, path)
    else:
        path.write_bytes(pickle.dumps({"step": Evil()}))
    path.with_suffix(".pt.sha256").write_text(hashlib.sha256(path.read_bytes()).hexdigest())
    with pytest.raises(InputError, match="not a readable checkpoint"):
        checkpoint.load(path)
    assert not (tmp_path / "evil").exists()


@pytest.mark.parametrize("room", [0, 100, 3000])
def test_full_disk_is_named_and_leaves_the_older_one(tmp_path, monkeypatch, room):
    checkpoint.save(tmp_path, state(1))
    before = sorted(p.name for p in tmp_path.iterdir())

    class Full:
        """A file on a disk with ``room`` bytes left."""

        def __init__(self, file):
            self.file, self.left = file, room

        def write(self, data):
            self.left -= len(data)
            if self.left < 0:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            return self.file.write(data)

        def __getattr__(self, name):
            return getattr(self.file, name)

    save = torch.save
    monkeypatch.setattr(torch, "save", lambda content, file: save(content, Full(file)))
    with pytest.raises(InputError, match=r"disk full, needs about .* MiB, .* MiB free"):
        checkpoint.save(tmp_path, state(2))
    assert sorted(p.name for p in tmp_path.iterdir()) == before
    assert checkpoint.load_newest(tmp_path)["step"] == 1


def test_a_folder_that_cannot_be_made(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="cannot be written"):
        checkpoint.save(tmp_path / "file" / "checkpoints", state(1))


def test_a_name_that_is_taken_by_a_folder_leaves_nothing_beside_it(tmp_path):
    (tmp_path / "drawn.png").mkdir()
    with pytest.raises(OSError, match="directory"):
        checkpoint.write_bytes(tmp_path / "drawn.png", b"pixels")
    assert [p.name for p in tmp_path.iterdir()] == ["drawn.png"]


def test_write_text_replaces_or_keeps(tmp_path, monkeypatch):
    path = tmp_path / "recipe.json"
    checkpoint.write_text(path, "old")
    monkeypatch.setattr(os, "fsync", lambda fd: (_ for _ in ()).throw(OSError(errno.EIO, "disk")))
    with pytest.raises(OSError, match="disk"):
        checkpoint.write_text(path, "new")
    assert path.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["recipe.json"]
