"""``cascade-lab bench loader``: times land on the step that took them, rates are pictures over seconds."""

import json
from dataclasses import replace

import pytest
import torch

from cascade_lab.commands import bench, bench_loader
from cascade_lab.commands.bench_loader import PARTS, Amount
from cascade_lab.datasets.catalog import DataConfig, load_dataset
from cascade_lab.datasets.shapes import ShapesConfig, write_shapes
from cascade_lab.errors import InputError

LITTLE = Amount(drawn=2, pictures=2, batches=2, workers=(0,))


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "shapes"
    write_shapes(folder, ShapesConfig(size=64, radius=(7.0, 14.0)), seed=0, train=3, val=1)
    return str(folder)


@pytest.fixture
def little(monkeypatch):
    monkeypatch.setattr(bench_loader, "QUICK", LITTLE)


def test_times_land_on_their_step(root, monkeypatch):
    """A clock that only the steps move: 8 ms to decode, 1 ms to resize pixels, 5 ms with the masks, ..."""
    seconds = 0.0

    def taking(milliseconds, call=lambda *_: None):
        def timed(*arguments):
            nonlocal seconds
            given = milliseconds(*arguments) if callable(milliseconds) else milliseconds
            seconds += given / 1e3
            return call(*arguments)

        return timed

    config = DataConfig(root=root, images_per_batch=2)
    dataset = load_dataset(config, "train", training=True)
    monkeypatch.setattr(bench_loader, "read_picture", taking(8, bench_loader.read_picture))
    monkeypatch.setattr(dataset, "targets", taking(2, dataset.targets))
    both = taking(lambda _, targets, *rest: 1 if targets.masks is None else 5, bench_loader.augment)
    monkeypatch.setattr(bench_loader, "augment", both)
    collate = bench_loader.ImageBatch.collate
    monkeypatch.setattr(bench_loader.ImageBatch, "collate", taking(6, collate))  # of two pictures
    found = bench_loader.parts(dataset, config, 7, cpu=lambda: seconds)
    expected = dict(zip(PARTS, (8, 2, 1, 4, 3), strict=True))
    assert found == pytest.approx(expected)


@pytest.mark.parametrize("workers", [0, 1])
def test_the_rate_is_pictures_over_seconds(root, workers):
    config = DataConfig(root=root, images_per_batch=2, workers=workers)
    dataset = load_dataset(config, "train", training=True)
    ticks = iter([10.0, 14.0])
    assert bench_loader.rate(dataset, config, 6, clock=lambda: next(ticks)) == 6 * 2 / 4


def test_workers_for_the_published_rate():
    found = dict.fromkeys(PARTS, 4.0)
    row = bench_loader._row("1x", found, {0: 50.0, 1: 8.0, 2: 15.0})
    assert row["sum_ms"] == 20 and row["workers_needed"] == 3  # 21.9 / 8
    assert bench_loader._row("1x", found, {0: 50.0})["workers_needed"] == 1  # 50 a second from 20 ms


def test_json_and_text(little, root, capsys):
    threads = torch.get_num_threads()
    assert bench.main(["loader", "--data", root, "--quick", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert torch.get_num_threads() == threads
    assert [row["pipeline"] for row in found["rows"]] == ["1x", "3x"]
    for row in found["rows"]:
        assert list(row["parts_ms"]) == list(PARTS)
        assert row["sum_ms"] == pytest.approx(sum(row["parts_ms"].values()), rel=1e-2)
        (told,) = row["rates"]
        assert told["workers"] == 0 and told["per_second"] > 0
    assert found["data"] == {"root": root, "pictures": 3, "median_size": [64, 64]}
    text = bench_loader.as_text(found)
    assert "3 pictures, medians 64 wide, 64 high" in text and "decode masks" in text
    assert "3x pipeline" in text and "21.9 a second" in text


def test_shapes_are_drawn_where_no_folder_is_named(little, monkeypatch, capsys):
    small = replace(bench_loader.LIKE_COCO, size=64, radius=(7.0, 14.0))
    monkeypatch.setattr(bench_loader, "LIKE_COCO", small)
    assert bench.main(["loader", "--quick"]) == 0
    assert "drawn shapes: 2 pictures" in capsys.readouterr().out


@pytest.mark.parametrize(
    "line, named",
    [
        ("loader --data no/such/folder", "no/such/folder: no such folder"),
        ("loader --device cuda", "option --device: the loader runs on the CPU only"),
        ("loader --output x.png", "loader draws nothing"),
        ("dcnv3 --data somewhere", "option --data: dcnv3 reads no such folder"),
    ],
)
def test_refuses_in_one_line(line, named):
    with pytest.raises(InputError, match=named):
        bench.main(line.split())
