"""Figures and files that the InternImage project published for its models; none was measured by us.

Source: the model tables of the InternImage repository (COCO val2017; speed on A100 GPUs), and the InternImage
paper for AP50 and AP75. Sizes and checksums of the files are not published.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

from cascade_lab.backbones.internimage import InternImageConfig
from cascade_lab.recipes.published import BACKBONES

SOURCE = "published by the InternImage project: COCO val2017, speed on A100 GPUs"
ADDRESS = "https://huggingface.co/OpenGVLab/InternImage/resolve/main/"
OLDER_ADDRESS = "https://github.com/OpenGVLab/InternImage/releases/download/det_model/"  # the cascades only
NOTES = (
    "One published table links the XL 3x row to the checkpoint of XL 1x; the address here is that of XL 3x.",
    "FLOPs are of one picture of 800 x 1280; a multiplication with its addition counts once.",
)


@dataclass(frozen=True, kw_only=True)
class Figures:
    """One published detector.

    Attributes:
        box_ap, mask_ap, box_ap50, box_ap75: percent; None where not known.
        seconds_per_step, train_hours, gpus: of the training.
        params, flops: in millions, and in thousand millions.
        has_log: whether the log of the training is published too.
    """

    box_ap: float
    mask_ap: float
    seconds_per_step: float
    train_hours: float
    params: int
    flops: int
    box_ap50: float | None = None
    box_ap75: float | None = None
    gpus: int = 8
    has_log: bool = True


@dataclass(frozen=True, kw_only=True)
class Classifier:
    """Classification weights that a backbone starts from; ``params`` in millions, as published."""

    file: str
    params: int

    @property
    def address(self) -> str:
        return ADDRESS + self.file


def _figures(box: float, mask: float, seconds: float, hours: float, size: tuple[int, int]) -> Figures:
    return Figures(
        box_ap=box, mask_ap=mask, seconds_per_step=seconds, train_hours=hours, params=size[0], flops=size[1]
    )


_T, _S, _B, _L, _XL = (49, 270), (69, 340), (115, 501), (277, 1399), (387, 1782)
FIGURES = {
    "mask_rcnn_internimage_t_fpn_1x_coco": _figures(47.2, 42.5, 0.36, 9, _T),
    "mask_rcnn_internimage_t_fpn_3x_coco": _figures(49.1, 43.7, 0.34, 26, _T),
    "mask_rcnn_internimage_s_fpn_1x_coco": _figures(47.8, 43.3, 0.40, 10, _S),
    "mask_rcnn_internimage_s_fpn_3x_coco": _figures(49.7, 44.5, 0.40, 30, _S),
    "mask_rcnn_internimage_b_fpn_1x_coco": _figures(48.8, 44.0, 0.45, 11.5, _B),
    "mask_rcnn_internimage_b_fpn_3x_coco": _figures(50.3, 44.8, 0.45, 34, _B),
    "cascade_internimage_l_fpn_1x_coco": replace(
        _figures(54.9, 47.7, 0.73, 18, _L), box_ap50=74.0, box_ap75=59.8, has_log=False
    ),
    "cascade_internimage_l_fpn_3x_coco": replace(
        _figures(56.1, 48.5, 0.79, 15, _L), box_ap50=74.8, box_ap75=60.7, gpus=32
    ),
    "cascade_internimage_xl_fpn_1x_coco": replace(
        _figures(55.3, 48.1, 0.82, 21, _XL), box_ap50=74.4, box_ap75=60.1
    ),
    "cascade_internimage_xl_fpn_3x_coco": replace(
        _figures(56.2, 48.8, 0.91, 17, _XL), box_ap50=75.0, box_ap75=61.2, gpus=32
    ),
}
CLASSIFIERS = {  # by size, as in BACKBONES
    "t": Classifier(file="internimage_t_1k_224.pth", params=30),
    "s": Classifier(file="internimage_s_1k_224.pth", params=50),
    "b": Classifier(file="internimage_b_1k_224.pth", params=97),
    "l": Classifier(file="internimage_l_22k_192to384.pth", params=223),
    "xl": Classifier(file="internimage_xl_22k_192to384.pth", params=335),
    "h": Classifier(file="internimage_h_jointto22k_384.pth", params=1080),
    "g": Classifier(file="internimage_g_pretrainto22k_384.pth", params=3000),
}


def checkpoint_address(name: str) -> str | None:
    """Return where the trained detector of a recipe lies; None for a recipe that nobody published."""
    return f"{ADDRESS}{name}.pth" if name in FIGURES else None


def log_address(name: str) -> str | None:
    """Return where the log of its training lies; None where there is none."""
    return f"{ADDRESS}{name}.log.json" if name in FIGURES and FIGURES[name].has_log else None


def classifier_of(backbone: InternImageConfig) -> Classifier | None:
    """Return the classification weights that fit a backbone; None where it has a shape of its own."""
    bare = _bare(backbone)
    return next((CLASSIFIERS[size] for size, other in BACKBONES.items() if _bare(other) == bare), None)


def _bare(config: InternImageConfig) -> InternImageConfig:
    """Leave out what decides neither a parameter nor what it does."""
    return replace(config, drop_path=0.0, activation_checkpointing=False, backend="auto")
