"""The trunk of the course's model: all but the cascade, in a file that training can start from."""

import torch

from cascade_lab.detector import Detector
from cascade_lab.learn.course import course_run
from cascade_lab.learn.trunk import write_trunk
from cascade_lab.weights import load_file


def test_everything_but_the_cascade_is_loaded_from_it(tmp_path):
    run = course_run()
    torch.manual_seed(1)
    detector = Detector(run.recipe.detector)
    before = {name: value.clone() for name, value in detector.state_dict().items()}
    report = load_file(detector, write_trunk(tmp_path / "trunk.safetensors"))
    assert report.missing and all(name.startswith("cascade.") for name in report.missing)
    for name, value in detector.state_dict().items():
        wanted = before if name.startswith("cascade.") else run.detector.state_dict()
        assert torch.equal(value, wanted[name]), name
