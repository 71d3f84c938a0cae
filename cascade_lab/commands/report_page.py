"""The report as HTML: plain values and figures in, one self-contained page out."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Any

from matplotlib.figure import Figure

from cascade_lab.commands.report_parts import (
    Columns,
    by_group,
    facts_html,
    figure_svg,
    flatten,
    image_html,
    number_text,
    swatch_svg,
    table_html,
    value_text,
)

SCORES = Columns(
    boxes={key: key for key in ("AP", "AP50", "AP60", "AP70", "AP75", "AP80", "AP90")},
    masks={key: key for key in ("AP", "AP50", "AP75")},
)
SIZES = {"small": "APs", "medium": "APm", "large": "APl"}
BY_SIZE = Columns(boxes=SIZES, masks=SIZES)


@dataclass(frozen=True, kw_only=True)
class Sample:
    """One picture of the evaluated split, as JPEG bytes, and what is on it."""

    name: str
    drawn: bytes
    strip: bytes
    caption: str


@dataclass(frozen=True, kw_only=True)
class Content:
    """All that the page shows, as plain values; a figure that is None is left out."""

    title: str
    results: Mapping[str, Any]
    recipe: Mapping[str, Any]
    evaluation: Mapping[str, Any]
    environment: Mapping[str, Any]
    losses: Figure | None
    box_curves: Figure | None
    mask_curves: Figure | None
    histograms: Figure | None
    samples: Sequence[Sample]
    samples_note: str


def page(content: Content) -> str:
    """Return the report as one HTML page without scripts, and without anything from outside it."""
    style = files("cascade_lab.commands").joinpath("report.css").read_text("utf-8")
    sections = {
        "Stages": _stages(content.results),
        "Curves": _curves(content),
        "Classes": _classes(content.results),
        "Pictures": _pictures(content),
        "Training": _training(content.losses),
        "Recipe": _recipe(content.recipe),
        "Environment": _environment(content),
    }
    links = "".join(f'<a href="#{name.lower()}">{name}</a>' for name in sections)
    body = "".join(
        f'<section class="part"><h2 id="{name.lower()}">{name}</h2>{html}</section>'
        for name, html in sections.items()
    )
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{escape(content.title)}</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f'<body><header><p class="kicker">cascade_lab report</p><h1>{escape(content.title)}</h1>'
        f'<p class="lead">{summary(content.results, content.evaluation)}</p>{_tiles(content.results)}'
        f'<nav aria-label="Sections">{links}</nav></header><main>{body}</main></body></html>\n'
    )


def summary(results: Mapping[str, Any], evaluation: Mapping[str, Any]) -> str:
    """Say in one paragraph what was measured and what the cascade adds."""
    boxes, masks, full = results["bbox"], results["segm"], list(results["stages"])[-1]
    where = "On the evaluated pictures"
    if evaluation:
        split = escape(str(evaluation["split"]))
        where = f"On the {evaluation['pictures']} pictures of the split “{split}”,"
        where += f" after {evaluation['step']} steps of training,"
        where += " with test-time augmentation," if evaluation.get("tta") else ""
    found = (
        f"{where} the detector reaches a box AP of <b>{number_text(boxes['AP'])}</b> "
        f"(AP50 {number_text(boxes['AP50'])}, AP75 {number_text(boxes['AP75'])})"
    )
    found += f" and a mask AP of <b>{number_text(masks['AP'])}</b>." if masks else "."
    gain = ap75_gain(results)
    if gain is None:
        return found
    return (
        f"{found} Read after stage 1 alone, the same checkpoint has an AP75 of "
        f"{number_text(results['stages']['1']['bbox']['AP75'])}; stages {full} together give "
        f"{number_text(boxes['AP75'])}, so the later stages are worth <b>{gain:+.1f}</b> points of AP75."
    )


def ap75_gain(results: Mapping[str, Any]) -> float | None:
    """Return box AP75 of all stages less that of stage 1; None for one stage or without objects."""
    first, last = results["stages"]["1"]["bbox"]["AP75"], results["bbox"]["AP75"]
    return None if len(results["stages"]) == 1 or first is None or last is None else last - first


def _tiles(results: Mapping[str, Any]) -> str:
    tiles = [(f"box {key}", number_text(results["bbox"][key]), "") for key in ("AP", "AP50", "AP75")]
    if results["segm"]:
        tiles += [(f"mask {key}", number_text(results["segm"][key]), "") for key in ("AP", "AP50")]
    gain = ap75_gain(results)
    if gain is not None:
        tiles.append((f"AP75, {list(results['stages'])[-1]} over 1", f"{gain:+.1f}", "gain"))
    cells = "".join(f'<div class="{kind}"><dt>{name}</dt><dd>{text}</dd></div>' for name, text, kind in tiles)
    return f'<dl class="tiles">{cells}</dl>'


def _stages(results: Mapping[str, Any]) -> str:
    full, rows = list(results["stages"])[-1], []
    for mode, both in results["stages"].items():
        name = f"stage {mode}" if "~" not in mode else f"stages {mode} together"
        kind = ' class="full"' if mode == full else ""
        rows.append(f'<tr{kind}><th scope="row">{swatch_svg(mode, full)}{name}</th>{SCORES.cells(both)}</tr>')
    return (
        "<p>Every row reads the same checkpoint: what is detected if only these stages vote, with boxes from "
        "the last of them. The last row is what the detector predicts. Figures are COCO AP in percent.</p>"
        + table_html(_head("", SCORES), rows)
        + table_html(
            _head("", BY_SIZE),
            [f'<tr><th scope="row">AP by size of the object</th>{BY_SIZE.cells(results)}</tr>'],
            "Small is under 32 x 32 pixels of the original picture, large from 96 x 96.",
        )
    )


def _curves(content: Content) -> str:
    parts = []
    for kind, figure in (("boxes", content.box_curves), ("masks", content.mask_curves)):
        if figure is not None:
            drawn = figure_svg(
                figure, f"ap-{kind}", f"AP of {kind} against the IoU asked of a match, a line per stage"
            )
            words = (
                f"How AP of {kind} falls as a match is asked to overlap more, and what the later stages add."
            )
            parts.append(
                f"<h3>{kind.capitalize()}</h3><figure>{drawn}<figcaption>{words}</figcaption></figure>"
            )
    if content.histograms is not None:
        drawn = figure_svg(
            content.histograms, "iou", "Histograms of the IoU of the boxes that enter each stage"
        )
        parts.append(
            f"<h3>Boxes that enter each stage</h3><figure>{drawn}<figcaption>How well they overlap the best "
            "object of any class, on evenly spaced pictures of the split. Dashed: the IoU from which a box "
            "is a positive when the stage is trained.</figcaption></figure>"
        )
    return "".join(parts) or '<p class="note">No curves: nothing was to be found in these pictures.</p>'


def _classes(results: Mapping[str, Any]) -> str:
    rows = [
        f'<tr><th scope="row">{escape(name)}</th><td>{score["objects"]}</td>{SCORES.cells(score)}</tr>'
        for name, score in results["per_class"].items()
    ]
    return table_html(_head("", SCORES, '<th scope="col">objects</th>'), rows)


def _pictures(content: Content) -> str:
    note = f"<p>{escape(content.samples_note)}</p>"
    gallery, strips = [], []
    for sample in content.samples:
        name = escape(sample.name)
        drawn = image_html(sample.drawn, f"{sample.name} with boxes, classes, scores and masks as detected")
        strip = image_html(
            sample.strip, f"{sample.name}: proposals, boxes after every stage, and masks, side by side"
        )
        gallery.append(f"<figure>{drawn}<figcaption>{name}: {escape(sample.caption)}</figcaption></figure>")
        strips.append(f'<figure class="strip">{strip}<figcaption>{name}</figcaption></figure>')
    if not gallery:
        return note
    return (
        f'{note}<div class="gallery">{"".join(gallery)}</div><h3>Stage by stage</h3><p>The best detections '
        "of each picture, followed from proposal to result. Enlarged, the dotted outline is the box one step "
        f"before, and the dashed white one is the true object.</p>{''.join(strips)}"
    )


def _training(losses: Figure | None) -> str:
    if losses is None:
        return '<p class="note">The run holds no metrics.jsonl.</p>'
    drawn = figure_svg(losses, "losses", "Losses over the steps of training, a line per stage")
    words = "Losses as weighted in training; faint lines are as logged, bold ones a running mean."
    return f"<figure>{drawn}<figcaption>{words}</figcaption></figure>"


def _recipe(recipe: Mapping[str, Any]) -> str:
    flat = flatten(recipe.get("recipe", recipe))
    stages = sorted({match[0] for name in flat if (match := re.match(r".*cascade\.stages\.\d+(?=\.)", name))})
    fields = (
        [name.removeprefix(f"{stages[0]}.") for name in flat if name.startswith(f"{stages[0]}.")]
        if stages
        else []
    )
    head = "".join(f'<th scope="col">{escape(field)}</th>' for field in fields)
    rows = [
        f'<tr><th scope="row">stage {k + 1}</th>'
        + "".join(f"<td>{value_text(flat.get(f'{stage}.{field}'))}</td>" for field in fields)
        + "</tr>"
        for k, stage in enumerate(stages)
    ]
    others = {
        name: value for name, value in flat.items() if not name.startswith(tuple(f"{s}." for s in stages))
    }
    table = table_html(f'<tr><th scope="col">stage</th>{head}</tr>', rows) if stages else ""
    whole = escape(json.dumps(recipe, indent=1))
    return (
        f"{table}{facts_html(by_group(others, 'recipe'))}"
        f"<details><summary>The whole of recipe.json</summary><pre><code>{whole}</code></pre></details>"
    )


def _environment(content: Content) -> str:
    seed = content.recipe.get("recipe", content.recipe).get("seed")
    groups = by_group(flatten({"seed": seed} | dict(content.environment)), "training")
    return facts_html(
        groups | ({"evaluation": list(content.evaluation.items())} if content.evaluation else {})
    )


def _head(corner: str, columns: Columns, first: str = "") -> str:
    empty = '<td colspan="2"></td>' if first else "<td></td>"
    return f"<tr>{empty}{columns.over()}</tr><tr><td>{corner}</td>{first}{columns.head()}</tr>"
