"""Layouts, labels, masks, crowds and pictures of COCO folders, against values worked out by hand."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cascade_lab.datasets.coco import CocoDataset, read_picture
from cascade_lab.errors import InputError
from tests.datasets.folders import content, picture, write_folder

# pycocotools 2.0.11 has not followed NumPy 2 in a signature.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

PHOTOS = Path(__file__).parents[2] / "../shared/data/demo_images"
# EXIF orientation: how the stored picture has to be turned for display.
ORIENTATIONS = {
    1: lambda a: a,
    2: lambda a: a[:, ::-1],
    3: lambda a: a[::-1, ::-1],
    4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1),
    6: lambda a: np.rot90(a, -1),
    7: lambda a: a[::-1, ::-1].swapaxes(0, 1),
    8: lambda a: np.rot90(a, 1),
}


@pytest.mark.parametrize("official", [False, True])
@pytest.mark.parametrize("split", ["train", "train2017"])
def test_both_layouts_and_both_names_of_a_split(tmp_path, official, split):
    dataset = CocoDataset(write_folder(tmp_path, content(), official=official), split)
    assert dataset.image_ids == [5, 3] and dataset.sizes == [(30, 40), (30, 40)]
    assert dataset.path(0).name == "a.png" and dataset.path(0).is_file()
    assert dataset.annotation_path.name == f"instances_train{'2017' * official}.json"


def test_objects_of_a_picture(tmp_path):
    dataset = CocoDataset(write_folder(tmp_path, content()), "train")
    assert dataset.classes == ("cup", "pot") and dataset.category_ids == [7, 2]  # the order of the file
    image, targets = dataset[0]
    assert torch.equal(image, torch.from_numpy(picture()).permute(2, 0, 1))
    assert targets.image_size == (30, 40)
    assert targets.boxes.tolist() == [[2, 3, 12, 8], [20, 10, 24, 16], [0, 0, 40, 2]]
    assert targets.labels.tolist() == [1, 0, 0]
    assert targets.ignore.tolist() == [False, False, True]
    assert targets.has_mask.tolist() == [True, False, True]
    expected = torch.zeros(3, 30, 40, dtype=torch.bool)
    expected[0, 3:8, 2:12] = True
    expected[2, 0:2, :] = True
    assert torch.equal(targets.masks, expected)
    second = dataset.targets(1)
    assert second.has_mask is None and second.ignore is None
    assert second.masks[0].nonzero().tolist() == [[1, 1], [1, 2], [2, 1], [2, 2]]


def test_a_set_without_masks(tmp_path):
    data = content()
    for annotation in data["annotations"]:
        annotation["segmentation"] = []
    targets = CocoDataset(write_folder(tmp_path, data), "train").targets(0)
    assert targets.masks is None and targets.has_mask is None and len(targets) == 3


def test_classes_of_a_trained_model_decide_the_labels(tmp_path):
    root = write_folder(tmp_path, content())
    dataset = CocoDataset(root, "train", classes=["pot", "cup"])
    assert dataset.category_ids == [2, 7] and dataset.targets(0).labels.tolist() == [0, 1, 1]
    assert CocoDataset(root, "train", classes=["pot"]).targets(0).boxes.tolist() == [[2, 3, 12, 8]]
    with pytest.raises(InputError, match="categories lacks 'pan'"):
        CocoDataset(root, "train", classes=["pan", "pot"])


def test_training_leaves_out_small_and_empty_pictures(tmp_path):
    data = content()
    for image in data["images"]:
        image["height"] = 32
    data["images"].append({"id": 9, "file_name": "a.png", "width": 31, "height": 90})
    data["annotations"][3] |= {"image_id": 9}
    for annotation in data["annotations"]:
        annotation["segmentation"] = None
    root = write_folder(tmp_path, data)
    assert CocoDataset(root, "train").image_ids == [5, 3, 9]
    assert CocoDataset(root, "train", training=True).image_ids == [5]
    assert CocoDataset(root, "train", training=True, keep_empty=True).image_ids == [5, 3]
    with pytest.raises(InputError, match="images: none has an object"):
        CocoDataset(write_folder(tmp_path / "two", content()), "train", training=True)  # 30 pixels high


def test_cache_keeps_pictures_only_when_asked(tmp_path):
    root = write_folder(tmp_path, content())
    plain, cached = CocoDataset(root, "train"), CocoDataset(root, "train", cache=True)
    assert plain.picture(0) is not plain.picture(0)
    assert cached.picture(0) is cached.picture(0)
    assert torch.equal(plain.picture(0), cached.picture(0))
    for dataset, kept in ((plain, 0), (cached, 1)):
        first, again = dataset.targets(0), dataset.targets(0)
        assert torch.equal(first.masks, again.masks) and len(dataset._rles) == kept


def test_photographs_are_decoded_as_opencv_does():
    cv2 = pytest.importorskip("cv2", reason="OpenCV is not here: pip install -e '.[dev]'")
    files = sorted(PHOTOS.glob("*.jpg"))
    if not files:
        pytest.skip("no photographs in ../shared/data/demo_images")
    for file in files:
        theirs = torch.from_numpy(cv2.imread(str(file))[..., ::-1].copy()).permute(2, 0, 1)
        assert (read_picture(file).int() - theirs.int()).abs().max() <= 1, file.name


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_exif_rotation(tmp_path, orientation):
    file, stored = tmp_path / "turned.png", picture(20, 33)
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(stored).save(file, exif=exif)
    shown = ORIENTATIONS[orientation](stored)
    assert np.array_equal(read_picture(file, shown.shape[:2]).permute(1, 2, 0).numpy(), shown)
    if orientation >= 5:
        with pytest.raises(InputError, match=r"states 33x20 .* is 20x33; that is before its EXIF rotation"):
            read_picture(file, (20, 33))


@pytest.mark.parametrize("mode", ["L", "LA", "P", "1", "RGBA", "PA", "transparent palette", "RGB"])
def test_kinds_of_png_become_rgb(tmp_path, mode):
    grey = np.zeros((6, 9), np.uint8)
    grey[2:4, 3:7] = 255
    options = {}
    if mode == "transparent palette":
        image, options = Image.fromarray(grey).convert("P"), {"transparency": bytes([0, 255])}
    elif mode == "PA":
        image = Image.fromarray(grey).convert("P")
        image.info["transparency"] = 255
    else:
        image = Image.fromarray(grey).convert(mode)
    image.save(tmp_path / "x.png", **options)
    assert torch.equal(read_picture(tmp_path / "x.png"), torch.from_numpy(grey).expand(3, -1, -1))


@pytest.mark.parametrize("kind, mode", [("JPEG", "RGB"), ("JPEG", "L"), ("JPEG", "CMYK"), ("WEBP", "RGB")])
def test_other_formats(tmp_path, kind, mode):
    file = tmp_path / "x"  # the content decides, not the name
    Image.new("RGB", (40, 20), (128, 128, 128)).convert(mode).save(file, format=kind)
    pixels = read_picture(file, (20, 40)).float()
    assert (pixels - 128).abs().max() < 4


def refusal(file: Path, size=None) -> str:
    with pytest.raises(InputError) as caught:
        read_picture(file, size)
    message = str(caught.value)
    assert message.startswith(f"{file}: ") and "\n" not in message
    return message


@pytest.mark.parametrize("mode", ["I;16", "F"])
def test_more_than_eight_bits_are_refused(tmp_path, mode):
    kind = "TIFF" if mode == "F" else "PNG"
    values = {"I;16": np.uint16, "F": np.float32}[mode]
    Image.fromarray(np.full((4, 5), 300, values)).save(tmp_path / "x.png", format=kind)
    expected = "cannot be read as JPEG, PNG, WEBP" if kind == "TIFF" else "is not 8 bits a channel"
    assert expected in refusal(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["GIF", "BMP", "TIFF", "PPM"])
def test_other_decoders_are_never_run(tmp_path, kind):
    Image.fromarray(picture()).save(tmp_path / "x.jpg", format=kind)
    assert "cannot be read as JPEG, PNG, WEBP" in refusal(tmp_path / "x.jpg")


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP"])
def test_truncated_at_any_length(tmp_path, kind):
    whole, file = tmp_path / "whole", tmp_path / "cut"
    noise = np.random.default_rng(0).integers(0, 256, (24, 24, 3), np.uint8)
    Image.fromarray(noise).save(whole, format=kind)
    data = whole.read_bytes()
    for length in {0, 1, 10, *range(12, len(data), 37), len(data) - 2}:
        file.write_bytes(data[:length])
        if kind == "PNG" and length == len(data) - 2:  # only the end mark is damaged
            assert torch.equal(read_picture(file), read_picture(whole))
        else:
            refusal(file)


@pytest.mark.parametrize("data", [b"<html>404</html>", b"\0" * 500, b"\x89PNG\r\n\x1a\n" + b"x" * 50])
def test_no_picture(tmp_path, data):
    (tmp_path / "x.png").write_bytes(data)
    refusal(tmp_path / "x.png")


def test_a_flipped_bit_in_a_png_is_noticed(tmp_path):
    Image.fromarray(picture()).save(tmp_path / "x.png")
    data, pixels = (tmp_path / "x.png").read_bytes(), read_picture(tmp_path / "x.png")
    for position in range(8, len(data), 5):
        (tmp_path / "x.png").write_bytes(data[:position] + bytes([data[position] ^ 4]) + data[position + 1 :])
        with contextlib.suppress(InputError):
            assert torch.equal(read_picture(tmp_path / "x.png"), pixels)


def test_a_picture_bomb_is_refused_by_its_header(tmp_path):
    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    for side in (12_000, 50_000):  # the first is one that Pillow only warns about
        header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"")) + chunk(b"IEND", b"")
        (tmp_path / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n" + parts)
        refusal(tmp_path / "x.png")


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(tmp_path, kind):
    frames = [Image.fromarray(picture()), Image.fromarray(255 - picture())]
    frames[0].save(tmp_path / "x", format=kind, save_all=True, append_images=frames[1:])
    assert "holds 2 frames" in refusal(tmp_path / "x")


def test_absent_or_of_another_size(tmp_path):
    dataset = CocoDataset(write_folder(tmp_path, content()), "train")
    Image.fromarray(picture(10, 20)).save(dataset.path(0))
    with pytest.raises(InputError, match=r"a.png: the annotation file states 40x30 .* is 20x10; correct"):
        dataset[0]
    dataset.path(0).unlink()
    with pytest.raises(InputError, match=r"a.png: no such picture"):
        dataset[0]
