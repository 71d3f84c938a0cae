"""The exercises of all chapters, in reading order."""

from __future__ import annotations

from cascade_lab.learn.chapter_01 import CHAPTER_01
from cascade_lab.learn.chapter_02 import CHAPTER_02
from cascade_lab.learn.chapter_03 import CHAPTER_03
from cascade_lab.learn.chapter_04 import CHAPTER_04
from cascade_lab.learn.chapter_05 import CHAPTER_05
from cascade_lab.learn.chapter_06 import CHAPTER_06
from cascade_lab.learn.chapter_07 import CHAPTER_07
from cascade_lab.learn.chapter_08 import CHAPTER_08
from cascade_lab.learn.chapter_09 import CHAPTER_09
from cascade_lab.learn.chapter_10 import CHAPTER_10
from cascade_lab.learn.chapter_11 import CHAPTER_11
from cascade_lab.learn.chapter_12 import CHAPTER_12

EXERCISES = (
    *CHAPTER_01,
    *CHAPTER_02,
    *CHAPTER_03,
    *CHAPTER_04,
    *CHAPTER_05,
    *CHAPTER_06,
    *CHAPTER_07,
    *CHAPTER_08,
    *CHAPTER_09,
    *CHAPTER_10,
    *CHAPTER_11,
    *CHAPTER_12,
)
