"""Generated problems: levels as domains, the generator's own scorer, and clear errors."""

from __future__ import annotations

import sys

import pytest

from confide.errors import ConfideError
from confide.records import Record
from confide.tasks import load_task
from confide.tasks.generated import generators

pytest.importorskip("reasoning_gym")


def test_problems_come_in_levels_and_are_scored_by_their_generator() -> None:
    task = load_task("reasoning_gym/chain_sum", limit=41, seed=3)
    assert (task.name, len(task.questions)) == ("reasoning_gym/chain_sum", 41)
    assert {q.domain for q in task.questions} == {"level_1", "level_2", "level_3", "level_4"}
    assert len({q.question for q in task.questions}) == len({q.id for q in task.questions}) == 41
    lengths = {
        level: [len(q.question) for q in task.questions if q.domain == level] for level in ("level_1", "level_4")
    }
    assert max(lengths["level_1"]) < min(lengths["level_4"])
    for question in task.questions:
        (right,) = question.accepted
        assert task.grade(question, f" {right}\n").correct is True
        assert task.grade(question, f"{right}1").correct is False
        assert task.grade(question, "").answered is None
        assert Record(id="r", **(question.model_extra or {})).line()  # what travels with the record is JSON
    assert task.agrees(task.questions[0], "A  b", "a b")


def test_the_seed_decides() -> None:
    def texts(seed: int) -> list[str]:
        return [q.question for q in load_task("reasoning_gym/gcd", limit=12, seed=seed).questions]

    assert texts(1) == texts(1)
    assert texts(1) != texts(2)


def test_a_scorer_decides_where_there_are_many_right_answers() -> None:
    task = load_task("reasoning_gym/countdown", limit=1)
    question = task.questions[0]
    assert task.grade(question, f"({question.accepted[0]})").correct is True
    assert task.grade(question, "1 + ").correct is False


def test_a_generator_without_levels_is_a_domain_of_its_own() -> None:
    assert {q.domain for q in load_task("reasoning_gym/gsm_symbolic", limit=3).questions} == {"gsm_symbolic"}


def test_unknown_generators_and_a_missing_package_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    assert "chain_sum" in generators()
    with pytest.raises(ConfideError, match=r"no generator 'chain_sums' \(there is chain_sum"):
        load_task("reasoning_gym/chain_sums")
    monkeypatch.setitem(sys.modules, "reasoning_gym", None)
    with pytest.raises(ConfideError, match=r"pip install 'confide\[tasks\]'"):
        load_task("reasoning_gym/chain_sum")
