"""The exercises of all chapters, in reading order."""

from __future__ import annotations

from cascade_lab.learn.chapter_01 import CHAPTER_01

EXERCISES = (*CHAPTER_01,)
