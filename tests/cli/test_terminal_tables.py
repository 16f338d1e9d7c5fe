"""Tables: a narrow terminal loses columns, never names."""

from __future__ import annotations

import io

import pytest
from rich.console import Console

from confide.cli.terminal_tables import PIPED_COLUMNS, make_console, print_table

COLUMNS = [
    ("source", ["logprob_sum", "a_source_with_a_long_name"]),
    ("AUROC", ["0.840 [0.805, 0.866]", "–"]),
    ("Brier", ["0.174", "0.2"]),
    ("missing", ["", "12"]),
]


def printed(width: int, columns=COLUMNS, **options) -> str:
    file = io.StringIO()
    print_table(Console(file=file, width=width, highlight=False), columns, **options)
    return file.getvalue()


@pytest.mark.parametrize(("width", "shown"), [(20, 1), (50, 2), (60, 3), (80, 4)])
def test_names_always_stand_and_what_is_hidden_is_named(width, shown):
    text = printed(width, title="A title")
    assert text.startswith("A title\n")
    assert "".join(text.split()).count("logprob_sum") == 1
    assert max(map(len, text.splitlines())) <= width
    for name, cells in COLUMNS[1:shown]:
        assert name in text
        assert all(cell in text for cell in cells)
    hidden = [name for name, _ in COLUMNS[shown:]]
    assert ("wider terminal" in " ".join(text.split())) == bool(hidden)


def test_a_text_column_wraps_and_markup_is_text():
    text = printed(40, [("task", ["[bold]x"]), ("what", ["many words that wrap over lines of a cell"])], left=("what",))
    assert "[bold]x" in text
    assert "many words" in text


def test_a_file_gets_wide_lines_unless_columns_are_named(monkeypatch):
    monkeypatch.delenv("COLUMNS", raising=False)
    monkeypatch.setattr("sys.stdout", io.StringIO())
    assert make_console().width == PIPED_COLUMNS
    monkeypatch.setenv("COLUMNS", "50")
    assert make_console().width == 50
