"""Typed command-line options, read off frozen dataclasses: ``--optim.lr 0.001`` sets ``config.optim.lr``.

tyro parses and checks; this module turns whatever it rejects into one line that names option, value and
the nearest option that exists.
"""

from __future__ import annotations

import contextlib
import difflib
import io
import traceback
from collections.abc import Sequence
from dataclasses import fields, is_dataclass
from typing import Any, get_type_hints

import tyro

from cascade_lab.errors import InputError


def override(configs: Sequence[Any], arguments: Sequence[str]) -> list[Any]:
    """Return ``configs`` with the fields that ``arguments`` name replaced.

    ``configs`` are dataclass values with disjoint field names. Options are written ``--field value`` or
    ``--field=value``; fields of fields with dots, members of tuples by number.

    Raises:
        InputError: an option does not exist, a value has the wrong type, or the config refuses it.
    """
    owners = {name: index for index, config in enumerate(configs) for name in options(config)}
    chunks: list[list[list[str]]] = [[] for _ in configs]
    given: set[str] = set()
    for name, *values in _split(arguments, such_as=next(iter(owners))):
        plain = _plain(name, owners)
        if plain is None:
            raise InputError(f"option {name}: no such option; {_neighbours(name, list(owners))}")
        if plain in given:
            raise InputError(f"option {name}: given twice; leave one out")
        given.add(plain)
        chunks[owners[plain]].append([name, *values])
    return [_parse(config, own) if own else config for config, own in zip(configs, chunks, strict=True)]


def split_named(arguments: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the words before the first option, and the options with their values."""
    first = next((i for i, word in enumerate(arguments) if word.startswith("--")), len(arguments))
    return list(arguments[:first]), list(arguments[first:])


def options(config: Any, prefix: str = "--") -> dict[str, tuple[Any, Any]]:
    """Return every option of ``config``: name -> (type, present value)."""
    hints = get_type_hints(type(config))
    found: dict[str, tuple[Any, Any]] = {}
    for field in fields(config):
        value, name = getattr(config, field.name), prefix + field.name
        if is_dataclass(value):
            found |= options(value, f"{name}.")
        elif isinstance(value, tuple) and value and all(map(is_dataclass, value)):
            for index, member in enumerate(value):
                found |= options(member, f"{name}.{index}.")
        else:
            found[name] = (hints[field.name], value)
    return found


def describe(config: Any) -> str:
    """Return one line per option: name, type and present value."""
    listed = options(config)
    width = max(map(len, listed))
    return "\n".join(
        f"  {name:<{width}}  {_type(kind)} = {_typed(value)}" for name, (kind, value) in listed.items()
    )


def _split(arguments: Sequence[str], such_as: str) -> list[list[str]]:
    """Group ``arguments`` into [option, value, ...]; a message names the option ``such_as`` as an example."""
    chunks: list[list[str]] = []
    for argument in arguments:
        if argument.startswith("--"):
            chunks.append(argument.split("=", 1))
        elif chunks:
            chunks[-1].append(argument)
        else:
            raise InputError(f"argument {argument!r}: no option; options begin with --, such as {such_as}")
    return chunks


def _plain(name: str, names: Sequence[str] | dict[str, int]) -> str | None:
    """Return the option that ``name`` spells, undoing hyphens and the ``no_`` of a switch turned off."""
    spelled = "--" + name[2:].replace("-", "_")
    head, dot, last = spelled.rpartition(".")
    off = f"{head}{dot}{last.removeprefix('no_')}" if dot else "--" + spelled[2:].removeprefix("no_")
    return next((candidate for candidate in (spelled, off) if candidate in names), None)


def _parse(config: Any, chunks: list[list[str]]) -> Any:
    flat = [word for chunk in chunks for word in chunk]
    try:
        return _quiet(config, flat)
    except SystemExit as stop:
        refusal = _refusal(stop)
        if isinstance(refusal, InputError):
            raise refusal from None
    for name, *values in chunks:
        try:
            _quiet(config, [name, *values])
        except SystemExit as stop:
            reason = _refusal(stop) or _complaint(config, name, values)
            raise InputError(f"option {name}: {' '.join(values)!r} {reason}") from None
    raise InputError(f"options {' '.join(flat)}: {refusal or 'do not fit together'}")


def _quiet(config: Any, arguments: list[str]) -> Any:
    with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
        return tyro.cli(
            type(config),
            default=config,
            args=arguments,
            use_underscores=True,
            add_help=False,
            config=(tyro.conf.AvoidSubcommands,),
        )


def _refusal(stop: SystemExit) -> ValueError | None:
    """Return what a ``__post_init__`` had to say, if it was one that refused."""
    cause: BaseException | None = stop
    while cause is not None:
        frames = traceback.walk_tb(cause.__traceback__)
        if isinstance(cause, ValueError) and any(f.f_code.co_name == "__post_init__" for f, _ in frames):
            return cause
        cause = cause.__context__
    return None


def _complaint(config: Any, name: str, values: list[str]) -> str:
    listed = options(config)
    kind, present = listed[_plain(name, list(listed)) or name]
    if kind is bool and values:
        return "was not expected: this is a switch and takes no value"
    return f"is not a value of type {_type(kind)}, such as {_typed(present)}"


def _neighbours(name: str, names: list[str]) -> str:
    close = difflib.get_close_matches(name, names, n=3, cutoff=0.4)
    last = name.rsplit(".", 1)[-1].lstrip("-").replace("-", "_")
    close = [other for other in names if other.rsplit(".", 1)[-1].lstrip("-") == last][:3] or close
    return f"nearest: {', '.join(close)}" if close else f"there are: {', '.join(names[:6])}, ..."


def _typed(value: Any) -> str:
    """Return ``value`` as one would type it."""
    return " ".join(map(str, value)) if isinstance(value, tuple) else str(value)


def _type(kind: Any) -> str:
    text = kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind)
    return text.replace("typing.", "").replace("NoneType", "None").replace("pathlib.", "")
