"""Pictures of every kind and every damage: the right pixels, or one line that names the file."""

import contextlib
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from cascade_lab.datasets.picture import read_picture
from cascade_lab.errors import InputError
from tests.datasets.folders import picture

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


def test_a_name_that_no_disk_can_hold(tmp_path):
    assert "no such picture" in refusal(tmp_path / ("a" * 300 + ".jpg"))


@pytest.mark.parametrize("kind", ["PNG", "WEBP"])
def test_animations_are_refused(tmp_path, kind):
    frames = [Image.fromarray(picture()), Image.fromarray(255 - picture())]
    frames[0].save(tmp_path / "x", format=kind, save_all=True, append_images=frames[1:])
    assert "holds 2 frames" in refusal(tmp_path / "x")
