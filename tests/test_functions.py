"""Functions by name: the sentence for what is not there, and where modules are looked for."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from confide.errors import ConfideError
from confide.functions import load_function, look_in


def test_a_function_is_found_in_the_folder_that_is_looked_in_first(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "path", list(sys.path))
    for folder in ("one", "two"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "looked_up.py").write_text(f"def f():\n    return {folder!r}\n")
        look_in(tmp_path / folder)
    assert load_function("looked_up:f", "there")() == "two"


@pytest.mark.parametrize(
    "spec", ["json:no_such", "no_such.module:f", "json", "", ":", "json.py:loads", "..:f", "é é:f"]
)
def test_what_is_not_there_is_told_with_where_it_was_looked_for(spec: str) -> None:
    with pytest.raises(ConfideError, match=r"module:function is wanted; modules are looked for in Rome and in PYTHON"):
        load_function(spec, "in Rome")


def test_what_cannot_be_called_is_refused() -> None:
    with pytest.raises(ConfideError, match="json:__name__ is not callable"):
        load_function("json:__name__", "there")
