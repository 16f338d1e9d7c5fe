"""The stack: takes a learned gain on familiar ground, and nothing but the free ranking off it."""

from __future__ import annotations

import json

import numpy as np
import pytest

from answer_world import asked
from confide.errors import ConfideError
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.portable.mixture import Mixture
from confide.methods.stack.probe import View
from confide.methods.stack.stack import Stack, out_of_fold
from confide.methods.stack.states import States
from confide.metrics import auroc
from confide.records import Record
from graded_rows import among_options, ranks_as, right

VIEW = View((1,), ("answer_last",), 0.1)
WIDTH = 64


def world(
    n: int, seed: int, *, answers: str = "abcdef", kinds: tuple[int, ...] = (0, 1, 2)
) -> tuple[list[Record], States]:
    """Answers with a prior each, states that carry it, log-probabilities that carry the rest.

    Args:
        kinds: what the states of questions are like.
    """
    rng = np.random.default_rng(seed)
    prior = {name: ((i * 37) % 10) / 10 + 0.05 for i, name in enumerate("abcdefuvwxyz")}
    direction = {name: np.random.default_rng(i).normal(size=WIDTH) for i, name in enumerate("abcdefuvwxyz")}
    records, values = [], np.zeros((n, 2, 4, WIDTH), np.float16)
    for i in range(n):
        name = answers[rng.integers(len(answers))]
        known = rng.normal()
        correct = bool(rng.random() < 1 / (1 + np.exp(-(np.log(prior[name] / (1.06 - prior[name])) + known))))
        records.append(
            Record(
                id=f"{seed}-{i}", entity=f"{seed}-{i // 2}", answer=name, answered=name, correct=correct,
                messages=[asked(i)], answer_ids=[1], logprobs=[min(-0.01, known - 2)],
                entropies=[max(0.1, 1 - known)], end_logprob=-0.1,
            )
        )  # fmt: skip
        values[i, 0, 2] = direction[name] + 0.3 * rng.normal(size=WIDTH)
        values[i, 1, 0] = 5 * np.eye(WIDTH)[kinds[rng.integers(len(kinds))]] + 0.2 * rng.normal(size=WIDTH)
    return records, States((1, 2), values)


def fit(records: list[Record], states: States) -> Stack:
    return Stack.fit(VIEW, 2, states, records, fit_signals(records))


def with_hidden(records: list[Record], states: States) -> tuple[list[Record], States]:
    """The same rows, whose states know more of what is right than the answer's prior."""
    values = states.values.copy()
    values[:, 0, 2, 0] += np.where(right(records), 2, -2)
    return records, States(states.layers, values)


def fitted() -> Stack:
    records, states = world(1500, 0)
    return fit(records, states)


def test_familiar_ground_takes_the_learned_gain() -> None:
    stack, (records, states) = fitted(), world(1500, 1)
    read = stack.read(states, records)
    free = auroc(np.array([r.logprobs[0] for r in records]), right(records))
    assert read["familiarity"].mean() > 0.9
    assert auroc(read["stack"], right(records)) > free + 0.05
    assert abs(read["stack"].mean() - right(records).mean()) < 0.05


def test_the_probe_of_a_training_row_never_saw_its_label() -> None:
    records, states = world(200, 14)
    training, features = fit_signals(records), VIEW.select(states)
    labels = right(records)
    before = out_of_fold(VIEW, features, labels, training)
    labels[7] ^= True
    after = out_of_fold(VIEW, features, labels, training)
    (held,) = (held for _, held in training.folds if 7 in held)
    assert np.array_equal(after[held], before[held])
    assert (np.delete(after, held) != np.delete(before, held)).all()


def test_what_states_know_is_ahead_of_what_text_and_tokens_tell() -> None:
    """The probe sees whether an answer is right; ``portable`` is fitted on the same rows, and cannot."""
    (records, states), (held, held_states) = (with_hidden(*world(1500, seed)) for seed in (12, 13))
    signals = fit_signals(records)
    stack = Stack.fit(VIEW, 2, states, records, signals)
    portable = Mixture.fit(signals, records)
    ahead = auroc(stack.read(held_states, held)["stack"], right(held)) - auroc(portable.read(held)[0], right(held))
    assert ahead > 0.05
    closed = Stack.fit(VIEW, 2, *world(1500, 12)[::-1], signals)
    blind = auroc(closed.read(world(1500, 13)[1], held)["stack"], right(held))
    assert abs(blind - auroc(portable.read(held)[0], right(held))) < 0.02


def test_a_new_answer_ranks_exactly_as_its_probability() -> None:
    stack, (records, states) = fitted(), world(1500, 2, answers="uvwxyz")
    read = stack.read(states, records)
    assert read["familiarity"].max() == 0
    assert ranks_as(read["stack"], "logprob_sum", records)
    shifted = States(states.layers, np.concatenate([states.values[:, :1] * -3, states.values[:, 1:]], 1))
    np.testing.assert_allclose(stack.read(shifted, records)["stack"], read["stack"])
    assert not np.allclose(stack.read(shifted, records)["probe_logprobs"], read["probe_logprobs"])


def test_a_new_kind_of_question_ranks_exactly_as_the_answer_probability() -> None:
    stack, (records, states) = fitted(), world(800, 3, kinds=(5,))
    read = stack.read(states, records)
    assert read["familiarity"].max() == 0
    assert ranks_as(read["stack"], "logprob_sum", records)


