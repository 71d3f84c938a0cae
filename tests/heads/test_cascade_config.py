"""The settings of the cascade and its heads: what is published, and what is refused."""

from dataclasses import replace

import pytest

from cascade_lab.heads.cascade_config import THREE_STAGES, CascadeConfig, Stage
from cascade_lab.heads.rpn import RPNConfig
from tests.tiny_detector import CASCADE


def test_published_stages():
    assert [stage.iou for stage in THREE_STAGES] == [0.5, 0.6, 0.7]
    assert [stage.loss_weight for stage in THREE_STAGES] == [1.0, 0.5, 0.25]
    assigner = CascadeConfig().assigner(1)
    assert assigner.positive_iou == assigner.negative_iou == assigner.min_positive_iou == 0.6
    assert not assigner.match_low_quality and assigner.ignore_ioa == -1.0


def test_impossible_settings_are_refused():
    std = (0.1, 0.1, 0.2, 0.2)
    with pytest.raises(ValueError, match="at least one stage"):
        replace(CASCADE, stages=())
    with pytest.raises(ValueError, match=r"mask_stages \[2\] do not exist: there are 2 stages"):
        replace(CASCADE, stages=THREE_STAGES[:2])
    with pytest.raises(ValueError, match="mask_stages .* more than once"):
        replace(CASCADE, mask_stages=(0, 2, 2))
    with pytest.raises(ValueError, match="iou must be"):
        Stage(iou=0.0, delta_std=std)
    with pytest.raises(ValueError, match="delta_std must be positive"):
        Stage(iou=0.5, delta_std=(0.1, 0.1, 0.0, 0.2))


@pytest.mark.parametrize(
    ("config", "name"),
    [
        (CASCADE, "loss_weights"),
        (CASCADE, "later_sampling"),
        (CASCADE.box_head, "norm"),
        (CASCADE.box_head, "box_loss"),
        (CASCADE.postprocess, "ensemble"),
        (CASCADE.postprocess, "nms"),
        (RPNConfig(), "box_loss"),
    ],
)
def test_a_word_that_is_no_setting_is_refused(config, name: str):
    """It would act as one of the others: a box loss of "giou" as L1."""
    with pytest.raises(ValueError, match=rf"{name} .*'giou'"):
        replace(config, **{name: "giou"})
