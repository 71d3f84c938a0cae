"""Which of the things in a checkpoint file are the weights, and what they are called here.

The layouts: a detector's checkpoint (under "state_dict"), a classification trainer's (under "model"), a bare
dict of tensors, one of our own training checkpoints ("detector", and its running average "ema"), and a
safetensors file. Names may begin with "module." (saved from a parallel wrapper); a backbone's may or may not
begin with "backbone.".

Source: the loader of the official repository's detection part, which strips "backbone." and "module." and
takes "state_dict", then "model", then the whole. We differ in that every key is looked at by itself (there
seven characters go from all keys when the first begins with "module."), and that what is left out is named.
"""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from cascade_lab.errors import InputError
from cascade_lab.weights.foreign import read_foreign
from cascade_lab.weights.names import from_official

BACKBONE_STARTS = ("patch_embed.", "stem.", "levels.")  # as in a file that holds a backbone alone
NOT_LOADED = (
    (r"ema_", "raw weights of a run whose average was saved under the usual names"),
    (r"(backbone\.)?(conv_head|head)\.", "head of the classifier"),
)


@dataclass(frozen=True, kw_only=True)
class Weights:
    """The tensors of one file under our names, backbone parameters with "backbone." before them.

    Attributes:
        layout: where in the file they were, in words.
        dropped: names as in the file that are not among them -> why.
        classes: names of label 0, 1, ...; None where the file does not say.
        category_ids, recipe: what one of our training checkpoints says besides; None elsewhere.
    """

    path: Path
    layout: str
    state: dict[str, Tensor]
    dropped: dict[str, str]
    classes: tuple[str, ...] | None = None
    category_ids: tuple[int, ...] | None = None
    recipe: dict[str, Any] | None = None


def read_weights(path: Path) -> Weights:
    """Read a checkpoint file of any of the layouts.

    Raises:
        InputError: the file cannot be read safely, or holds no tensors where they should be.
    """
    content = read_foreign(path)
    found, layout = _pick(content)
    if not isinstance(found, dict) or not any(isinstance(value, Tensor) for value in found.values()):
        raise InputError(f"{path}: no tensors {layout}; this is not a checkpoint of a model")
    try:
        state, dropped = arrange(found)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    ids, own = content.get("category_ids"), isinstance(content.get("detector"), dict)
    return Weights(
        path=path,
        layout=layout,
        state=state,
        dropped=dropped,
        classes=_classes(content),
        category_ids=tuple(ids) if own and isinstance(ids, list) else None,
        recipe=content["recipe"] if own and isinstance(content.get("recipe"), dict) else None,
    )


def arrange(found: Mapping[Any, Any]) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Return the tensors under our names, and the keys that were left out with the reason.

    Raises:
        InputError: two keys mean the same parameter, or a tensor is not an ordinary one in memory.
    """
    state: dict[str, Tensor] = {}
    dropped: dict[str, str] = {}
    for key, value in found.items():
        plain = _without_prefixes(str(key))
        reason = next((why for pattern, why in NOT_LOADED if re.match(pattern, plain)), None)
        if not isinstance(value, Tensor):
            reason = "not a tensor"
        if reason:
            dropped[str(key)] = reason
            continue
        name = from_official(plain)
        if name in state:
            raise InputError(f"{key}: means {name}, which the file holds twice; remove one of them")
        _check_tensor(str(key), value)
        state[name] = value.detach()
    return state, dropped


def _pick(content: Mapping[str, Any]) -> tuple[Any, str]:
    """Return the dict that should hold the tensors, and where it was."""
    if "state_dict" in content:
        place = "in a safetensors file" if "__metadata__" in content else "under state_dict"
        return content["state_dict"], place
    if "model" in content:
        return content["model"], "under model"
    if isinstance(content.get("detector"), dict):
        if content.get("ema"):
            return content["ema"], "in the running average of our own checkpoint"
        return content["detector"], "in our own checkpoint"
    return content, "at the top of the file"


def _without_prefixes(key: str) -> str:
    """Return a key as in a detector's checkpoint: "module.patch_embed.x" -> "backbone.patch_embed.x"."""
    inner = re.sub(r"^(module\.)*((backbone\.)?)(module\.)*", r"\2", key)
    return f"backbone.{inner}" if inner.startswith(BACKBONE_STARTS) else inner


def _check_tensor(key: str, value: Tensor) -> None:
    """Refuse what a pickle can describe but no model saves: no memory behind it, or less than it claims."""
    if value.layout != torch.strided or value.device.type != "cpu" or value.is_quantized:
        raise InputError(f"{key}: is not an ordinary tensor ({value.layout}, {value.device}); save it as one")
    if value.nbytes > value.untyped_storage().nbytes():
        raise InputError(f"{key}: claims {value.nbytes:,} bytes, the file holds fewer; fetch it again")


def _classes(content: Mapping[str, Any]) -> tuple[str, ...] | None:
    """Return the class names that a file states: mmdetection 2 and 3, safetensors, our own."""
    meta = content.get("meta")
    places: list[Any] = [content.get("classes")]
    if isinstance(meta, dict):
        inner = meta.get("dataset_meta")
        places += [
            meta.get("CLASSES"),
            *((inner.get("classes"), inner.get("CLASSES")) if isinstance(inner, dict) else ()),
        ]
    if isinstance(content.get("__metadata__"), dict):
        with contextlib.suppress(ValueError):
            places.append(json.loads(content["__metadata__"].get("classes", "null")))
    for names in places:
        if isinstance(names, list | tuple) and names and all(isinstance(name, str) for name in names):
            return tuple(names)
    return None
