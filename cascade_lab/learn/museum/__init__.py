"""The bug museum: mistakes that people make in this model, planted, shown, and caught by a test of ours."""

from cascade_lab.learn.museum.tour import EXHIBITS, diagnose, unmask, visit

__all__ = ["EXHIBITS", "diagnose", "unmask", "visit"]
