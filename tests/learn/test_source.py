"""Revealed lines are those of the file, with the right numbers."""

import re
from pathlib import Path

import pytest

import cascade_lab.ops.boxes as boxes
from cascade_lab.errors import InputError
from cascade_lab.heads.cascade_config import CascadeConfig, Stage
from cascade_lab.learn import reveal
from cascade_lab.ops.box_coder import decode_deltas
from cascade_lab.ops.masks import sample_mask


def lines_of(printed: str) -> list[tuple[int, str]]:
    return [(int(m[1]), m[2]) for m in re.finditer(r"^ *(\d+)(?:  (.*))?$", printed, flags=re.M)]


@pytest.mark.parametrize(
    "thing, around",
    [
        (boxes.pairwise_iou, "clamp"),
        (sample_mask, "grid_sample("),
        (Stage, "min(self.delta_std)"),
        (Stage, ""),
    ],
)
def test_shows_lines_of_the_file_under_their_numbers(thing, around: str, capsys: pytest.CaptureFixture[str]):
    reveal(thing, around=around)
    head, _, rest = capsys.readouterr().out.partition("\n")
    file = Path(__file__).parents[2] / (thing.__module__.replace(".", "/") + ".py")
    text = file.read_text(encoding="utf-8").splitlines()
    number = int(head.split(":")[1].split()[0])
    assert head.startswith(f"{thing.__module__}:") and head.endswith(thing.__name__)
    assert around in text[number - 1]
    shown = lines_of(rest)
    assert 3 < len(shown) <= 15 and number in [at for at, _ in shown]
    for at, line in shown:
        assert (line or "").strip() == text[at - 1].strip()


def test_a_cut_leaves_no_half_of_a_docstring(capsys: pytest.CaptureFixture[str]):
    reveal(decode_deltas, around=".exp()")
    body = capsys.readouterr().out.splitlines()[1:]
    assert "at_least_float32(deltas)" in body[0] and not any('"""' in line for line in body)
    reveal(decode_deltas, around="broadcasts against")  # in the docstring itself
    assert any('"""' in line for line in capsys.readouterr().out.splitlines())


def test_a_method_is_found_by_its_full_name(capsys: pytest.CaptureFixture[str]):
    reveal(CascadeConfig.__post_init__)
    assert "CascadeConfig.__post_init__" in capsys.readouterr().out.splitlines()[0]


def test_says_what_is_not_there():
    with pytest.raises(InputError, match=r"pairwise_iou has no line with 'softmax'"):
        reveal(boxes.pairwise_iou, around="softmax")
    with pytest.raises(InputError, match="len has no Python source"):
        reveal(len)
