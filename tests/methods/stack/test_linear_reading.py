"""A linear reading is the probe that it came from, position by position."""

from __future__ import annotations

import numpy as np
import pytest

from confide.methods.stack.linear_reading import POSITIONS_BEFORE_CLOSING, LinearReading
from confide.methods.stack.probe import Network, Probe, View
from confide.methods.stack.states import States


def states(n: int, seed: int = 0, width: int = 8) -> States:
    rng = np.random.default_rng(seed)
    return States((2, 3, 5), (rng.normal(size=(n, 3, 4, width)) * 3 + 10).astype(np.float32))


def probe(layers: tuple[int, ...], positions: tuple[str, ...]) -> Probe:
    known = states(200)
    view = View(layers, positions, 0.1)
    right = view.select(known)[:, 0] + np.random.default_rng(1).normal(size=200) > 10
    return Probe.fit(view, known, right)


@pytest.mark.parametrize("layers", [(2,), (5, 2), (2, 3, 5)])
@pytest.mark.parametrize("positions", [("prompt_end",), ("answer_last", "prompt_end"), POSITIONS_BEFORE_CLOSING])
def test_its_shares_add_up_to_the_probes_z(layers: tuple[int, ...], positions: tuple[str, ...]) -> None:
    fitted, new = probe(layers, positions), states(20, 2)
    reading = LinearReading.from_probe(fitted)
    assert reading.weight.shape == (len(layers), 8, len(positions))
    assert reading.shares(new).shape == (20, len(positions))
    np.testing.assert_allclose(reading.z(new), fitted.z(new), atol=1e-4)
    again = LinearReading.from_arrays({"layers": list(layers), "positions": list(positions)}, reading.arrays())
    np.testing.assert_array_equal(again.z(new), reading.z(new))


def test_a_share_is_of_its_position_alone() -> None:
    reading, new = LinearReading.from_probe(probe((2, 5), POSITIONS_BEFORE_CLOSING)), states(5, 2)
    other = States(new.layers, new.values.copy())
    other.values[:, :, 1] += 1
    moved = np.abs(reading.shares(other) - reading.shares(new)).max(0)
    assert moved[0] == moved[2] == 0
    assert moved[1] > 1e-3
    other.values[:, :, 1] = 0  # the mean over no tokens
    np.testing.assert_allclose(reading.shares(other)[:, 1], reading.offset[1], atol=1e-6)


def test_states_that_are_not_closed_are_enough() -> None:
    reading, new = LinearReading.from_probe(probe((2, 5), POSITIONS_BEFORE_CLOSING)), states(5, 2)
    np.testing.assert_array_equal(reading.z(States(new.layers, new.values[:, :, :3])), reading.z(new))


def test_a_network_is_none() -> None:
    known = states(200)
    view = View((2,), ("prompt_end",), 0.1)
    network = Network.fit(view.select(known), np.arange(200) % 2 == 0, 0.1)
    with pytest.raises(AssertionError, match="no linear reading"):
        LinearReading.from_probe(Probe(view, network))
