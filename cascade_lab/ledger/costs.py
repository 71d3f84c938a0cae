"""The ledger: what each part of a detector costs, counted in two ways, without weights and in seconds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch

from cascade_lab.detector import Detector, DetectorConfig
from cascade_lab.ledger import parts
from cascade_lab.ledger.memory import SavedBytes
from cascade_lab.ledger.official import DCNV3, Counted, official_count
from cascade_lab.ledger.operators import OperationCounter, typical_side


@dataclass(frozen=True, kw_only=True)
class PartCost:
    """What one part costs, for one picture.

    Args:
        official: operations by the rules of the published figures (``official.py``).
        full: all operations of the real cascade (``operators.py``).
        kept_bytes: float32 activations that a training step keeps for its backward pass (``memory.py``).
        kept_bytes_checkpointed: the same with activation checkpointing in the backbone.
        seconds: processor time of an inference; None where it was not measured.
    """

    name: str
    parameters: int
    official: int
    full: int
    kept_bytes: int
    kept_bytes_checkpointed: int
    seconds: float | None = None


@dataclass(frozen=True, kw_only=True)
class Ledger:
    """The costs of a detector for one picture of ``size`` (H, W), in the order of the forward pass.

    Args:
        modules: the official count, module by module.
        full_by_kind: the full count by kind of operator.
        recomputed_bytes: with checkpointing, what comes on top while the largest block is computed again.
        largest_bytes: the largest single tensor of an inference.
    """

    size: tuple[int, int]
    proposals: int
    detections: int
    parts: tuple[PartCost, ...]
    modules: tuple[Counted, ...]
    full_by_kind: Mapping[str, int]
    recomputed_bytes: int
    largest_bytes: int

    @property
    def total(self) -> PartCost:
        return add("total", self.parts)

    @property
    def dcnv3_term(self) -> int:
        """Return what the official count adds by hand for DCNv3."""
        return sum(row.operations for row in self.modules if row.kind == DCNV3)

    def with_seconds(self, seconds: Mapping[str, float]) -> Ledger:
        return replace(self, parts=tuple(replace(p, seconds=seconds[p.name]) for p in self.parts))


def add(name: str, costs: Sequence[PartCost]) -> PartCost:
    """Add up parts under a new name."""
    seconds = [part.seconds for part in costs if part.seconds is not None]
    return PartCost(
        name=name,
        parameters=sum(part.parameters for part in costs),
        official=sum(part.official for part in costs),
        full=sum(part.full for part in costs),
        kept_bytes=sum(part.kept_bytes for part in costs),
        kept_bytes_checkpointed=sum(part.kept_bytes_checkpointed for part in costs),
        seconds=sum(seconds) if len(seconds) == len(costs) else None,
    )


def ledger(config: DetectorConfig, size: tuple[int, int]) -> Ledger:
    """Count what a detector costs for one picture of ``size`` (H, W). Neither weights nor pixels take memory.

    The full count has as many proposals and detections as inference lets through, the memory as many boxes as
    the samplers can draw.
    """
    proposals, detections = config.rpn.inference.after_nms, config.cascade.postprocess.max_detections
    with torch.device("meta"):
        detector = Detector(_plain(config, checkpointing=False)).eval()
        pixels = torch.empty(1, 3, *size)
        finest = config.backbone.strides[0]
        counter = OperationCounter(typical_side(config.cascade.canonical_size, finest))
        parts.infer(detector, pixels, proposals, detections, counter.part)
        kept = {on: _kept(_plain(config, checkpointing=on), size) for on in (False, True)}
    modules = official_count(detector, size)
    official = dict.fromkeys(parts.part_names(detector), 0)
    for row in modules:
        official[row.part] += row.operations
    parameters = parts.parameters_by_part(detector)
    costs = (
        PartCost(
            name=name,
            parameters=parameters[name],
            official=official[name],
            full=counter.by_part[name],
            kept_bytes=kept[False][name],
            kept_bytes_checkpointed=kept[True][name],
        )
        for name in official
    )
    # All blocks of a level keep the same, so what one of them saves is its level's saving over its depth.
    saved = [kept[False][parts.level(i)] - kept[True][parts.level(i)] for i in range(4)]
    return Ledger(
        size=size,
        proposals=proposals,
        detections=detections,
        parts=tuple(costs),
        modules=tuple(modules),
        full_by_kind=dict(counter.by_kind),
        recomputed_bytes=max(s // depth for s, depth in zip(saved, config.backbone.depths, strict=True)),
        largest_bytes=counter.largest_bytes,
    )


def _kept(config: DetectorConfig, size: tuple[int, int]) -> Mapping[str, int]:
    detector = Detector(config).train()
    saved = SavedBytes(detector)
    parts.train(detector, torch.empty(1, 3, *size), saved.part)
    return saved.by_part


def _plain(config: DetectorConfig, checkpointing: bool) -> DetectorConfig:
    """Return the config with DCNv3 as one operator: on the meta device no kernel can be picked by trying."""
    backbone = replace(config.backbone, activation_checkpointing=checkpointing, backend="cpu")
    return replace(config, backbone=backbone)
