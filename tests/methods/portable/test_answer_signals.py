"""The signals of question and answer: out of fold on training rows, the same for a row in any company."""

from __future__ import annotations

import json

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.methods.portable.answer_signals import (
    FOLDS,
    WIDTH,
    AnswerSignals,
    TrainingSignals,
    familiarity,
    fit_signals,
    grouped_folds,
)
from confide.metrics import auroc
from confide.records import Record
from graded_rows import KINDS, graded, long_tailed, right, row

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
    assert other.signals.open_answers == training.signals.open_answers  # no label counts there
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


def test_one_question_twice_is_in_one_fold_though_no_entity_is_named() -> None:
    records = [row.model_copy(update={"entity": None}) for row in graded(100, 2)]
    twice = [*records, *(row.model_copy(update={"id": f"{row.id}-again"}) for row in records)]
    for inside, held in grouped_folds(twice):
        assert not {twice[i].question for i in inside} & {twice[i].question for i in held}


def test_an_answer_of_one_entity_alone_is_new_to_it() -> None:
    records = graded(300, 2)
    for i in (10, 11):
        records[i] = records[i].model_copy(update={"answer": "Zyxquod"})
    training = fit_signals(records)
    assert training.columns[[10, 11], 1].tolist() == [0, 0]
    assert 0 < training.signals.open_answers < 0.01
    ground = training.signals.read(records)
    assert (ground.columns[[10, 11], 1] > 0).all()
    assert (ground.familiar[[10, 11]] >= 0.49).all()


def test_counts_of_a_part_are_scaled_to_the_whole() -> None:
    records = [row("Where is it?", "Norvonia", i % 2 == 0, entity=f"{i}") for i in range(50)]
    training = fit_signals(records)
    ground = training.signals.read(records)
    assert training.columns[:, 1] == pytest.approx(np.full(50, np.log(51)))
    assert ground.columns[:, 1] == pytest.approx(np.full(50, np.log(51)))
    # Answer and phrasing, each 50 times, and neither ever new.
    assert training.signals.open_answers == training.signals.open_phrasings == 0


def test_familiarity_grows_with_what_training_had() -> None:
    times = np.array([0.0, 1.0, 3.0, 99.0])
    assert familiarity(times, 0.0).tolist() == [0, 0.5, 0.75, 0.99]
    assert familiarity(times, 0.5) == pytest.approx([0.5, 0.75, 0.875, 0.995])
    assert familiarity(times, 1.0).tolist() == [1, 1, 1, 1]
    assert familiarity(times, 0.0, 0.6) == pytest.approx([0, 0.3, 0.45, 0.594])
    assert familiarity(times, np.array([0.2, 0.2, 0.4, 0.4]), 0.8) == pytest.approx([0.2, 0.5, 0.7, 0.796])


def test_a_phrasing_that_training_never_had_is_new(training: TrainingSignals) -> None:
    country, _, _ = KINDS
    answer = KINDS[country][0]
    other = "The city of Camran is in which country?"
    known, new = (training.signals.read([row(text, answer)]) for text in (country.format("Camran"), other))
    assert known.familiar[0] > 0.9
    assert new.familiar[0] == training.signals.open_phrasings == 0
    assert new.columns[0, :2].tolist() == known.columns[0, :2].tolist()  # the same kind, and the answer's history in it


def test_where_everybody_asks_in_words_of_their_own_a_new_phrasing_is_nothing_new() -> None:
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(30)]

    def asked(count: int, start: int) -> list[Record]:
        texts = [" ".join(rng.permutation(words)[:12]) for _ in range(count)]
        return [row(text, "AB"[i % 2], i % 3 == 0, id=f"{start + i}") for i, text in enumerate(texts)]

    training = fit_signals(asked(200, 0))
    assert training.signals.open_phrasings == 1
    assert training.signals.open_answers < 0.01
    assert training.signals.read(asked(20, 200)).familiar.min() > 0.8


def test_an_answer_counts_where_it_was_given_to_this_kind_of_question(training: TrainingSignals) -> None:
    country, continent, _ = KINDS
    answer = KINDS[country][0]
    asked = [country, continent, "Hm, {}"]
    ground = training.signals.read([row(text.format("Camran"), answer) for text in asked])
    columns = ground.columns
    assert training.signals.open_answers == 0  # so one that it never gave is of no long tail, whatever the traffic
    assert ground.familiar[0] > 0.5
    assert ground.familiar[1:].tolist() == [0, 0]
    assert columns[0, 0] != columns[1, 0] == columns[2, 0]
    assert columns[0, 1] > 2 > columns[1, 1] == columns[2, 1] == 0
    rates = training.signals.kind_history
    assert columns[2, 2] == pytest.approx(np.log(rates.base / (1 - rates.base)))  # no kind


