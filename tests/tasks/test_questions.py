from __future__ import annotations

import json
import re
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from confide.errors import ConfideError
from confide.records import Record
from confide.tasks import read_questions
from confide.tasks.graders import grade
from confide.tasks.questions import question_of

ROWS: list[dict[str, object]] = [
    {"id": "a", "kind": "short", "question": "Capital of Peru?", "answer": ["Lima"], "popularity": 7},
    {"id": "b", "kind": "choice", "question": "Which?", "choices": ["x", "y"], "answer": 1, "domain": "d"},
    {"id": "c", "kind": "number", "question": "2 + 2?", "answer": "4"},
    {"id": "d", "kind": "prompt", "question": "Say hello", "label": "harmless"},
    {"id": "e", "kind": "short", "question": "Unanswerable?", "answer": []},
]


def write(path: Path, rows: list[dict[str, object]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_jsonl_keeps_unknown_keys(tmp_path: Path) -> None:
    questions = read_questions(write(tmp_path / "q.jsonl", ROWS))
    assert [question.id for question in questions] == list("abcde")
    assert questions[0].model_dump()["popularity"] == 7
    assert questions[4].answer == []


def test_missing_ids_are_numbered(tmp_path: Path) -> None:
    path = write(tmp_path / "q.jsonl", [{k: v for k, v in row.items() if k != "id"} for row in ROWS])
    assert [question.id for question in read_questions(path)] == [f"q-{n}" for n in range(1, 6)]


def test_csv(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    path.write_text(
        "\ufeffid,kind,question,choices,answer\n"
        '1,choice,"Which, then?",red|green,1\n'
        '2,choice,Which?,"[""a|b"", ""c""]",0\n'
        '3,short,Who?,,"[""Ann"", ""Anna""]"\n'
        '4,short,Who?,,Ann\n5,number,How many?,,"1,000,000"\n6,short,Who knows?,,\n',
        encoding="utf-8",
    )
    one, two, three, four, five, six = read_questions(path)
    assert (one.id, one.choices, one.answer) == ("1", ["red", "green"], 1)
    assert two.choices == ["a|b", "c"]
    assert (three.answer, four.answer, five.answer, six.answer) == (["Ann", "Anna"], ["Ann"], "1,000,000", [])


def test_parquet(tmp_path: Path) -> None:
    path = tmp_path / "q.parquet"
    pq.write_table(
        pa.table(
            {
                "kind": ["short", "short"],
                "question": ["Who?", "Where?"],
                "answer": [["Ann"], ["Lima", "Callao"]],
            }
        ),
        path,
    )
    assert [question.answer for question in read_questions(path)] == [["Ann"], ["Lima", "Callao"]]
    path.write_bytes(b"no parquet")
    with pytest.raises(ConfideError, match="not a Parquet file"):
        read_questions(path)


@pytest.mark.parametrize(
    ("line", "what"),
    [
        ("{", "line 2: not valid JSON"),
        ("[1]", "line 2: a JSON object"),
        ("[" * 100_000, "line 2: not valid JSON"),
        ('{"kind": "riddle", "question": "?", "answer": "4"}', "line 2: kind"),
        ('{"kind": "short", "answer": "4"}', "line 2: question"),
        ('{"kind": "short", "question": "?"}', "line 2: the answer of a short question"),
        (
            '{"kind": "choice", "question": "?", "choices": ["a", "b"], "answer": 2}',
            "line 2: answer 2 is out of range",
        ),
        (
            '{"kind": "choice", "question": "?", "choices": ["a", "b"], "answer": -1}',
            "line 2: answer -1 is out of range",
        ),
        (
            '{"kind": "choice", "question": "?", "choices": ["a", "b"], "answer": "BB"}',
            "line 2: .*index from 0 or a letter from A, not 'BB'",
        ),
        (
            '{"kind": "choice", "question": "?", "choices": ["a"], "answer": 0}',
            "line 2: a choice needs at least 2",
        ),
        ('{"kind": "number", "question": "?", "answer": "many"}', "line 2: .*a number, not 'many'"),
        ('{"kind": "short", "question": "?", "answer": ["x", true]}', "line 2: .*list of accepted strings"),
        ('{"kind": "short", "question": "?", "answer": [null]}', "line 2: .*list of accepted strings"),
        ('{"kind": "short", "question": " ", "answer": "x"}', "line 2: the question is empty"),
    ],
)
def test_bad_line(tmp_path: Path, line: str, what: str) -> None:
    path = tmp_path / "q.jsonl"
    path.write_text(json.dumps(ROWS[0]) + "\n" + line + "\n", encoding="utf-8")
    with pytest.raises(ConfideError, match=f"q.jsonl, {what}"):
        read_questions(path)


def test_bad_files(tmp_path: Path) -> None:
    path = tmp_path / "q.jsonl"
    with pytest.raises(ConfideError, match="does not exist"):
        read_questions(path)
    path.write_text("\n\n", encoding="utf-8")
    with pytest.raises(ConfideError, match="no questions"):
        read_questions(path)
    path.write_bytes(b'{"id": "\xff"}')
    with pytest.raises(ConfideError, match="not UTF-8"):
        read_questions(path)
    write(path, [ROWS[0], ROWS[1], ROWS[0]])
    with pytest.raises(ConfideError, match=r"1 duplicate ids \(a\)"):
        read_questions(path)
    table = tmp_path / "q.csv"
    table.write_text("kind,question,answer\nshort,Who?\n", encoding="utf-8")
    with pytest.raises(ConfideError, match="line 2: fewer values than columns"):
        read_questions(table)
    table.write_text("kind,question,answer\nshort,Who?,a,b\n", encoding="utf-8")
    with pytest.raises(ConfideError, match="line 2: more values than columns"):
        read_questions(table)


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ("1,234", "may be 1234 or 1.234: write its digits without separators"),
        ("(5)", "may be 5 or -5"),
        ("5k", "may be 5 or 5000"),
        ("12.05.2020", "is no number that can be read"),
        ("1,2,3", "is no number that can be read"),
    ],
)
@pytest.mark.parametrize("ending", ["jsonl", "csv", "parquet"])
def test_a_number_with_several_readings_is_refused_by_its_id(
    tmp_path: Path, answer: str, says: str, ending: str
) -> None:
    rows = [
        {"id": name, "kind": "number", "question": "How many?", "answer": text}
        for name, text in (("fine", "3,5"), ("also fine", "1,234,567"), ("q7", answer))
    ]
    path = tmp_path / f"q.{ending}"
    if ending == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), path)
    elif ending == "csv":
        path.write_text(
            "id,kind,question,answer\n" + "".join(f'{",".join(list(r.values())[:3])},"{r["answer"]}"\n' for r in rows)
        )
    else:
        write(path, rows)
    with pytest.raises(
        ConfideError, match=f"(line 4|line 3|row 3): the answer {re.escape(repr(answer))} of the question q7 {says}"
    ):
        read_questions(path)


