"""Hedging: confidences in words, and words read back as numbers. Needs no torch."""

from __future__ import annotations

from confide.hedging.hedge_reading import FoundHedge, find_hedges, read_hedge
from confide.hedging.language import TOLERANCE, Language, languages, load_language

__all__ = ["TOLERANCE", "FoundHedge", "Language", "find_hedges", "languages", "load_language", "read_hedge"]
