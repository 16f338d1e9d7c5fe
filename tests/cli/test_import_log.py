"""``confide import`` writes records that the next verbs take."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import Result
from typer.testing import CliRunner

from confide.cli.main import app
from confide.records import read_records

DATA = Path(__file__).parents[1] / "imports" / "data"
CHOICE = next(DATA.glob("samples_cities_choice_*.jsonl"))


def run(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(one) for one in arguments])


@pytest.mark.parametrize(
    ("name", "next_verb"),
    [
        (CHOICE.name, "evaluate"),
        ("inspect_log.json", "score"),
    ],
)
def test_an_imported_log_goes_on_to_the_next_verb(tmp_path: Path, name: str, next_verb: str) -> None:
    out = tmp_path / "records.jsonl"
    done = run("import", DATA / name, "--out", out)
    assert done.exit_code == 0, done.output
    assert f"{out}: 6 answers of" in done.stdout
    (hint,) = [line for line in done.stderr.splitlines() if line.startswith("Next: ")]
    words = hint.removeprefix("Next: confide ").split()
    assert words[0] == next_verb
    assert len(read_records(out)) == 6
    following = run(*words)
    assert following.exit_code == 0, following.output


def test_what_is_left_out_is_told_and_has_its_exit_code(tmp_path: Path) -> None:
    done = run("import", DATA / "inspect_failed_log.json", "--out", tmp_path / "r.jsonl", "--json")
    assert done.exit_code == 4
    told = json.loads(done.stdout)
    assert (told["answers"], told["right"], told["left_out"]) == (5, 3, {"the run failed on it": 1})
    assert "left out 1: the run failed on it" in done.stderr


def test_a_log_without_labels_is_labelled_next(tmp_path: Path) -> None:
    response = {"model": "m", "choices": [{"message": {"content": "Peru"}, "finish_reason": "stop"}]}
    line = {"id": "q", "messages": [{"role": "user", "content": "Where?"}], "response": response}
    (tmp_path / "log.jsonl").write_text(json.dumps(line))
    done = run("import", tmp_path / "log.jsonl", "--out", tmp_path / "r.jsonl")
    assert "none with a label" in done.stdout
    assert "Next: confide label" in done.stderr


def test_records_are_not_written_over_the_log(tmp_path: Path) -> None:
    log = tmp_path / "log.json"
    log.write_bytes((DATA / "inspect_log.json").read_bytes())
    done = run("import", log, "--out", log)
    assert done.exit_code != 0
    assert json.loads(log.read_text())["status"] == "success"
