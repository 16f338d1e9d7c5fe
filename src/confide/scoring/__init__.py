"""Scoring: every source's confidence for records that are already answered.

Learned sources are left out (None) on training rows: a confidence there says nothing about new rows. Sources that
learn from text alone are fitted here, on the train rows of the same file; whatever has a choice to make (prompt,
sign, strength) makes it on the validation rows.
"""

from confide.scoring.scorer import Options, score
from confide.scoring.sources import FLOORS, READ, SLOW, SOURCES, TEXT, available

__all__ = ["FLOORS", "READ", "SLOW", "SOURCES", "TEXT", "Options", "available", "score"]
