"""The report of a GPU day: what every part did, as one self-contained HTML page."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import Any

from cascade_lab.commands import bench, doctor
from cascade_lab.commands.report_parts import table_html

LOG_CHARACTERS = 20_000


@dataclass(frozen=True, kw_only=True)
class Part:
    """Something to do in a process of its own.

    Args:
        minutes: how long it may take.
        must_print: what it prints if it did anything at all: pytest ends well where every test was skipped.
        picture: what it draws, a PNG file.
    """

    name: str
    purpose: str
    command: tuple[str, ...]
    minutes: float
    must_print: str = ""
    picture: Path | None = None


@dataclass(frozen=True)
class Outcome:
    """How a part ended: ``code`` is None where its time ran out."""

    part: Part
    code: int | None
    seconds: float
    stdout: str
    stderr: str

    @property
    def passed(self) -> bool:
        return self.code == 0 and self.part.must_print in self.stdout

    @property
    def verdict(self) -> str:
        if self.code is None:
            return "OUT OF TIME"
        if self.code:
            return f"FAILED with exit code {self.code}"
        return "passed" if self.passed else "FAILED: it did nothing"


def page(outcomes: Sequence[Outcome], commit: str) -> str:
    """Return the report; whatever a part printed is shown, also where it cannot be read as results."""
    style = files("cascade_lab.commands").joinpath("report.css").read_text("utf-8")
    head = '<tr><th scope="col">part</th><th scope="col">result</th><th scope="col">seconds</th></tr>'
    rows = [
        f"<tr><td>{escape(o.part.name)}</td><td>{o.verdict}</td><td>{o.seconds:.0f}</td></tr>"
        for o in outcomes
    ]
    failed = sum(not outcome.passed for outcome in outcomes)
    lead = f"{failed} of {len(outcomes)} parts failed." if failed else f"All {len(outcomes)} parts passed."
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>cascade_lab, GPU day</title>'
        f'<meta name="viewport" content="width=device-width, initial-scale=1"><style>{style}</style></head>'
        f'<body><header><p class="kicker">cascade_lab, GPU day</p><h1>{lead}</h1>'
        f'<p class="lead">Commit {escape(commit)}. {time.strftime("%Y-%m-%d %H:%M %Z")}.</p></header>'
        f"<main>{table_html(head, rows)}{''.join(map(_section, outcomes))}</main></body></html>\n"
    )


def _section(outcome: Outcome) -> str:
    part = outcome.part
    command = " ".join(part.command)
    return (
        f'<section class="part"><h2>{escape(part.name)}: {outcome.verdict}</h2><p>{escape(part.purpose)}</p>'
        f"{_results(outcome)}{_picture(part)}"
        f"<details><summary>what it printed</summary><p>{escape(command)}</p>"
        f"{_pre(outcome.stdout[-LOG_CHARACTERS:])}{_pre(outcome.stderr[-LOG_CHARACTERS:])}</details></section>"
    )


def _results(outcome: Outcome) -> str:
    """Return the results of a part as it prints them; where it printed something else, the end of that."""
    show = SHOW.get(outcome.part.name)
    try:
        return show(json.loads(outcome.stdout)) if show else _pre(_tail(outcome.stdout))
    except (ValueError, KeyError, TypeError):  # it failed half-way
        return _pre(_tail(f"{outcome.stdout}\n{outcome.stderr}"))


def _training(told: Mapping[str, Any]) -> str:
    head = "<tr><th>step</th><th>loss on the CPU</th><th>loss on the GPU</th><th>apart</th></tr>"
    rows = [
        f"<tr><td>{row['step']}</td><td>{row['cpu']:.4f}</td><td>{row['cuda']:.4f}</td>"
        f"<td>{100 * row['apart']:.2f} %</td></tr>"
        for row in told["steps"]
    ]
    return f"<p>{escape(told['verdict'])}</p>{table_html(head, rows)}"


def _memory(told: Mapping[str, Any]) -> str:
    head = "<tr><th>numbers</th><th>activation checkpointing</th><th>peak, GiB</th><th>seconds</th></tr>"
    rows = [
        f"<tr><td>{row['precision']}</td><td>{'yes' if row['checkpointing'] else 'no'}</td>"
        f"<td>{'does not fit' if row['peak_gib'] is None else row['peak_gib']}</td>"
        f"<td>{'–' if row['seconds'] is None else row['seconds']}</td></tr>"
        for row in told["rows"]
    ]
    return table_html(head, rows, escape(told["what"]))


def _bench(told: Any) -> str:
    return _pre(bench.as_text(told))


SHOW: dict[str, Callable[[Any], str]] = {
    "doctor": lambda told: _pre(doctor.as_text(told)),
    **{f"bench {what}": _bench for what in ("dcnv3", "backbone", "roi_align", "mask_paste")},
    "training": _training,
    "memory": _memory,
}


def _picture(part: Part) -> str:
    if part.picture is None or not part.picture.is_file():
        return ""
    data = base64.b64encode(part.picture.read_bytes()).decode("ascii")
    return f'<figure><img alt="Ratios as bars" src="data:image/png;base64,{data}"></figure>'


def _tail(text: str, lines: int = 30) -> str:
    return "\n".join(text.rstrip().splitlines()[-lines:])


def _pre(text: str) -> str:
    return f'<pre class="scroll">{escape(text)}</pre>' if text.strip() else ""
