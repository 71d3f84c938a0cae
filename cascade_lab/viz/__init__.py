"""Figures from plain arrays, detections and traces.

Every function returns a ``matplotlib.figure.Figure`` of its own and never touches pyplot, so drawing is safe
in threads and leaves the state of a notebook alone.
"""
