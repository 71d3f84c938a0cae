"""Official checkpoints, both ways: read safely, load with a report, write, and fetch."""

from cascade_lab.weights.layouts import Weights, read_weights
from cascade_lab.weights.load import compare, compare_file, load_file, load_official, official_state_dict
from cascade_lab.weights.names import from_official, to_official
from cascade_lab.weights.report import LoadReport

__all__ = [
    "LoadReport",
    "Weights",
    "compare",
    "compare_file",
    "from_official",
    "load_file",
    "load_official",
    "official_state_dict",
    "read_weights",
    "to_official",
]
