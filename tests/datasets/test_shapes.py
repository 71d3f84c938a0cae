"""The synthetic set: the same bytes for the same seed, exact masks, knobs that do what they say."""

import hashlib
import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from pycocotools.coco import COCO

from cascade_lab.datasets.shapes import (
    CLASSES,
    LEVELS,
    ShapesConfig,
    draw_scene,
    rasterise,
    unit_outline,
    write_shapes,
)
from cascade_lab.errors import InputError

# pycocotools 2.0.11 has not followed NumPy 2 in a signature.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PLAIN = ShapesConfig(noise=0.0, blur=(0.0, 0.0), clutter=(0, 0), background=0.0)


def digest(folder: Path) -> dict[str, str]:
    files = sorted(file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): hashlib.sha256(file.read_bytes()).hexdigest() for file in files}


def scene(config: ShapesConfig, seed: int):
    return draw_scene(config, np.random.default_rng(seed))


def test_same_seed_same_bytes(tmp_path):
    for name, seed in (("a", 4), ("b", 4), ("c", 5)):
        assert write_shapes(tmp_path / name, ShapesConfig(), seed=seed, train=3, val=2)
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert a == b and len(a) == 5 + 2 + 1
    assert all(a[name] != c[name] for name in a)
    assert len({a[name] for name in a}) == len(a)  # no picture twice, in train or val


def test_a_picture_does_not_depend_on_how_many_there_are(tmp_path):
    write_shapes(tmp_path / "few", ShapesConfig(), seed=0, train=2, val=1)
    write_shapes(tmp_path / "more", ShapesConfig(), seed=0, train=4, val=3)
    few, more = digest(tmp_path / "few"), digest(tmp_path / "more")
    pictures = [name for name in few if name.endswith(".png")]
    assert len(pictures) == 3 and all(few[name] == more[name] for name in pictures)


def test_written_once_and_again_only_when_something_differs(tmp_path):
    root, calls = tmp_path / "shapes", []
    assert write_shapes(root, PLAIN, seed=0, train=2, val=1, progress=lambda *state: calls.append(state))
    assert calls == [(1, 3), (2, 3), (3, 3)]
    before = digest(root)
    assert not write_shapes(root, PLAIN, seed=0, train=2, val=1)
    assert digest(root) == before
    (root / "images/train/000001.png").unlink()
    assert write_shapes(root, PLAIN, seed=0, train=2, val=1)
    assert digest(root) == before
    (root / "annotations/instances_val.json").write_text("{}")
    assert write_shapes(root, PLAIN, seed=0, train=2, val=1)
    assert digest(root) == before
    assert write_shapes(root, replace(PLAIN, noise=3.0), seed=0, train=2, val=1)
    assert digest(root) != before and sorted(p.name for p in tmp_path.iterdir()) == ["shapes"]


def test_never_half_written(tmp_path):
    root = tmp_path / "shapes"

    def interrupt(done: int, _: int) -> None:
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_shapes(root, PLAIN, seed=0, train=2, val=1, progress=interrupt)
    assert list(tmp_path.iterdir()) == []
    write_shapes(root, PLAIN, seed=0, train=1, val=1)
    before = digest(root)
    with pytest.raises(KeyboardInterrupt):
        write_shapes(root, PLAIN, seed=1, train=2, val=1, progress=interrupt)
    assert digest(root) == before and list(tmp_path.iterdir()) == [root]


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match=r"file/set: cannot be written \(.*\); make room or name another"):
        write_shapes(tmp_path / "file/set", PLAIN, seed=0, train=1, val=1)


def test_a_negative_seed_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"seed is -1 \(must be from 0 up\)"):
        write_shapes(tmp_path / "set", PLAIN, seed=-1, train=1, val=1)


def test_what_others_wrote_is_left_alone(tmp_path):
    for name in ("notes.txt", "images"):
        root = tmp_path / name / "shapes"
        root.mkdir(parents=True)
        (root / name).write_text("mine")
        with pytest.raises(
            InputError, match=f"holds '{name}', not part of a shapes set; name another folder"
        ):
            write_shapes(root, PLAIN, seed=0, train=1, val=1)
        assert (root / name).read_text() == "mine"
    empty = tmp_path / "empty"
    empty.mkdir()
    assert write_shapes(empty, PLAIN, seed=0, train=1, val=1)


def test_annotations_say_exactly_what_is_visible(tmp_path, capsys):
    write_shapes(tmp_path / "s", ShapesConfig(), seed=1, train=12, val=1)
    coco = COCO(str(tmp_path / "s/annotations/instances_train.json"))
    capsys.readouterr()
    assert [category["name"] for category in coco.loadCats(coco.getCatIds())] == list(CLASSES)
    assert sorted(coco.anns) == list(range(1, len(coco.anns) + 1))
    for index, image_id in enumerate(coco.getImgIds()):
        drawn = scene(ShapesConfig(), [1, 0, index])
        annotations = coco.imgToAnns[image_id]
        assert [a["category_id"] - 1 for a in annotations] == drawn.labels
        assert (drawn.masks.sum(0) <= 1).all()  # no pixel belongs to two
        for annotation, mask in zip(annotations, drawn.masks, strict=True):
            assert np.array_equal(coco.annToMask(annotation), mask)
            ys, xs = np.nonzero(mask)
            x1, y1 = int(xs.min()), int(ys.min())
            assert annotation["bbox"] == [x1, y1, int(xs.max()) - x1 + 1, int(ys.max()) - y1 + 1]
            assert annotation["area"] == mask.sum() > 0


