"""A reading of the cascade in words, for titles and for the viewer."""

from __future__ import annotations

from cascade_lab.heads.postprocess import Ensemble
from cascade_lab.laboratory.crossed import Choice

ENSEMBLE_WORDS: dict[Ensemble, str] = {
    "own_rois_logits": "mean of logits",
    "own_rois_probabilities": "mean of probabilities",
    "last_rois_probabilities": "all heads on the last boxes",
}
ENSEMBLE_HINTS: dict[Ensemble, str] = {
    "own_rois_logits": "Each head judges the boxes of its own stage, and their logits are averaged before "
    "the softmax. The published InternImage models do this.",
    "own_rois_probabilities": "Each head judges the boxes of its own stage, and their probabilities are "
    "averaged. Detectron2 does this.",
    "last_rois_probabilities": "All heads look again at the boxes that enter the last stage, and their "
    "probabilities are averaged. The paper does this (Cascade R-CNN, table 2).",
}


def choice_words(choice: Choice) -> str:
    """Return, for instance, "3 stages, mean of logits, score > 0.05, NMS 0.50"."""
    if choice.foreign is not None:
        head, boxes = choice.foreign
        who = f"head {head + 1} on the boxes that enter stage {boxes + 1}"
    elif choice.stages == 1:
        who = "1 stage"
    else:
        who = f"{choice.stages} stages, {ENSEMBLE_WORDS[choice.ensemble]}"
    parts = [who, *(["ground truth added"] if choice.targets_added else [])]
    return ", ".join([*parts, f"score > {choice.score_threshold:.2f}", f"NMS {choice.nms_iou:.2f}"])
