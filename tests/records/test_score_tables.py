from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from confide.errors import ConfideError
from confide.records import ScoreColumns, read_scores
from confide.records.score_tables import numbered

MAPPED = ScoreColumns("score", "label")
ROWS = [{"score": 0.9, "label": 1}, {"score": 0.2, "label": 0}, {"score": None, "label": 1}]


def table(path: Path, ending: str) -> Path:
    file = path / f"s.{ending}"
    if ending == "csv":
        file.write_text("score,label\n0.9,1\n0.2,0\n,1\n")
    elif ending == "jsonl":
        file.write_text("".join(json.dumps(row) + "\n" for row in ROWS))
    elif ending == "json":
        file.write_text(json.dumps(ROWS))
    else:
        pq.write_table(pa.Table.from_pylist(ROWS), file)
    return file


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet"])
def test_every_kind_of_file_is_read_by_its_columns(tmp_path: Path, ending: str) -> None:
    found = read_scores(table(tmp_path, ending), MAPPED)
    assert [(row.confidence, row.correct) for row in found] == [
        ({"score": 0.9}, True),
        ({"score": 0.2}, False),
        ({"score": None}, True),
    ]
    assert len({row.id for row in found}) == 3


@pytest.mark.parametrize("ending", ["csv", "jsonl", "json", "parquet"])
def test_without_flags_the_error_lists_columns_and_flags(tmp_path: Path, ending: str) -> None:
    with pytest.raises(ConfideError, match=r"Its columns are score, label.*--confidence-column and --correct-column"):
        read_scores(table(tmp_path, ending), ScoreColumns())


def test_ids_are_made_up_differently_for_every_file(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("score,label\n0.5,1\n0.5,1\n")
    (tmp_path / "b.csv").write_text("score,label\n0.5,1\n0.6,1\n")
    a, b = ([row.id for row in read_scores(tmp_path / name, MAPPED)] for name in ("a.csv", "b.csv"))
    assert len({*a, *b}) == 4
    assert a == [row.id for row in read_scores(tmp_path / "a.csv", MAPPED)]


def test_ids_further_columns_and_several_confidences(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("key;p;margin;ok;domain;note\n7;0,5;-3,25;Correct;law;x\n8;0,6;nan;wrong;tax;y\n")
    first, second = read_scores(tmp_path / "a.csv", ScoreColumns("p, margin", "ok", "key"))
    assert (first.id, first.confidence, first.correct, first.domain) == ("7", {"p": 0.5, "margin": -3.25}, True, "law")
    assert (second.confidence, second.correct) == ({"p": 0.6, "margin": None}, False)
    one = read_scores(tmp_path / "a.csv", ScoreColumns("p", "ok"), source="stack")
    assert [row.confidence for row in one] == [{"stack": 0.5}, {"stack": 0.6}]


@pytest.mark.parametrize(
    ("text", "columns", "says"),
    [
        ("score,label\n0.9,maybe\n", MAPPED, r"line 2: label: 'maybe' is neither true nor false \(yes, no, 1, 0"),
        ("score,label\n0.9,2\n", MAPPED, "line 2: label: '2' is neither"),
        ("score,label\n0.9,1\nhigh,1\n", MAPPED, "line 3: score: 'high' is no number"),
        ("score,label\ninf,1\n", MAPPED, "line 2: score: 'inf' is no number"),
        ("score,label\n", MAPPED, "has no records"),
        ("", MAPPED, "has no records"),
        ("a,b\n1,2\n", MAPPED, "has no column `score`, for --confidence-column; its columns are a, b"),
        ("score,b\n1,2\n", MAPPED, "has no column `label`, for --correct-column; its columns are score, b"),
        ("score,label\n1,1\n", ScoreColumns("score", "label", "key"), "no column `key`, for --id-column"),
        ("id,score,label\na,1,1\na,0,1\n", MAPPED, r"1 duplicate ids \(a\); every row takes an id of its own"),
        ("id,score,label\n,1,1\n", MAPPED, "line 2: id: this row has no id"),
        ("score,label\n1,1\n", ScoreColumns("score,score"), "names score twice"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, text: str, columns: ScoreColumns, says: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    with pytest.raises(ConfideError, match=says):
        read_scores(tmp_path / "s.csv", columns)


def test_labels_that_nobody_named_may_be_missing(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("score\n0.5\n")
    (row,) = read_scores(tmp_path / "s.csv", ScoreColumns("score"))
    assert row.correct is None


def test_known_names_need_no_flags(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,confidence,correct\na,0.5,1\n")
    (row,) = read_scores(tmp_path / "s.csv", ScoreColumns())
    assert (row.id, row.confidence, row.correct) == ("a", {"given": 0.5}, True)


def test_an_unknown_confidence_beside_an_id_is_pointed_at(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("id,p,correct\na,0.5,1\n")
    with pytest.raises(ConfideError, match=r"holds no confidence that is known by its name\. Its columns are id, p"):
        read_scores(tmp_path / "s.csv", ScoreColumns())


def test_csv_is_read_without_parquet_or_torch(tmp_path: Path) -> None:
    (tmp_path / "s.csv").write_text("score,label\n0.5,1\n")
    code = (
        "import sys; from pathlib import Path; from confide.records import ScoreColumns, read_scores;"
        "read_scores(Path(sys.argv[1]), ScoreColumns('score', 'label'));"
        "assert not {'pyarrow', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "s.csv")], check=True)


@pytest.mark.parametrize(
    "text",
    ["qid,confidence,correct\n7,0.5,1\n8,0.4,0\n", '{"confidence": 0.5, "correct": true}\n{"confidence": 0.4}\n'],
)
def test_known_names_without_ids_are_numbered(tmp_path: Path, text: str) -> None:
    (tmp_path / "s.csv").write_text(text)
    rows = read_scores(tmp_path / "s.csv", ScoreColumns())
    assert [row.confidence for row in rows] == [{"given": 0.5}, {"given": 0.4}]
    assert [row.id.rpartition("-")[2] for row in rows] == ["1", "2"]
    assert numbered(rows)
    assert not numbered(rows[1:])


def test_an_id_that_one_row_lacks_is_no_reason_to_number(tmp_path: Path) -> None:
    (tmp_path / "s.jsonl").write_text('{"confidence": 0.5}\n{"id": "a", "confidence": 0.4}\n')
    with pytest.raises(ConfideError, match="line 1: id"):
        read_scores(tmp_path / "s.jsonl", ScoreColumns())
