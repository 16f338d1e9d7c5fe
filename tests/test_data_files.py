"""Data files: what they are is told by their ending and their content, and what is wrong with them by its line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from confide.data_files import bar_list, cell_list, read_table
from confide.errors import ConfideError


def rows(path: Path) -> list[dict[str, Any]]:
    return [row for _, row in read_table(path).rows]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.jsonl", '{"id": 1}\n{"id": 2}\n'),
        ("a.jsonl", '\ufeff{"id": 1}\r\n\r\n{"id": 2}'),
        ("a.json", '[{"id": 1},\n {"id": 2}]\n'),
        ("a.jsonl", '[{"id": 1}, {"id": 2}]'),
        ("a.csv", '{"id": 1}\n{"id": 2}\n'),
        ("a", '{"id": 1}\n{"id": 2}\n'),
    ],
)
def test_json_by_ending_or_content(tmp_path: Path, name: str, text: str) -> None:
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert rows(tmp_path / name) == [{"id": 1}, {"id": 2}]


def test_parquet_by_content(tmp_path: Path) -> None:
    for name in ("a.parquet", "a.PQ", "a.jsonl", "a"):
        pq.write_table(pa.table({"id": [1, 2]}), tmp_path / name)
        assert rows(tmp_path / name) == [{"id": 1}, {"id": 2}]


def test_csv_whose_cells_hold_other_delimiters(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_text('"a;b;c;d",x\n"1\n2","3;4"\n')
    assert rows(path) == [{"a;b;c;d": "1\n2", "x": "3;4"}]
    path.write_text("a\n1\n")  # one column
    assert rows(path) == [{"a": "1"}]
    path.write_text(f"a,b\n{'x' * 200_000},y\n")  # beyond the limit of Python's reader
    assert len(rows(path)[0]["a"]) == 200_000


@pytest.mark.parametrize(
    ("name", "content", "sentence"),
    [
        ("a.parquet", b"text", "a.parquet is not a Parquet file"),
        ("a.parquet", b"PAR1text", "a.parquet is not a Parquet file"),
        ("a.json", b'[{"id": 1}, 5]', "item 2: a JSON object is wanted, not a number"),
        ("a.json", b'[{"id": 1}\n {"id": 2}]', "not valid JSON .*line 2"),
        ("a.json", b"5", "line 1: a JSON object is wanted, not a number"),
        ("a.jsonl", b'{"id": 1}\nnonsense\n', "line 2: not valid JSON"),
        ("a.jsonl", "{}".encode("utf-16"), "UTF-16"),
        ("a.jsonl", "{}\n".encode("utf-16-le"), "line 1: a NUL byte"),
        ("a.jsonl", b'{"a": "\xff"}', "not UTF-8 text"),
    ],
)
def test_a_broken_file_is_one_sentence(tmp_path: Path, name: str, content: bytes, sentence: str) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfideError, match=sentence) as refused:
        rows(tmp_path / name)
    assert "\n" not in str(refused.value)


def test_what_cannot_be_read_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfideError, match=r"a\.parquet does not exist"):
        read_table(tmp_path / "a.parquet")
    with pytest.raises(ConfideError, match="is a folder"):
        read_table(tmp_path)


def test_lists_in_cells() -> None:
    assert bar_list(" a | b ") == ["a", "b"]
    assert bar_list(' ["a|b", 1990, 2.0]') == ["a|b", "1990", "2"]
    assert cell_list("[a") is None
    for text in ("['a', 'b']", "[a]", '["a", null]', '[["a"]]'):
        with pytest.raises(ValueError, match="no JSON list of strings"):
            cell_list(text)
