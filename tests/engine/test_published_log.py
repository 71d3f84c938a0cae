"""Training logs in mmdetection's format: what they say, and which line is broken."""

import json
from pathlib import Path

import numpy as np
import pytest

from cascade_lab.engine.published_log import read_published_log
from cascade_lab.errors import InputError

ENVIRONMENT = {"env_info": "sys.platform: linux", "config": "model = dict()", "seed": 7, "exp_name": "x.py"}
TRAIN = {"mode": "train", "epoch": 1, "iter": 50, "lr": 1e-05, "memory": 9, "loss": 2.5, "s0.loss_cls": 0.4}
VAL = {
    "mode": "val",
    "epoch": 1,
    "iter": 625,
    "lr": 1e-4,
    "bbox_mAP": 0.301,
    "bbox_mAP_copypaste": "0.301 0.5",
}


def written(folder: Path, *rows: dict | str) -> Path:
    path = folder / "x.log.json"
    path.write_text("".join((row if isinstance(row, str) else json.dumps(row)) + "\n" for row in rows))
    return path


def test_columns(tmp_path):
    log = read_published_log(
        written(
            tmp_path,
            ENVIRONMENT,
            TRAIN,
            TRAIN | {"iter": 100, "loss": 2.0},
            VAL,
            TRAIN | {"epoch": 2, "iter": 50, "loss": 1.5, "extra": 1},
            TRAIN | {"epoch": 2, "iter": 100, "loss": float("nan")},
            VAL | {"epoch": 2, "bbox_mAP": 0.4, "segm_mAP": 0.3},
        )
    )
    assert log.epochs.tolist() == [0.5, 1.0, 1.5, 2.0]
    np.testing.assert_array_equal(log.train["loss"], [2.5, 2.0, 1.5, np.nan])
    np.testing.assert_array_equal(log.train["extra"], [np.nan, np.nan, 1, np.nan])
    assert log.train["s0.loss_cls"].tolist() == [0.4] * 4
    assert log.val_epochs.tolist() == [1, 2] and log.val["bbox_mAP"].tolist() == [0.301, 0.4]
    assert "bbox_mAP_copypaste" not in log.val and "mode" not in log.train


def test_after_a_resume_the_later_line_counts(tmp_path):
    rows = [
        TRAIN,
        TRAIN | {"iter": 100, "loss": 9},
        ENVIRONMENT,
        TRAIN | {"iter": 100, "loss": 3},
        "",
        VAL,
        VAL,
    ]
    log = read_published_log(written(tmp_path, *rows))
    assert log.train["loss"].tolist() == [2.5, 3] and log.val_epochs.tolist() == [1]


@pytest.mark.parametrize(
    "line, message",
    [
        ('{"mode": "train", "epoch": 1, "it', "line 3: not JSON"),
        ("[1, 2]", "line 3: holds a list"),
        ("[" * 100_000, "line 3: not JSON"),
        (TRAIN | {"mode": "test"}, "line 3: mode is 'test', not train or val"),
        (TRAIN | {"epoch": 0}, "line 3: epoch is '0', not a whole number from 1 up"),
        (TRAIN | {"iter": "50"}, "line 3: iter is '50'"),
        (TRAIN | {"iter": True}, "line 3: iter is 'True'"),
        (TRAIN | {"loss": "low"}, "line 3: loss is 'low', not a number"),
        ({"mode": "train", "epoch": 1, "iter": 5}, "line 3: loss is 'None'"),
        ({"mode": "val", "bbox_mAP": 0.1}, "line 3: epoch is 'None'"),
    ],
)
def test_a_broken_line_is_named(tmp_path, line, message):
    path = written(tmp_path, ENVIRONMENT, TRAIN, line)
    with pytest.raises(InputError, match=message) as caught:
        read_published_log(path)
    assert str(caught.value).startswith(f"{path}: ") and len(str(caught.value).splitlines()) == 1


def test_no_log_at_all(tmp_path):
    with pytest.raises(InputError, match="no such file; cascade-lab weights get"):
        read_published_log(tmp_path / "absent")
    with pytest.raises(InputError, match="no line with mode train"):
        read_published_log(written(tmp_path, ENVIRONMENT, VAL))
    (tmp_path / "x").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(InputError, match="not a text file"):
        read_published_log(tmp_path / "x")
