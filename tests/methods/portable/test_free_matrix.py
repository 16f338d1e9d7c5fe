"""What tokens tell, as columns."""

from __future__ import annotations

import numpy as np
import pytest

from confide.methods.free import free_confidence
from confide.methods.portable.free_matrix import free_matrix, probability_matrix
from confide.numeric import logit
from confide.records import Record
from graded_rows import among_options, graded

ROW = Record(id="1", answer="a b", answer_ids=[5, 6], logprobs=[-0.5, -1.5], entropies=[0.2, 0.4], end_logprob=-3)


def test_columns_stand_for_what_they_say() -> None:
    (row,) = free_matrix([ROW])
    p = np.exp(-2)
    wanted = [-2, -1, -1.5, -0.5, -1.5, -3, np.log(3), 0, p, logit(p), np.exp(-1.5)]
    assert row == pytest.approx(wanted)
    cut = ROW.model_copy(update={"finish": "length", "end_logprob": None})
    assert free_matrix([cut])[0, [5, 7]].tolist() == [0, 1]
    assert probability_matrix([ROW])[0] == pytest.approx([p, logit(p)])


def test_what_no_server_tells_is_no_column() -> None:
    other = ROW.model_copy(update={"entropies": [3.0, 9.0]})
    assert np.array_equal(free_matrix([other]), free_matrix([ROW]))


def test_the_probability_among_options_is_two_columns_and_missing_where_there_were_none() -> None:
    records = [*among_options(graded(5)), ROW]
    columns = free_matrix(records, options=True)
    assert columns.shape == (6, 13)
    assert np.array_equal(columns[:, :11], free_matrix(records))
    chosen = np.array([free_confidence(record)["option_probability"] for record in records[:-1]], dtype=float)
    assert columns[:5, 11:] == pytest.approx(np.column_stack([chosen, logit(chosen)]))
    assert np.isnan(columns[5, 11:]).all()
    assert probability_matrix(records)[:5, 0] == pytest.approx(chosen)


CLOSING = 5


def test_certain_and_impossible_answers_are_finite() -> None:
    certain = [ROW.model_copy(update={"logprobs": [0.0, 0.0]}), ROW.model_copy(update={"logprobs": [-1e5]})]
    sure = ROW.model_copy(update={"option_logprobs": [0.0, -1e5], "answered": "B"})
    assert np.isfinite(free_matrix([*certain, sure], options=True)[:, :11]).all()
    assert np.isfinite(free_matrix([sure], options=True)).all()
    assert np.isfinite(probability_matrix([*certain, sure])).all()
    assert np.isfinite(np.delete(free_matrix([Record(id="2", answer="a")]), CLOSING, axis=1)).all()


def test_a_closing_token_that_is_not_told_is_missing_and_a_cut_answer_has_none() -> None:
    bare = ROW.model_copy(update={"end_logprob": None})
    cut = bare.model_copy(update={"finish": "length"})
    assert np.isnan(free_matrix([bare])[0, CLOSING])
    assert free_matrix([cut])[0, CLOSING] == 0


def test_long_answers_never_tie() -> None:
    # Twenty times less likely than one in a million, and less, where probabilities were cut off.
    long = [ROW.model_copy(update={"logprobs": [-0.02 - i / 10_000] * 1000}) for i in range(100)]
    assert np.all(np.diff(probability_matrix(long)[:, 1]) < 0)


def test_no_records_have_no_rows() -> None:
    assert free_matrix([]).shape == (0, 11)
    assert free_matrix([], options=True).shape == (0, 13)
    assert probability_matrix([]).shape == (0, 2)
