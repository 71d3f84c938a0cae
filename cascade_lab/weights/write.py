"""Write our weights for others, in the official layouts or as safetensors, with the SHA-256 beside them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

import safetensors.torch
import torch
from torch import Tensor

from cascade_lab.engine.checkpoint import explained, size, write_with_digest
from cascade_lab.weights.names import to_official

BACKBONE = "backbone."


def write_official(
    path: Path, state: Mapping[str, Tensor], classes: Sequence[str] | None, single_stage: bool = False
) -> str:
    """Write a detector as mmdetection 2 does: "state_dict", and "meta" with the names of the classes.

    Args:
        state: names are ours.
        single_stage: the Mask R-CNN layout, which numbers no stages.

    Returns the SHA-256 of the file.

    Raises:
        InputError: the file cannot be written; nothing is left behind.
    """
    named = {to_official(name, single_stage): own(value) for name, value in state.items()}
    meta = {"CLASSES": tuple(classes)} if classes else {}
    return _write(path, {"meta": meta, "state_dict": named})


def write_official_backbone(path: Path, state: Mapping[str, Tensor]) -> str:
    """Write the backbone alone, as the classification trainer does: under "model", names without "backbone.".

    A detector's configuration of the official repository names such a file as its ``Pretrained`` start.
    """
    named = {
        to_official(name).removeprefix(BACKBONE): own(value)
        for name, value in state.items()
        if name.startswith(BACKBONE)
    }
    return _write(path, {"model": named})


def write_safetensors(path: Path, state: Mapping[str, Tensor], classes: Sequence[str] | None) -> str:
    """Write the weights under our names in a format that can hold tensors and text, and nothing else."""
    named = {name: own(value) for name, value in state.items()}
    metadata = {"format": "pt"} | ({"classes": json.dumps(list(classes))} if classes else {})
    return _write_with(path, lambda file: file.write(safetensors.torch.save(named, metadata)), size(named))


def own(value: Tensor) -> Tensor:
    """Return a tensor with memory of its own: of a view, torch.save would write all that it is a view of."""
    whole = value.is_contiguous() and value.untyped_storage().nbytes() == value.nbytes
    return value if whole else value.clone(memory_format=torch.contiguous_format)


def _write(path: Path, content: dict[str, Any]) -> str:
    return _write_with(path, lambda file: torch.save(content, file), size(content))


def _write_with(path: Path, content: Callable[[IO[bytes]], Any], needed: int) -> str:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return write_with_digest(path, content)
    except (OSError, RuntimeError) as error:
        raise explained(error, path, needed, "make room or name another --output") from error
