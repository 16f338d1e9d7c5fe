"""The mixture: takes a learned gain on familiar ground, and ranks exactly as the free signal off it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture, told
from confide.metrics import auroc
from confide.records import Record
from graded_rows import KINDS, NEW, among_options, graded, ranks_as, right, row

ODD = [
    row("", "", logprobs=[-1.0]),
    row("京都はどの国？", "日本", logprobs=[-0.1]),
    row("?", "👍", logprobs=[-9.0] * 500),
]


def fitted(records: list[Record]) -> Mixture:
    return Mixture.fit(fit_signals(records), records)


@pytest.fixture(scope="module")
def mixture() -> Mixture:
    return fitted(graded(1500))


@pytest.fixture(scope="module")
def chosen() -> Mixture:
    return fitted(among_options(graded(1500)))


def test_familiar_ground_takes_the_learned_gain(mixture: Mixture) -> None:
    records = graded(1500, 1)
    confidence, near = mixture.read(records)
    free = auroc(np.array([sum(r.logprobs) for r in records]), right(records))
    assert near.mean() > 0.95
    assert auroc(confidence, right(records)) > free + 0.1
    assert abs(confidence.mean() - right(records).mean()) < 0.05


@pytest.mark.parametrize("asked", [tuple(KINDS), ("Wer kennt {}?",)])
def test_a_new_answer_ranks_exactly_as_its_probability(mixture: Mixture, asked: tuple[str, ...]) -> None:
    records = graded(500, 2, asked, NEW)
    confidence, near = mixture.read(records)
    assert mixture.signals.open_answers == near.max() == 0
    assert ranks_as(confidence, "logprob_sum", records)
    assert np.ptp(confidence) > 0.3


def test_a_new_phrasing_ranks_exactly_as_the_probability(mixture: Mixture) -> None:
    country, _, _ = KINDS
    records = graded(300, 3, ["{}: the city is in which country of that?"], KINDS[country])
    confidence, near = mixture.read(records)
    assert mixture.signals.open_phrasings == near.max() == 0
    assert ranks_as(confidence, "logprob_sum", records)


def test_a_known_answer_to_another_kind_of_question_is_new(mixture: Mixture) -> None:
    country, continent, _ = KINDS
    records = graded(300, 3, [continent], KINDS[country])
    confidence, near = mixture.read(records)
    assert near.max() == 0
    assert ranks_as(confidence, "logprob_sum", records)
    assert not ranks_as(mixture.read(graded(300, 3, [country]))[0], "logprob_sum", graded(300, 3, [country]))


def test_where_answers_never_come_twice_a_new_one_is_nothing_new() -> None:
    train, held = ([r.model_copy(update={"answer": f"{r.id} it is"}) for r in graded(800, seed)] for seed in (4, 5))
    opened = fitted(train)
    confidence, near = opened.read(held)
    assert opened.signals.open_answers == 1
    assert near.mean() > 0.95
    free = auroc(np.array([sum(r.logprobs) for r in held]), right(held))
    assert auroc(confidence, right(held)) > free + 0.02  # the names of the places still tell


def test_a_way_of_answering_that_training_never_saw_is_new_ground(mixture: Mixture, chosen: Mixture) -> None:
    written, among = graded(400, 6), among_options(graded(400, 6))
    for one, unseen, source in ((mixture, among, "option_probability"), (chosen, written, "logprob_sum")):
        confidence, near = one.read(unseen)
        assert near.max() == 0
        assert ranks_as(confidence, source, unseen)
    both = fitted([*graded(700), *among_options(graded(700, 7))])
    assert both.read(written)[1].mean() > 0.9
    assert both.read(among)[1].mean() > 0.9


def test_the_probability_among_options_is_a_signal_where_training_had_it(mixture: Mixture, chosen: Mixture) -> None:
    records = graded(800, 8)
    known, unknown = chosen.read(among_options(records))[0], mixture.read(records)[0]
    assert auroc(known, right(records)) > auroc(unknown, right(records)) + 0.03


def test_rows_without_log_probabilities_have_no_confidence(mixture: Mixture, chosen: Mixture) -> None:
    records = graded(20, 9)
    bare = [r.model_copy(update={"logprobs": []}) for r in records]
    assert not told(bare).any()
    assert told(records).all()
    assert np.isnan(mixture.read(bare)[0]).all()
    assert np.isfinite(chosen.read(among_options(bare))[0]).all()  # those of the options are enough
    mixed = mixture.read([records[0], bare[1], records[2]])[0]
    assert np.isnan(mixed).tolist() == [False, True, False]


def test_a_reading_of_states_counts_where_the_mixture_was_fitted_with_one() -> None:
    def z_of(records: list[Record], seed: int) -> np.ndarray:  # type: ignore[type-arg]
        return 3.0 * right(records) - 1.5 + np.random.default_rng(seed).normal(size=len(records))

    train, held = graded(1000, 10), graded(1000, 11)
    signals = fit_signals(train)
    with_states, without = Mixture.fit(signals, train, z_of(train, 0)), Mixture.fit(signals, train)
    z = z_of(held, 1)
    better, near = with_states.read(held, z)
    assert auroc(better, right(held)) > auroc(without.read(held)[0], right(held)) + 0.03
    z[:2] = np.nan
    assert np.isnan(with_states.read(held, z)[0]).sum() == 2
    half = with_states.read(held, z_of(held, 1), np.full(len(held), 0.5))[1]
    assert half == pytest.approx(near / 2)
    about = json.loads(json.dumps(with_states.to_json()))
    with pytest.raises(ValueError, match="do not fit its signals"):
        Mixture.from_json(about)
    again = Mixture.from_json(about, states=True)
    assert np.array_equal(again.read(held, z_of(held, 1))[0], with_states.read(held, z_of(held, 1))[0])
    off, none = with_states.read(held, z_of(held, 1), np.zeros(len(held)))
    assert none.max() == 0
    assert ranks_as(off, "logprob_sum", held)


def test_entropies_count_where_it_was_fitted_with_them_alone(mixture: Mixture) -> None:
    def knowing(records: list[Record]) -> list[Record]:
        return [r.model_copy(update={"entropies": [0.2 if r.correct else 1.5, 0.5]}) for r in records]

    train, held = knowing(graded(600, 12)), knowing(graded(300, 13))
    signals = fit_signals(train)
    here, anywhere = Mixture.fit(signals, train, entropies=True), Mixture.fit(signals, train)
    assert auroc(here.read(held)[0], right(held)) > 0.95 > auroc(anywhere.read(held)[0], right(held))
    other = [r.model_copy(update={"entropies": [], "correct": None, "reference": "x"}) for r in held]
    assert np.array_equal(anywhere.read(other)[0], anywhere.read(held)[0])
    again = Mixture.from_json(json.loads(json.dumps(here.to_json())))
    assert np.array_equal(again.read(held)[0], here.read(held)[0])


def test_the_last_resort_never_falls_with_the_probability() -> None:
    upside_down = [r.model_copy(update={"correct": sum(r.logprobs) < -2}) for r in graded(400, 13)]
    model = fitted(upside_down).unfamiliar
    p = np.linspace(0.001, 0.999, 50)
    assert np.all(np.diff(model.predict(np.column_stack([p, np.log(p / (1 - p))]))) >= -1e-12)


def test_shuffled_labels_teach_nothing() -> None:
    records, held = graded(1500, 14), graded(1500, 15)
    labels = np.random.default_rng(0).permutation(right(records))
    lied = [r.model_copy(update={"correct": bool(c)}) for r, c in zip(records, labels, strict=True)]
    assert abs(auroc(fitted(lied).read(held)[0], right(held)) - 0.5) < 0.12


def test_in_one_traffic_company_changes_no_row(mixture: Mixture) -> None:
    records = [*graded(20, 16), *graded(10, 17, answers=NEW), *ODD]
    together, near = mixture.read(records)
    assert np.isfinite(together).all()
    traffic = mixture.signals.traffic(records)
    for i, record in enumerate(records):
        confidence, familiar = mixture.read([record], ground=mixture.signals.read([record], traffic))
        assert confidence[0] == pytest.approx(together[i], abs=1e-12, rel=0)
        assert familiar[0] == pytest.approx(near[i], abs=1e-12, rel=0)


def test_the_file_gives_the_same_values_to_the_last_bit(mixture: Mixture, chosen: Mixture) -> None:
    records = [*graded(30, 18), *among_options(graded(30, 19)), *ODD]
    for one in (mixture, chosen):
        text = json.dumps(one.to_json(), allow_nan=False)
        whole = Mixture.from_json(json.loads(text))
        without = one.to_json(signals=False)
        assert "signals" not in without
        for again in (whole, Mixture.from_json(json.loads(json.dumps(without)), one.signals)):
            for one_column, other in zip(one.read(records), again.read(records), strict=True):
                assert np.array_equal(one_column, other)


def test_no_records_have_no_confidence(mixture: Mixture) -> None:
    confidence, near = mixture.read([])
    assert confidence.shape == near.shape == (0,)


def test_the_same_rows_give_the_same_mixture(mixture: Mixture) -> None:
    assert fitted(graded(1500)).to_json() == mixture.to_json()
