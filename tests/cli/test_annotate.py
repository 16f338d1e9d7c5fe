"""``confide annotate``: what is asked, what is not and how that is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from confide.cli.main import app
from confide.errors import ConfideError
from confide.records import read_records
from confide.tasks import hub
from stating_model import saved

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(saved(tmp_path_factory.mktemp("annotate") / "base"))


def run(*arguments: object) -> Result:
    return CliRunner().invoke(app, ["annotate", *map(str, arguments)])


def questions(path: Path, rows: list[dict[str, Any]]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def row(i: int, entity: str, domain: str) -> dict[str, Any]:
    return {
        "id": f"q{i}",
        "kind": "short",
        "question": f"Where is {i}?",
        "answer": ["France"],
        "entity": entity,
        "domain": domain,
    }


def test_every_question_is_asked_whatever_the_sizes_of_entities(model: str, tmp_path: Path) -> None:
    asked = questions(tmp_path / "q.jsonl", [row(i, f"e{i // 3}", "d") for i in range(31)])
    result = run("--model", model, "--task", asked, "--out", tmp_path / "r.jsonl")
    assert result.exit_code == 0, result.output
    assert len(read_records(tmp_path / "r.jsonl")) == 31
    assert not result.stderr.replace("\r", "").strip() or "Warning" not in result.stderr


def test_what_no_split_can_take_is_counted_and_named(model: str, tmp_path: Path) -> None:
    rows = [row(i, f"e{i % 12}", "ab"[i >= 12]) for i in range(24)]  # every entity in both domains
    asked = questions(tmp_path / "q.jsonl", rows)
    result = run("--model", model, "--task", asked, "--by", "relation", "--out", tmp_path / "r.jsonl")
    assert result.exit_code == 4, result.output
    records = read_records(tmp_path / "r.jsonl")
    left = sorted({r["id"] for r in rows} - {r.id for r in records})
    assert f"{len(left)} questions were not asked" in result.stderr
    assert left
    assert f"{len(records)} answers" in result.stdout


def test_rows_of_a_data_set_without_a_reference_are_counted(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    choices = {"label": ["A", "B"], "text": ["a saw", "a cup"]}
    data = [{"question": f"Which tool {i}?", "choices": choices, "answerKey": "A" if i % 4 else ""} for i in range(20)]
    monkeypatch.setattr("datasets.load_dataset", lambda *_, **__: data)
    assert hub.load_hub_task("arc_easy").without_reference == 5  # type: ignore[union-attr]
    result = run("--model", model, "--task", "arc_easy", "--answer-by", "generation", "--out", tmp_path / "r.jsonl")
    assert result.exit_code == 4, result.output
    assert "5 rows of the data set have no reference and were not asked" in result.stderr
    assert len(read_records(tmp_path / "r.jsonl")) == 15


def test_another_temperature_is_refused_on_the_command_line(model: str, tmp_path: Path) -> None:
    asked = questions(tmp_path / "q.jsonl", [row(i, f"e{i}", "d") for i in range(10)])
    given = ["--model", model, "--task", asked, "--out", tmp_path / "r.jsonl", "--samples", 2]
    assert run(*given).exit_code == 0
    assert "temperature 1.0, now 0.7" in str(run(*given, "--temperature", 0.7).exception)
    assert "max-new-tokens 24, now 5" in str(run(*given, "--max-new-tokens", 5).exception)
    assert run(*given, "--batch-size", 3).exit_code == 0


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"answer": ["Chile"]}, "reference ['France'], now ['Chile']"),
        ({"answer": ["France", "French Republic"]}, "now ['France', 'French Republic']"),
        ({"domain": "other"}, "domain 'd', now 'other'"),
    ],
)
def test_the_answer_to_a_question_that_was_corrected_does_not_keep_its_old_grade(
    model: str, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    rows = [row(i, f"e{i}", "d") for i in range(10)]
    asked, out = questions(tmp_path / "q.jsonl", rows), tmp_path / "r.jsonl"
    assert run("--model", model, "--task", asked, "--out", out).exit_code == 0
    before = out.read_bytes()
    questions(asked, [{**r, **changed} if r["id"] == "q1" else r for r in rows])
    result = run("--model", model, "--task", asked, "--out", out)
    assert isinstance(result.exception, ConfideError)
    assert "row q1" in str(result.exception)
    assert told in str(result.exception)
    assert out.read_bytes() == before
