"""``confide annotate``: what is asked, what is not and how that is told."""

from __future__ import annotations

import importlib
import json
import shutil
import sys
from collections.abc import Callable
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
    assert "not asked" not in result.stderr
    assert "evaluation: " in result.stderr  # a handful of rows is too few for what comes next


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


GRADER = """
asked = []

def says_yes(question, answer):
    asked.append(question["id"])
    if question["id"] in ("q3", "q7") and BROKEN:
        raise KeyError(question["id"])
    return {"correct": question["id"] < "q5", "answered": answer[:3] or None}
"""


@pytest.fixture
def grader(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., str]:
    """Writes a module with a function that grades, ``broken`` for two questions or not; gives its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", list(sys.path))

    def write(folder: str = ".", *, broken: bool = False) -> str:
        (tmp_path / folder).mkdir(exist_ok=True)
        monkeypatch.delitem(sys.modules, "own_grader", raising=False)
        importlib.invalidate_caches()
        shutil.rmtree(tmp_path / folder / "__pycache__", ignore_errors=True)
        (tmp_path / folder / "own_grader.py").write_text(f"BROKEN = {broken}\n{GRADER}")
        return "own_grader:says_yes"

    return write


def rows_to_grade(folder: Path) -> Path:
    return questions(folder / "q.jsonl", [row(i, f"e{i}", "d") for i in range(10)])


def test_a_function_beside_the_shell_grades(model: str, tmp_path: Path, grader: Callable[..., str]) -> None:
    out = tmp_path / "r.jsonl"
    result = run("--model", model, "--task", rows_to_grade(tmp_path), "--out", out, "--grader", grader())
    assert result.exit_code == 0, (result.output, result.exception)
    assert "5 of 10 right" in result.stdout
    for record in read_records(out):
        assert (record.correct, record.graded_by) == (record.id < "q5", "own_grader:says_yes")
        assert record.answered == (record.answer[:3] or None)


def test_a_function_beside_the_configuration_grades(model: str, tmp_path: Path, grader: Callable[..., str]) -> None:
    spec, folder = grader("elsewhere"), tmp_path / "elsewhere"
    rows_to_grade(folder)
    (folder / "c.yaml").write_text(f"model: {model}\ntask: q.jsonl\nout: r.jsonl\ngrader: {spec}\n")
    result = run("--config", folder / "c.yaml")
    assert result.exit_code == 0, (result.output, result.exception)
    assert {record.graded_by for record in read_records(folder / "r.jsonl")} == {spec}
    # The same function from the shell goes on with the same file.
    given = ["--model", model, "--task", folder / "q.jsonl", "--out", folder / "r.jsonl"]
    assert run(*given, "--grader", f"elsewhere/{spec}").exit_code == 0


def test_an_exception_in_the_middle_loses_no_answer(
    model: str, tmp_path: Path, grader: Callable[..., str], monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "r.jsonl"
    given = ["--model", model, "--task", rows_to_grade(tmp_path), "--out", out, "--batch-size", 4]
    result = run(*given, "--grader", grader(broken=True), "--samples", 2)
    assert isinstance(result.exception, ConfideError)
    told = str(result.exception)
    assert "own_grader:says_yes failed on 2 answers, first on that to the question q" in told
    assert "KeyError: 'q" in told
    assert "\n" not in told
    first = {record.id: record for record in read_records(out)}
    assert len(first) == 10
    assert {name for name, record in first.items() if record.correct is None} == {"q3", "q7"}

    def refuse(*_: object, **__: object) -> None:
        raise AssertionError("nothing is asked again")

    grader()
    for method in ("answer", "sample"):
        monkeypatch.setattr(f"confide.engines.transformers.transformers_engine.TransformersEngine.{method}", refuse)
    result = run(*given, "--grader", "own_grader:says_yes", "--samples", 2)
    assert result.exit_code == 0, (result.output, result.exception)
    for record in read_records(out):
        assert (record.correct, record.grade_error) == (record.id < "q5", None)
        assert (record.answer, record.logprobs) == (first[record.id].answer, first[record.id].logprobs)
        assert record.consistency is not None
        assert all(sample.correct is not None for sample in record.samples or [])
    own_grader = sys.modules["own_grader"]
    assert set(own_grader.asked) == {"q3", "q7"}  # and what has a grade is not graded again


def test_a_run_that_was_killed_grades_and_asks_the_rest(model: str, tmp_path: Path, grader: Callable[..., str]) -> None:
    out = tmp_path / "r.jsonl"
    given = ["--model", model, "--task", rows_to_grade(tmp_path), "--out", out, "--batch-size", 4]
    assert isinstance(run(*given, "--grader", grader(broken=True)).exception, ConfideError)
    lines = out.read_bytes().splitlines(keepends=True)
    out.write_bytes(b"".join(lines[:6]) + lines[6][:30])
    assert run(*given, "--grader", grader()).exit_code == 0
    assert [record.correct is not None for record in read_records(out)] == [True] * 10
    assert len(out.read_bytes().splitlines()) == 10


def test_another_grader_is_refused(model: str, tmp_path: Path, grader: Callable[..., str]) -> None:
    out, spec = tmp_path / "r.jsonl", grader()
    (tmp_path / "other_grader.py").write_text("def f(question, answer):\n    return True\n")
    given = ["--model", model, "--task", rows_to_grade(tmp_path), "--out", out]
    assert run(*given, "--grader", spec).exit_code == 0
    before = out.read_bytes()
    for more, told in (
        (["--grader", "other_grader:f"], "grader 'own_grader:says_yes', now 'other_grader:f'"),
        ([], """grader 'own_grader:says_yes', now "the task's own\""""),
    ):
        result = run(*given, *more)
        assert isinstance(result.exception, ConfideError)
        assert told in str(result.exception)
    assert out.read_bytes() == before
    out.unlink()
    assert run(*given).exit_code == 0
    assert """grader "the task's own", now 'own_grader:says_yes'""" in str(run(*given, "--grader", spec).exception)


def test_a_grader_that_is_not_there_is_refused_before_anything_is_asked(
    model: str, tmp_path: Path, grader: Callable[..., str]
) -> None:
    grader()
    given = ["--model", model, "--task", rows_to_grade(tmp_path), "--out", tmp_path / "r.jsonl"]
    for spec in ("own_grader:no_such", "no_such:f", "own_grader", "elsewhere/own_grader_:f"):
        result = run(*given, "--grader", spec)
        assert isinstance(result.exception, ConfideError)
        assert "cannot import" in str(result.exception)
    assert not (tmp_path / "r.jsonl").exists()


def test_options_and_rejected_questions_are_graded_by_a_function(
    model: str, tmp_path: Path, grader: Callable[..., str]
) -> None:
    asked = [{**row(i, f"e{i}", "d"), "kind": "choice", "choices": ["a", "b", "c"], "answer": 1} for i in range(10)]
    path = questions(tmp_path / "q.jsonl", asked)
    given = ["--model", model, "--task", path, "--grader", grader(), "--reject", 0.5, "--out", tmp_path / "r.jsonl"]
    assert run(*given).exit_code == 0
    for record in read_records(tmp_path / "r.jsonl"):
        kept = (record.model_extra or {})["has_answer"]
        assert record.correct is (kept and record.id < "q5")
        assert record.answered == record.answer
