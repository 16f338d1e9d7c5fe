"""Whose log a file is, is seen from what it holds; anything else is refused with the names of the known ones."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest

from confide.errors import ConfideError
from confide.imports import import_log

DATA = Path(__file__).parent / "data"


@pytest.mark.parametrize("path", sorted(DATA.iterdir()), ids=lambda path: path.name)
def test_the_name_of_a_log_does_not_matter(path: Path, tmp_path: Path) -> None:
    renamed = tmp_path / "log.txt"
    renamed.write_bytes(path.read_bytes())
    assert import_log(renamed).tool == import_log(path).tool


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": "a", "confidence": 0.5}\n', "is no log of lm-evaluation-harness"),
        ('{"eval": {}}', "is no log of"),
        ("[]", "is no log of"),
        ("", "log"),
        ("{broken", "line 1"),
    ],
)
def test_another_file_is_refused(text: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "log.json"
    path.write_text(text)
    with pytest.raises(ConfideError, match=said):
        import_log(path)


def test_scores_need_no_import(tmp_path: Path) -> None:
    path = tmp_path / "scores.csv"
    path.write_text("id,score\na,0.5\n")
    with pytest.raises(ConfideError, match=r"need no import: confide evaluate .*scores\.csv"):
        import_log(path)


def test_a_packed_log_says_how_it_is_unpacked(tmp_path: Path) -> None:
    path = tmp_path / "log.eval"
    with zipfile.ZipFile(path, "w") as packed:
        packed.writestr("header.json", "{}")
    with pytest.raises(ConfideError, match=r"inspect log dump log\.eval"):
        import_log(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfideError, match=r"nothing\.jsonl"):
        import_log(tmp_path / "nothing.jsonl")