def test_a_kind_of_question_counts_by_how_often_its_answers_were_right() -> None:
    easy, hard = list(KINDS)[:2]
    records = [
        row((easy, hard)[i % 2].format(f"Place{i}"), f"answer {i}", (i // 2) % 10 < (9, 1)[i % 2], entity=f"{i}")
        for i in range(400)
    ]
    training = fit_signals(records)
    of = training.columns[:, 2]
    assert of[0::2].min() > 1
    assert of[1::2].max() < -1
    # Two rows of a kind say little.
    few = fit_signals(records[:380] + [row(f"zz yy {i} xx ww", f"other {i}", True, entity=f"z{i}") for i in range(12)])
    assert few.columns[-12:, 2].max() < of[0::2].min()


def test_letters_that_tell_nothing_are_held_back() -> None:
    draw = np.random.default_rng(0)
    records = [row(f"{draw.bytes(8).hex()}?", draw.bytes(4).hex(), bool(draw.random() < 0.5)) for _ in range(200)]
    records = [record.model_copy(update={"id": f"{i}", "entity": f"{i}"}) for i, record in enumerate(records)]
    assert np.ptp(fit_signals(records).columns[:, 3]) < 1


def test_they_rank_rows_that_training_never_saw_as_well_as_rows_out_of_fold(training: TrainingSignals) -> None:
    records, held = graded(400, 0), graded(400, 3)
    columns = training.signals.read(held).columns
    for column in (0, -1):
        out_of_fold, fresh = auroc(training.columns[:, column], right(records)), auroc(columns[:, column], right(held))
        assert min(out_of_fold, fresh) > 0.62
        assert abs(out_of_fold - fresh) < 0.08
    inside = training.signals.read(records).columns
    assert auroc(inside[:, -1], right(records)) > auroc(training.columns[:, -1], right(records)) + 0.05


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


def test_in_one_traffic_company_changes_no_row_and_the_file_no_bit(training: TrainingSignals) -> None:
    records = [*graded(30, 5), *ODD]
    traffic = training.signals.traffic(records)
    ground = training.signals.read(records)
    assert ground.columns.shape == (len(records), training.columns.shape[1]) == (len(records), WIDTH)
    assert np.isfinite(ground.columns).all()
    for i, record in enumerate(records):
        one = training.signals.read([record], traffic)
        np.testing.assert_allclose(one.columns[0], ground.columns[i], rtol=0, atol=1e-12)
        assert one.familiar[0] == ground.familiar[i]
    again = AnswerSignals.from_json(json.loads(json.dumps(training.signals.to_json()))).read(records)
    assert np.array_equal(again.columns, ground.columns)
    assert np.array_equal(again.familiar, ground.familiar)
    nothing = training.signals.read([])
    assert (nothing.columns.shape, nothing.familiar.shape) == ((0, WIDTH), (0,))


def test_a_new_answer_is_familiar_where_the_traffic_has_no_more_of_them_than_training() -> None:
    signals = fit_signals(long_tailed(600, 6)).signals
    usual = np.sqrt(signals.open_answers)
    assert 0.15 < usual < 0.25
    ordinary = [r.model_copy(update={"split": "test"}) for r in long_tailed(400, 7)]
    shifted = [r.model_copy(update={"answer": f"new {r.id}"}) for r in ordinary]
    rare = np.array([r.answer.startswith("rare") for r in ordinary])
    assert signals.read(ordinary).familiar[rare].min() > 0.85
    alone = signals.read(shifted).familiar
    assert alone.max() <= 0.01
    # The rows of another split are other traffic.
    both = signals.read([*ordinary, *(r.model_copy(update={"split": "calibration"}) for r in shifted)]).familiar
    assert both.tolist() == [*signals.read(ordinary).familiar, *alone]
    # In between new answers are a little familiar, and known ones are no longer quite.
    mixed = signals.read([*ordinary, *shifted]).familiar
    assert 0.05 < mixed[:400][rare].max() < 0.5
    assert 0.4 < mixed[:400][~rare].max() < 0.75


def test_a_known_phrasing_stays_known_whatever_else_is_asked() -> None:
    signals = fit_signals(graded(400, 0)).signals
    country, answer = next(iter(KINDS)), KINDS[next(iter(KINDS))][0]
    known = [row(country.format(f"Camran{i}"), answer, id=f"{i}") for i in range(100)]
    anew = [row(f"The city of Camran{i} is in which country?", answer, id=f"new {i}") for i in range(300)]
    familiar = signals.read([*known, *anew]).familiar
    assert familiar[:100].min() > 0.9
    assert familiar[100:].max() == 0


def test_rows_of_no_known_split_are_read_as_in_training(training: TrainingSignals) -> None:
    traffic = training.signals.traffic([r.model_copy(update={"split": "test"}) for r in graded(20, 5)])
    one = row(next(iter(KINDS)).format("Camran"), "Norvonia", split="calibration")
    assert training.signals.read([one], traffic).familiar[0] > 0.9


def test_odd_rows_can_be_learned_from() -> None:
    records = [
        r.model_copy(update={"id": f"{i}{k}", "correct": k == i % 2}) for i, r in enumerate(ODD * 3) for k in (0, 1)
    ]
    training = fit_signals(records)
    assert np.isfinite(training.columns).all()
