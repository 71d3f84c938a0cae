"""The logs to practise on can be read as published ones, and each has the one fault that it is for."""

import numpy as np
import pytest

from cascade_lab.engine.published_log import PublishedLog, read_published_log
from cascade_lab.errors import InputError
from cascade_lab.learn.made_up_log import write_made_up_log


def log(folder, patient: int) -> PublishedLog:
    return read_published_log(write_made_up_log(folder / f"{patient}.log.json", patient))


def test_the_healthy_one_answers_to_its_rate(tmp_path):
    healthy = log(tmp_path, 0)
    rate, ap = healthy.train["lr"], healthy.val["bbox_mAP"]
    assert len(ap) == 12 and np.isclose(healthy.epochs[-1], 12)
    # After warm-up 1e-4, then a tenth after 8 epochs, and again after 11.
    for epoch, expected in ((4, 1e-4), (9.5, 1e-5), (11.5, 1e-6)):
        assert rate[np.argmin(abs(healthy.epochs - epoch))] == pytest.approx(expected)
    assert rate[0] < 2e-5
    assert (np.diff(ap) > 0).all() and np.diff(ap).argmax() in (0, 1, 7)
    assert ap[8] - ap[7] > 3 * (ap[7] - ap[6])  # the jump after the first drop
    loss = healthy.train["loss"]
    assert loss[-50:].mean() < 0.95 * loss[(healthy.epochs > 7) & (healthy.epochs < 8)].mean()


def test_each_patient_has_one_fault(tmp_path):
    healthy, no_drops, diverged, no_weights = (log(tmp_path, patient) for patient in range(4))
    assert np.unique(no_drops.train["lr"][no_drops.epochs > 1]).tolist() == [1e-4]
    assert np.allclose(no_drops.val["bbox_mAP"][:8], healthy.val["bbox_mAP"][:8])
    assert np.isnan(diverged.train["loss"][-1]) and diverged.train["loss"][0] < 3
    assert np.array_equal(diverged.train["lr"], healthy.train["lr"])
    assert np.array_equal(no_weights.train["lr"], healthy.train["lr"])
    assert no_weights.val["bbox_mAP"][0] < 0.5 * healthy.val["bbox_mAP"][0]
    assert no_weights.val["bbox_mAP"][-1] < healthy.val["bbox_mAP"][-1]


def test_no_such_patient(tmp_path):
    with pytest.raises(InputError, match="there are 0 to 3"):
        write_made_up_log(tmp_path / "x.json", 4)
    assert not (tmp_path / "x.json").exists()
