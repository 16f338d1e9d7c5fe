"""The served stack: what an engine can give of the stack, as a source of its own."""

from __future__ import annotations

import json

import numpy as np
import pytest

from answer_world import served_world, world
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.stack.served_stack import ServedStack, served_confidences, served_values
from confide.methods.stack.states import States
from confide.metrics import auroc
from graded_rows import ranks_as, right


@pytest.fixture(scope="module")
def served() -> ServedStack:
    return served_world()


def test_it_takes_the_learned_gain(served: ServedStack) -> None:
    records, states = world(1500, 1)
    confidence = served.read(states, records)
    free = auroc(np.array([sum(r.logprobs) for r in records]), right(records))
    assert auroc(confidence, right(records)) > free + 0.05
    assert abs(confidence.mean() - right(records).mean()) < 0.05


def test_a_new_answer_ranks_as_its_probability(served: ServedStack) -> None:
    records, states = world(300, 2, answers="uvwxyz")
    assert ranks_as(served.read(states, records), "logprob_sum", records)


def test_what_the_engine_read_is_ahead_of_what_text_and_tokens_tell(served: ServedStack) -> None:
    (train, _), (records, states) = world(1500, 0), world(1500, 1)
    portable = Mixture.fit(fit_signals(train), train)
    ours, theirs = served.read(states, records), portable.read(records)[0]
    assert auroc(ours, right(records)) > auroc(theirs, right(records)) + 0.05


def test_nothing_that_no_server_tells_moves_it(served: ServedStack) -> None:
    records, states = world(50, 3)
    other = [record.model_copy(update={"entropies": [2.0, 3.0]}) for record in records]
    np.testing.assert_array_equal(served.read(states, other), served.read(states, records))
    closed = States(states.layers, states.values.copy())
    closed.values[:, :, 3] += 5
    np.testing.assert_array_equal(served.read(closed, records), served.read(states, records))


def test_an_answer_that_is_not_whole_has_none(served: ServedStack) -> None:
    records, states = world(4, 4)
    z = served.reading.z(states)
    z[2] = np.nan
    records[0].finish = "length"
    records[1].logprobs = []
    assert np.isnan(served_values(served.mixture, z, records)).tolist() == [True, True, True, False]
    told = served_confidences(served.mixture, [0.5, 0.5, None, 0.5], records)
    assert [value is None for value in told] == [True, True, True, False]


def test_answers_that_came_about_otherwise_are_no_known_ground(served: ServedStack) -> None:
    """Training held answers that were written; one that was chosen among options ranks by its probability."""
    records, states = world(4, 5)
    chosen = [r.model_copy(update={"option_logprobs": [-0.5, -1.5], "choices": [r.answer, "?"]}) for r in records]
    moved = States(states.layers, states.values + 3)
    np.testing.assert_array_equal(served.read(moved, chosen), served.read(states, chosen))


def test_the_mixture_goes_through_json(served: ServedStack) -> None:
    records, states = world(20, 6)
    again = Mixture.from_json(json.loads(json.dumps(served.mixture.to_json())), states=True)
    np.testing.assert_array_equal(served_values(again, served.reading.z(states), records), served.read(states, records))
    about, arrays = served.to_arrays()
    assert "signals" not in json.dumps(about)
    saved = ServedStack.from_arrays(json.loads(json.dumps(about)), arrays, served.mixture.signals)
    np.testing.assert_array_equal(saved.read(states, records), served.read(states, records))


def test_no_rows_have_no_confidence(served: ServedStack) -> None:
    assert served_values(served.mixture, np.empty(0), []).shape == (0,)
    assert served_confidences(served.mixture, [], []) == []
