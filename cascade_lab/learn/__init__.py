"""What the notebooks of the course need: exercises with an instant check, hints, solutions, and live source.

A notebook imports all of it from here. ``check.iou(my_iou)`` says which case fails, in words;
``hint("01.2")`` helps a little, three times; ``solution("01.2")`` prints the answer; ``progress()`` counts
what is right so far; ``reveal(pairwise_iou, around="clamp")`` prints the library's own lines.
"""

from cascade_lab.learn.desk import check, hint, progress, solution
from cascade_lab.learn.source import reveal

__all__ = ["check", "hint", "progress", "reveal", "solution"]
