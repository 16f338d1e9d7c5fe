"""Answers beside a record's own: exchanged within a domain, sampled ones read once."""

from __future__ import annotations

import pytest

from confide.engines.closed_records import measure_options
from confide.engines.options import choose_options
from confide.methods.exchanged_answers import sampled_answers, swapped
from scored_model import ANSWERS, engine, records


def test_questions_are_exchanged_within_a_domain_for_another_reference() -> None:
    rows = records(40)
    for record, other in zip(rows, swapped(rows, seed=1), strict=True):
        assert other is not None
        source = next(r for r in rows if r.messages == other.messages and r.domain == record.domain)
        assert source.reference != record.reference
        assert other.answer == record.answer
        assert other.logprobs == []
    assert [o.messages for o in swapped(rows, 1) if o] == [o.messages for o in swapped(rows, 1) if o]
    alike = [r.model_copy(update={"reference": ["x"]}) for r in rows[:5]]
    assert swapped(alike) == [None] * 5


def test_a_chosen_answer_keeps_its_options_and_they_are_scored_under_the_other_question() -> None:
    rows = records(40, options=True)
    written = [r.model_copy(update={"option_logprobs": None}) for r in rows]
    assert all(o is not None and o.option_logprobs is None for o in swapped(written))
    exchanged = [o for o in swapped(rows) if o is not None]
    assert all(o.option_logprobs == [] and o.choices == list(ANSWERS) for o in exchanged)
    tiny = engine()
    found = measure_options(tiny, [*exchanged[:5], written[0]])
    assert found[-1] is written[0]
    for record, other in zip(found[:5], exchanged, strict=False):
        choice = choose_options(tiny, [tiny.encode(other.messages)], [ANSWERS])[0]
        assert record.option_logprobs == pytest.approx(choice.option_logprobs, abs=1e-4)


def test_equal_samples_are_read_once_and_own_answers_never() -> None:
    row = records(1, samples=8)[0]  # each of four answers twice
    distinct, places = sampled_answers([row])
    assert len(distinct) == 3
    assert len(places) == 8
    assert sum(place is None for place in places.values()) == 2
    assert {r.answer for r in distinct} | {row.answer} == {"France", "Germany", "Japan", "Chile"}
