"""Weights of others and for others: ``cascade-lab weights get|report|convert|curves``."""

from __future__ import annotations

import difflib
from collections.abc import Sequence

from cascade_lab.commands import weights_convert, weights_curves, weights_get, weights_report
from cascade_lab.errors import InputError

USAGE = """usage: cascade-lab weights WHAT ... [options]

  get NAME               fetch a published checkpoint or training log; goes on where it stopped
  report FILE            say what of a checkpoint a recipe would load, and what not
  convert FILE           write it as a run folder, in the official layout, or as safetensors
  curves RUN LOG         draw the losses of a run over those of a published training log

cascade-lab weights WHAT --help tells more. Files are read without running anything that stands in them."""

WHAT = {
    "get": weights_get.main,
    "report": weights_report.main,
    "convert": weights_convert.main,
    "curves": weights_curves.main,
}


def main(arguments: Sequence[str]) -> int:
    """Run one of the four and return its exit code; InputError for anything the user can mend."""
    if not arguments or arguments[0] in ("-h", "--help"):
        print(USAGE)
        return 0
    name, *rest = arguments
    if name not in WHAT:
        near = difflib.get_close_matches(name, WHAT, n=1, cutoff=0.4) or list(WHAT)
        raise InputError(f"argument {name!r}: no such thing to do; there is {', '.join(near)}")
    return WHAT[name](rest)
