"""A ledger as a table for people, and as plain JSON types for programs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from cascade_lab.ledger.costs import Ledger, PartCost, add
from cascade_lab.ledger.official import DCNV3, DETECTIONS, PROPOSALS, Counted
from cascade_lab.ledger.parts import STEM

MIB = 2**20
WIDTH = 92


def as_text(found: Ledger, name: str) -> str:
    """Return the table: a line for each part, sums for backbone and stages, and how to read it."""
    total, (height, width) = found.total, found.size
    lines = [
        f"{name}, one picture of {height} x {width}",
        "",
        f"{'':<14}{'parameters':>12}{'operations, 10^9':>31}{'kept for backward, MiB':>26}{'time':>9}",
        f"{'':<14}{'10^6':>12}{'official':>10}{'full':>12}{'share':>9}{'plain':>11}{'checkpointed':>15}"
        f"{'share':>9}",
    ]
    for heading, costs in grouped(found.parts).items():
        if len(costs) > 1:
            lines.append(_line(heading, add(heading, costs), total))
            lines += [_line("  " + cost.name.removeprefix(f"{heading} "), cost, total) for cost in costs]
        else:
            lines.append(_line(costs[0].name, costs[0], total))
    lines += ["-" * WIDTH, _line("total", total, total), "", *_notes(found)]
    return "\n".join(lines)


def as_plain(found: Ledger, name: str) -> dict[str, Any]:
    """Return the ledger as plain JSON types, with the official parts under their official names."""
    total = found.total
    return {
        "recipe": name,
        "size": list(found.size),
        "proposals": found.proposals,
        "detections": found.detections,
        "total": asdict(total),
        "parts": [asdict(part) for part in found.parts],
        "groups": [asdict(add(heading, costs)) for heading, costs in grouped(found.parts).items()],
        "recomputed_bytes": found.recomputed_bytes,
        "full_by_kind": dict(found.full_by_kind),
        "official": {
            "total_flops": total.official,
            "counter_flops_without_dcnv3_term": total.official - found.dcnv3_term,
            "dcnv3_term": found.dcnv3_term,
            "dcnv3_term_per_level": [row.operations for row in found.modules if row.kind == DCNV3],
            "parts": official_parts(found.modules),
            "by_part_and_layer_type": by_part_and_layer_type(found.modules),
            "modules": [
                {"module": row.name, "type": row.kind, "flops": row.operations, "part": row.part}
                for row in found.modules
                if row.kind != DCNV3
            ],
        },
    }


def grouped(costs: Sequence[PartCost]) -> dict[str, list[PartCost]]:
    """Return the parts under "backbone", "FPN", "RPN", "stage 1", ..."""
    groups: dict[str, list[PartCost]] = {}
    for cost in costs:
        if cost.name == STEM or cost.name.startswith("level "):
            heading = "backbone"
        else:
            heading = cost.name.removesuffix(" box head").removesuffix(" mask head")
        groups.setdefault(heading, []).append(cost)
    return groups


def official_parts(modules: Sequence[Counted]) -> dict[str, int]:
    """Return the official count by official part, without the DCNv3 term."""
    counted: Counter[str] = Counter()
    for row in modules:
        if row.kind != DCNV3:
            counted[row.official_part] += row.operations
    return dict(counted)


def by_part_and_layer_type(modules: Sequence[Counted]) -> dict[str, dict[str, int]]:
    """Return the official count by official part, stages added up, and by type of layer."""
    counted: dict[str, Counter[str]] = {}
    for row in modules:
        if row.kind != DCNV3:
            part = ".".join(word for word in row.official_part.split(".") if not word.isdecimal())
            counted.setdefault(part, Counter())[row.kind] += row.operations
    return {part: dict(kinds) for part, kinds in counted.items()}


def _line(label: str, cost: PartCost, total: PartCost) -> str:
    share, time = f"{100 * cost.full / total.full:.1f} %", "-"
    if cost.seconds is not None and total.seconds:
        time = f"{100 * cost.seconds / total.seconds:.1f} %"
    counts = f"{cost.parameters / 1e6:>12.2f}{cost.official / 1e9:>10.2f}{cost.full / 1e9:>12.2f}{share:>9}"
    kept = f"{cost.kept_bytes / MIB:>11.1f}{cost.kept_bytes_checkpointed / MIB:>15.1f}"
    return f"{label:<14}{counts}{kept}{time:>9}"


def _notes(found: Ledger) -> list[str]:
    total = found.total
    kinds = sorted(found.full_by_kind.items(), key=lambda item: -item[1])
    shares = [f"{kind} {100 * count / total.full:.2f} %" for kind, count in kinds]
    if total.seconds is None:
        time = "not measured; add --time"
    else:
        time = f"{total.seconds:.1f} s of one CPU thread, without NMS and pasting of masks"
    return [
        f"parameters  {total.parameters:,}",
        f"official    {total.official:,}, as published figures count; {found.dcnv3_term:,} are DCNv3",
        f"            Always with {PROPOSALS} boxes and {DETECTIONS} masks in each stage.",
        f"full        {total.full:,}, with {found.proposals} proposals and {found.detections} detections:",
        "            " + ", ".join(shares[:3]),
        "            " + ", ".join(shares[3:]),
        "            An operation is a multiply-accumulate; tools that count two print twice as much.",
        "kept        in float32, by a training step on one picture. Checkpointed, it keeps less, and the",
        f"            block that is computed again takes {found.recomputed_bytes / MIB:.0f} MiB on top.",
        f"time        {time}",
    ]
