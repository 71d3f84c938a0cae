"""List the recipes, with what the InternImage project published about its own: ``cascade-lab zoo``."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from cascade_lab.commands.columns import columns, fitting, terminal_width
from cascade_lab.overrides import override
from cascade_lab.recipes import RECIPES, recipe
from cascade_lab.recipes.published import BACKBONES
from cascade_lab.recipes.zoo import (
    ADDRESS,
    CLASSIFIERS,
    FIGURES,
    NOTES,
    OLDER_ADDRESS,
    SOURCE,
    Figures,
    checkpoint_address,
    classifier_of,
    log_address,
)

USAGE = """usage: cascade-lab zoo [options]

  --json   the same as JSON, with complete addresses and keys that stay

Lists every recipe and backbone. cascade-lab show RECIPE prints one in full."""

HEAD = ("recipe", "box", "AP50", "AP75", "mask", "s/it", "train", "params", "FLOPs")
LEGEND = (
    'box, AP50, AP75, mask: AP in percent. s/it: seconds a step. train: hours on 8 GPUs, or "*" on 32.'
    ' "-": not published.'
)


@dataclass(frozen=True, kw_only=True)
class ZooOptions:
    json: bool = False


def main(arguments: Sequence[str]) -> int:
    """Run the command and return its exit code; InputError for a wrong option."""
    if {"-h", "--help"} & set(arguments):
        print(USAGE)
        return 0
    (options,) = override((ZooOptions(),), arguments)
    print(json.dumps(as_json(), indent=1) if options.json else as_text())
    return 0


def as_json() -> dict[str, Any]:
    """Return everything that is known, None where something is not."""
    return {
        "source": SOURCE,
        "notes": list(NOTES),
        "recipes": [_row(name) for name in RECIPES],
        "backbones": [
            {
                "name": name,
                "channels": backbone.channels,
                "depths": backbone.depths,
                "params": CLASSIFIERS[name].params * 10**6,
                "classification_weights": CLASSIFIERS[name].address,
            }
            for name, backbone in BACKBONES.items()
        ],
    }


def as_text() -> str:
    """Return tables that fit a terminal of 80 columns."""
    names = sorted(RECIPES, key=lambda name: name not in FIGURES)  # the published ones first
    table = fitting([HEAD, *map(_cells, names)], right=range(1, len(HEAD)))
    without_log = [name for name, known in FIGURES.items() if not known.has_log]
    return "\n".join(
        [
            *_wrapped(f"Figures as {SOURCE}."),
            "",
            *table[: 1 + len(FIGURES)],
            "",
            "our own, without published figures",
            *table[1 + len(FIGURES) :],
            "",
            *_wrapped(LEGEND),
            *(line for note in NOTES for line in _wrapped(note)),
            "",
            "Files of the published recipes",
            f"  {ADDRESS}",
            "    RECIPE.pth       the trained detector",
            f"    RECIPE.log.json  its log; none for {', '.join(without_log)}",
            "  older copies of the cascades:",
            f"  {OLDER_ADDRESS}",
            "",
            "Backbones, and the classification weights they start from (same address)",
            *(f"  {line}" for line in columns(_backbones(), right=(1, 2))),
            *_wrapped(
                "H and G were published with another detector (DINO); no recipe here uses them, and"
                " cascade_lab.recipes.published.BACKBONES holds all seven."
            ),
            "",
            "cascade-lab show RECIPE    every field of one, and its addresses in full",
            "cascade-lab diff A B       the fields in which two differ",
        ]
    )


def _row(name: str) -> dict[str, Any]:
    known = FIGURES.get(name)
    figures = asdict(known) if known else dict.fromkeys(Figures.__dataclass_fields__)
    start = classifier_of(recipe(name).detector.backbone)
    del figures["has_log"]
    return {
        "name": name,
        "published": known is not None,
        **figures,
        "params": figures["params"] and figures["params"] * 10**6,
        "flops": figures["flops"] and figures["flops"] * 10**9,
        "checkpoint": checkpoint_address(name),
        "log": log_address(name),
        "classification_weights": start.address if start else None,
    }


def _cells(name: str) -> list[str]:
    known = FIGURES.get(name)
    if known is None:
        return [name, *["-"] * (len(HEAD) - 1)]
    return [
        name,
        *(
            "-" if ap is None else f"{ap:.1f}"
            for ap in (known.box_ap, known.box_ap50, known.box_ap75, known.mask_ap)
        ),
        f"{known.seconds_per_step:.2f}",
        f"{known.train_hours:g}h" + "*" * (known.gpus > 8),
        f"{known.params}M",
        f"{known.flops}G",
    ]


def _backbones() -> list[list[str]]:
    head = ["backbone", "channels", "params", "blocks", "weights"]
    return [head] + [
        [
            name.upper(),
            str(backbone.channels),
            _millions(CLASSIFIERS[name].params),
            " ".join(map(str, backbone.depths)),
            CLASSIFIERS[name].file,
        ]
        for name, backbone in BACKBONES.items()
    ]


def _millions(count: int) -> str:
    return f"{count}M" if count < 1000 else f"{count / 1000:g}B"


def _wrapped(text: str) -> list[str]:
    return textwrap.wrap(text, min(terminal_width(), 110), break_on_hyphens=False)
