"""Free sources of answers that were chosen among options."""

from __future__ import annotations

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