def test_numbers_of_json_are_clear_and_records_of_before_are_still_graded(tmp_path: Path) -> None:
    rows = [{"kind": "number", "question": "?", "answer": n} for n in (1234, 1.234, 1e21, -0.5, 1e-7)]
    assert len(read_questions(write(tmp_path / "q.jsonl", rows))) == 5
    old = question_of(Record(id="1", kind="number", reference="1,234"))
    assert old is not None
    assert grade(old, "1234").correct is True


HEAD = "id,kind,question,choices,answer\n"


def read(path: Path, text: str) -> list[tuple[list[str] | None, object]]:
    path.write_text(text, encoding="utf-8")
    return [(question.choices, question.answer) for question in read_questions(path)]


def test_accepted_answers_in_a_cell_are_split_and_graded(tmp_path: Path) -> None:
    path = tmp_path / "q.csv"
    text = (
        "1,short,Who wrote Hamlet?,,William Shakespeare|Shakespeare\n2,short,Who?,, Ann | Anna|\n"
        '3,short,Which operator?,,"[""a|b""]"\n4,short,When?,,"[1990, 1990.0]"\n'
    )
    answers = [answer for _, answer in read(path, HEAD + text)]
    assert answers == [["William Shakespeare", "Shakespeare"], ["Ann", "Anna"], ["a|b"], ["1990", "1990"]]
    assert grade(read_questions(path)[0], "Shakespeare").correct is True
    rows = [{"kind": "short", "question": "?", "answer": "a|b"}]
    assert read_questions(write(tmp_path / "q.jsonl", rows))[0].accepted == ["a|b"]  # JSON has lists


