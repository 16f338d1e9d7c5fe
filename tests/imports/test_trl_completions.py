"""Completions that TRL's GRPO trainer logged in one step with a tiny model, and rows in RLCR's tags."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from confide.errors import ConfideError
from confide.imports import import_log

LOGGED = Path(__file__).parent / "data" / "completions_00001.parquet"


def written(tmp_path: Path, rows: list[dict[str, Any]]) -> Path:
    path = tmp_path / "completions.parquet"
    pq.write_table(pa.Table.from_pylist(rows), path)
    return path


def row(**values: Any) -> dict[str, Any]:
    return {"step": 3, "prompt": "Where is Cusco?", "completion": "Peru", "accuracy": 1.0, "advantage": 0.1} | values


def test_the_first_reward_of_two_values_is_the_label() -> None:
    found = import_log(LOGGED)
    records = found.records("log")
    assert (found.tool, found.label, found.labels) == ("TRL", "accuracy", ["accuracy", "length"])
    assert [record.correct for record in records] == [True, False, False, True]
    assert [record.id for record in records] == ["1-1", "1-2", "1-3", "1-4"]
    assert [record.question for record in records] == ["In which country is Nagoya?"] * 2 + [
        "In which country is Cusco?"
    ] * 2
    assert len({record.cluster for record in records}) == 2


def test_a_reward_between_is_no_label() -> None:
    with pytest.raises(ConfideError, match=r"length is 0\.\d+, and only 0 or 1"):
        import_log(LOGGED, label="length")
    with pytest.raises(ConfideError, match="no reward format; there are: accuracy, length"):
        import_log(LOGGED, label="format")


def test_a_stated_confidence_is_read_from_its_tags(tmp_path: Path) -> None:
    tags = "<think>In the Andes.</think><answer>Peru</answer><analysis>Sure.</analysis><confidence>{}</confidence>"
    rows = [row(completion=tags.format(stated)) for stated in ("0.85", "very", "1.5")]
    first, second, third = import_log(written(tmp_path, rows)).records("log")
    assert (first.answer, first.reasoning, first.confidence) == ("Peru", "In the Andes.", {"verbalized": 0.85})
    assert second.confidence == third.confidence == {"verbalized": None}


def test_a_log_without_rewards_has_no_labels(tmp_path: Path) -> None:
    rows = [row(), row()]
    for one in rows:
        del one["accuracy"]
    found = import_log(written(tmp_path, rows))
    assert found.label == ""
    assert {record.correct for record in found.records("log")} == {None}


@pytest.mark.parametrize("values", [{"prompt": None}, {"completion": None}])
def test_a_row_that_lacks_a_part_is_named(tmp_path: Path, values: dict[str, Any]) -> None:
    with pytest.raises(ConfideError, match="is no completion of TRL"):
        import_log(written(tmp_path, [row(), row(**values)]))


def test_an_answer_that_was_not_rewarded_has_no_label(tmp_path: Path) -> None:
    records = import_log(written(tmp_path, [row(), row(accuracy=None)])).records("log")
    assert [record.correct for record in records] == [True, None]
