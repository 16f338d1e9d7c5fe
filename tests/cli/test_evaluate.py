import json

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from confide.cli.evaluate import evaluate
from confide.errors import ConfideError
from confide.files import locked
from confide.records import Record, write_records

app = typer.Typer()
app.command()(evaluate)


@pytest.fixture
def scored(tmp_path):
    rng = np.random.default_rng(0)
    rows = []
    for i in range(150):
        p = rng.random()
        confidence = {"stack": p, "logprob_sum": float(np.clip(p + rng.normal() / 3, 0, 1)), "[red]odd": 0.5}
        rows.append(Record(id=str(i), confidence=confidence, correct=bool(rng.random() < p), split="test"))
    path = tmp_path / "scored.jsonl"
    write_records(path, rows)
    return path


def run(*arguments):
    return CliRunner().invoke(app, [str(a) for a in arguments])


def test_writes_results_and_report_and_prints_a_table(scored, tmp_path):
    out = tmp_path / "deep" / "report"
    result = run(scored, "--out", out, "--resamples", 50)
    assert result.exit_code == 0, result.output
    assert "stack" in result.output
    assert "[red]odd" in result.output
    assert "150 rows" in result.output
    assert "best free source, logprob_sum" in result.output
    results = json.loads((out / "results.json").read_text(encoding="utf-8"))
    assert results["n"] == 150
    assert results["bootstrap"]["resamples"] == 50
    assert (out / "report.html").read_text(encoding="utf-8").startswith("<!doctype html>")


def test_json_is_the_only_thing_on_standard_output(scored, tmp_path):
    result = run(scored, "--out", tmp_path / "out", "--resamples", 20, "--json", "--seed", 7)
    assert json.loads(result.stdout) == json.loads((tmp_path / "out" / "results.json").read_text())
    assert json.loads(result.stdout)["bootstrap"]["seed"] == 7


def test_expert_records(scored, tmp_path):
    expert = tmp_path / "expert.jsonl"
    write_records(expert, [Record(id=str(i), correct=True) for i in range(100)])
    result = run(scored, "--out", tmp_path / "out", "--expert", expert, "--resamples", 20, "--json")
    assert json.loads(result.stdout)["routing"]["n"] == 100


def test_help_has_an_example():
    assert "confide evaluate scored.jsonl" in run("--help").output


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "no records"),
        ('{"id": "a", "confidence": 0.5, "correct": true}\nnot json\n', "line 2"),
        ('{"id": "a", "confidence": 0.5}\n', "whether its answer is correct"),
        ('{"id": "a", "confidence": 0.5, "correct": true}\n', "all answers are right (1 right, 0 wrong)"),
        ('{"id": "a", "correct": true}\n{"id": "b", "correct": false}\n', "run `confide score` first"),
        ('{"id": "a", "correct": true}\n{"id": "a", "correct": false}\n', "duplicate"),
    ],
)
def test_bad_records_leave_nothing_behind(tmp_path, text, message):
    path = tmp_path / "bad.jsonl"
    path.write_text(text, encoding="utf-8")
    result = run(path, "--out", tmp_path / "out")
    assert isinstance(result.exception, ConfideError)
    assert message in str(result.exception)
    assert not (tmp_path / "out").exists()


def test_the_folder_must_be_a_free_folder(scored, tmp_path):
    assert "is a file" in str(run(scored, "--out", scored).exception)
    with locked(tmp_path / "busy"):
        result = run(scored, "--out", tmp_path / "busy", "--resamples", 5)
    assert "in use by another run" in str(result.exception)


def test_missing_file(tmp_path):
    assert "does not exist" in str(run(tmp_path / "none.jsonl", "--out", tmp_path / "out").exception)
