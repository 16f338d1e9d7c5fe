"""Log-probabilities in records: on today's scale whatever the file's, ranked as they are, told as probabilities."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.records import Record, RecordWriter, parse_lines, read_records, write_records
from confide.sources import Source, as_probability, log_space


def line(name: str, confidence: float | None, **more: object) -> str:
    return json.dumps({"id": name, "confidence": {"logprob_sum": confidence, "stack": 0.5}, **more})


def sums(lines: list[str]) -> list[float | None]:
    return [record.confidence["logprob_sum"] for record in parse_lines("\n".join(lines), "rows")]


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("logprob_sum", True),
        ("other_logprob_sum", True),
        ("logprob_sum_swapped", True),
        ("logprob_sum_calibrated", False),
        ("logprob_mean", False),
        ("logprob_summary", False),
        ("stack", False),
    ],
)
def test_which_sources_are_in_nats(name: str, expected: bool) -> None:
    assert log_space(name) is Source.parse(name).log_space is expected
    assert float(as_probability(name, -1.0)) == pytest.approx(math.exp(-1) if expected else -1.0)


def test_a_missing_value_stays_missing_as_a_probability() -> None:
    assert np.isnan(as_probability("logprob_sum", [-2000.0, np.nan])).tolist() == [False, True]
    assert as_probability("logprob_sum", [-2000.0])[0] == 0.0


def test_probabilities_of_older_files_become_logarithms() -> None:
    assert sums([line("a", 0.5), line("b", 1.0), line("c", 1e-300), line("d", None)]) == [
        math.log(0.5), 0.0, math.log(1e-300), None,
    ]  # fmt: skip
    assert sums([line("a", -3.5), line("b", -2000.0), line("c", 0.25)]) == [-3.5, -2000.0, math.log(0.25)]
    row = parse_lines(line("a", 0.5), "rows")[0]
    assert row.confidence["stack"] == 0.5
    assert parse_lines(row.line(), "rows")[0] == row  # what is written is on today's scale


@pytest.mark.parametrize("written", [0.0, 5e-324, 1e-310])
def test_what_was_too_small_to_write_is_read_from_the_tokens(written: float) -> None:
    tokens = [-1.25] * 800
    assert sums([line("a", written, logprobs=tokens), line("b", 0.5)]) == [-1000.0, math.log(0.5)]
    sample = {"answer": "x", "logprobs": tokens, "confidence": {"logprob_sum": written}}
    assert parse_lines(line("a", 0.5, samples=[sample]), "rows")[0].samples[0].confidence == {"logprob_sum": -1000.0}  # type: ignore[index]


def test_an_answer_of_sure_tokens_is_certain() -> None:
    assert sums([line("a", 0.0, logprobs=[0.0, -0.0])]) == [0.0]
    assert sums([line("a", 0.0), line("b", -0.5)]) == [0.0, -0.5]  # a file of today, whose tokens were left out


@pytest.mark.parametrize("others", [[0.5], [1.0, -3.0], [], [0.0]])
def test_a_zero_of_unclear_scale_is_refused(tmp_path: Path, others: list[float]) -> None:
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(line(f"b{i}", v) + "\n" for i, v in enumerate(others)) + line("zero", 0.0))
    with pytest.raises(ConfideError, match=r"rows.jsonl: logprob_sum of row .*score the answers again") as refused:
        read_records(path)
    assert "\n" not in str(refused.value)
    sampled = {"answer": "x", "confidence": {"logprob_sum_swapped": 0.0}}
    with pytest.raises(ConfideError, match="logprob_sum_swapped of row zero"):
        parse_lines(line("zero", 0.5, samples=[sampled]), "rows")


def test_a_log_probability_above_one_is_refused() -> None:
    with pytest.raises(ConfideError, match=r"line 1: confidence: .*logprob_sum is a log-probability, at most 0, not 3"):
        parse_lines(line("a", 3.0), "rows")


@pytest.mark.parametrize("name", ["r.jsonl", "r.parquet"])
def test_files_of_before_may_be_continued(tmp_path: Path, name: str) -> None:
    path = tmp_path / "old.jsonl"
    path.write_text(line("old", 0.5) + "\n")
    with RecordWriter(path) as writer:
        assert writer.done[0].confidence["logprob_sum"] == math.log(0.5)
        writer.write([Record(id="new", confidence={"logprob_sum": -900.0})])
    write_records(tmp_path / name, read_records(path))
    assert [r.confidence["logprob_sum"] for r in read_records(tmp_path / name)] == [math.log(0.5), -900.0]
