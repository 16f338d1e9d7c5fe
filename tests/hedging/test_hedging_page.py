"""The page ``docs/results/hedging.md`` says what the language file and the results say."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.common import RESULTS, read_json, rounded
from benchmarks.hedges import losses, losses_table, phrases_table, sources_table
from confide.hedging import load_language

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "results" / "hedging.md").read_text(encoding="utf-8")
EN = load_language("en")


def test_the_tables_are_those_of_the_language_file():
    assert phrases_table(EN) in PAGE
    assert sources_table(EN) in PAGE


def test_the_figures_are_those_of_the_results():
    results = read_json(RESULTS / "hedges.json")
    assert losses_table(results) in PAGE
    for style, row in losses(EN).items():
        assert rounded(row) == pytest.approx(results["losses"][style])
