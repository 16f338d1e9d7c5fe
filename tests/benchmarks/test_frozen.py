"""The frozen protocol: seeds share no entity where the page says so, and only what it allows is called measurable."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks import common
from benchmarks.quality import frozen, frozen_tables
from benchmarks.quality.frozen_pools import (
    LARGEST,
    SEEDS,
    QuestionSet,
    by_shared_options,
    by_subject,
    deal,
    key_of_draws,
)
from benchmarks.quality.proper_scores import Readings, proper_scores, sampled_scores
from confide.hashing import sha256_of_text
from confide.records import Record
from confide.tasks.questions import Question

SIZES = {"train": 12, "validation": 6, "test": 9}


def choice(name: str, *options: str) -> Question:
    return Question(id=name, kind="choice", question=f"{name}?", choices=list(options), answer=0, domain="")


def short(name: str, question: str, entity: str | None = None) -> Question:
    return Question(id=name, kind="short", question=question, answer=["x"], domain="", entity=entity)


QUESTIONS = [short(f"q{at}", f"q{at}?", f"e{at // 3}") for at in range(120)]
ENTITY = {question.id: question.entity for question in QUESTIONS}


def entities(dealt: dict[str, Any], part: str | None = None) -> set[str | None]:
    return {ENTITY[i] for i, to in dealt.items() if part in (None, to)}


@pytest.mark.parametrize("independent", [True, False])
def test_no_entity_is_in_two_parts_nor_in_two_independent_seeds(independent: bool) -> None:
    draws = deal(QUESTIONS, SIZES, independent)
    for dealt in draws:
        assert Counter(dealt.values()) == SIZES
        assert sum(len(entities(dealt, part)) for part in SIZES) == len(entities(dealt))
    shared = [entities(draws[a]) & entities(draws[b]) for a, b in ((0, 1), (0, 2), (1, 2))]
    assert any(shared) is not independent
    assert len(draws) == len(SEEDS)


def test_the_key_tells_other_questions_and_other_draws() -> None:
    draws = deal(QUESTIONS, SIZES, True)
    used = min(draws[0])
    other = [q.model_copy(update={"question": "another?"}) if q.id == used else q for q in QUESTIONS]
    key = key_of_draws(QUESTIONS, draws)
    assert key_of_draws(QUESTIONS[::-1], draws) == key
    assert key_of_draws(other, draws) != key
    assert key_of_draws(QUESTIONS, draws[::-1]) != key


def test_questions_that_share_three_options_are_one_entity_and_large_groups_are_left_out() -> None:
    questions = [
        choice("a", "bank", "mall", "park", "zoo"),
        choice("b", "Bank", "mall", "park", "sea"),
        choice("c", "mall", "park", "sea", "sky"),
        choice("d", "bank", "mall", "air", "sun"),
        *(choice(f"common{at}", "house", "home", "street", f"x{at}") for at in range(LARGEST + 1)),
    ]
    found = by_shared_options(questions)
    expected = {"a": "options:a", "b": "options:a", "c": "options:a", "d": "options:d"}
    assert {question.id: question.entity for question in found} == expected
    assert len(by_shared_options(questions[:-1])) == 4 + LARGEST


def test_the_subject_of_a_wording_is_the_entity_whatever_is_asked_of_it() -> None:
    questions = [
        short("a", "What is Don't Look Up's occupation?"),
        short("b", "Who was the screenwriter for Don't Look Up?"),
        short("c", "What is the capital of Georgia?"),
        short("d", "What is Tbilisi the capital of?"),
        short("e", "Why?"),
    ]
    assert [(q.id, q.entity, q.asked) for q in by_subject(questions)] == [
        ("a", "subject:don't look up", "Don't Look Up"),
        ("b", "subject:don't look up", "Don't Look Up"),
        ("c", "subject:georgia", "Georgia"),
        ("d", "subject:tbilisi", "Tbilisi"),
    ]


def test_questions_whose_key_the_protocol_does_not_state_are_not_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = [short(f"q{at}", f"What genre is Song {at}?") for at in range(40)]
    (tmp_path / "popqa.jsonl").write_text("\n".join(q.model_dump_json(exclude_none=True) for q in asked), "utf-8")
    monkeypatch.setitem(frozen.SETS, "popqa", QuestionSet("popqa", by_subject, SIZES, False, 0.0))
    key = key_of_draws(asked, deal(by_subject(asked), SIZES, False))
    with pytest.raises(SystemExit, match=f"popqa .* have the key {key}"):
        frozen.answered(common.Work(tmp_path), tmp_path, "popqa", "of other keys")


def records(n: int) -> list[Record]:
    return [Record(id=f"r{at}", answer="x", correct=at % 2 == 0) for at in range(n)]


def test_ungraded_answers_are_in_no_part() -> None:
    rows = records(6)
    rows[3] = rows[3].model_copy(update={"correct": None})
    dealt: dict[str, Any] = {f"r{at}": "train" if at < 4 else "test" for at in range(6)}
    parts = frozen.rows_of(dealt, rows, 0)
    assert {part: sorted(found.tolist()) for part, found in parts.items()} == {
        "train": [0, 1, 2],
        "validation": [],
        "test": [4, 5],
    }


@pytest.mark.parametrize(
    ("right", "chance", "said"),
    [(29, 0.0, "29 right"), (780, 0.0, "20 wrong"), (30, 0.0, None), (170, 0.2, "chance"), (200, 0.2, None)],
)
def test_a_cell_is_marked_by_its_test_answers(right: int, chance: float, said: str | None) -> None:
    counts = {"train": {"right": 10, "wrong": 490}, "test": {"right": right, "wrong": 800 - right}}
    found = frozen.marks(counts, chance)
    assert len(found) == (said is not None)
    assert said is None or said in found[0]
    untrained = counts | {"train": {"right": 9, "wrong": 491}}
    assert len(frozen.marks(untrained, chance)) == len(found) + 1


def test_a_step_helps_where_every_seed_says_so() -> None:
    def seeds(*ends: tuple[float, float]) -> list[common.Json | None]:
        return [{"value": (low + high) / 2, "low": low, "high": high} for low, high in ends]

    up, down, across = (0.01, 0.02), (-0.02, -0.01), (-0.01, 0.02)
    assert frozen_tables.verdict(seeds(up, up, up), marked=False) == "**helps**"
    assert frozen_tables.verdict(seeds(down, down, down), marked=False) == "**harms**"
    assert frozen_tables.verdict(seeds(up, up, across), marked=False) == "not shown"
    assert frozen_tables.verdict([*seeds(up, up), None], marked=False) == "not shown"
    assert frozen_tables.verdict(seeds(up, up, up), marked=True) == "not measurable"


def test_scores_are_of_calibrated_values_and_a_missing_value_is_the_least_sure() -> None:
    rows, draw = records(400), np.random.default_rng(0)
    right = np.array([bool(record.correct) for record in rows])
    sure = 1 / (1 + np.exp(-(4 * right - 2 + draw.normal(size=400))))
    values = {"stack": sure.copy(), "logprob_sum": np.log(sure), "stack_served": np.where(sure < 0.1, np.nan, sure)}
    whole, half = Readings(rows, values), np.arange(400) < 200
    held, tested = whole.where(half), whole.where(~half)
    found = proper_scores(held, tested, 20, 0)
    for source in values:
        assert found[source]["log_loss"]["value"] < 0.35
        assert found[source]["brier"]["low"] <= found[source]["brier"]["value"] <= found[source]["brier"]["high"]
    drawn, _ = sampled_scores(held, tested, 20, 0)
    missing = np.isnan(tested.values["stack_served"])
    assert 0 < missing.sum() < 200
    best = frozen.best_free(Readings(tested.records, {"logprob_min": -sure[200:], "logprob_sum": sure[200:]}))
    assert best == "logprob_sum"
    flipped = Readings(tested.records, {**tested.values, "stack_served": np.where(missing, 1.0, sure[200:])})
    assert sampled_scores(held, flipped, 0, 0)[0]["stack_served"]["auroc"][0] < drawn["stack_served"]["auroc"][0]


def test_results_name_the_protocol_as_it_stands() -> None:
    page = frozen.PROTOCOL.read_text(encoding="utf-8")
    assert common.read_json(common.RESULTS / "frozen.json")["protocol"] == sha256_of_text(page)