def test_the_right_choice_by_number_or_letter(tmp_path: Path) -> None:
    text = "".join(f"{i},choice,Which?,red|green,{answer}\n" for i, answer in enumerate(("1", "1.0", "B", " b ")))
    assert read(tmp_path / "q.csv", HEAD + text) == [(["red", "green"], 1)] * 4
    rows = [{"kind": "choice", "question": "?", "choices": ["x", "y"], "answer": a} for a in (1, 1.0, "1", "B")]
    assert [question.answer for question in read_questions(write(tmp_path / "q.jsonl", rows))] == [1, 1, 1, 1]
    text = "1,choice,How many?,1|2|3,B\n2,choice,How many?,0|1|2,1\n3,choice,How many?,5|6,1\n"
    assert [answer for _, answer in read(tmp_path / "q.csv", HEAD + text)] == [1, 1, 1]
    rows = [{"kind": "choice", "question": "?", "choices": [1, 2.0, 3], "answer": 1}]  # a number is an index
    (question,) = read_questions(write(tmp_path / "q.jsonl", rows))
    assert (question.choices, question.answer) == (["1", "2", "3"], 1)


def test_accepted_numbers_are_texts(tmp_path: Path) -> None:
    rows = [{"kind": "short", "question": "?", "answer": answer} for answer in ([1990, "x"], [2.0, 0.5], 7)]
    questions = read_questions(write(tmp_path / "q.jsonl", rows))
    assert [question.accepted for question in questions] == [["1990", "x"], ["2", "0.5"], ["7"]]
    pq.write_table(pa.table({"kind": ["short"], "question": ["?"], "answer": [[1990.0, 4.0]]}), tmp_path / "q.parquet")
    assert read_questions(tmp_path / "q.parquet")[0].accepted == ["1990", "4"]


def test_a_name_that_is_none(tmp_path: Path) -> None:
    text = "id,kind,question,answer,domain,entity\n1,short,Who?,null,NaN,null\n2,short,Who?,NaN,d,Nan\n"
    (tmp_path / "q.csv").write_text(text)
    rows = [{"kind": "short", "question": "?", "answer": "x", "domain": None, "entity": None}]
    assert read_questions(write(tmp_path / "q.jsonl", rows))[0].domain == ""
    first, second = read_questions(tmp_path / "q.csv")
    assert (first.domain, first.entity, first.accepted) == ("", None, ["null"])
    assert (second.domain, second.entity, second.accepted) == ("d", "Nan", ["NaN"])


def test_a_column_with_gaps_makes_no_other_answers(tmp_path: Path) -> None:
    columns = {
        "id": [1.0, 2.0, 3.0],
        "kind": ["short", "choice", "number"],
        "question": ["When?", "Which?", "How many?"],
        "choices": [None, ["x", "y"], None],
        "answer": [1990.0, 1.0, 4.0],
        "domain": [None, "d", None],
    }
    pq.write_table(pa.table(columns), tmp_path / "q.parquet")
    questions = read_questions(tmp_path / "q.parquet")
    assert [question.id for question in questions] == ["1", "2", "3"]
    assert [question.answer for question in questions] == [["1990"], 1, "4.0"]
    assert [question.domain for question in questions] == ["", "d", ""]


