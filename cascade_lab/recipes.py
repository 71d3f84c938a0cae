"""Recipes: everything that decides a training run, as values that are built, compared and saved."""

from __future__ import annotations

import difflib
import types
from collections.abc import Callable
from dataclasses import MISSING, dataclass, fields, is_dataclass, replace
from typing import Any, get_args, get_origin, get_type_hints

from cascade_lab.backbones.internimage import InternImageConfig
from cascade_lab.datasets.catalog import DataConfig
from cascade_lab.datasets.transforms import AugmentConfig
from cascade_lab.detector import DetectorConfig
from cascade_lab.engine.optim import OptimConfig
from cascade_lab.engine.schedule import ScheduleConfig
from cascade_lab.errors import InputError
from cascade_lab.heads.box_head import BoxHeadConfig
from cascade_lab.heads.cascade import CascadeConfig
from cascade_lab.heads.mask_head import MaskHeadConfig
from cascade_lab.heads.postprocess import PostprocessConfig
from cascade_lab.heads.rpn import ProposalLimits, RPNConfig
from cascade_lab.targets.assigner import Assigner
from cascade_lab.targets.sampler import Sampler


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """One training run.

    Args:
        seed: of the initial weights, the order of pictures, augmentation and sampling.
        fit_to_data: derive anchors, scale, crop and steps from the training annotations (``fit.py``).
    """

    name: str
    detector: DetectorConfig
    data: DataConfig
    optim: OptimConfig
    schedule: ScheduleConfig
    seed: int = 0
    fit_to_data: bool = False


# A backbone, heads and samples small enough for a laptop's CPU. Pre-norm with layer scale, as InternImage-T.
TINY = InternImageConfig(
    channels=32, depths=(1, 1, 2, 1), groups=(4, 8, 16, 32), layer_scale=1.0, offset_scale=1.0
)
SMALL_CASCADE = CascadeConfig(
    box_head=BoxHeadConfig(convs=2, conv_channels=32, norm="batch", fcs=1, fc_channels=128),
    mask_head=MaskHeadConfig(convs=2, channels=32),
    sampler=Sampler(num=64, positive_fraction=0.25),
    canonical_size=32.0,
    sampling_ratio=0,
    ignore_ioa=0.5,
    postprocess=PostprocessConfig(score_threshold=0.01),  # late stages score low: a higher cut costs AP
)
SMALL_RPN = RPNConfig(
    anchor_scales=(4.0,),
    allowed_border=-1,
    assigner=Assigner(
        positive_iou=0.7, negative_iou=0.3, min_positive_iou=0.3, match_low_quality=True, ignore_ioa=0.5
    ),
    sampler=Sampler(num=128, positive_fraction=0.5),
    training=ProposalLimits(before_nms=250, after_nms=150),
    inference=ProposalLimits(before_nms=250, after_nms=150),
)


def nano() -> Recipe:
    """Return the demo: 128 px synthetic shapes, minutes on two CPU cores."""
    return Recipe(
        name="nano",
        detector=DetectorConfig(
            backbone=TINY, num_classes=4, pyramid_channels=48, rpn=SMALL_RPN, cascade=SMALL_CASCADE
        ),
        data=DataConfig(root="data/shapes", images_per_batch=4, augment=AugmentConfig(vertical_flip=0.5)),
        optim=OptimConfig(lr=1.5e-3, clip_norm=10.0),
        schedule=ScheduleConfig(steps=1500, warmup_steps=50, decay="cosine", ema=0.01, ema_warmup=100),
    )


def micro() -> Recipe:
    """Return the recipe for real pictures on a laptop; ``fit.py`` sets what depends on the pictures."""
    augment = AugmentConfig(colour=0.3, min_visible=0.3)
    return replace(
        nano(),
        name="micro",
        data=DataConfig(root="data/pictures", images_per_batch=4, augment=augment, keep_empty=True),
        schedule=replace(nano().schedule, steps=None, minutes=20.0),
        fit_to_data=True,
    )


RECIPES: dict[str, Callable[[], Recipe]] = {"nano": nano, "micro": micro}


def recipe(name: str) -> Recipe:
    """Return the recipe of that name. Raises InputError that lists the nearest names."""
    if name not in RECIPES:
        near = difflib.get_close_matches(name, RECIPES, n=3, cutoff=0.3) or list(RECIPES)
        raise InputError(f"recipe {name!r} does not exist; there is {', '.join(near)}")
    return RECIPES[name]()


def to_dict(value: Any) -> Any:
    """Return a recipe, or any part of one, as plain JSON types."""
    if is_dataclass(value):
        return {field.name: to_dict(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, (tuple, list)):
        return [to_dict(member) for member in value]
    return value


def from_dict(plain: Any, kind: Any = Recipe) -> Any:
    """Rebuild what ``to_dict`` wrote. Raises InputError for fields that are unknown or missing."""
    if isinstance(kind, type) and is_dataclass(kind):
        hints = get_type_hints(kind)
        if not isinstance(plain, dict):
            raise InputError(
                f"recipe: {plain!r} stands where the fields of {kind.__name__} should; restore it"
            )
        unknown = set(plain) - set(hints)
        if unknown:
            raise InputError(f"recipe field {sorted(unknown)[0]!r} is unknown to this version of cascade_lab")
        needed = {f.name for f in fields(kind) if f.default is MISSING and f.default_factory is MISSING}
        if needed - set(plain):
            raise InputError(f"recipe field {min(needed - set(plain))!r} is missing; restore the file")
        return kind(**{name: from_dict(value, hints[name]) for name, value in plain.items()})
    if get_origin(kind) is types.UnionType:
        inner = [member for member in get_args(kind) if member is not types.NoneType]
        return None if plain is None else from_dict(plain, inner[0])
    if get_origin(kind) is tuple:
        inner = get_args(kind)
        kinds = [inner[0]] * len(plain) if inner[-1] is Ellipsis else inner
        return tuple(from_dict(value, member) for value, member in zip(plain, kinds, strict=True))
    return plain


def diff(a: Recipe, b: Recipe) -> dict[str, tuple[Any, Any]]:
    """Return the fields in which two recipes differ: dotted name to both values."""
    left, right = _flat(to_dict(a)), _flat(to_dict(b))
    names = left | right
    return {n: (left.get(n), right.get(n)) for n in names if left.get(n) != right.get(n)}


def _flat(value: Any, name: str = "") -> dict[str, Any]:
    if not isinstance(value, dict):
        return {name: value}
    inner = (_flat(member, f"{name}.{key}" if name else key) for key, member in value.items())
    return {key: leaf for part in inner for key, leaf in part.items()}
