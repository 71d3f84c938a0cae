"""The golden detectors as official files: they load with nothing to report and detect what they should."""

from pathlib import Path

import numpy as np
import pytest
import torch

from cascade_lab.detector import Detector
from cascade_lab.weights import load_file, read_weights
from cascade_lab.weights.write import write_official
from tests.oracle.golden_detector import Found, match, open_case, pair, tensor, unpack

pytestmark = pytest.mark.oracle_files("detector/*.json")

BOX_DRIFT = 1e-4  # share of the picture's long side, from end to end, as in test_detector.py
WRONG_PIXELS = 1e-4


@pytest.mark.parametrize("zipped", [True, False], ids=["zip", "legacy"])
def test_an_official_file_gives_the_golden_detections_and_masks(
    oracle_file: Path, tmp_path: Path, zipped: bool
):
    case, path = open_case(oracle_file), tmp_path / "official.pth"
    state = {key: tensor(value) for key, value in case.weights.items()}
    ema = {"ema_" + key.replace(".", "_"): torch.zeros_like(value) for key, value in state.items()}
    meta = {"CLASSES": tuple(f"c{i}" for i in range(case.config.num_classes)), "mAP": np.float64(0.5)}
    torch.save({"meta": meta, "state_dict": state | ema}, path, _use_new_zipfile_serialization=zipped)
    torch.manual_seed(0)
    detector = Detector(case.config).eval()
    report = load_file(detector, path)
    assert set(report.dropped) == set(ema)
    assert not (report.missing or report.unexpected or report.other_shape or report.reinitialised)
    assert read_weights(path).classes == meta["CLASSES"]

    prediction = detector.predict(case.images())
    for i, own in enumerate(prediction.instances):
        golden = {name: case.inference[f"det{i}/{name}"] for name in ("boxes", "scores", "labels")}
        partner = match(
            Found(own.boxes, own.scores, own.labels),
            Found(
                tensor(golden["boxes"]).reshape(-1, 4),
                tensor(golden["scores"]),
                tensor(golden["labels"]).long(),
            ),
            pixels=max(1e-2, BOX_DRIFT * max(own.image_size)),
        )
        size = pair(case.inference[f"meta{i}/ori_shape"])
        masks = unpack(case.inference.get(f"det{i}/masks_packed"), len(golden["boxes"]), size)
        if own.masks is not None and len(masks):
            paired = partner >= 0
            assert float((own.masks[partner[paired]] != masks[paired]).float().mean()) <= WRONG_PIXELS


def test_written_in_the_official_layout_the_report_is_empty(oracle_file: Path, tmp_path: Path):
    case, path = open_case(oracle_file), tmp_path / "official.pth"
    write_official(path, case.detector().state_dict(), None, case.single_stage)
    written = torch.load(path, weights_only=True)["state_dict"]
    assert list(written) == list(case.weights)
    assert all(np.array_equal(written[key].numpy(), value) for key, value in case.weights.items())
    report = load_file(Detector(case.config), path)
    assert report.is_empty, str(report)
