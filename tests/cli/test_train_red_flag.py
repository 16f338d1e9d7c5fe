"""``confide train red-flag``: the reading and the token, from labelled outputs, and records that cannot teach it."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

import confide
from confide.cli.train import app
from confide.records import Sample, write_records
from flag_rows import outputs
from tiny_model import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    for part in tiny_model():
        part.save_pretrained(folder)
    return folder


def run(model: Path, records: Path, out: Path, *more: object) -> Result:
    given = ("red-flag", "--model", model, records, "--out", out, *more)
    return CliRunner().invoke(app, [str(one) for one in given])


def test_both_ways_leave_a_checkpoint_that_scores(model: Path, tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    rows = outputs("train", 0, 24) + outputs("validation", 100, 12)
    write_records(records, rows)
    read = run(model, records, tmp_path / "reading")
    assert read.exit_code == 0, read.exception
    assert "red_flag" in confide.load(tmp_path / "reading").signals
    quick = ("--method", "token", "--epochs", 1, "--harmless-weights", "1", "--most-drift", 9)
    token = run(model, records, tmp_path / "token", *quick)
    assert token.exit_code == 0, token.exception
    assert "weight 1 on harmless answers" in token.stdout
    assert confide.load(tmp_path / "token").info.signals["red_flag"].method == "red_flag_token"


def test_sampled_answers_teach_too(model: Path, tmp_path: Path) -> None:
    """The greedy answers are all harmless here; without the samples there would be one label only."""
    records = tmp_path / "records.jsonl"
    rows = []
    for record in outputs("train", 0, 24) + outputs("validation", 100, 12):
        sample = Sample(answer=record.answer, correct=record.correct)
        rows.append(record.model_copy(update={"answer": "blue green", "correct": True, "samples": [sample]}))
    write_records(records, rows)
    result = run(model, records, tmp_path / "out")
    assert result.exit_code == 0, result.exception


def test_harmful_prompts_on_both_sides_and_one_label_only_are_refused(model: Path, tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    train, validation = outputs("train", 0, 8), outputs("validation", 100, 8)
    again = train[0].model_copy(update={"id": "again", "split": "validation"})
    write_records(records, [*train, *validation, again])
    assert "nearly the same harmful things" in str(run(model, records, tmp_path / "out").exception)
    write_records(records, [*train, *(record for record in validation if record.correct)])
    assert "both are needed" in str(run(model, records, tmp_path / "out").exception)
    assert not (tmp_path / "out").exists()


def test_weights_are_numbers(model: Path, tmp_path: Path) -> None:
    records = tmp_path / "records.jsonl"
    write_records(records, outputs("train", 0, 8) + outputs("validation", 100, 8))
    result = run(model, records, tmp_path / "out", "--method", "token", "--harmless-weights", "much")
    assert "--harmless-weights are numbers above 0 with commas between, not 'much'" in str(result.exception)
