from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from confide.cli.flags import command
from confide.cli.hedge import hedge
from confide.cli.main import main
from confide.errors import ConfideError
from rewriter_server import Model

app = typer.Typer()
app.command()(command(hedge))


def run(*arguments: object):
    return CliRunner().invoke(app, [str(argument) for argument in arguments])


@pytest.fixture
def scored(tmp_path) -> Path:
    rows = [{"id": f"q{i}", "answer": "Japan", "confidence": {"stack": i / 20, "probe": 0.5}} for i in range(21)]
    rows.append({"id": "none", "answer": "Japan", "confidence": {"stack": None, "probe": 0.5}})
    path = tmp_path / "scored.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def test_every_row_is_worded_and_the_result_is_told(scored, tmp_path):
    out = tmp_path / "deep" / "hedged.jsonl"
    result = run(scored, "--out", out)
    assert result.exit_code == 0, result.output
    assert f"{out}: 22 rows: 21 worded, 1 without a confidence" in result.stdout
    assert "21 wordings by plain, confidences from stack: read back within 0." in result.stdout
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert len(rows) == 22
    assert all(abs(r["hedge_confidence"] - r["confidence"]["stack"]) <= 0.1 + 1e-9 for r in rows if r["hedged"])
    assert rows[-1]["hedged"] is None


def test_json_is_the_only_thing_on_standard_output(scored, tmp_path):
    result = run(scored, "--out", tmp_path / "H.jsonl", "--style", "formal", "--json")
    summary = json.loads(result.stdout)
    assert summary["rows"] == 22
    assert summary["statuses"]["hedged"] == 21
    assert summary["largest_error"] <= 0.1 + 1e-9


def test_flags_may_stand_in_a_file(scored, tmp_path):
    config = tmp_path / "hedge.yaml"
    config.write_text(f"records: {scored}\nout: {tmp_path / 'H.jsonl'}\nstyle: first_person\nsource: probe\n")
    result = run("--config", config)
    assert result.exit_code == 0, result.output
    assert "22 wordings by first_person, confidences from probe" in result.stdout


def test_bare_numbers_need_no_source(tmp_path):
    records = tmp_path / "r.jsonl"
    records.write_text('{"id": 1, "answer": "Japan", "confidence": 0.8}\n')
    assert "confidences from given" in run(records, "--out", tmp_path / "H.jsonl").stdout


def test_tagged_answers_need_no_source_at_all(tmp_path):
    records = tmp_path / "r.jsonl"
    answer = "<sentence>It is in Japan.</sentence><confidence>0.90</confidence>"
    records.write_text(json.dumps({"id": 1, "answer": answer}) + "\n")
    result = run(records, "--out", tmp_path / "H.jsonl")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "H.jsonl").read_text())["hedged"] == "It is in Japan. That is highly likely."


def test_a_server_rewrites(scored, tmp_path):
    with Model().running() as server:
        result = run(scored, "--out", tmp_path / "H.jsonl", "--base-url", server.url, "--model", "big", "--json")
    summary = json.loads(result.stdout)
    assert summary["statuses"]["hedged"] == 21
    assert summary["replaced"] == 0
    first = json.loads((tmp_path / "H.jsonl").read_text().splitlines()[0])
    assert first["hedges"][0]["by"] == "model"
    assert first["hedge_with"]["engine"] == server.url


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--style", "loud"], "no style 'loud' in English: there are plain, first_person, formal"),
        (["--language", "fr"], "no language 'fr': there is en"),
        (["--source", "reader"], "no row has a confidence from reader; there are: probe, stack"),
        (["--base-url", "gpt"], "--base-url takes an address such as http://127.0.0.1:8000/v1, not 'gpt'"),
        (["--base-url", "http://127.0.0.1:9/v1"], "--base-url URL and --model NAME go together"),
        (["--model", "big"], "--base-url URL and --model NAME go together"),
        (["--base-url", "http://127.0.0.1:9/v1", "--model", "big"], "http://127.0.0.1:9/v1 cannot be reached"),
    ],
)
def test_bad_input_is_one_sentence(scored, tmp_path, arguments, sentence, monkeypatch):
    monkeypatch.setattr("confide.engines.openai.patient_server._FIRST_WAIT_S", 0.01)
    result = run(scored, "--out", tmp_path / "H.jsonl", *arguments)
    assert isinstance(result.exception, ConfideError)
    assert sentence in str(result.exception)


def test_the_input_is_not_overwritten(scored):
    result = run(scored, "--out", scored)
    assert "would overwrite" in str(result.exception)


def test_the_program_exits_with_2(scored, monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["confide", "hedge", str(scored), "--out", str(scored)])
    with pytest.raises(SystemExit) as ended:
        main()
    assert ended.value.code == 2
    assert "would overwrite" in capsys.readouterr().err


def test_log_probabilities_are_worded_as_probabilities(tmp_path):
    rows = [
        {"id": str(i), "answer": "Japan", "confidence": {"logprob_sum": c}}
        for i, c in enumerate([-0.05, -3.0, -2000.0])
    ]
    path = tmp_path / "rows.jsonl"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    result = run(path, "--out", tmp_path / "out.jsonl", "--source", "logprob_sum")
    assert result.exit_code == 0, result.output
    told = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    confidences = [row["hedges"][0]["confidence"] for row in told]
    assert confidences == pytest.approx([0.951229424500714, 0.0497870683678639, 0.0])