def test_masks_are_where_the_colour_is():
    for seed in range(10):
        drawn = scene(replace(PLAIN, max_overlap=0.0), seed)  # else a colour may be set against an object
        background = drawn.pixels[~drawn.masks.any(0)]
        ground = np.median(background, axis=0)
        for mask in drawn.masks:
            inside = drawn.pixels[mask].astype(float)
            colour = np.median(inside, axis=0)
            assert PLAIN.contrast[0] * 0.5 < np.abs(colour - ground).mean() < PLAIN.contrast[1] + 1
            # Without blur and noise only the antialiased rim is mixed.
            assert (np.abs(inside - colour).max(1) < 2).mean() > 0.6
        assert (np.abs(background - ground).max(1) < 2).mean() > 0.95


def test_a_square_covers_the_pixels_that_it_should():
    coverage = rasterise(16, np.array([[3.0, 4.0], [9.0, 4.0], [9.0, 12.5], [3.0, 12.5]]))
    assert coverage[6, 5] == 1 and coverage[3, 5] < 0.3 and coverage[6, 2] < 0.3
    assert ((coverage >= 0.5).sum(0) > 0).tolist() == [False] * 3 + [True] * 6 + [False] * 7
    assert (
        abs(coverage.sum() - 6 * 8.5) < 4
    )  # Pillow counts the border as inside: an eighth of a pixel a side


@pytest.mark.parametrize("name", CLASSES)
def test_outlines_touch_the_unit_circle_and_stay_inside(name):
    for aspect in (0.5, 0.8, 1.0):
        lengths = np.hypot(*unit_outline(name, aspect).T)
        assert lengths.max() == pytest.approx(1)


def test_objects_keep_their_distance():
    for seed in range(20):
        drawn = scene(replace(PLAIN, objects=(6, 6), max_overlap=0.0), seed)
        boxes = [(np.flatnonzero(m.any(0)), np.flatnonzero(m.any(1))) for m in drawn.masks]
        spans = [(xs[0], xs[-1], ys[0], ys[-1]) for xs, ys in boxes]
        for i, (left, right, top, bottom) in enumerate(spans):
            for other in spans[:i]:
                assert right < other[0] or left > other[1] or bottom < other[2] or top > other[3]


def test_noise_and_background_are_as_strong_as_stated():
    empty = replace(PLAIN, objects=(0, 0))
    assert scene(empty, 0).pixels.std((0, 1)).max() == 0 and scene(empty, 0).masks.shape == (0, 128, 128)
    assert scene(replace(empty, noise=10.0), 0).pixels.std((0, 1)) == pytest.approx([10] * 3, rel=0.05)
    waves = scene(replace(empty, background=50.0), 0).pixels.astype(int)
    assert 30 < (waves.max((0, 1)) - waves.min((0, 1))).max() <= 125
    assert np.abs(np.diff(waves, axis=0)).max() < 10  # slow


def test_blur_softens_edges_and_leaves_masks():
    sharp, soft = (scene(replace(PLAIN, blur=(sigma, sigma)), 2) for sigma in (0.0, 2.0))
    assert np.array_equal(sharp.masks, soft.masks)
    steepest = [np.abs(np.diff(s.pixels.astype(int), axis=0)).max() for s in (sharp, soft)]
    assert steepest[1] < 0.6 * steepest[0]


@pytest.mark.parametrize(
    "change",
    [
        {"objects": (5, 5)}, {"radius": (20.0, 25.0)}, {"aspect": (1.0, 1.0)}, {"rotation": 0.0},
        {"contrast": (90.0, 95.0)}, {"blur": (1.4, 1.5)}, {"noise": 3.0}, {"clutter": (9, 9)},
        {"background": 5.0}, {"background_cells": 9}, {"size": 96},
    ],
)  # fmt: skip
def test_every_knob_changes_the_picture(change):
    a, b = scene(ShapesConfig(), 0).pixels, scene(replace(ShapesConfig(), **change), 0).pixels
    assert a.shape != b.shape or not np.array_equal(a, b)


def test_levels_differ_in_size_contrast_and_noise():
    easy, moderate, hard = (LEVELS[name] for name in ("easy", "moderate", "hard"))
    assert moderate == ShapesConfig()
    assert easy.noise < moderate.noise < hard.noise and easy.blur < moderate.blur < hard.blur
    assert easy.radius[0] > moderate.radius[0] > hard.radius[0]


@pytest.mark.parametrize(
    "change, words",
    [
        ({"objects": (3, 2)}, "shapes.objects is (3, 2)"),
        ({"radius": (0.0, 9.0)}, "shapes.radius is (0.0, 9.0)"),
        ({"aspect": (0.0, 1.0)}, "shapes.aspect"),
        ({"size": 40}, "shapes.size is 40"),
        ({"noise": -1.0}, "shapes.noise is -1.0"),
        ({"max_overlap": 1.5}, "shapes.max_overlap is 1.5"),
        ({"background_cells": 0}, "shapes.background_cells is 0"),
    ],
)
def test_impossible_settings_are_refused(change, words):
    with pytest.raises(InputError) as caught:
        replace(ShapesConfig(), **change)
    assert words in str(caught.value)


def test_settings_are_recorded(tmp_path):
    write_shapes(tmp_path / "s", PLAIN, seed=7, train=1, val=1)
    stated = json.loads((tmp_path / "s/shapes.json").read_text())
    assert (
        stated["seed"] == 7
        and stated["config"]["noise"] == 0
        and stated["pictures"] == {"train": 1, "val": 1}
    )
