from __future__ import annotations

import json
from pathlib import Path

import pytest

from confide.errors import ConfideError
from confide.tasks import available_tasks, load_task

ROWS: list[dict[str, object]] = [
    {"id": "a", "kind": "short", "question": "Capital of Peru?", "answer": ["Lima"], "popularity": 7},
    {"id": "b", "kind": "choice", "question": "Which?", "choices": ["x", "y"], "answer": 1, "domain": "d"},
    {"id": "c", "kind": "number", "question": "2 + 2?", "answer": "4"},
    {"id": "d", "kind": "prompt", "question": "Say hello", "label": "harmless"},
    {"id": "e", "kind": "short", "question": "Unanswerable?", "answer": []},
]


def test_load_task(tmp_path: Path) -> None:
    (tmp_path / "mine.jsonl").write_text("".join(json.dumps(row) + "\n" for row in ROWS), encoding="utf-8")
    task = load_task(str(tmp_path / "mine.jsonl"))
    assert (task.name, task.max_new_tokens, len(task.questions)) == ("mine", 128, 5)
    assert task.grade(task.questions[0], "Lima").correct is True
    assert task.grade(task.questions[4], "Lima").correct is None
    assert task.agrees(task.questions[2], "4", "4.0")
    messages = task.prompt(task.questions[1])
    assert [message["role"] for message in messages] == ["system", "user"]
    assert messages[1]["content"] == "Which?\nA) x\nB) y"
    assert task.prompt(task.questions[3]) == [{"role": "user", "content": "Say hello"}]
    assert len(load_task(str(tmp_path / "mine.jsonl"), limit=3, seed=1).questions) == 3


def test_unknown_task_names_what_exists() -> None:
    with pytest.raises(ConfideError, match="no task 'geografy': there is geography"):
        load_task("geografy")
    with pytest.raises(ConfideError, match="at least 1"):
        load_task("geography", limit=0)
    with pytest.raises(ConfideError, match="is not a folder"):
        load_task("arc_easy", data_dir=Path("absent"))


def test_every_listed_task_has_a_kind_and_a_licence() -> None:
    listed = available_tasks()
    first = ["geography", "arithmetic", "extraction", "reasoning_gym/NAME", "red_flag"]
    assert [task.name for task in listed[:5]] == first
    assert {task.kind for task in listed} == {"short", "number", "choice", "fields", "prompt"}
    assert all(task.licence and task.what for task in listed)
    assert len({task.name for task in listed}) == len(listed) == 23
