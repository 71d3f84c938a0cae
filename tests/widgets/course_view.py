"""One picture of the course and what its model is asked to learn from it."""

from functools import lru_cache

from torch import Tensor

from cascade_lab.learn.course import course_pictures, course_run
from cascade_lab.runs import Run
from cascade_lab.structures import Instances
from cascade_lab.widgets.targets_step import targets_view
from cascade_lab.widgets.targets_view import TargetsView


@lru_cache
def course() -> tuple[Run, Tensor, Instances]:
    """Return the model, and a picture with four objects."""
    ((picture, truth),) = course_pictures(1, first=1)
    return course_run(), picture, truth


@lru_cache
def course_view() -> TargetsView:
    """Return the view of that picture."""
    run, picture, truth = course()
    return targets_view(run.detector, picture, truth, run.classes, name="validation picture 1")


@lru_cache
def other_view() -> TargetsView:
    """Return the view of the picture after it."""
    ((picture, truth),) = course_pictures(1, first=2)
    run, _, _ = course()
    return targets_view(run.detector, picture, truth, run.classes, name="validation picture 2")
