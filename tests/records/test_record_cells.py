"""Records in tables of other systems: one meaning for every column, in CSV and in Parquet."""

from __future__ import annotations

import csv
import datetime
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from confide.errors import ConfideError
from confide.records import Record, read_records
from question_turns import CALL, PARTS, TOOL


def read(path: Path, text: str) -> list[Record]:
    path.write_text(text, encoding="utf-8")
    return read_records(path)


def told(records: list[Record]) -> list[tuple[str, bool | None, dict[str, float | None]]]:
    return [(record.id, record.correct, record.confidence) for record in records]


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("r.csv", "id,confidence,correct\n7,0.93,true\n8,,no\n"),
        ("r.csv", "\ufeffid;confidence;correct\r\n7;0,93;yes\r\n8;nan;0\r\n"),
        ("r.tsv", "id\tscore\tlabel\n7\t0.93\t1\n\n8\tNA\tFalse\n"),
        ("r.csv", " id , score , label \n7, 0.93 , 1.0\n8, , 0.0\n"),
        ("r.txt", "id;score;label\n7;.93;TRUE\n8;null;n/a\n"),
    ],
)
def test_scores_in_csv(tmp_path: Path, name: str, text: str) -> None:
    first, second = told(read(tmp_path / name, text))
    assert first == ("7", True, {"given": 0.93})
    assert second == ("8", None if "n/a" in text else False, {"given": None})


def test_a_column_per_source(tmp_path: Path) -> None:
    (record,) = read(
        tmp_path / "r.csv", "id,confidence.mine,stack,logprob_sum,probe@closing,score,note\na,0.5,0.25,-1.5,0.1,9,x\n"
    )
    assert record.confidence == {"mine": 0.5, "stack": 0.25, "logprob_sum": -1.5, "probe@closing": 0.1}
    assert record.model_extra == {"score": "9", "note": "x"}


def test_rows_without_a_name_share_no_entity(tmp_path: Path) -> None:
    rows = read(tmp_path / "r.csv", "id,entity,domain,split,answer\n1,NaN,NULL,nan,null\n2,null,None,test,NaN\n")
    assert [row.cluster for row in rows] == ["1", "2"]
    assert [(row.domain, row.split, row.answer) for row in rows] == [("", None, "null"), ("None", "test", "NaN")]


def test_a_reading_in_cells(tmp_path: Path) -> None:
    rows = read(tmp_path / "r.csv", "id,reading,read_by\n1,-1.25,0700fe80\n2,,\n")
    assert [(row.reading, row.read_by) for row in rows] == [(-1.25, "0700fe80"), (None, "")]


