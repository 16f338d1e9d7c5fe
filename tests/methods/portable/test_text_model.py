"""The text model: letters of question and answer tell which answers are right, and none of them is kept."""

from __future__ import annotations

import json

import numpy as np
import pytest

from confide.methods.portable.text_model import LONGEST, TextModel, counted
from confide.metrics import auroc
from confide.records import Record
from graded_rows import graded, right, row

ODD = [
    row("", ""),
    row("?", ""),
    row("", "👍"),
    row("京都はどの国？", "日本"),
    row("a" * 5000, "b\n\tc"),
    Record(id="1"),
]


@pytest.fixture(scope="module")
def model() -> TextModel:
    records = graded(1000, 0)
    return TextModel.fit(counted(records), right(records))


def test_it_ranks_answers_to_new_questions(model: TextModel) -> None:
    records = graded(1000, 1)
    z = model.z(counted(records))
    assert auroc(z, right(records)) > 0.7
    shuffled = np.random.default_rng(0).permutation(right(graded(1000, 0)))
    nothing = TextModel.fit(counted(graded(1000, 0)), shuffled)
    assert abs(auroc(nothing.z(counted(records)), right(records)) - 0.5) < 0.1


def test_it_sees_question_and_answer(model: TextModel) -> None:
    asked = "In which country is the city of {}?"
    known, unknown = (model.z(counted([row(asked.format(f"Cam{end}"), "Estovaria")])) for end in ("burg", "wick"))
    assert known > unknown
    often, seldom = (model.z(counted([row(asked.format("Camran"), name)])) for name in ("Welmarkia", "Norvonia"))
    assert often > seldom


def test_what_one_row_alone_has_is_not_learned() -> None:
    records = graded(100, 2)
    lone = row("Žižkov ž ž", "Žž", True)
    own = set(counted([lone]).indices.tolist()) - set(counted(records).indices.tolist())
    assert own
    together = [*records, lone]
    assert not own & set(TextModel.fit(counted(together), right(together)).grams.tolist())
    twice = [*together, lone]
    assert own & set(TextModel.fit(counted(twice), right(twice)).grams.tolist())


def test_odd_texts_have_a_value(model: TextModel) -> None:
    assert np.isfinite(model.z(counted(ODD))).all()
    fitted = TextModel.fit(counted(ODD), np.array([True, False] * 3))
    assert np.isfinite(fitted.z(counted([*ODD, *graded(3)]))).all()


def test_rows_that_share_nothing_teach_as_one_row_each() -> None:
    rows = [row("", letter, letter in "ab") for letter in "abcd"]
    fitted = TextModel.fit(counted(rows), right(rows))
    assert np.isfinite(fitted.z(counted(rows))).all()


def test_company_changes_no_value(model: TextModel) -> None:
    records = [*graded(40, 3), *ODD]
    alone = [float(model.z(counted([record]))[0]) for record in records]
    np.testing.assert_allclose(model.z(counted(records)), alone, rtol=0, atol=1e-12)


def test_the_file_gives_the_same_values_to_the_last_bit(model: TextModel) -> None:
    records = [*graded(40, 4), *ODD]
    again = TextModel.from_json(json.loads(json.dumps(model.to_json())))
    assert np.array_equal(again.z(counted(records)), model.z(counted(records)))


def test_the_same_rows_give_the_same_model(model: TextModel) -> None:
    records = graded(1000, 0)
    assert TextModel.fit(counted(records), right(records)).to_json() == model.to_json()


def test_a_long_text_counts_by_its_end_or_start_alone(model: TextModel) -> None:
    tail, head = "In which country is the city of Camburg? " * 100, "Estovaria " * 400
    whole = model.z(counted([row("x" * 10**6 + tail, head + "y" * 10**6)]))
    assert np.array_equal(whole, model.z(counted([row(tail[-LONGEST:], head[:LONGEST])])))
    assert not np.array_equal(whole, model.z(counted([row(tail[-LONGEST:], head[1:])])))


def test_it_is_a_logistic_model_of_weighted_rows_of_length_one(model: TextModel) -> None:
    counts = counted(graded(20, 3))
    rows = counts[:, model.grams].toarray() * model.rarity
    rows /= np.linalg.norm(rows, axis=1, keepdims=True)
    np.testing.assert_allclose(model.z(counts), rows @ model.weight + model.bias, atol=1e-12)
