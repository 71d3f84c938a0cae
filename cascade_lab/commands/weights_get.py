"""Fetch a published file: ``cascade-lab weights get NAME``."""

from __future__ import annotations

import difflib
import re
import shlex
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from cascade_lab.errors import InputError
from cascade_lab.overrides import override, split_named
from cascade_lab.recipes.zoo import ADDRESS, CLASSIFIERS, FIGURES
from cascade_lab.weights.download import fetch

USAGE = """usage: cascade-lab weights get NAME [options]

  NAME            a published file; the name of a recipe or backbone means its checkpoint
  --to FOLDER     where it goes (default: data/weights)
  --sha256 HEX    refuse a file with another SHA-256 (default: the one that the server states, if any)
  --base ADDRESS  fetch from a mirror

Stopped in the middle, the same command goes on where it was. There is:"""


FILES = (
    *(f"{name}.pth" for name in FIGURES),
    *(classifier.file for classifier in CLASSIFIERS.values()),
    *(f"{name}.log.json" for name, figures in FIGURES.items() if figures.has_log),
)


@dataclass(frozen=True, kw_only=True)
class GetOptions:
    to: str = "data/weights"
    sha256: str = ""
    base: str = ADDRESS

    def __post_init__(self) -> None:
        if self.sha256 and not re.fullmatch("[0-9a-fA-F]{64}", self.sha256):
            raise InputError(f"option --sha256: {self.sha256!r} is not 64 hexadecimal digits")
        if not self.base.startswith(("https://", "http://")):
            raise InputError(f"option --base: {self.base!r} has to begin with https:// or http://")


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code: 0, or 130 after Ctrl-C."""
    if not arguments or {"-h", "--help"} & set(arguments):
        print(USAGE, *FILES, sep="\n  ")
        return 0
    named, rest = split_named(arguments)
    (options,) = override((GetOptions(),), rest)
    if len(named) != 1:
        raise InputError("arguments: name one published file, before the options")
    file_name = file_named(named[0], options.base)
    folder = Path(options.to)
    try:
        fetched = fetch(
            address(file_name, options.base),
            folder,
            file_name,
            options.sha256 or None,
            say=lambda line: print(line, file=sys.stderr),
        )
    except KeyboardInterrupt:
        again = shlex.join(["cascade-lab", "weights", "get", *arguments])
        print(f"stopped; what has come is kept, go on with\n  {again}")
        return 130
    vouched = (
        f", as {fetched.known_digest} stated" if fetched.known_digest else ", which nobody stated before"
    )
    print(f"{fetched.path}\nSHA-256 {fetched.sha256}{vouched}")
    name = file_name.removesuffix(".pth")
    if name in FIGURES:
        convert = ["weights", "convert", str(fetched.path), "--to", "cascade-lab", "--recipe", name]
        print(f"next:\n  {shlex.join(['cascade-lab', *convert, '--output', f'runs/{name}'])}")
    return 0


def address(file_name: str, base: str = ADDRESS) -> str:
    """Return where a file is fetched from."""
    return f"{base.rstrip('/')}/{file_name}"


def file_named(name: str, base: str = ADDRESS) -> str:
    """Return the file that a name means: a file, or a recipe or backbone whose checkpoint it is.

    At another ``base`` than the project's, any plain file name will do.

    Raises:
        InputError: there is no such file, or the name is one that could leave its folder.
    """
    if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", name):
        raise InputError(
            f"name {name!r}: only letters, digits, '.', '_' and '-' make the name of a file here"
        )
    found = next((file for file in (name, f"{name}.pth") if file in FILES), None)
    if found or base != ADDRESS:
        return found or name
    near = difflib.get_close_matches(name, FILES, n=3, cutoff=0.4) or FILES[:3]
    raise InputError(f"name {name!r}: no such published file; there is {', '.join(near)}")
