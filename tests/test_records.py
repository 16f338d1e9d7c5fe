"""Records: nothing lost, nothing guessed, bad lines named."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import ConfideError
from confide.records import Record, RecordWriter, parse_lines, read_records, write_records


def test_foreign_records_may_be_small() -> None:
    record = Record.model_validate({"id": 7, "confidence": 0.8, "correct": True, "mine": [1]})
    assert record.id == "7"
    assert record.confidence == {"given": 0.8}
    assert '"mine": [1]' in record.line()


@given(st.text(max_size=40), st.dictionaries(st.text(max_size=5), st.none() | st.floats(0, 1)))
def test_a_line_reads_back(answer: str, confidence: dict[str, float | None]) -> None:
    record = Record(id="x", answer=answer, correct=None, confidence=confidence)
    assert "\n" not in record.line()
    assert Record.model_validate_json(record.line()) == record


def test_confidence_added_later_is_written() -> None:
    record = Record(id="x")
    record.confidence["stack"] = 0.5
    assert Record.model_validate_json(record.line()).confidence == {"stack": 0.5}


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet"])
def test_files_round_trip(tmp_path: Path, name: str) -> None:
    rows = [Record(id=str(i), answer="é\u2028", correct=i % 2 == 0, extra={"a": i}) for i in range(5)]  # type: ignore[call-arg]
    write_records(tmp_path / name, rows)
    assert [r.line() for r in read_records(tmp_path / name)] == [r.line() for r in rows]


def test_a_half_written_last_line_is_repaired_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    whole = "".join(Record(id=str(i), answer="ü").line() + "\n" for i in range(3))
    path.write_text(whole + '{"id": "3", "answ')
    with RecordWriter(path) as writer:
        assert [r.id for r in writer.done] == ["0", "1", "2"]
        writer.write([Record(id="3")])
    assert [r.id for r in read_records(path)] == ["0", "1", "2", "3"]
    path.write_bytes(whole.encode() + '{"id": "3", "answer": "ü'.encode()[:-1])  # cut inside a character
    with RecordWriter(path) as writer:
        assert len(writer.done) == 3
        writer.write([Record(id="3")])
    assert [r.id for r in read_records(path)] == ["0", "1", "2", "3"]
    path.write_text(whole.rstrip("\n"))  # whole, but its line end is missing
    with RecordWriter(path) as writer:
        writer.write([Record(id="3")])
    assert [r.id for r in read_records(path)] == ["0", "1", "2", "3"]


@pytest.mark.parametrize(
    ("content", "sentence"),
    [
        (b'{"id": "1"}\n{"id": 2, "correct": "perhaps"}\n', "line 2: correct"),
        (b'{"id": "1"}\nnonsense\n{"id": "2"}\n', "line 2"),
        (b'{"id": "1"}\n{"id": "1"}\n', "1 duplicate ids \\(1\\)"),
        (b"", "no records"),
        (b'{"id": "\xff"}\n', "not UTF-8"),
    ],
)
def test_bad_files_are_named(tmp_path: Path, content: bytes, sentence: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_bytes(content)
    with pytest.raises(ConfideError, match=sentence):
        read_records(path)


def test_a_confidence_that_is_no_number_is_not_available() -> None:
    record = parse_lines('{"id": "a", "confidence": {"given": NaN, "stack": 0.5}}', "r.jsonl")[0]
    assert record.confidence == {"given": None, "stack": 0.5}
    assert "NaN" not in record.line()
