"""The command line: names the commands, nothing else."""

from __future__ import annotations

import difflib
import importlib
import os
import sys
from collections.abc import Sequence

from cascade_lab import __version__
from cascade_lab.errors import InputError, explain

# command -> (module with ``main(arguments) -> exit code``, what it does)
COMMANDS = {
    "shapes": ("cascade_lab.commands.shapes", "write the synthetic data set"),
    "zoo": ("cascade_lab.commands.zoo", "list the recipes and the published models"),
    "show": ("cascade_lab.commands.show", "print every field of a recipe"),
    "diff": ("cascade_lab.commands.diff", "print the fields in which two recipes differ"),
    "train": ("cascade_lab.train", "train a recipe"),
    "evaluate": ("cascade_lab.evaluate", "measure AP, per stage"),
    "predict": ("cascade_lab.predict", "detect objects in your own pictures"),
    "view": ("cascade_lab.commands.view", "follow boxes through the stages, in your browser"),
    "report": ("cascade_lab.commands.report", "write one offline HTML page about a run"),
    "flops": ("cascade_lab.commands.flops", "count what a detector costs, part by part"),
    "weights": ("cascade_lab.commands.weights", "fetch, check and convert published weights"),
    "doctor": ("cascade_lab.commands.doctor", "say what this machine can run, and what is missing"),
    "bench": ("cascade_lab.commands.bench", "measure kernels and loader on this machine"),
    "gpu-day": ("cascade_lab.commands.gpu_day.command", "do all that needs a GPU, and report on it"),
}
USAGE = "\n".join(
    [
        "usage: cascade-lab COMMAND ...",
        "",
        *(f"  {name:<10} {what}" for name, (_, what) in COMMANDS.items()),
        "",
        "cascade-lab COMMAND --help tells more; cascade-lab --version prints the version.",
    ]
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code: 0, 2 for input that the user can mend, 130 for Ctrl-C."""
    name, *rest = list(sys.argv[1:] if arguments is None else arguments) or ["--help"]
    if name in ("-h", "--help", "help"):
        print(USAGE)
        return 0
    if name == "--version":
        print(f"cascade-lab {__version__}")
        return 0
    if name not in COMMANDS:
        near = difflib.get_close_matches(name, COMMANDS, n=3, cutoff=0.4) or list(COMMANDS)
        return _complain(f"cascade-lab: command {name!r} does not exist; there is {', '.join(near)}")
    try:
        return importlib.import_module(COMMANDS[name][0]).main(rest)
    except InputError as error:
        return _complain(f"cascade-lab {name}: {explain(error)}")
    except KeyboardInterrupt:
        print("stopped", file=sys.stderr)
        return 130
    except BrokenPipeError:  # the reader, such as `head`, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0


def _complain(message: str) -> int:
    print(message, file=sys.stderr)
    return 2
