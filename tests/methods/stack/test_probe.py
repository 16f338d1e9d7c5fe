"""The probe: linear or a network, whichever validation rows say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from confide.methods.portable.logistic import Logistic
from confide.methods.stack.probe import (
    NETWORK_ROWS,
    Network,
    Probe,
    View,
    best_probe,
    candidate_views,
    fit_position_probes,
    fit_probe,
)
from confide.methods.stack.states import States
from confide.metrics import auroc
from confide.records import Record

VIEW = View((1,), ("answer_last",), 0.01)


def world(n: int, seed: int, *, bent: bool) -> tuple[list[Record], States]:
    """Rightness as a sum of two features of the last answer token, or (bent) as their product."""
    rng = np.random.default_rng(seed)
    values = rng.normal(size=(n, 1, 4, 8)).astype(np.float16)
    a, b = values[:, 0, 2, 0].astype(float), values[:, 0, 2, 1].astype(float)
    signal = a * b if bent else a + b
    return [Record(id=str(i), correct=bool(s > 0)) for i, s in enumerate(signal)], States((1,), values)


def right(rows: list[Record]) -> np.ndarray:  # type: ignore[type-arg]
    return np.array([bool(r.correct) for r in rows])


@pytest.mark.parametrize("bent", [False, True])
def test_the_kind_is_chosen_on_validation(bent: bool) -> None:
    (train, states), (held, held_states), (test, unseen) = (
        world(n, i, bent=bent) for i, n in enumerate([2500, 600, 600])
    )
    linear = [Probe.fit(VIEW, states, right(train))]
    probe = fit_probe(linear, states, train, held_states, held)
    if bent:
        assert isinstance(probe.model, Network)
        assert auroc(linear[0].z(unseen), right(test)) < 0.6
    assert auroc(probe.z(unseen), right(test)) > 0.9
    again = Probe.from_arrays(json.loads(json.dumps(probe.about())), probe.arrays())
    np.testing.assert_allclose(again.z(unseen), probe.z(unseen))
    assert best_probe([linear[0], probe], held_states, held) is probe or not bent


def test_few_rows_get_no_network() -> None:
    rows, states = world(NETWORK_ROWS, 0, bent=True)
    probe = fit_probe([Probe.fit(VIEW, states, right(rows))], states, rows, states, rows)
    assert isinstance(probe.model, Logistic)


def test_one_position_each_shows_where_the_signal_is() -> None:
    (train, states), (held, held_states) = world(600, 0, bent=False), world(300, 1, bent=False)
    probes = fit_position_probes(1, states, train, held_states, held)
    assert set(probes) == {"probe@prompt_end", "probe@answer_last", "probe@closing"}
    scores = {name: auroc(probe.z(held_states), right(held)) for name, probe in probes.items()}
    assert scores["probe@answer_last"] > 0.95
    assert abs(scores["probe@prompt_end"] - 0.5) < 0.15
    assert all(len(probe.view.positions) == 1 for probe in probes.values())


def test_views_lie_within_any_depth() -> None:
    for depth in (1, 2, 12, 30, 80):
        for view in candidate_views(depth):
            assert set(view.layers) <= set(range(1, depth + 1))


def test_a_probe_finds_a_direction() -> None:
    rng = np.random.default_rng(0)
    values = rng.normal(size=(400, 1, 4, 64)).astype(np.float16)
    target = values[:, 0, 2, 3] > 0
    states = States((1,), values)
    probe = Probe.fit(View((1,), ("answer_last",), 1.0), states, target)
    assert auroc(probe.z(states), target) > 0.98
    again = Probe.from_arrays(probe.about(), probe.arrays())
    np.testing.assert_allclose(again.z(states), probe.z(states))