def test_a_stack_survives_its_files() -> None:
    stack, (records, states) = fitted(), world(100, 4, answers="abuv")
    about, arrays = stack.to_arrays()
    assert "signals" not in json.dumps(about)  # they are kept once, with what needs no states
    again = Stack.from_arrays(json.loads(json.dumps(about)), arrays, stack.mixture.signals)
    one, two = stack.read(states, records), again.read(states, records)
    for name in ("stack", "familiarity", "probe", "probe_logprobs"):
        np.testing.assert_array_equal(one[name], two[name])
    assert again.layers == (1, 2)


def test_shuffled_labels_teach_nothing() -> None:
    records, states = world(1500, 5)
    labels = np.random.default_rng(0).permutation(right(records))
    lied = [r.model_copy(update={"correct": bool(c)}) for r, c in zip(records, labels, strict=True)]
    held, held_states = world(1500, 6)
    read = fit(lied, states).read(held_states, held)
    assert abs(auroc(read["stack"], right(held)) - 0.5) < 0.12


def test_without_token_probabilities_there_is_no_confidence() -> None:
    stack, (records, states) = fitted(), world(20, 7)
    bare = [r.model_copy(update={"logprobs": []}) for r in records]
    assert np.isnan(stack.read(states, bare)["stack"]).all()


def test_answers_that_never_come_twice_still_make_a_stack() -> None:
    records, states = world(200, 8)
    single = [r.model_copy(update={"answer": f"answer {i}"}) for i, r in enumerate(records)]
    read = fit(single, states).read(states, single)
    assert np.isfinite(read["stack"]).all()


def test_where_answers_never_come_twice_the_readout_counts_on_new_ones() -> None:
    (records, states), (held, held_states) = world(1500, 8), world(800, 11)
    opened, fresh = ([r.model_copy(update={"answer": f"{r.id} it is"}) for r in rows] for rows in (records, held))
    stack = fit(opened, states)
    assert stack.mixture.signals.open_answers == 1
    read = stack.read(held_states, fresh)
    free = auroc(np.array([r.logprobs[0] for r in held]), right(held))
    assert read["familiarity"].mean() > 0.9
    assert auroc(read["stack"], right(held)) > free + 0.05
    closed = fit(records, states)
    assert closed.mixture.signals.open_answers == 0
    assert closed.read(held_states, fresh)["familiarity"].max() == 0


def test_one_entity_with_a_label_is_refused() -> None:
    records, states = world(50, 9)
    one = [r.model_copy(update={"correct": i != 0}) for i, r in enumerate(records)]
    with pytest.raises(ConfideError, match="wrong answers about at least 2 entities; there are 1"):
        fit(one, states)


def test_the_last_resort_never_falls_with_the_answer_probability() -> None:
    records, states = world(400, 10)
    upside_down = [r.model_copy(update={"correct": sum(r.logprobs) < -2}) for r in records]
    model = fit(upside_down, states).mixture.unfamiliar
    p = np.linspace(0.001, 0.999, 50)
    assert np.all(np.diff(model.predict(np.column_stack([p, np.log(p / (1 - p))]))) >= -1e-12)


def test_the_probability_among_options_is_a_feature_where_training_had_it() -> None:
    records, states = world(1500, 7)
    chosen, (held, held_states) = among_options(records), world(800, 8)
    stack, plain = fit(chosen, states), fit(records, states)
    assert stack.mixture.options
    assert not plain.mixture.options
    both = among_options(held)
    assert auroc(stack.read(held_states, both)["stack"], right(held)) > (
        auroc(plain.read(held_states, held)["stack"], right(held)) + 0.03
    )
    # A row without options is read with that feature at its average; one without token scores has the options.
    assert np.isfinite(stack.read(held_states, held)["stack"]).all()
    bare = [r.model_copy(update={"logprobs": []}) for r in both]
    assert np.isfinite(stack.read(held_states, bare)["stack"]).all()


def test_a_way_of_answering_that_training_never_saw_is_new_ground() -> None:
    records, states = world(1500, 7)
    held, held_states = world(400, 8)
    chosen = among_options(held)
    for stack, unseen, source in (
        (fit(records, states), chosen, "option_probability"),
        (fit(among_options(records), states), held, "logprob_sum"),
    ):
        again = Stack.from_arrays(*stack.to_arrays(), stack.mixture.signals)
        for one in (stack, again):
            read = one.read(held_states, unseen)
            assert read["familiarity"].max() == 0
            assert ranks_as(read["stack"], source, unseen)
    both = fit([*records[:700], *among_options(records[700:])], states)
    assert both.read(held_states, chosen)["familiarity"].mean() > 0.5
    assert both.read(held_states, held)["familiarity"].mean() > 0.5


def test_a_stack_of_an_earlier_version_is_refused() -> None:
    stack = fitted()
    about, arrays = stack.to_arrays()
    old = {key: value for key, value in about.items() if key != "mixture"}
    for told, signals in ((old, stack.mixture.signals), (about, None)):
        with pytest.raises(ValueError, match="earlier version of confide: train it again"):
            Stack.from_arrays(told, arrays, signals)


def test_long_answers_off_familiar_ground_never_tie() -> None:
    stack, (records, states) = fitted(), world(400, 2, answers="uvwxyz")
    # Twenty times less likely than one in a million, and less, where probabilities were cut off.
    long = [r.model_copy(update={"logprobs": [-0.02 - i / 10_000] * 1000}) for i, r in enumerate(records)]
    read = stack.read(states, long)["stack"]
    assert np.all(np.diff(read) < 0)
