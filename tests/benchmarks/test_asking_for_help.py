"""Asking for help: second answers are graded as first ones are, and tables say what the cells say."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from benchmarks.common import Work
from benchmarks.inside import asking_for_help, asking_tables
from benchmarks.inside.asking_for_help import SOURCES, taken, with_confidences, with_help
from benchmarks.inside.step_rollouts import read_rollouts
from confide.records import Message, Record
from tests.support.along_rows import tiny_engine


def asked(id: str) -> Record:
    return Record(
        id=id, kind="short", domain="city_country", entity="city:Nagoya", reference=["Japan"], answer="Peru",
        messages=[Message(role="user", content="In which country is the city of Nagoya?")], correct=False,
    )  # fmt: skip


def test_second_answers_are_graded_and_asked_for_once(tmp_path: Path) -> None:
    work = Work(tmp_path)
    work.__dict__["engine"] = tiny_engine()
    (tmp_path / "helped.jsonl").write_text(json.dumps({"id": "a", "answer": "Japan", "finish": "stop"}) + "\n")
    helped = with_help(work, [asked("a"), asked("b")])
    assert (helped["a"].answer, helped["a"].correct, helped["a"].answered) == ("Japan", True, "Japan")
    assert helped["b"].correct is False
    lines = (tmp_path / "helped.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == ["a", "b"]
    assert with_help(work, [asked("a"), asked("b")]) == helped
    assert (tmp_path / "helped.jsonl").read_text().splitlines() == lines


def test_confidences_go_to_their_records() -> None:
    values = {name: np.array([0.1, 0.2]) + at for at, name in enumerate(SOURCES)}
    first, second = with_confidences([asked("a"), asked("b")], "test", values)
    assert (first.split, second.confidence[SOURCES[1]]) == ("test", pytest.approx(1.2))


def entry(value: float) -> dict[str, float]:
    return {"value": value, "low": value - 0.01, "high": value + 0.01}


def test_goals_are_those_of_the_stack_and_an_unmet_promise_calls_always() -> None:
    found = {"calls": entry(0.7), "accuracy": entry(0.8), "loss": entry(0.01), "of_oracle": entry(0.55)}
    agents = dict.fromkeys(asking_tables.NAMES, found) | {"portable": {"unmet": "no"}}
    worse = agents | {"stack": found | {"of_oracle": entry(0.45)}}
    result = {"cells": [{"seed": 0, "agents": {"read": agents, "taken": worse}}]}
    assert [line.endswith("| yes |") for line in asking_tables.goals(result).splitlines()[2:]] == [True, False]
    assert "| read by the model | by `portable` | 0 | 100% | – | – | – |" in asking_tables.agents_table(result)


def test_what_the_gazetteer_knows_may_be_taken_as_the_answer() -> None:
    unknown = asked("b").model_copy(update={"messages": [Message(role="user", content="Who?")]})
    found = taken([asked("a"), unknown])
    assert (found["a"].answer, found["a"].correct) == ("Japan", True)
    assert (found["b"].answer, found["b"].correct) == ("Peru", False)


def test_the_tool_is_the_gazetteer() -> None:
    assert asking_for_help.GAZETTEER.call([{"role": "user", "content": "In which country is the city of Nagoya?"}]) == (
        "Nagoya is a city in Japan, in Asia."
    )


def test_rollouts_are_read_by_the_record(tmp_path: Path) -> None:
    assert read_rollouts(tmp_path / "none.jsonl") == {}
    (tmp_path / "some.jsonl").write_text(json.dumps({"id": "a", "value": [0.5, 1.0]}) + "\n")
    assert read_rollouts(tmp_path / "some.jsonl") == {"a": [0.5, 1.0]}