def test_semicolons_and_arrays(tmp_path: Path) -> None:
    text = "id;kind;question;answer\n1;number;How many, then?;3,5\n2; short ;Who?;\n"
    assert read(tmp_path / "q.csv", text) == [(None, "3,5"), (None, [])]
    assert read(tmp_path / "q.json", json.dumps(ROWS[:2])) == [(None, ["Lima"]), (["x", "y"], 1)]


@pytest.mark.parametrize(
    ("row", "what"),
    [
        ("1,choice,Which?,red|green,C", "line 2: answer 2 is out of range"),
        ("1,choice,Which?,B|A,B", "line 2: the answer B may be a letter or the text of a choice"),
        ("1,choice,Which?,b|a,B", "line 2: the answer B may be a letter or the text of a choice"),
        ("1,choice,How many?,1|2|3,2", "line 2: the answer 2 may be an index or the text of a choice: give its letter"),
        ("1,choice,How many?,1|0,1.0", "line 2: the answer 1.0 may be an index or the text of a choice"),
        ("1,short,Who?,,|", "line 2: answer: all of its accepted texts are empty"),
        ('1,short,Who?,,"[true]"', "line 2: .*no JSON list of strings"),
        ("1,short,Who?,," + "[" * 100_000 + "]" * 100_000, "line 2: .*no JSON list of strings"),
        ('1,short,Who?,,"[""\\ud83d""]"', "line 2: .*no JSON list of strings"),
        ("1,choice,Which?,red||green,1", "line 2: choices: one of them is empty"),
        ("1,choice,Which?,red|green,green", "line 2: .*an index from 0 or a letter from A, not 'green'"),
        ("1,short,Who?,,\"['Ann', 'Anna']\"", "line 2: .*no JSON list of strings"),
        ('1,choice,Which?,"[red, green]",1', "line 2: .*no JSON list of strings"),
    ],
)
def test_a_bad_cell(tmp_path: Path, row: str, what: str) -> None:
    with pytest.raises(ConfideError, match=what):
        read(tmp_path / "q.csv", HEAD + row + "\n")


@pytest.mark.parametrize(
    "text", ["5\n", "null\n", '{"kind": "short", "question": "?", "answer": "x"}\n{"id": "1", "ki']
)
def test_a_question_file_is_nothing_that_a_kill_cut_off(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfideError, match=r"line [12]: "):
        read(tmp_path / "q.jsonl", text)


def test_a_reference_may_be_an_object_of_values(tmp_path: Path) -> None:
    row = {"id": "a", "kind": "fields", "question": "Who?", "answer": {"name": "Ann", "year": None}}
    assert read_questions(write(tmp_path / "q.jsonl", [row]))[0].answer == row["answer"]
    table = tmp_path / "q.csv"
    table.write_text('id,kind,question,answer\na,fields,Who?,"{""name"": ""Ann"", ""year"": null}"\n')
    assert read_questions(table)[0].answer == row["answer"]


@pytest.mark.parametrize(
    ("answer", "problem"),
    [({}, "an object of the right values"), (["Ann"], "an object of"), (None, "an object"), (7, "an object")],
)
def test_a_question_for_fields_needs_such_an_object(tmp_path: Path, answer: object, problem: str) -> None:
    row = {"id": "a", "kind": "fields", "question": "Who?", "answer": answer}
    with pytest.raises(ConfideError, match=problem):
        read_questions(write(tmp_path / "q.jsonl", [row]))
    table = tmp_path / "q.csv"
    table.write_text('id,kind,question,answer\na,fields,Who?,"{""name"": "\n')
    with pytest.raises(ConfideError, match="answer: not valid JSON"):
        read_questions(table)
