"""Selection: both ends of the ratings, ties by seed, and what was not rated is never selected."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods.rlmf.selection import parse_rating, rate, select
from confide.records import Message, Record
from speakers import Scripted
from tiny_model import tiny_model


def record(i: int, c: float | None = None, g: float | None = None) -> Record:
    asked = [Message(role="system", content="Name only."), Message(role="user", content=f"What is {i}?")]
    said = {"answer": f"answer {i}", "consistency": g, "confidence": {"graded": c}}
    return Record(id=f"r{i}", task="t", messages=asked, **said)  # the system line is the task's


def rows(count: int) -> list[Record]:
    return [record(i) for i in range(count)]


def ids(records) -> list[str]:
    return [r.id for r in records]


ratings = st.lists(st.none() | st.integers(0, 5), min_size=1, max_size=12)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("85", 85), (" 85.", 85), ("0", 0), ("100", 100), ("Rating: 40, maybe 50", 40), ("**Your rating: 40**", 40),
        ("90%", 90), ("70/100", 70), ("70 out of 100", 70), ("7/10", None), ("7 out of 10", None), ("0.85", None),
        ("85.5", None), ("101", None), ("12345678901234567890", None), ("-5", None), ("Rating: -5", None),
        ("1,000", None), ("ninety", None), ("", None), ("between 150 and 80", None), ("I'd say 40", None),
        ("It is not 100% right", None),
    ],
)  # fmt: skip
def test_a_rating_is_a_whole_number_up_to_a_hundred(text: str, value: int | None) -> None:
    assert parse_rating(text) == value


@given(st.text(max_size=20))
def test_any_reply_is_a_rating_or_none(text: str) -> None:
    value = parse_rating(text)
    assert value is None or 0 <= value <= 100


def test_the_model_is_asked_about_its_own_answer() -> None:
    def reply(text: str) -> str:
        assert "Name only." not in text
        return "90" if "What is 1?\nYour answer: answer 1\n" in text else "hm"

    told: list[tuple[int, int, str]] = []
    assert rate(Scripted(reply), rows(4), progress=lambda *how: told.append(how)) == [None, 90, None, None]
    assert told[-1] == (4, 4, "rating")


def test_a_model_rates() -> None:
    found = rate(TransformersEngine(*tiny_model(context=1024), "tiny"), rows(3))
    assert len(found) == 3
    assert all(value is None or 0 <= value <= 100 for value in found)
    with pytest.raises(ConfideError, match=r"1 rows do not fit .* r1$"):
        rate(TransformersEngine(*tiny_model(context=256), "tiny"), rows(2)[1:])


def test_both_ends_are_kept_and_the_unreadable_dropped() -> None:
    found = select(rows(8), [10, None, 90, 50, 0, 60, None, 100], 4, "metacognitive", 0)
    assert ids(found.records) == ["r0", "r2", "r4", "r7"]
    assert found.dropped == 2
    odd = select(rows(5), [1, 2, 3, 4, 5], 3, "metacognitive", 0)
    assert ids(odd.records) == ["r0", "r1", "r4"]


def test_the_largest_gaps_are_active() -> None:
    records = [
        record(0, 0.5, 0.5),
        record(1, 0.9, 0.2),
        record(2, None, 0.1),
        record(3, 0.1, 0.4),
        record(4, 1.0, None),
    ]
    found = select(records, None, 2, "active", 0, source="graded")
    assert ids(found.records) == ["r1", "r3"]
    assert found.dropped == 2


@given(ratings, st.integers(0, 3), st.data())
def test_metacognitive_selection_is_of_both_ends(scores, seed, data) -> None:
    records = rows(len(scores))
    known = [s for s in scores if s is not None]
    if not known:
        return
    n = data.draw(st.integers(1, len(known)))
    found = select(records, scores, n, "metacognitive", seed)
    of = dict(zip(ids(records), scores, strict=True))
    chosen = sorted(of[r.id] for r in found.records)  # type: ignore[type-var]
    assert chosen == sorted(known)[: n - n // 2] + sorted(known)[len(known) - n // 2 :]
    assert len({r.id for r in found.records}) == n
    assert found.dropped == scores.count(None)
    # The order of the records does not matter.
    mixed = data.draw(st.permutations(range(len(records))))
    again = select([records[i] for i in mixed], [scores[i] for i in mixed], n, "metacognitive", seed)
    assert set(ids(again.records)) == set(ids(found.records))


@pytest.mark.parametrize("how", ["metacognitive", "random", "active"])
def test_ties_are_broken_by_the_seed(how) -> None:
    records = [record(i, 0.5, 0.5) for i in range(40)]
    drawn = [ids(select(records, [50] * 40, 10, how, seed, source="graded").records) for seed in (0, 0, 1)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert drawn[0] != [f"r{i}" for i in range(10)]


def test_random_selection_needs_no_ratings() -> None:
    found = select(rows(6), None, 6, "random", 0)
    assert ids(found.records) == ids(rows(6))
    assert found.dropped == 0


def test_too_few_and_missing_scores_are_told() -> None:
    with pytest.raises(ConfideError, match="3 records are wanted, but only 2 of 4 have a rating that can be read"):
        select(rows(4), [1, None, 2, None], 3, "metacognitive", 0)
    with pytest.raises(ConfideError, match="5 records are wanted, but only 4 of 4 are there"):
        select(rows(4), None, 5, "random", 0)
    with pytest.raises(ConfideError, match="only 0 of 4 have a consistency and a confidence of reader"):
        select(rows(4), None, 1, "active", 0, source="reader")
    with pytest.raises(ConfideError, match="there is graded"):
        select(rows(4), None, 1, "active", 0)
    with pytest.raises(ConfideError, match="4 records, 1"):
        select(rows(4), [1], 1, "metacognitive", 0)
    with pytest.raises(ConfideError, match="4 records, none"):
        select(rows(4), None, 1, "metacognitive", 0)
    with pytest.raises(ConfideError, match="not 0"):
        select(rows(4), None, 0, "random", 0)
    with pytest.raises(ConfideError, match="metacognitive, random, active"):
        select(rows(4), None, 1, "best", 0)  # type: ignore[arg-type]


def test_a_log_probability_is_held_against_agreement_as_a_probability() -> None:
    records = [
        Record(id=str(i), consistency=g, confidence={"logprob_sum": c})
        for i, (c, g) in enumerate([(-0.1, 0.9), (-5.0, 0.0), (-0.01, 0.3), (-3.0, 0.1)])
    ]
    assert ids(select(records, None, 1, "active", 0, source="logprob_sum").records) == ["2"]
