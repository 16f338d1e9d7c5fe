import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from confide.errors import ConfideError
from confide.records import read_record_table, read_records, write_records
from confide.records.plain_parquet import read_plain_parquet


def columns(n=300):
    rng = np.random.default_rng(0)
    missing = rng.random(n) < 0.2
    return {
        "id": [f"q{i}" for i in range(n)],
        "entity": [None if missing[i] else f"e{i // 3}" for i in range(n)],
        "domain": ["law" if i % 2 else "" if i % 5 == 9 else "art" for i in range(n)],
        "split": ["test" if i % 4 else "calibration" for i in range(n)],
        "answer": [f" A {i % 7} " if i % 3 else "" for i in range(n)],
        "finish": [None if i % 9 else "length" for i in range(n)],
        "correct": [None if i % 10 == 0 else bool(i % 3) for i in range(n)],
        "confidence.stack": [None if i % 13 == 0 else float(x) for i, x in enumerate(rng.random(n))],
        "logprob_sum": [-float(x) - 1e-6 for x in rng.random(n)],
    }


def test_plain_columns_are_read_as_the_rows_are(tmp_path):
    pq.write_table(pa.table(columns()), tmp_path / "rows.parquet", row_group_size=64)
    plain = read_plain_parquet(tmp_path / "rows.parquet")
    assert plain is not None
    expected = read_records(tmp_path / "rows.parquet")
    assert list(plain) == expected
    assert [r.model_fields_set for r in plain] == [r.model_fields_set for r in expected]
    assert [r.line() for r in plain.take(np.arange(7, 30))] == [r.line() for r in expected[7:30]]


def test_a_folder_is_its_files_in_order(tmp_path):
    whole = pa.table(columns())
    for place, start in enumerate(range(0, 300, 100)):
        pq.write_table(whole.slice(start, 100), tmp_path / f"part-{place}.parquet")
    (tmp_path / "_SUCCESS").touch()
    assert read_plain_parquet(tmp_path) is not None
    assert list(read_record_table(tmp_path)) == read_records(tmp_path)
    assert read_record_table(tmp_path).ids.tolist() == columns()["id"]


def outcome(read, path):
    """The records in a file, or why they are none."""
    try:
        return list(read(path))
    except ConfideError as error:
        return str(error)


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("id", [" a", "b", "c"]),
        ("id", ["a", None, "c"]),
        ("entity", ["x", "nan", "z"]),
        ("split", ["test", "dev", "test"]),
        ("confidence.stack", [0.5, float("inf"), 0.1]),
        ("logprob_sum", [-1.0, 0.0, -2.0]),
        ("logprob_sum", [0.9, 0.5, 0.4]),
        ("confidence.stack", ["0.5", "0.6", "0.7"]),
        ("note", ["x", "y", "z"]),
        ("correct", ["yes", "no", "yes"]),
        ("messages", [[{"role": "user", "content": "Q"}]] * 3),
    ],
)
def test_what_needs_a_closer_look_is_read_row_by_row(tmp_path, name, values):
    own = {"id": ["a", "b", "c"], "confidence.stack": [0.1, 0.2, 0.3]} | {name: values}
    pq.write_table(pa.table(own), tmp_path / "rows.parquet")
    assert read_plain_parquet(tmp_path / "rows.parquet") is None
    assert outcome(read_record_table, tmp_path / "rows.parquet") == outcome(read_records, tmp_path / "rows.parquet")


def test_numbers_as_ids(tmp_path):
    pq.write_table(pa.table({"id": [3, 1, 2], "confidence": [0.1, 0.2, 0.3]}), tmp_path / "rows.parquet")
    plain = read_plain_parquet(tmp_path / "rows.parquet")
    assert plain is not None
    assert list(plain) == read_records(tmp_path / "rows.parquet")
    assert plain.sources == {"given"}


def test_confide_s_own_files_hold_json(tmp_path):
    pq.write_table(pa.table(columns()), tmp_path / "rows.parquet")
    records = read_records(tmp_path / "rows.parquet")
    write_records(tmp_path / "own.parquet", records)
    assert read_plain_parquet(tmp_path / "own.parquet") is None
    assert list(read_record_table(tmp_path / "own.parquet")) == records


def test_twice_the_same_id(tmp_path):
    pq.write_table(pa.table({"id": ["a", "b", "a"], "confidence": [0.1, 0.2, 0.3]}), tmp_path / "rows.parquet")
    with pytest.raises(ConfideError, match="1 duplicate ids"):
        read_record_table(tmp_path / "rows.parquet")


def test_a_folder_of_different_columns_is_refused(tmp_path):
    pq.write_table(pa.table({"id": ["a"], "confidence": [0.1]}), tmp_path / "1.parquet")
    pq.write_table(pa.table({"id": ["b"], "score": [0.1]}), tmp_path / "2.parquet")
    with pytest.raises(
        ConfideError, match=r"tables of different columns: 1.parquet and 2.parquet .* confidence, score"
    ):
        read_record_table(tmp_path)


def test_a_folder_without_parquet_files(tmp_path):
    with pytest.raises(ConfideError, match="folder without Parquet files"):
        read_record_table(tmp_path)
