"""Records: nothing lost, nothing guessed, bad lines named."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import ConfideError
from confide.records import Record, RecordWriter, half_written, parse_lines, read_records, write_records


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
    path.write_text('{"id": "0"}')  # one line without its end
    with RecordWriter(path) as writer:
        assert [r.id for r in writer.done] == ["0"]
        writer.write([Record(id="1")])
    assert path.read_text() == '{"id": "0"}\n{"id": "1"}\n'


@pytest.mark.parametrize(
    "line", ['{"id": "3", "answ', '{"id": "3", "correct": tr', "{", '{"id": "3", "a": [1, {"b": -']
)
def test_a_cut_line_of_our_own_is_left_out_and_said(
    tmp_path: Path, line: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "0"}\n' + line)
    assert [r.id for r in read_records(path)] == ["0"]
    assert half_written(path)
    assert caplog.messages == [f"{path}: the half-written last line is left out"]
    with RecordWriter(path) as writer:
        assert path.read_text() == '{"id": "0"}\n' + line  # whose file it is may still turn out
        writer.write([Record(id="1")])
        writer.write([Record(id="2")])
    assert caplog.messages[1:] == [f"{path}: the half-written last line is cut off"]
    assert path.read_text() == '{"id": "0"}\n{"id": "1"}\n{"id": "2"}\n'


@pytest.mark.parametrize(
    "line",
    [
        '{"id": "1", "correct": "perhaps"}',
        '{"id": "1", nonsense',
        '{"id": "1", "answ\n',
        '{"answer": "x", "id": "1',
        "5",
        "null",
        '"text"',
        "[1]",
        "true",
    ],
)
def test_a_last_line_that_is_bad_but_not_cut_is_refused_and_never_erased(tmp_path: Path, line: str) -> None:
    path = tmp_path / "r.jsonl"
    for before in ('{"id": "0"}\n', ""):
        path.write_text(before + line)
        with pytest.raises(ConfideError, match=r"r\.jsonl.*(line|item) "):
            read_records(path)
        with pytest.raises(ConfideError, match=r"r\.jsonl.*(line|item) "):
            RecordWriter(path)
        assert path.read_text() == before + line


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("5", "line 2: a JSON object is wanted, not a number"),
        ("[1]", "line 2: a JSON object is wanted, not a list"),
        ("null", "line 2: a JSON object is wanted, not null"),
        ('"x"', "line 2: a JSON object is wanted, not a string"),
        ('{"id": "a", "id": "b"}', "line 2: not valid JSON .the key id occurs twice"),
        ('{"id": "a", "mine": {"k": 1, "k": 2}}', "line 2: not valid JSON .the key k occurs twice"),
        ('{"id": "a", "confidence": Infinity}', "line 2: not valid JSON .Infinity is no number"),
        ('{"id": "a", "confidence": 1e999}', "line 2: confidence.given: .*finite"),
        ('{"id": "a", "logprobs": [-1, 1e999]}', "line 2: logprobs.1: .*finite"),
        ('{"id": "a", "mine": [1e999]}', "line 2: mine: an infinite number"),
        ('{"id": "a", "chat_template_kwargs": {"k": 1e999}}', "line 2: chat_template_kwargs: an infinite number"),
        ('{"id": "a", "reference": [1e999]}', "line 2: reference: an infinite number"),
        ('{"id": "a", "sampled_with": {"temperature": 1e999}}', "line 2: sampled_with: an infinite number"),
        ('{"id": "a", "answer": "\\ud800"}', "line 2: .*half of a character"),
        ('{"id": true}', "line 2: id: "),
        ('{"id": "a", "confidence": {"stack": true}}', "line 2: confidence: stack is true or false"),
        ('{"id": ' + "9" * 5000 + "}", "line 2: .*too many digits"),
        ("[" * 100_000, "line 2: .*nested too deeply"),
        ('{"id": "a\0"}', "line 2: a NUL byte"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, sentence: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "0"}\n' + line + '\n{"id": "2"}\n')
    with pytest.raises(ConfideError, match=sentence) as refused:
        read_records(path)
    assert "\n" not in str(refused.value)
    with pytest.raises(ConfideError, match=sentence):
        RecordWriter(path)


def test_null_is_not_available(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    names = ("confidence", "answer", "domain", "messages", "correct", "reference", "split", "mine", "cost")
    null = ", ".join(f'"{name}": null' for name in names)
    path.write_text(f'{{"id": "0", {null}}}\n{{"id": "1", "confidence": NaN}}\n{{"id": "2", "confidence": 0.5}}\n')
    first, second, third = read_records(path)
    assert (first.answer, first.domain, first.messages, first.correct) == ("", "", [], None)
    assert first.model_extra == {"mine": None}
    assert [row.confidence for row in (first, second, third)] == [{"given": None}, {"given": None}, {"given": 0.5}]


@pytest.mark.parametrize("line", ['{"id": "1"}{"id": "2"}', '{"id": "1"}x', '{"id": "1"},', '{"id": "1"}{"id": "2'])
def test_whole_rows_without_a_line_end_between_them_are_never_erased(tmp_path: Path, line: str) -> None:
    path = tmp_path / "r.jsonl"
    path.write_text('{"id": "0"}\n' + line)
    assert not half_written(path)
    with pytest.raises(ConfideError, match="line 2: not valid JSON"):
        read_records(path)
    with pytest.raises(ConfideError, match="line 2: not valid JSON"):
        RecordWriter(path)
    assert path.read_text() == '{"id": "0"}\n' + line


def test_what_is_no_json_lines_is_not_appended_to(tmp_path: Path) -> None:
    path = tmp_path / "r.json"
    for text in ('[{"id": "0"}]', '\ufeff[{"id": "0"}]', '\ufeff\n [{"id": "0"}]', "id,confidence\n0,0.5\n", "[]"):
        one = path if "[" in text else path.with_suffix(".txt")
        one.write_text(text, encoding="utf-8")
        with pytest.raises(ConfideError, match="nothing can be appended"), RecordWriter(one) as writer:
            writer.write([Record(id="1")])
        assert one.read_text(encoding="utf-8") == text
    for name in ("r.parquet", "r.csv"):
        with pytest.raises(ConfideError, match=r"give --out a \.jsonl file"):
            RecordWriter(tmp_path / name)
    with pytest.raises(ConfideError, match=r"should end in \.jsonl or \.parquet"):
        write_records(tmp_path / "r.csv", [Record(id="0")])


def test_a_full_disk_is_one_sentence_and_the_run_goes_on_later(tmp_path: Path) -> None:
    path = tmp_path / "r.jsonl"
    code = (
        "import resource; from confide.records import Record, RecordWriter\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100, 100))\n"
        f"from pathlib import Path\nwith RecordWriter(Path({str(path)!r})) as writer:\n"
        "    writer.write([Record(id='0', answer='x' * 40)])\n"
        "    try:\n        writer.write([Record(id='1', answer='x' * 80)])\n"
        "    except Exception as error:\n        print(type(error).__name__, error)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == f"ConfideError {path} cannot be written: File too large; what it holds stays\n"
    with RecordWriter(path) as writer:
        assert [r.id for r in writer.done] == ["0"]
        writer.write([Record(id="1")])
    assert [r.id for r in read_records(path)] == ["0", "1"]


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


def test_null_is_not_available_in_any_key(tmp_path: Path) -> None:
    keys = sorted(set(Record.model_fields) - {"id", "confidence", "correct"})
    plain = {"id": "a", "confidence": 0.5, "correct": True}
    for name, text in (
        ("r.jsonl", json.dumps({**plain, **dict.fromkeys(keys)}) + "\n"),
        ("r.json", json.dumps([{**plain, **dict.fromkeys(keys)}])),
    ):
        (tmp_path / name).write_text(text)
        (record,) = read_records(tmp_path / name)
        assert [getattr(record, key) for key in keys] == [getattr(Record(id="a"), key) for key in keys]
    (none,) = parse_lines('{"id": "a", "confidence": null, "correct": null}\n', "f")
    assert (none.confidence, none.correct) == ({"given": None}, None)
    (tmp_path / "r.csv").write_text("id,confidence,correct\na,,\n")
    assert read_records(tmp_path / "r.csv")[0].confidence == none.confidence
    with pytest.raises(ConfideError, match="id"):
        parse_lines('{"id": null}\n', "f")


@pytest.mark.parametrize("value", ['"84"', "true", "[0.5]"])
def test_a_confidence_that_is_no_number_is_told_in_plain_words(value: str) -> None:
    with pytest.raises(ConfideError, match="f, line 1: confidence: a number is wanted, or one for each source, not "):
        parse_lines(f'{{"id": "a", "confidence": {value}}}\n', "f")


def test_rows_are_replaced_and_appending_goes_on(tmp_path: Path) -> None:
    path, link = tmp_path / "r.jsonl", tmp_path / "link.jsonl"
    write_records(path, [Record(id=name, answer="x") for name in "abc"])
    path.write_bytes(path.read_bytes() + b'{"id": "d", "ans')
    link.symlink_to(path)
    with RecordWriter(link) as writer:
        writer.write([])
        writer.replace([record.model_copy(update={"correct": True}) for record in writer.done])
        writer.write([Record(id="e", answer="y")])
        assert [record.id for record in writer.done] == list("abc")
    assert link.is_symlink()
    assert [(record.id, record.correct) for record in read_records(path)] == [
        ("a", True), ("b", True), ("c", True), ("e", None),
    ]  # fmt: skip
