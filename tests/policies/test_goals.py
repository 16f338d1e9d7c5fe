from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.policies.goals import Costs


def test_parse():
    assert Costs.parse("answer=1, escalate=20,wrong=100,abstain=5") == Costs(1, 20, 100, 5)
    assert Costs.parse("wrong=1e2,answer=0,escalate=.5").abstain is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("answer=1,escalate=20", "--cost lacks wrong"),
        ("answer=1,escalate=20,wrong=100,late=3", "not late"),
        ("answer=1,escalate=20,wrong", "wants name=number, got 'wrong'"),
        ("answer=1,escalate=cheap,wrong=1", "wants name=number"),
        ("answer=1,escalate=-20,wrong=100", "cost of escalate must be a number of at least 0, got -20"),
        ("answer=nan,escalate=20,wrong=100", "cost of answer"),
    ],
)
def test_parse_bad_input(text, says):
    with pytest.raises(ConfideError, match=says):
        Costs.parse(text)
