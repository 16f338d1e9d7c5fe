"""Free sources of answers that were chosen among options."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.methods.free import FREE, OPTION, free_confidence, option_probability
from confide.records import Record


def test_the_chosen_options_share() -> None:
    values = [np.log(0.2), np.log(0.5), np.log(0.3)]
    by_letter = Record(id="1", answer="x", answered="C", option_logprobs=values)
    by_text = Record(id="1", answer="red", choices=["red", "green", "blue"], answered="C", option_logprobs=values)
    likeliest = Record(id="1", answer="?", option_logprobs=values)
    assert [option_probability(r) for r in (by_letter, by_text, likeliest)] == pytest.approx([0.3, 0.2, 0.5])
    assert free_confidence(by_letter)[OPTION] == pytest.approx(0.3)


def test_free_sources_stand_for_what_they_say() -> None:
    record = Record(id="1", answer="a b", answer_ids=[5, 6], logprobs=[-0.5, -1.5], entropies=[0.2, 0.4])
    free = free_confidence(record)
    assert free["logprob_sum"] == -2
    assert free["logprob_mean"] == pytest.approx(np.exp(-1))
    assert free["logprob_min"] == pytest.approx(np.exp(-1.5))
    assert free["entropy"] == pytest.approx(np.exp(-0.3))
    assert free["answer_length"] == pytest.approx(1 / 3)
    assert free_confidence(Record(id="2", answer="a"))["logprob_sum"] is None


def test_records_without_options_have_the_five_free_sources_alone() -> None:
    assert set(free_confidence(Record(id="1", answer="a"))) == set(FREE)
    assert option_probability(Record(id="1")) is None


@given(st.lists(st.floats(-2000, 0), min_size=1, max_size=6), st.floats(-500, 500))
def test_shares_sum_to_one_and_do_not_move_with_a_common_shift(values: list[float], shift: float) -> None:
    def shares(some: list[float]) -> list[float]:
        found = [
            option_probability(Record(id="1", answered=chr(65 + i), option_logprobs=some)) for i in range(len(some))
        ]
        return [value for value in found if value is not None]

    assert sum(shares(values)) == pytest.approx(1)
    assert shares([v + shift for v in values]) == pytest.approx(shares(values), abs=1e-6)


def ranks_kept(records: list[Record], source: str) -> bool:
    """Whether records that are in order are strictly in order by the source."""
    values = [free_confidence(record)[source] for record in records]
    return all(a is not None and b is not None and a < b for a, b in pairwise(values))


def test_answers_of_a_thousand_tokens_keep_their_ranks() -> None:
    records = [Record(id=str(i), logprobs=[-2 + i / 400] * 1000) for i in range(400)]
    assert ranks_kept(records, "logprob_sum")
    assert ranks_kept(records, "logprob_mean")
    assert free_confidence(records[0])["logprob_sum"] == pytest.approx(-2000)


def test_a_sum_that_rounding_leaves_above_zero_is_certain() -> None:
    assert free_confidence(Record(id="1", logprobs=[1e-9, 0.0]))["logprob_sum"] == 0.0
    assert free_confidence(Record(id="1", logprobs=[-1e-9, 0.0]))["logprob_sum"] == -1e-9


def test_the_other_free_sources_do_not_saturate_on_what_models_give() -> None:
    least = [-200.0, -100.0, -30.0, -20.0, -1e-3, -1e-6, -1e-9]
    assert ranks_kept([Record(id="1", logprobs=[value, -1e-12]) for value in least], "logprob_min")
    assert ranks_kept([Record(id="1", entropies=[e] * 5) for e in (11.0, 5.0, 1e-3, 1e-6, 1e-9)], "entropy")
    lengths = (100_000, 99_999, 1001, 1000, 1)
    assert ranks_kept([Record(id="1", answer_ids=[0] * n) for n in lengths], "answer_length")
    chosen = [Record(id="1", answered="A", option_logprobs=[0.0, -gap]) for gap in (0.1, 5.0, 20.0, 30.0, 35.0)]
    assert ranks_kept(chosen, OPTION)
    refused = [Record(id="1", answered="A", option_logprobs=[-gap, 0.0]) for gap in (700.0, 300.0, 40.0, 1.0)]
    assert ranks_kept(refused, OPTION)
