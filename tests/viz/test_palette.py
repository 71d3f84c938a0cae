"""Stages stay apart by line style as well as by colour, and text on a colour can be read."""

import pytest

from cascade_lab.viz.palette import class_colour, mode_look, stage_look, text_colour


def contrast(a: str, b: str) -> float:
    """Return the contrast ratio of WCAG 2, from its definition."""

    def luminance(colour: str) -> float:
        parts = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
        return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]

    light, dark = sorted((luminance(a), luminance(b)), reverse=True)
    return (light + 0.05) / (dark + 0.05)


def test_five_stages_differ_in_colour_and_in_line_style():
    looks = [stage_look(k) for k in range(5)]
    assert len({look.colour for look in looks}) == len({str(look.style) for look in looks}) == 5


def test_modes_of_three_stages_are_all_different():
    looks = [mode_look(mode, full="1~3") for mode in ("1", "2", "3", "1~2", "1~3")]
    assert len({(look.colour, str(look.style)) for look in looks}) == 5
    assert looks[-1].width == max(look.width for look in looks)
    assert looks[1] == stage_look(1)


@pytest.mark.parametrize("label", range(7))
def test_text_on_class_colours_can_be_read(label):
    colour = class_colour(label)
    assert contrast(colour, text_colour(colour)) >= 4.5
    assert class_colour(label + 7) == colour
    assert len({class_colour(k) for k in range(7)}) == 7
