"""Training rows: samples merged by graded answer, soft targets."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.methods.reader.closed_rows import make_rows, shuffle_labels
from confide.records import Sample
from scored_model import engine, records


def test_samples_are_merged_by_graded_answer_and_weigh_one_question() -> None:
    tiny = engine()
    record = records(1)[0].model_copy(
        update={
            "samples": [
                Sample(answer="France", correct=True, answered="France"),
                Sample(answer="Japan", correct=False, answered="Japan"),
                Sample(answer="Japan!", correct=False, answered="Japan"),
                Sample(answer="hm", correct=False, answered=None),
            ]
        }
    )
    rows = make_rows(tiny, [record])
    told = [(tiny.decode(row.answer), row.target, row.weight) for row in rows]
    assert told == [("France", 1.0, 0.5), ("Japan", 0.0, 0.5)]
    assert len({row.id for row in rows}) == 1
    assert len(make_rows(tiny, [record], samples=False)) == 1


def test_soft_targets_need_samples() -> None:
    with pytest.raises(ConfideError, match="annotate --samples"):
        make_rows(engine(), records(2), "consistency")
    soft = records(1)[0].model_copy(update={"consistency": 0.25})
    assert make_rows(engine(), [soft], "consistency")[0].target == 0.25


def test_shuffled_labels_are_other_rows_labels() -> None:
    rows = [r.model_copy(update={"consistency": i / 40, "samples": [Sample(answer="x")]}) for i, r in
            enumerate(records(40))]  # fmt: skip
    lied = shuffle_labels(rows, seed=3)
    assert [r.id for r in lied] == [r.id for r in rows]
    assert sum(bool(r.correct) for r in lied) == sum(bool(r.correct) for r in rows)
    assert sum(a.correct != b.correct for a, b in zip(lied, rows, strict=True)) > 5
    pairs = {(r.correct, r.consistency) for r in rows}
    assert all((r.correct, r.consistency) in pairs for r in lied)  # a row's labels move together
    assert all(r.samples is None for r in lied)
    assert [r.correct for r in shuffle_labels(rows, 3)] == [r.correct for r in lied]
