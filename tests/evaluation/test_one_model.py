"""Records of several models, or one confidence of several checkpoints, are not judged as one."""

from __future__ import annotations

from typing import Any

import pytest

from confide.errors import ConfideError
from confide.evaluation import evaluate
from confide.records import Record


def rows(n: int = 60, start: int = 0, **more: Any) -> list[Record]:
    data = {"identity": "weights=ab", "split": "test", "domain": "d"} | more
    return [
        Record.model_validate({"id": f"{start + i}", "confidence": {"stack": i / n}, "correct": i % 3 > 0} | data)
        for i in range(n)
    ]


def judge(records: list[Record], **more: Any) -> dict[str, Any]:
    return evaluate(records, resamples=10, **more)


def test_other_weights_are_refused_among_the_rows_that_count() -> None:
    with pytest.raises(ConfideError, match=r"different models.*weights=ab \(60 rows\); weights=cd \(5 rows\)"):
        judge([*rows(), *rows(5, 100, identity="weights=cd")])
    assert judge([*rows(), *rows(5, 100, identity="weights=cd", split="train")])["n"] == 60
    assert judge([*rows(), *rows(5, 100, identity="")])["n"] == 65


def test_one_confidence_of_two_checkpoints_is_refused_unless_rows_say_what_it_was_trained_on() -> None:
    one, other = {"scored_by": {"stack": "1"}}, {"scored_by": {"stack": "2"}}
    with pytest.raises(ConfideError, match=r"confidence=1 \(60 rows\); weights=ab, confidence=2 \(60 rows\)"):
        judge([*rows(**one), *rows(start=100, **other)])
    trained = [*rows(**one, trained_on="d"), *rows(start=100, domain="e", **other, trained_on="e")]
    assert judge(trained)["matrix"]["rows"] == ["d", "e"]
    with pytest.raises(ConfideError, match="different models"):
        judge([*trained[:60], *rows(start=100, identity="weights=cd", domain="e", trained_on="e")])


def test_every_row_of_the_matrix_is_of_one_model() -> None:
    fine = {"d": rows(), "e": rows(scored_by={"stack": "2"})}
    assert judge(rows(), trained=fine)["n"] == 60
    with pytest.raises(ConfideError, match="different models"):
        judge(rows(), trained=fine | {"e": [*rows(), *rows(5, 100, identity="weights=cd")]})
