"""The history of answers: counted by kind of question, shrunk to the base rate, without a word of them."""

from __future__ import annotations

import json

import numpy as np
import pytest

from confide.methods.portable.answer_history import AnswerHistory, answer_keys
from confide.numeric import logit
from confide.records import Record


def keys(*answers: str, kind: int = 0) -> list[str]:
    return answer_keys(np.full(len(answers), kind), [Record(id="", answer=answer) for answer in answers])


def counted(scale: float = 1.0) -> AnswerHistory:
    """India four times and once right, Chile once and right, Peru three times and always right."""
    right = np.array([True, False, False, False, True, True, True, True])
    return AnswerHistory.fit(keys(*["India"] * 4, "Chile", *["Peru"] * 3), right, scale)


def test_spelling_makes_no_other_answer() -> None:
    one, two, other = keys("The Côte d’Ivoire", "cote d'ivoire.", "France")
    assert one == two != other
    assert len(set(keys("👍", "👎", "", "北京", "東京"))) == 5


def test_the_same_answer_to_another_kind_of_question_is_not_familiar() -> None:
    history = counted()
    same, other = keys("India"), keys("India", kind=1)
    assert history.seen(same).tolist() == [4]
    assert history.seen(other).tolist() == [0]
    assert history.columns(other).tolist() == history.columns(keys("Zembla")).tolist() != history.columns(same).tolist()
    unknown = keys("India", kind=-1)
    assert history.seen(unknown).tolist() == [0]


def test_how_often_an_answer_was_right_is_shrunk_to_the_base_rate() -> None:
    columns = counted().columns(keys("India", "Chile", "Peru", "Zembla"))
    base = 5 / 8
    rates = [(1 + 2 * base) / 6, (1 + 2 * base) / 3, (3 + 2 * base) / 5, base]
    assert columns[:, 0] == pytest.approx(logit(rates))
    assert columns[:, 1] == pytest.approx(np.log([5, 2, 4, 1]))


def test_counts_of_a_part_are_scaled_to_the_whole_and_rates_are_not() -> None:
    asked = keys("India", "Chile", "Zembla")
    whole, part = counted(), counted(scale=1.25)
    assert part.seen(asked).tolist() == [5, 1.25, 0]
    assert part.columns(asked)[:, 1] == pytest.approx(np.log([6, 2.25, 1]))
    assert part.columns(asked)[:, 0].tolist() == whole.columns(asked)[:, 0].tolist()


def test_what_was_always_right_or_always_wrong_is_no_certainty() -> None:
    for right in (True, False):
        history = AnswerHistory.fit(keys(*["India"] * 5000), np.full(5000, right))
        assert np.isfinite(history.columns(keys("India", "Zembla"))).all()


def test_the_file_has_no_answer_and_gives_the_same_columns() -> None:
    history = counted(scale=1.25)
    text = json.dumps(history.to_json())
    assert not any(name.lower() in text.lower() for name in ("India", "Chile", "Peru"))
    again = AnswerHistory.from_json(json.loads(text))
    assert again == history
    asked = keys("India", "Chile", "Zembla", "")
    assert np.array_equal(again.columns(asked), history.columns(asked))


def test_no_answers_have_no_columns() -> None:
    assert keys() == []
    assert counted().columns([]).shape == (0, 2)
    assert counted().seen([]).shape == (0,)
