"""``cascade-lab zoo``: every figure is on the page, the page fits a terminal, and JSON says the same."""

import json

import pytest

from cascade_lab.commands import zoo
from cascade_lab.errors import InputError
from cascade_lab.recipes import RECIPES
from cascade_lab.recipes.published import BACKBONES
from cascade_lab.recipes.zoo import CLASSIFIERS, FIGURES


def printed(capsys, *arguments: str) -> str:
    assert zoo.main(arguments) == 0
    return capsys.readouterr().out


def rows(text: str) -> dict[str, list[str]]:
    return {words[0]: words[1:] for line in text.splitlines() if (words := line.split())}


@pytest.mark.parametrize("width", ["80", "200"])
def test_the_page_fits_the_terminal(capsys, monkeypatch, width: str):
    monkeypatch.setenv("COLUMNS", width)
    text = printed(capsys)
    assert max(map(len, text.splitlines())) <= int(width)
    assert set(RECIPES) <= set(rows(text))


def test_every_figure_stands_in_the_row_of_its_recipe(capsys):
    found = rows(printed(capsys))
    for name in RECIPES:
        if name not in FIGURES:
            assert found[name] == ["-"] * 8, name
            continue
        figures = FIGURES[name]
        box, ap50, ap75, mask, seconds, train, params, flops = found[name]
        assert [float(box), float(mask), float(seconds)] == [
            figures.box_ap,
            figures.mask_ap,
            figures.seconds_per_step,
        ]
        assert [ap50, ap75] == [str(ap or "-") for ap in (figures.box_ap50, figures.box_ap75)]
        assert train.endswith("*") == (figures.gpus > 8)
        assert float(train.rstrip("*h")) == figures.train_hours
        assert (params, flops) == (f"{figures.params}M", f"{figures.flops}G")


def test_backbones_notes_and_sources_are_there(capsys):
    text = printed(capsys)
    for name, backbone in BACKBONES.items():
        line = next(line for line in text.splitlines() if line.split()[:1] == [name.upper()])
        assert CLASSIFIERS[name].file in line and " ".join(map(str, backbone.depths)) in line
    flat = " ".join(text.split())
    assert "published by the InternImage project" in flat
    assert "links the XL 3x row to the checkpoint of XL 1x" in flat


def test_json_has_complete_addresses(capsys):
    told = json.loads(printed(capsys, "--json"))
    assert [row["name"] for row in told["recipes"]] == list(RECIPES)
    assert len({tuple(row) for row in told["recipes"]}) == 1  # the same keys in every row
    for row in told["recipes"]:
        published = row["name"] in FIGURES
        assert row["published"] == published
        assert (row["box_ap"] is not None) == published
        assert row["checkpoint"] is None or row["checkpoint"].endswith(f"/{row['name']}.pth")
        assert (row["checkpoint"] is not None) == published
    by_name = {row["name"]: row for row in told["recipes"]}
    assert by_name["cascade_internimage_l_fpn_1x_coco"]["log"] is None
    assert by_name["cascade_internimage_l_fpn_1x_coco"]["flops"] == 1399 * 10**9
    assert by_name["cascade_internimage_t_fpn_1x_coco"]["classification_weights"].startswith("https://")
    assert [row["name"] for row in told["backbones"]] == list(BACKBONES)


def test_refuses_in_one_line():
    with pytest.raises(InputError, match="--jsno: no such option; nearest: --json"):
        zoo.main(["--jsno"])


def test_help(capsys):
    assert "--json" in printed(capsys, "--help")