def test_fields_of_a_record_in_cells(tmp_path: Path) -> None:
    with open(tmp_path / "r.csv", "w", newline="", encoding="utf-8") as handle:
        writer = csv.writer(handle)
        columns = ["id", "kind", "split", "choices", "reference", "answer", "messages", "logprobs", "familiarity"]
        writer.writerow(columns)
        writer.writerow(
            ["1", " short", "test ", "", "Ann|Anna", " Ann", '[{"role": "user", "content": "?"}]', "[-1]", "0.5"]
        )
        writer.writerow(["2", "choice", "", "a|b", "1", "b", "", "", ""])
    one, two = read_records(tmp_path / "r.csv")
    assert (one.kind, one.split, one.reference, one.answer) == ("short", "test", ["Ann", "Anna"], " Ann")
    assert (one.question, one.logprobs, one.familiarity) == ("?", [-1.0], 0.5)
    assert (two.choices, two.reference, two.split) == (["a", "b"], "1", None)


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("id,score,label\n1,0.5,1\n2,0.5,maybe\n", "line 3: label: 'maybe' is neither true nor false"),
        ("id,score,correct\n1,0.5,2\n", "line 2: correct: '2' is neither true nor false"),
        ("id,score\n1,high\n", "line 2: score: 'high' is no number"),
        ("id,score\n1,inf\n", "line 2: score: 'inf' is no number"),
        ("id,score\n1,1e400\n", "line 2: confidence.given: .*finite"),
        ('id,score\n1,"0,93"\n', "line 2: score: '0,93' is no number"),
        ("id,stack\n1,1_0\n", "line 2: stack: '1_0' is no number"),
        ("id,confidence.x,confidence.x\n1,1,1\n", "line 1: the column confidence.x occurs twice"),
        ("id,confidence,confidence.given\n1,1,1\n", "confidence and confidence.given both hold the confidence given"),
        ("id,,score\n1,1,1\n", "line 1: column 2 has no name"),
        ("id,score\n1,1,1\n", r"line 2: more values than columns \(3 and 2\)"),
        ("id,score,label\n1,1\n", "line 2: fewer values than columns"),
        ('id,score\n"1,0.5\n', "line 2: not valid CSV"),
        ("score,label\n1,1\n", "no column `id`; there is score, label"),
        ("id,score\n,0.5\n", "line 2: id: Field required"),
        ("id,messages\n1,[{\n", "line 2: messages: not valid JSON"),
        ("id,messages\n1," + "[" * 100_000 + "\n", "line 2: messages: not valid JSON .nested too deeply"),
        ("id,choices\n1," + "[" * 100_000 + "]" * 100_000 + "\n", "line 2: choices: .* no JSON list of strings"),
        ('id,samples\n1,"[{""answer"": ""\\ud83d""}]"\n', "line 2: samples: .*half of a character"),
        ('id,choices\n1,"[""\\ud83d""]"\n', "line 2: choices: .* no JSON list of strings"),
        ('id,cost\n1,"{""a"": {}, ""a"": {}}"\n', "line 2: cost: not valid JSON .the key a occurs twice"),
        ('id,scored_by\n1,"{""a"": Infinity}"\n', "line 2: scored_by: not valid JSON .Infinity is no number"),
        ("id,record\n1,x\n", "line 2: not valid JSON"),
        ("id,record\n1,\n", "line 2: record: a record as JSON text is wanted"),
        ("id,split\n1,holdout\n", "line 2: split: "),
        ("id,score\n1,1\n1,1\n", r"1 duplicate ids \(1\)"),
        ("id,score\n", "has no records"),
        ("id,score\n1,0.\0\n", "line 2: a NUL byte"),
    ],
)
def test_a_bad_cell_is_named(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(ConfideError, match=sentence) as refused:
        read(tmp_path / "r.csv", text)
    assert "\n" not in str(refused.value)


def test_utf_16_is_told(tmp_path: Path) -> None:
    (tmp_path / "r.csv").write_bytes("id,score\n1,0.5\n".encode("utf-16"))
    with pytest.raises(ConfideError, match="UTF-16 text, not UTF-8: save it"):
        read_records(tmp_path / "r.csv")


def parquet(path: Path, columns: dict[str, Any]) -> list[Record]:
    pq.write_table(pa.table(columns), path)
    return read_records(path)


def test_every_type_of_parquet(tmp_path: Path) -> None:
    columns = {
        "id": pa.array([1, 2], pa.int64()),
        "confidence": pa.array([Decimal("0.25"), None], pa.decimal128(5, 2)),
        "correct": [1, 0],
        "stack": [float("nan"), 0.5],
        "entity": [7, None],
        "day": [datetime.date(2020, 1, 31), None],
        "at": pa.array([1, None], pa.timestamp("ns", "UTC")),
        "raw": [b"text", b"\xff"],
        "took": pa.array([datetime.timedelta(seconds=2), None]),
        "of": pa.array(["x", "y"]).dictionary_encode(),
    }
    one, two = parquet(tmp_path / "r.parquet", columns)
    assert told([one, two]) == [
        ("1", True, {"given": 0.25, "stack": None}),
        ("2", False, {"given": None, "stack": 0.5}),
    ]
    assert (one.entity, two.entity) == ("7", None)
    day, at = "2020-01-31", "1970-01-01T00:00:00+00:00"
    assert one.model_extra == {"day": day, "at": at, "raw": "text", "took": 2.0, "of": "x"}
    assert two.model_extra == {"raw": "/w==", "of": "y"}
    assert Record.model_validate_json(one.line()) == one


def test_nested_columns_and_numbers_that_gaps_made_floats(tmp_path: Path) -> None:
    columns = {"id": [1.0, 2.0], "confidence": [{"stack": 0.5}, {"stack": None}], "correct": [1.0, None]}
    columns |= {"messages": [[{"role": "user", "content": "?"}], None]}
    one, two = parquet(tmp_path / "r.parquet", columns)
    assert told([one, two]) == [("1", True, {"stack": 0.5}), ("2", None, {"stack": None})]
    assert (one.question, two.question) == ("?", "")


@pytest.mark.parametrize(
    ("columns", "sentence"),
    [
        ({"id": ["a", "b"], "confidence": [0.5, float("inf")]}, "row 2: confidence: inf is no number"),
        ({"id": ["a", "b"], "correct": [1, 2]}, "row 2: correct: 2 is neither true nor false"),
        ({"id": ["a", None], "correct": [1, 0]}, "row 2: id: Field required"),
        ({"id": ["a"], "record": [5]}, "row 1: record: a record as JSON text is wanted"),
        ({"id": ["a"], "record": [{"id": "a"}]}, "row 1: record: a record as JSON text is wanted"),
        ({"id": ["a"], "stack": [True]}, "row 1: stack: True is no number"),
        ({"name": ["a"]}, "no column `id`; there is name"),
        ({"id": pa.array([], pa.string())}, "has no records"),
        ({}, "no column `id`"),
    ],
)
def test_a_bad_row_of_parquet_is_named(tmp_path: Path, columns: dict[str, Any], sentence: str) -> None:
    with pytest.raises(ConfideError, match=sentence):
        parquet(tmp_path / "r.parquet", columns)


def test_a_column_that_occurs_twice_in_parquet(tmp_path: Path) -> None:
    arrays = [pa.array(["a"]), pa.array([0.5]), pa.array([0.7])]
    pq.write_table(pa.Table.from_arrays(arrays, ["id", "score", "score"]), tmp_path / "r.parquet")
    with pytest.raises(ConfideError, match="the column score occurs twice"):
        read_records(tmp_path / "r.parquet")


@pytest.mark.parametrize("ending", ["csv", "parquet"])
def test_conversations_in_cells_keep_their_turns_and_who_graded(tmp_path: Path, ending: str) -> None:
    row = {"id": "a", "messages": json.dumps(TOOL), "own_turns": 4.0, "graded_by": " mine:f ", "grade_error": "x"}
    other = {"id": "b", "messages": json.dumps(PARTS), "own_turns": None, "graded_by": None, "grade_error": None}
    path = tmp_path / f"r.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist([row, other]), path)
    else:
        with path.open("w", newline="") as file:
            table = csv.DictWriter(file, list(row))
            table.writeheader()
            table.writerows([row, other])
    one, two = read_records(path)
    assert (one.own_turns, one.graded_by, one.grade_error) == (4, "mine:f", "x")
    assert (one.messages[1].model_extra or {})["tool_calls"] == [CALL]
    assert (two.own_turns, two.graded_by, two.grade_error) == (None, "", None)
    assert two.question == "Passage: Lyon.\nWhere is it?"


@pytest.mark.parametrize(
    ("messages", "told"),
    [
        ('[{"role": "user", "content": [{"type": "image_url"}]}]', "messages.0: content: only text can be asked"),
        ('[{"role": "user", "content": null}]', "messages.0.content: Field required"),
        ('[{"content": "x"}]', "messages.0.role: Field required"),
    ],
)
def test_a_turn_that_is_no_text_is_refused_by_its_place(tmp_path: Path, messages: str, told: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text(f'{{"id": "a", "messages": {messages}}}\n')
    with pytest.raises(ConfideError, match=f"line 1: {told}"):
        read_records(path)
    path.write_text('{"id": "a", "own_turns": 0}\n')
    with pytest.raises(ConfideError, match="line 1: own_turns: "):
        read_records(path)


def test_verdicts_of_a_judge_in_cells(tmp_path: Path) -> None:
    rows = read(tmp_path / "r.csv", "id,judged,judged_by,correct\na,yes, big ,\nb,0,big,1\nc,,,no\n")
    assert [(r.judged, r.judged_by, r.correct) for r in rows] == [
        (True, "big", None),
        (False, "big", True),
        (None, "", False),
    ]
    with pytest.raises(ConfideError, match="line 2: judged: 'perhaps' is neither true nor false"):
        read(tmp_path / "r.csv", "id,judged\na,perhaps\n")
