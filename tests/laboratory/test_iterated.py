"""The first head again and again, where every look halves a shift or the later heads do nothing."""

import pytest

from cascade_lab.laboratory.iterated import iterate_first_head
from cascade_lab.laboratory.observation import observe
from tests.known_heads import TRUTH, ap_of_iou, iou_of_shift, known, pictures, shifted

BOX = TRUTH.boxes[0].tolist()


def test_same_heads_are_the_same_detector(monkeypatch):
    seen = observe(known((0.5, 0.5, 0.5), shifted(BOX, 8), monkeypatch), pictures(3), batch_size=2)
    result = iterate_first_head(seen)
    wanted = [ap_of_iou(iou_of_shift(shift)) for shift in (4, 2, 1)]
    assert wanted == [70, 90, 100]
    assert [look["AP"] for look in result.looks] == pytest.approx(wanted)
    assert [result.stages[mode]["AP"] for mode in ("1", "2", "3")] == pytest.approx(wanted)
    assert result.stages["1~3"]["AP"] == pytest.approx(100)


def test_the_first_head_goes_on_where_later_heads_stand_still(monkeypatch):
    result = iterate_first_head(
        observe(known((0.5, 0.0, 0.0), shifted(BOX, 8), monkeypatch), pictures(2)), looks=2
    )
    assert [look["AP"] for look in result.looks] == pytest.approx([70, 90])
    assert [result.stages[mode]["AP"] for mode in ("1", "2", "3", "1~3")] == pytest.approx([70] * 4)


def test_text_names_what_is_decided(monkeypatch):
    seen = observe(known((0.5, 0.5, 0.0), shifted(BOX, 8), monkeypatch), pictures(2))
    text = iterate_first_head(seen).text(draws=10)
    rows = {line.split("  ")[0]: line for line in text.splitlines()}
    assert rows["head 1, look 3"].endswith("|      35.4   30.4    8.1")
    assert rows["stage 1~3"].endswith("|      38.9   35.8   15.8")
    assert "AP, look 2 minus look 1: +20.0 [+20.0, +20.0]\n" in text
