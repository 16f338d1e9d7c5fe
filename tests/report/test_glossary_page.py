"""The first table of docs/reference/glossary.md is the report's own glossary."""

from __future__ import annotations

import importlib.util
from pathlib import Path

from confide.report.terms import TERMS

DOCS = Path(__file__).parents[2] / "docs"


def test_the_page_is_up_to_date_and_explains_no_word_twice() -> None:
    spec = importlib.util.spec_from_file_location("draw_glossary", DOCS / "draw_glossary.py")
    assert spec is not None
    assert spec.loader is not None
    drawing = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(drawing)
    page = drawing.PAGE.read_text(encoding="utf-8")
    assert page == drawing.drawn(page), "run: python docs/draw_glossary.py"
    words = [line.split("|")[1].strip().strip("`") for line in page.splitlines() if line.startswith("| ")]
    words = [word for word in words if word != "term"]
    assert sorted(words) == sorted(set(words))
    assert set(TERMS) <= set(words)
