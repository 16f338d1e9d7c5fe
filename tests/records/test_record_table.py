import json

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.records import (
    Record,
    RecordTable,
    Sample,
    column_store,
    parse_lines,
    read_record_table,
    read_records,
    record_table,
    write_records,
)


def varied(n):
    """Records of every kind of field, some set and some not."""
    rng = np.random.default_rng(0)
    out = []
    for i in range(n):
        data = {"id": f"r{i}", "confidence": {"stack": float(rng.random()), "logprob_sum": None if i % 5 else -1.5}}
        if i % 2:
            data |= {"entity": f"e{i // 3}", "correct": bool(i % 3), "domain": "law", "split": "test", "answered": "x"}
        if i % 3 == 0:
            data |= {"messages": [{"role": "user", "content": f"Q{i % 7}?"}], "answer": f"A {i}", "answer_ids": [1, 2]}
            data |= {"cost": {"stack": {"tokens": 3, "seconds": 0.25}}, "scored_by": {"stack": "abc"}}
        if i % 4 == 0:
            data |= {"samples": [{"answer": "B", "correct": False}], "consistency": 0.5, "note": i, "has_answer": True}
        if i % 11 == 0:
            data |= {"trained_on": ["a", "b"], "judged": True, "judged_by": "j", "reference": ["x", "y"]}
        out.append(Record.model_validate(data))
    return out


@pytest.fixture(params=["held", "read"])
def table(request, monkeypatch):
    for module in (column_store, record_table):
        monkeypatch.setattr(module, "ROWS", 16)
    records = varied(100)
    return RecordTable.of(records if request.param == "held" else iter(records))


def test_records_come_back_as_they_were(table):
    records = varied(100)
    assert list(table) == records
    assert [json.loads(r.line()) for r in table] == [json.loads(r.line()) for r in records]
    assert [record.model_fields_set for record in table] == [record.model_fields_set for record in records]
    assert table[7] == records[7]
    assert table[-1] == records[-1]
    assert list(table[20:40:3]) == records[20:40:3]


def test_columns_say_what_the_records_say(table):
    records = varied(100)
    assert table.ids.tolist() == [r.id for r in records]
    assert table.coded("entity").each() == [r.entity for r in records]
    assert table.coded("finish").where("stop").all()
    assert table.truth("correct").tolist() == pytest.approx(
        [np.nan if r.correct is None else float(r.correct) for r in records], nan_ok=True
    )
    for source in ("stack", "logprob_sum"):
        given = [r.confidence[source] for r in records]
        assert table.confidence(source) == pytest.approx([np.nan if v is None else v for v in given], nan_ok=True)
    assert table.clusters() == [r.cluster for r in records]
    assert table.sources == {"stack", "logprob_sum"}
    assert table.extra("note").each() == [(r.model_extra or {}).get("note") for r in records]
    assert table.extra("trained_on").each() == [(r.model_extra or {}).get("trained_on") for r in records]
    assert np.isfinite(table.numbers("answer_ids")).tolist() == [bool(r.answer_ids) for r in records]
    prompts = table.coded("prompt")
    same = {}
    for code, record in zip(prompts.codes.tolist(), records, strict=True):
        asked = record.messages[0].content if record.messages else None
        assert same.setdefault(code, asked) == asked


def test_rows_that_are_taken_stay_themselves(table):
    records = varied(100)
    odd = table.take(np.arange(100) % 2 == 1)
    assert [r.id for r in odd] == [r.id for r in records[1::2]]
    assert odd.take(np.array([3, 0])).ids.tolist() == [records[7].id, records[1].id]
    assert [r.id for r in table.take(np.array([9, 2])).union(table.take(np.array([5, 9])))] == ["r2", "r5", "r9"]
    assert not table.take(np.array([], dtype=np.int64))


def test_sources_can_be_left_out_and_changed(table):
    one = table.only(["stack"])
    assert one.sources == {"stack"}
    assert {source for record in one for source in record.confidence} == {"stack"}
    assert np.isnan(one.confidence("logprob_sum")).all()
    assert not one.naming("logprob_sum").any()
    halved = table.with_confidence("stack", table.confidence("stack") / 2).take(np.array([4, 8]))
    assert [r.confidence["stack"] for r in halved] == [
        table[4].confidence["stack"] / 2,
        table[8].confidence["stack"] / 2,
    ]
    assert halved.confidence("stack").tolist() == [r.confidence["stack"] for r in halved]


def test_a_record_that_is_changed_changes_nothing_in_a_table_that_was_read():
    table = RecordTable.of(iter(varied(10)))
    table[3].confidence["stack"] = 7.0
    assert table[3].confidence["stack"] != 7.0


def test_true_and_one_are_told_apart():
    table = RecordTable.of(iter(Record(id=str(i), mark=mark) for i, mark in enumerate([True, 1, 1.0, "1", None])))
    assert [type(value) for value in table.extra("mark").each()] == [bool, int, float, str, type(None)]


def test_a_file_is_read_as_the_same_records(tmp_path):
    for name in ("records.jsonl", "records.parquet"):
        write_records(tmp_path / name, varied(60))
        assert list(read_record_table(tmp_path / name)) == read_records(tmp_path / name) == varied(60)


def test_twice_the_same_id_is_refused(tmp_path):
    lines = [json.dumps({"id": str(i % 7), "confidence": 0.5}) for i in range(9)]
    (tmp_path / "twice.jsonl").write_text("\n".join(lines))
    with pytest.raises(ConfideError, match=r"2 duplicate ids \(0, 1\)"):
        read_record_table(tmp_path / "twice.jsonl")
    assert [r.id for r in parse_lines("\n".join(lines[:3]), "x")] == ["0", "1", "2"]


def test_samples_of_a_read_table_are_samples():
    assert isinstance(RecordTable.of(iter(varied(5)))[4].samples[0], Sample)
