"""What loading a file into a model did, or would do: nothing is random without being named here."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from cascade_lab.errors import InputError

SHOWN = 4


@dataclass(frozen=True, kw_only=True)
class LoadReport:
    """Parameters by what happened to them. Names are ours, but those of ``dropped`` are as in the file.

    Attributes:
        matched: loaded.
        dropped: left out by name -> why.
        unexpected: in the file, unknown to the model.
        missing: in the model, absent from the file: they stay as they were.
        other_shape: in both, and not the same layer -> shape in the file, shape in the model.
        reinitialised: last layers of another number of classes, drawn anew.
        classes: numbers of classes of the file and of the model.
    """

    matched: tuple[str, ...] = ()
    dropped: Mapping[str, str] = field(default_factory=dict)
    unexpected: tuple[str, ...] = ()
    missing: tuple[str, ...] = ()
    other_shape: Mapping[str, tuple[tuple[int, ...], tuple[int, ...]]] = field(default_factory=dict)
    reinitialised: tuple[str, ...] = ()
    classes: tuple[int | None, int | None] = (None, None)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to tell: file and model have the same parameters, and all were loaded."""
        return not (self.dropped or self.unexpected or self.missing or self.other_shape or self.reinitialised)

    def of_backbone(self) -> LoadReport:
        """Return what concerns the backbone alone."""

        def own(names: Iterable[str]) -> tuple[str, ...]:
            return tuple(name for name in names if name.startswith("backbone."))

        return LoadReport(
            matched=own(self.matched),
            dropped=self.dropped,
            unexpected=own(self.unexpected),
            missing=own(self.missing),
            other_shape={name: self.other_shape[name] for name in own(self.other_shape)},
            classes=self.classes,
        )

    def check(self, source: object, complete: bool = False) -> None:
        """Raise InputError where the file does not belong to the model.

        Args:
            source: what to call the file.
            complete: also refuse a file that leaves a parameter of the model as it was, or has more of them.
        """
        if not self.matched:
            raise InputError(
                f"{source}: none of its {len(self.unexpected) + len(self.other_shape)} parameters belongs to"
                " this model; is it the right recipe?"
            )
        if self.other_shape:
            name, (there, here) = next(iter(self.other_shape.items()))
            raise InputError(
                f"{source}: {name} has shape {there}, this model wants {here}, and"
                f" {len(self.other_shape) - 1} more differ; choose the recipe that the file was trained with"
            )
        if complete and self.unexpected:
            raise InputError(
                f"{source}: {len(self.unexpected)} of its parameters are unknown to this model"
                f" ({_listed(self.unexpected)}); choose the recipe that it was trained with"
            )
        left = (*self.missing, *self.reinitialised)
        if complete and left:
            raise InputError(
                f"{source}: {len(left)} parameters of this model are not in it ({_listed(left)}); choose the"
                " recipe that it was trained with, or train on with: cascade-lab train RECIPE --weights FILE"
            )

    def to_plain(self) -> dict[str, Any]:
        """Return the report as JSON types."""
        return {
            "matched": list(self.matched),
            "dropped": dict(self.dropped),
            "unexpected": list(self.unexpected),
            "missing": list(self.missing),
            "other_shape": {
                name: {"file": list(there), "model": list(here)}
                for name, (there, here) in self.other_shape.items()
            },
            "reinitialised": list(self.reinitialised),
            "classes": {"file": self.classes[0], "model": self.classes[1]},
        }

    def __str__(self) -> str:
        if self.is_empty:
            return "every parameter was loaded"
        shapes = list(self.other_shape)
        if len(shapes) <= SHOWN:
            shapes = [f"{n} {there} for {here}" for n, (there, here) in self.other_shape.items()]
        there, here = self.classes
        rows = [
            ("loaded", self.matched, ""),
            *(("dropped", names, why) for why, names in _by_reason(self.dropped).items()),
            ("unexpected", self.unexpected, "unknown to this model"),
            ("missing", self.missing, "stay as initialised"),
            ("other shape", shapes, "cannot be loaded"),
            ("re-initialised", self.reinitialised, f"{there} classes in the file, {here} here"),
        ]
        return "\n".join(
            f"{title:<14} {len(names):>5}  {why + ': ' if why else ''}{_listed(names)}"
            for title, names, why in rows
            if names
        )


def _by_reason(dropped: Mapping[str, str]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, why in dropped.items():
        found.setdefault(why, []).append(name)
    return found


def _listed(names: Iterable[str]) -> str:
    """Return the names; many of them by layer, with * for numbers, or how many in each part of the model."""
    names = list(names)
    if len(names) <= SHOWN:
        return ", ".join(names)
    layers = Counter(re.sub(r"(?<=\.)\d+(?=\.)", "*", name.rpartition(".")[0] or name) for name in names)
    if len(layers) <= SHOWN:
        return ", ".join(layers)
    parts = Counter(name.split(".")[0] for name in names)
    if len(parts) <= 2 * SHOWN:
        return ", ".join(f"{part} {count}" for part, count in parts.items())
    return ", ".join(names[:SHOWN]) + f" and {len(names) - SHOWN} more"
