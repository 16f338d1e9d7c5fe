"""The signals of question and answer: out of fold on training rows, the same for a row in any company."""

from __future__ import annotations

import json

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.methods.portable.answer_signals import FOLDS, AnswerSignals, TrainingSignals, fit_signals, grouped_folds
from confide.metrics import auroc
from confide.records import Record
from graded_rows import KINDS, graded, right, row

ODD = [row("", ""), row("?", "👍"), row("京都はどの国？", "日本"), Record(id="1"), row("Who?", "x" * 9999)]


@pytest.fixture(scope="module")
def training() -> TrainingSignals:
    return fit_signals(graded(400, 0))


def flipped(records: list[Record], *rows: int) -> list[Record]:
    """The same rows, some of them with the other label."""
    return [r.model_copy(update={"correct": r.correct is not (i in rows)}) for i, r in enumerate(records)]


@pytest.mark.parametrize("at", [0, 7, 399])
def test_the_columns_of_a_row_never_see_its_own_label_or_its_entitys(training: TrainingSignals, at: int) -> None:
    records = graded(400, 0)
    other = fit_signals(flipped(records, at))
    mine = [i for i, record in enumerate(records) if record.entity == records[at].entity]
    assert len(mine) == 2
    assert np.array_equal(other.columns[mine], training.columns[mine])
    # All that another fold holds out, it changes: whoever shares its answer has another history.
    (held,) = (held for _, held in training.folds if at in held)
    elsewhere = np.setdiff1d(np.arange(len(records)), held)
    assert (other.columns[elsewhere] != training.columns[elsewhere]).any(1).all()
    assert np.array_equal(other.columns[held], training.columns[held])


def test_rows_of_one_entity_stay_in_one_fold() -> None:
    records = graded(200, 1)
    folds = grouped_folds(records)
    assert len(folds) == FOLDS
    assert sorted(np.concatenate([held for _, held in folds]).tolist()) == list(range(200))
    for inside, held in folds:
        assert sorted([*inside, *held]) == list(range(200))
        assert not {records[i].entity for i in inside} & {records[i].entity for i in held}
    alone = [r.model_copy(update={"entity": None}) for r in records]  # a row is then an entity of its own
    assert any({records[i].entity for i in a} & {records[i].entity for i in b} for a, b in grouped_folds(alone))


def test_an_answer_of_one_entity_alone_is_new_to_it() -> None:
    records = graded(300, 2)
    for i in (10, 11):
        records[i] = records[i].model_copy(update={"answer": "Zyxquod"})
    training = fit_signals(records)
    assert training.seen[[10, 11]].tolist() == [0, 0]
    _, seen = training.signals.read(records)
    assert all(seen[[10, 11]] > 0)


def test_counts_of_a_part_are_scaled_to_the_whole() -> None:
    records = [row("Where is it?", "Norvonia", i % 2 == 0, entity=f"{i}") for i in range(50)]
    training = fit_signals(records)
    assert training.seen == pytest.approx(np.full(50, 50.0))
    assert training.signals.read(records)[1] == pytest.approx(np.full(50, 50.0))
    assert training.columns[:, 1] == pytest.approx(np.full(50, np.log(51)))


def test_an_answer_counts_where_it_was_given_to_this_kind_of_question(training: TrainingSignals) -> None:
    country, continent, _ = KINDS
    answer = KINDS[country][0]
    columns, seen = training.signals.read([row(q.format("Camran"), answer) for q in (country, continent, "Hm, {}")])
    assert seen[0] > 20
    assert seen[1:].tolist() == [0, 0]
    assert columns[0, 0] != columns[1, 0] == columns[2, 0]
    assert not columns[2, 2:-1].any()  # no kind


def test_they_rank_rows_that_training_never_saw_as_well_as_rows_out_of_fold(training: TrainingSignals) -> None:
    records, held = graded(400, 0), graded(400, 3)
    columns, _ = training.signals.read(held)
    for column in (0, -1):
        out_of_fold, fresh = auroc(training.columns[:, column], right(records)), auroc(columns[:, column], right(held))
        assert min(out_of_fold, fresh) > 0.62
        assert abs(out_of_fold - fresh) < 0.08
    seen, _ = training.signals.read(records)
    assert auroc(seen[:, -1], right(records)) > auroc(training.columns[:, -1], right(records)) + 0.05


@pytest.mark.parametrize(("label", "name"), [(True, "right"), (False, "wrong")])
def test_fewer_than_two_entities_with_a_label_are_refused(label: bool, name: str) -> None:
    records = [r.model_copy(update={"correct": not label}) for r in graded(40, 4)]
    for count in (0, 1):
        if count:
            records[6:8] = [r.model_copy(update={"correct": label}) for r in records[6:8]]
        with pytest.raises(
            ConfideError, match=f"{name} answers about at least 2 entities; there (is|are) {count}"
        ) as told:
            fit_signals(records)
        assert "stack" not in str(told.value)
    records[20] = records[20].model_copy(update={"correct": label})
    training = fit_signals(records)
    assert len(training.folds) == 2
    assert np.isfinite(training.columns).all()


def test_a_seed_gives_the_same_fit(training: TrainingSignals) -> None:
    again, other = fit_signals(graded(400, 0)), fit_signals(graded(400, 0), seed=1)
    assert np.array_equal(again.columns, training.columns)
    assert again.signals.to_json() == training.signals.to_json()
    assert any(not np.array_equal(a, b) for (_, a), (_, b) in zip(other.folds, training.folds, strict=True))


def test_company_changes_no_row_and_the_file_no_bit(training: TrainingSignals) -> None:
    records = [*graded(30, 5), *ODD]
    columns, seen = training.signals.read(records)
    assert columns.shape == (len(records), training.columns.shape[1])
    assert np.isfinite(columns).all()
    for i, record in enumerate(records):
        one, count = training.signals.read([record])
        np.testing.assert_allclose(one[0], columns[i], rtol=0, atol=1e-12)
        assert count[0] == seen[i]
    again, counts = AnswerSignals.from_json(json.loads(json.dumps(training.signals.to_json()))).read(records)
    assert np.array_equal(again, columns)
    assert np.array_equal(counts, seen)


def test_odd_rows_can_be_learned_from() -> None:
    records = [
        r.model_copy(update={"id": f"{i}{k}", "correct": k == i % 2}) for i, r in enumerate(ODD * 3) for k in (0, 1)
    ]
    training = fit_signals(records)
    assert np.isfinite(training.columns).all()
