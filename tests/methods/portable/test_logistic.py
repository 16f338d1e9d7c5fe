"""Logistic regression as four arrays: what is missing is average, a rising one never falls."""

from __future__ import annotations

import json

import numpy as np
import pytest

from confide.methods.portable.logistic import Logistic
from confide.metrics import auroc
from confide.numeric import Bools, Floats


def rows(n: int = 400, seed: int = 0) -> tuple[Floats, Bools]:
    """Two features on very different scales that both tell, and one that tells nothing."""
    rng = np.random.default_rng(seed)
    features = rng.normal(size=(n, 3)) * [1, 1000, 1] + [0, -5000, 3]
    return features, rng.random(n) < 1 / (1 + np.exp(-2 * features[:, 0] - (features[:, 1] + 5000) / 500))


def test_it_finds_what_tells() -> None:
    model = Logistic.fit(*rows())
    features, right = rows(seed=1)
    assert auroc(model.z(features), right) > 0.9
    assert abs(model.weight[2]) < 0.4 < min(model.weight[:2])
    assert abs(model.predict(features).mean() - right.mean()) < 0.06
    assert model.predict(features) == pytest.approx(1 / (1 + np.exp(-model.z(features))))


def test_what_is_missing_counts_as_average() -> None:
    features, right = rows()
    gaps = features.copy()
    gaps[::2, 1] = np.nan
    model = Logistic.fit(gaps, right)
    filled = np.where(np.isnan(gaps), np.nanmean(gaps, 0), gaps)
    np.testing.assert_allclose(model.predict(gaps), model.predict(filled))
    assert np.isnan(gaps[::2, 1]).all()  # what was given is as it was


def test_a_rising_model_never_falls_with_a_feature() -> None:
    features, right = rows()
    for target in (right, ~right):
        model = Logistic.rising(features, target)
        assert (model.weight >= 0).all()
    up, down = Logistic.rising(features, right), Logistic.rising(features, ~right)
    assert auroc(up.z(features), right) > 0.85
    assert down.weight[:2].tolist() == [0, 0]
    assert (Logistic.fit(features, ~right).weight < 0).any()


def test_a_feature_that_never_changes_says_nothing() -> None:
    features, right = rows()
    features[:, 2] = 7.0
    model = Logistic.fit(features, right)
    assert model.weight[2] == 0
    assert np.isfinite(model.z(features)).all()


def test_the_file_gives_the_same_values_to_the_last_bit() -> None:
    features, right = rows()
    model = Logistic.fit(features, right)
    again = Logistic.from_json(json.loads(json.dumps(model.to_json())))
    assert np.array_equal(again.z(features), model.z(features))


def test_no_rows_have_no_value() -> None:
    assert Logistic.fit(*rows()).predict(np.empty((0, 3))).shape == (0,)


def test_what_no_training_row_has_is_worth_nothing() -> None:
    features, right = rows()
    empty = np.column_stack([features, np.full(len(features), np.nan)])
    model, plain = Logistic.fit(empty, right), Logistic.fit(features, right)
    assert model.weight[3] == 0
    np.testing.assert_allclose(model.predict(np.column_stack([features, features[:, 0]])), plain.predict(features))
    assert "NaN" not in json.dumps(model.to_json())
