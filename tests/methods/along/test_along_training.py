"""Training along answers: the direction that tells a flagged word, its settings, and the checkpoint that carries it."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

import confide
from along_rows import FLAGGED, along_rows, of_split, tiny_engine
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.errors import ConfideError
from confide.methods import catalogue
from confide.methods.along.along_method import AlongMethod
from confide.methods.along.along_reading import AlongReading, load_signals
from confide.methods.along.along_training import (
    Candidate,
    due_of,
    fit_direction,
    read_shares,
    train_along,
    train_signal,
)
from confide.methods.along.token_states import collect_token_states, spread
from confide.methods.method import labels
from confide.methods.scoring import score
from confide.metrics import auroc
from confide.policies.identities import identity_of
from confide.signals import OUTCOME, RED_FLAG, SIGNALS, Signal, along_signals, find_signal

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def engine() -> TransformersEngine:
    return tiny_engine()


@pytest.fixture(scope="module")
def reading(engine: TransformersEngine) -> AlongReading:
    rows = along_rows(engine, 240)
    return train_along(engine, RED_FLAG, of_split(rows, "train"), of_split(rows, "validation"))


def test_flagged_answers_are_told_and_the_level_falls_at_the_word(
    engine: TransformersEngine, reading: AlongReading
) -> None:
    rows = of_split(along_rows(engine, 240, seed=5), "test")
    shares = read_shares(engine, rows, reading.directions)
    due = due_of(engine, rows, reading.rule.schedule)
    found = [reading.rule.trace(read[:, 0], at) for read, at in zip(shares, due, strict=True)]
    lowest = np.array([trace.lowest for trace in found])
    assert float(auroc(lowest, labels(rows))) > 0.95
    word = engine.encode_answer(f" {FLAGGED}")
    before, after = [], []
    for row, trace in zip(rows, found, strict=True):
        if not row.correct:
            at = next(i for i in range(len(row.answer_ids)) if row.answer_ids[i : i + len(word)] == word)
            before += trace.values[:at]
            after.append(trace.values[at + len(word) - 1])
    assert np.median(after) < np.median(before)


def test_the_number_is_a_probability(engine: TransformersEngine, reading: AlongReading) -> None:
    rows = of_split(along_rows(engine, 240, seed=5), "test")
    shares = read_shares(engine, rows, reading.directions)
    found = [
        reading.rule.trace(s[:, 0], at).lowest
        for s, at in zip(shares, due_of(engine, rows, reading.rule.schedule), strict=True)
    ]
    fine = labels(rows)
    assert np.mean(np.array(found)[fine]) > 0.75
    assert np.mean(np.array(found)[~fine]) < 0.25


def test_shuffled_labels_teach_nothing(engine: TransformersEngine) -> None:
    rows = along_rows(engine, 240)
    train = of_split(rows, "train")
    order = np.random.default_rng(0).permutation(len(train))
    shuffled = [row.model_copy(update={"correct": train[i].correct}) for row, i in zip(train, order, strict=True)]
    reading = train_along(engine, RED_FLAG, shuffled, of_split(rows, "validation"))
    test = of_split(along_rows(engine, 240, seed=9), "test")
    shares = read_shares(engine, test, reading.directions)
    lowest = [
        reading.rule.trace(s[:, 0], at).lowest for s, at in zip(shares, due_of(engine, test, "tokens"), strict=True)
    ]
    assert float(auroc(np.array(lowest), labels(test))) < 0.9


def test_every_answer_weighs_the_same(engine: TransformersEngine) -> None:
    """One long answer of one label and many short ones of the other: the share of answers is the prior."""
    features = np.zeros((100, 2), np.float32)
    answer = np.array([0] * 91 + list(range(1, 10)))
    weight = 1 / np.bincount(answer)[answer]
    found = fit_direction(Candidate((1,), 1.0), features, answer == 0, weight, 2)
    assert found.offset[0] == pytest.approx(np.log(1 / 9), abs=0.05)


def test_token_states_are_those_of_the_rows_that_are_kept(engine: TransformersEngine) -> None:
    rows = along_rows(engine, 6)
    due = due_of(engine, rows, "tokens")
    kept = [spread(at, 3) for at in due]
    states = collect_token_states(engine, rows, due, kept, [1, 2])
    means = collect_token_states(engine, rows, due, kept, [1, 2], means=True)
    assert states.values.shape == means.values.shape == (sum(map(len, kept)), 2, engine.width)
    for number, row in enumerate(rows):
        closed = engine.closed([engine.encode(row.messages)], [row.answer_ids], layers=[1, 2]).states()[0]
        np.testing.assert_allclose(states.values[states.answer == number][-1], closed[:, 2], atol=0.02)
        np.testing.assert_allclose(means.values[means.answer == number][-1], closed[:, 1], atol=0.02)
        assert not np.allclose(means.values[means.answer == number][0], closed[:, 1], atol=0.02)


@pytest.mark.parametrize(("most", "kept"), [(1, 1), (2, 2), (4, 4), (20, 10)])
def test_spread_keeps_the_last(most: int, kept: int) -> None:
    found = spread(np.arange(1, 11), most)
    assert len(found) == kept
    assert most == 1 or found[-1] == 10


def test_one_label_only_is_refused(engine: TransformersEngine) -> None:
    rows = along_rows(engine, 24)
    fine = [row for row in rows if row.correct]
    with pytest.raises(ConfideError, match="training needs right and wrong answers"):
        train_along(engine, RED_FLAG, fine, of_split(rows, "validation"))


def test_records_of_another_signal_are_refused(engine: TransformersEngine) -> None:
    rows = along_rows(engine, 24, "red_flag")
    with pytest.raises(ConfideError, match="is labelled for the signal red_flag, not for outcome"):
        train_along(engine, OUTCOME, rows, rows)


def test_an_unknown_signal_is_refused() -> None:
    with pytest.raises(ConfideError, match="no signal 'rude' is read while an answer is written: there is red_flag"):
        find_signal("rude")
    with pytest.raises(ConfideError, match="no signal 'confidence'"):
        find_signal("confidence")


def test_a_checkpoint_carries_several_signals_and_scores_them(engine: TransformersEngine, tmp_path: Path) -> None:
    flags, outcomes = along_rows(engine, 300), along_rows(engine, 60, "outcome", seed=3)
    for signal, rows in ((RED_FLAG, flags), (OUTCOME, outcomes)):
        told = train_signal(engine, signal, of_split(rows, "train"), of_split(rows, "validation"), tmp_path / "model")
        assert f"{signal.name} on layers" in told
    model = confide.load(tmp_path / "model")
    assert list(model.signals) == ["outcome", "red_flag"]
    asked = [row.model_copy(update={"model": str(tmp_path / "model"), "identity": ""}) for row in flags]
    scored = score(asked, ["red_flag", "outcome"], model=model)
    test = of_split(scored, "test")
    values = np.array([row.confidence["red_flag"] for row in test], dtype=float)
    assert float(auroc(values, labels(test))) > 0.85
    assert all(row.confidence["outcome"] is not None for row in test)
    assert all(row.confidence["red_flag"] is None for row in of_split(scored, "train"))
    assert test[0].scored_by == {name: reading.rule.scored_by for name, reading in model.signals.items()}  # type: ignore[attr-defined]
    assert identity_of(test[0], "red_flag") == f"red_flag={test[0].scored_by['red_flag']}"
    assert f"red_flag={test[0].scored_by['red_flag']}" in model.identity


def test_a_signal_declared_anew_needs_no_code(
    engine: TransformersEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(SIGNALS, "rude", Signal("rude", fine="polite", flagged="rude", schedule="tokens"))
    monkeypatch.setattr(catalogue, "METHODS", (*catalogue.METHODS, *map(AlongMethod, along_signals()[-1:])))
    rows = along_rows(engine, 300, "rude")
    train_signal(engine, find_signal("rude"), of_split(rows, "train"), of_split(rows, "validation"), tmp_path / "model")
    model = confide.load(tmp_path / "model")
    asked = [row.model_copy(update={"model": str(tmp_path / "model"), "identity": ""}) for row in rows]
    test = of_split(score(asked, ["rude"], model=model), "test")
    assert float(auroc(np.array([row.confidence["rude"] for row in test], dtype=float), labels(test))) > 0.85


def test_a_checkpoint_of_another_model_is_left_alone(engine: TransformersEngine, tmp_path: Path) -> None:
    rows = along_rows(engine, 24)
    train_signal(engine, RED_FLAG, of_split(rows, "train"), of_split(rows, "validation"), tmp_path / "model")
    other = tiny_engine(seed=2)
    foreign = along_rows(other, 24)
    with pytest.raises(ConfideError, match="was trained on another model than tiny"):
        train_signal(other, RED_FLAG, of_split(foreign, "train"), of_split(foreign, "validation"), tmp_path / "model")


@pytest.mark.parametrize(
    ("key", "value", "why"),
    [
        ("schema", 2, "schema 2; this version reads schema 1"),
        ("schedule", "hourly", "a schedule is tokens"),
        ("layers", [1], "arrays do not fit"),
        ("signal", "outcome", "holds the signal outcome"),
        ("about", {"weights": "other"}, "was fitted on other weights"),
    ],
)
def test_a_broken_signal_is_told(
    engine: TransformersEngine, reading: AlongReading, tmp_path: Path, key: str, value: object, why: str
) -> None:
    folder = tmp_path / "signals" / "red_flag"
    reading.save(folder)
    assert load_signals(tmp_path, engine.sha256)["red_flag"].rule.scored_by == reading.rule.scored_by
    about = json.loads((folder / "along.json").read_text())
    (folder / "along.json").write_text(json.dumps(about | {key: value}))
    if key == "layers" and len(about["layers"]) == 1:
        (folder / "along.json").write_text(json.dumps(about | {"layers": [1, 2]}))
    with pytest.raises(ConfideError, match=why):
        load_signals(tmp_path, engine.sha256)
