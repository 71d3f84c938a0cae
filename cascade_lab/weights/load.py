"""Put the tensors of a file into a detector, and say what happened to each."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

from cascade_lab.errors import InputError
from cascade_lab.weights.layouts import Weights, arrange, read_weights
from cascade_lab.weights.names import to_official
from cascade_lab.weights.outputs import count_classes, draw_outputs_anew, follows_classes
from cascade_lab.weights.report import LoadReport


def load_official(detector: nn.Module, state: Mapping[str, Tensor]) -> LoadReport:
    """Copy a state dict, official or ours, of a detector or of a backbone alone, into a detector.

    Raises:
        InputError: nothing fits, or a layer has another shape for another reason than the number of classes.
    """
    found, dropped = arrange(state)
    return _load(detector, found, dropped, "the state dict")


def load_file(detector: nn.Module, path: Path) -> LoadReport:
    """Read a checkpoint file and copy it into a detector; all that concerns reading it is ``read_weights``'s.

    Raises:
        InputError: as ``read_weights`` and ``load_official``.
    """
    weights = read_weights(path)
    return _load(detector, weights.state, weights.dropped, str(path))


def compare(
    model: Mapping[str, Tensor], state: Mapping[str, Tensor], dropped: Mapping[str, str] | None = None
) -> LoadReport:
    """Say what would be loaded. Names are ours on both sides; the model may be on the meta device."""
    there = {name: tuple(value.shape) for name, value in state.items()}
    here = {name: tuple(value.shape) for name, value in model.items()}
    classes = (count_classes(there), count_classes(here))
    differ = {name: (there[name], here[name]) for name in here if there.get(name, here[name]) != here[name]}
    outputs = tuple(name for name, shapes in differ.items() if follows_classes(name, *shapes, classes))
    return LoadReport(
        matched=tuple(name for name in here if name in there and name not in differ),
        dropped=dict(dropped or {}),
        unexpected=tuple(name for name in there if name not in here),
        missing=tuple(name for name in here if name not in there),
        other_shape={name: shapes for name, shapes in differ.items() if name not in outputs},
        reinitialised=outputs,
        classes=classes,
    )


def compare_file(detector: nn.Module, weights: Weights) -> LoadReport:
    """Say what ``load_file`` would do, without touching the detector."""
    return compare(detector.state_dict(), weights.state, weights.dropped)


def check_finite(names: Iterable[str], state: Mapping[str, Tensor], source: object) -> None:
    """Raise InputError where one of the parameters holds NaN or infinity."""
    for name in names:
        if not state[name].isfinite().all():
            raise InputError(
                f"{source}: {name} is not finite; the run that wrote it had diverged, take another"
            )


def official_state_dict(detector: nn.Module, single_stage: bool = False) -> dict[str, Tensor]:
    """Return the detector's state dict under official names, in the official order of modules."""
    return {to_official(key, single_stage): value for key, value in detector.state_dict().items()}


@torch.no_grad()
def _load(
    detector: nn.Module, state: Mapping[str, Tensor], dropped: Mapping[str, str], source: str
) -> LoadReport:
    own = detector.state_dict()
    report = compare(own, state, dropped)
    report.check(source)
    check_finite(report.matched, state, source)
    if report.reinitialised:
        draw_outputs_anew(detector)
    for name in report.matched:
        own[name].copy_(state[name])
    return report
