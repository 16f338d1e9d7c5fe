"""Which fields are caught, and what the cheap sources say of them."""

from __future__ import annotations

import numpy as np
import pytest

from benchmarks.inside import fields, fields_tables
from benchmarks.inside.fields import FREE, REVIEWED, SOURCES, beside, caught, in_text, judged
from confide.parts.part_records import split_records
from confide.records import Message, Record
from confide.tasks.field_grader import part_grader


def test_the_least_sure_fifth_is_sent_and_what_is_wrong_in_it_is_caught() -> None:
    sure, chance = np.linspace(0, 1, 10), np.zeros(10)
    right = np.array([0, 1, 0, 1, 1, 1, 1, 1, 1, 0], bool)
    once = np.ones((1, 10), np.int32)
    assert caught(sure, right, chance, once) == pytest.approx(1 / 3)
    assert caught(1 - sure, right, chance, once) == pytest.approx(1 / 3)
    assert caught(right.astype(float), right, chance, once) == pytest.approx(2 / 3)  # all that fit into a fifth
    twice = np.array([[2, 0, 0, 0, 0, 2, 2, 2, 2, 0]])
    assert caught(sure, right, chance, twice) == pytest.approx(1.0)
    assert REVIEWED == 0.2


def test_ties_are_broken_by_chance_alone() -> None:
    right = np.arange(1000) % 2 == 0
    drawn = [float(caught(np.zeros(1000), right, np.random.default_rng(n).random(1000), np.ones((1, 1000), int))[0])
             for n in range(20)]  # fmt: skip
    assert np.mean(drawn) == pytest.approx(REVIEWED, abs=0.01)


def record(number: int, *, right: bool) -> Record:
    draw = np.random.default_rng(number)
    year, town = 1900 + number, "Kelstone" if right else "Upwell"
    answer = f'{{"year": {year}, "town": "{town}"}}'
    logprobs = (-draw.random(len(answer)) / 50).tolist()
    text = f"Text: It opened in {year} in Kelstone.\nFields: year, town"
    return Record(
        id=f"q-{number}", entity=f"q-{number}", kind="fields", answer=answer, answer_ids=list(range(len(answer))),
        logprobs=logprobs, entropies=logprobs, end_logprob=-0.1, token_starts=list(range(len(answer))), correct=right,
        reference={"year": year, "town": "Kelstone"}, messages=[Message(role="user", content=text)], task="extraction",
    )  # fmt: skip


@pytest.fixture(scope="module")
def some() -> list[Record]:
    return [record(number, right=number % 3 > 0) for number in range(60)]


def test_a_value_stands_in_the_text_as_whole_words(some: list[Record]) -> None:
    (year, town), _ = split_records(some[:1], "fields", part_grader)
    assert in_text(year)
    assert not in_text(town)
    assert not in_text(year.model_copy(update={"answer": "190"}))
    assert not in_text(year.model_copy(update={"answer": "year"}))  # the list of fields is no text


def test_every_cheap_source_is_there_and_judged_beside_the_others(
    some: list[Record], monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, _ = split_records(some, "fields", part_grader)
    answers = {"train": np.arange(40), "validation": np.arange(40, 44), "test": np.arange(44, 60)}
    rows = {name: [p for p in parts if int(str(p.entity)[2:]) in set(at.tolist())] for name, at in answers.items()}
    found = beside(some, rows)
    assert {*FREE, "whole_sum", "whole_mean", "field_rate", "in_text", "cheap"} == set(found)
    right = np.array([bool(p.correct) for p in rows["test"]])
    assert (found["in_text"] == right).all()
    assert {round(rate, 3) for rate in found["field_rate"].tolist()} == {1.0, 26 / 40}
    monkeypatch.setattr(fields, "RESAMPLES", 20)
    cell = judged(rows["test"], {**found, "portable": found["in_text"], "field": found["in_text"]}, 0)
    assert cell["sources"]["field"]["auroc"]["value"] == 1.0
    assert cell["sources"]["field_rate"]["within_field"]["value"] == 0.5
    assert set(cell["sources"]) == set(SOURCES) == set(fields_tables.NAMES)
    told = fields_tables.difference(cell, "auroc", "in_text")
    assert (told["value"], told["low"], told["high"]) == (0.0, 0.0, 0.0)
