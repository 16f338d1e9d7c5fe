"""``confide score``: what it tells of rows that it could not score."""

from __future__ import annotations

from pathlib import Path

from typer.testing import CliRunner

from confide.cli.main import app
from confide.records import Record, read_records, write_records


def test_rows_without_a_confidence_are_counted_on_standard_error(tmp_path: Path) -> None:
    records, out = tmp_path / "r.jsonl", tmp_path / "s.jsonl"
    rows = [Record(id=f"r{i}", answer="Japan", correct=bool(i % 2), logprobs=[-0.5] * (i > 3)) for i in range(10)]
    write_records(records, [*rows, Record(id="t", answer="Japan", split="train")])
    arguments = ["score", str(records), "--source", "logprob_sum,answer_length", "--out", str(out)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code == 0, result.output
    assert "of 10 rows outside the train split some have no confidence: logprob_sum 4" in result.stderr
    assert sum(r.confidence["logprob_sum"] is None for r in read_records(out)) == 5
    told = CliRunner().invoke(app, [*arguments[:4], "answer_length", *arguments[5:]])
    assert "no confidence" not in told.stderr
