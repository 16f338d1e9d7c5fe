"""What all methods share: labels, and labels that belong to other rows."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.methods.method import check_labels, shuffle_labels
from scored_model import records


def test_one_kind_of_label_is_refused_with_counts() -> None:
    with pytest.raises(ConfideError, match="3 right and 0 wrong"):
        check_labels([r.model_copy(update={"correct": True}) for r in records(3)])


def test_shuffled_labels_are_other_rows_labels() -> None:
    rows = records(40)
    lied = shuffle_labels(rows, seed=3)
    assert [r.id for r in lied] == [r.id for r in rows]
    assert sum(bool(r.correct) for r in lied) == sum(bool(r.correct) for r in rows)
    assert sum(a.correct != b.correct for a, b in zip(lied, rows, strict=True)) > 5
    assert [r.correct for r in shuffle_labels(rows, 3)] == [r.correct for r in lied]


def test_what_scripts_need_is_there_by_name() -> None:
    from confide import methods
    from confide.methods import scoring

    assert methods.score is scoring.score
    assert all(callable(getattr(methods, name)) for name in methods.__all__)
    with pytest.raises(AttributeError, match="no attribute 'scores'"):
        _ = methods.scores
