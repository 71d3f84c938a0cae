"""Cascade Mask R-CNN with an InternImage backbone, written to be read.

Importing the package alone loads nothing: ask for the module that you want,
``from cascade_lab.ops.box_coder import decode_deltas``.
"""

__version__ = "0.1.0"
