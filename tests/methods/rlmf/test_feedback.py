"""Feedback: every equation against numbers worked by hand and against plain loops that are slow and obvious."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.errors import ConfideError
from confide.methods.rlmf.feedback import (
    EDGE,
    FAITHFUL_WEIGHT,
    RunningMean,
    advantages,
    f_gold,
    factuality,
    faithfulness,
    multiplier,
    objective,
    rlcr_reward,
    shuffled_within,
    silent_groups,
)

FORMS = ["quadratic", "linear", "log"]
unit = st.floats(0, 1, width=32)
maybe = st.none() | unit
pairs = st.lists(st.lists(st.tuples(maybe, maybe), max_size=4), min_size=1, max_size=8)


@st.composite
def groups(draw: st.DrawFn) -> tuple[list[float], list[float], list[float], int, float]:
    """Rewards o, faithfulness f, scores z, the size of a group, and k."""
    size, count = draw(st.integers(2, 5)), draw(st.integers(1, 4))
    column = st.lists(st.floats(-10, 10, width=32), min_size=size * count, max_size=size * count)
    scores = st.lists(st.floats(-1, 1, width=32), min_size=size * count, max_size=size * count)
    return draw(column), draw(column), draw(scores), size, draw(st.floats(0, 4, width=32))


def columns(rows):
    return [[c for c, _ in row] for row in rows], [[g for _, g in row] for row in rows]


# -- slow and obvious ------------------------------------------------------------------------------------


def slow_faithfulness(stated, intrinsic, form):
    out = []
    for cs, gs in zip(stated, intrinsic, strict=True):
        if not cs:
            out.append(-1.0)
            continue
        total = 0.0
        for c, g in zip(cs, gs, strict=True):
            if c is None or g is None:
                total += -1
            elif form == "quadratic":
                total += 1 - (c - g) ** 2
            elif form == "linear":
                total += 1 - abs(c - g)
            else:
                total += 1 - divergence(c, g) / divergence(0, 1)
        out.append(total / len(cs))
    return out


def divergence(c, g):
    """Cross-entropy of g against c less the entropy of g, in nats."""
    c, g = min(max(c, EDGE), 1 - EDGE), min(max(g, EDGE), 1 - EDGE)

    def cross(p):
        return -(g * math.log(p) + (1 - g) * math.log(1 - p))

    return cross(c) - cross(g)


def slow_f_gold(stated, intrinsic, tolerance):
    out = []
    for cs, gs in zip(stated, intrinsic, strict=True):
        close = 0
        for c, g in zip(cs, gs, strict=True):
            if c is not None and g is not None and abs(c - g) <= tolerance + 1e-9:
                close += 1
        out.append(close / len(cs) if cs else 0.0)
    return out


def slow_advantages(o, f, z, size, k):
    out = []
    for start in range(0, len(o), size):
        mean_o = sum(o[start : start + size]) / size
        mean_f = sum(f[start : start + size]) / size
        for i in range(start, start + size):
            gap = f[i] - mean_f
            factor = max(k + z[i], 0) if z is not None and gap > 0 else 1
            out.append(o[i] - mean_o + gap * factor)
    return out


# -- faithfulness ----------------------------------------------------------------------------------------


def test_faithfulness_by_hand() -> None:
    stated = [[0.9], [0.2, 0.6], [0.5, None], [None], [], [0.5]]
    intrinsic = [[0.5], [0.2, 0.1], [0.5, 0.5], [0.5], [], [None]]
    # 1 − 0.4² = 0.84; (1 + 1 − 0.5²) / 2 = 0.875; (1 − 1) / 2 = 0; what cannot be read is −1, not −10.
    assert faithfulness(stated, intrinsic) == pytest.approx([0.84, 0.875, 0, -1, -1, -1])
    # 1 − 0.4 = 0.6; (1 + 0.5) / 2 = 0.75
    assert faithfulness(stated, intrinsic, "linear") == pytest.approx([0.6, 0.75, 0, -1, -1, -1])
    # KL(½‖0.9) = −½ ln(4 · 0.09) = 0.510826; the largest is 0.98 · ln 99 = 4.503217; 1 − 0.113436 = 0.886564
    assert faithfulness(stated, intrinsic, "log")[0] == pytest.approx(0.886564, abs=1e-6)
    assert FAITHFUL_WEIGHT * faithfulness(stated, intrinsic)[4] == -12


@pytest.mark.parametrize("form", FORMS)
@given(pairs)
def test_faithfulness_is_that_of_plain_loops(form, rows) -> None:
    stated, intrinsic = columns(rows)
    assert faithfulness(stated, intrinsic, form) == pytest.approx(slow_faithfulness(stated, intrinsic, form), abs=1e-9)


@pytest.mark.parametrize("form", FORMS)
@given(unit, unit)
def test_every_form_is_in_range_and_best_where_c_is_g(form, c, g) -> None:
    value, best = faithfulness([[c], [g]], [[g], [g]], form)
    assert -1e-12 <= value <= best
    assert best == pytest.approx(1, abs=1e-12)
    assert value > faithfulness([[]], [[]], form)[0]  # a bad statement is better than none


@pytest.mark.parametrize("form", ["quadratic", "log"])
def test_stating_the_mean_of_g_is_best_where_g_varies(form) -> None:
    # g is 0.2 or 0.8, the second twice as often: the mean is 0.6. The linear form is best at the median, 0.8.
    intrinsic = [0.2, 0.8, 0.8]
    scores = {c: faithfulness([[c]] * 3, [[g] for g in intrinsic], form).sum() for c in np.linspace(0, 1, 101)}
    assert max(scores, key=scores.__getitem__) == pytest.approx(0.6)


def test_numbers_that_are_no_confidence_are_refused_with_their_rows() -> None:
    with pytest.raises(ConfideError, match=r"stated: 2 of 3 rows .* 0, 2 "):
        faithfulness([[1.2], [0.5], [float("nan")]], [[1], [1], [1]])
    with pytest.raises(ConfideError, match=r"intrinsic: 1 of 1 rows"):
        f_gold([[0.5]], [[-0.1]])
    with pytest.raises(ConfideError, match=r"stated: 1 of 2 rows .* 1 "):
        faithfulness([[0.5], [0.5]], [[0.5], [0.5, 0.5]])
    with pytest.raises(ConfideError, match="2 rows of stated"):
        faithfulness([[0.5], [0.5]], [[0.5]])
    with pytest.raises(ConfideError, match="quadratic, linear, log"):
        faithfulness([[0.5]], [[0.5]], "cubic")  # type: ignore[arg-type]


# -- the objective rewards -------------------------------------------------------------------------------


def test_factuality_and_rlcr_by_hand() -> None:
    correct, stated = [1, 0, True, 0, 1], [[0.8], [0.6, 0.8], [None, 0.5], [], [None]]
    # 1 − 0.2²; mean 0.7: 1 − 0.7²; only 0.5 is read: 1 − 0.5²; nothing is stated twice
    assert factuality(correct, stated) == pytest.approx([0.96, 0.51, 0.75, -1, -1])
    # 1 − 0.04; 0 − 0.49; 1 − 0.25
    assert rlcr_reward(correct, stated) == pytest.approx([0.96, -0.49, 0.75, -1, -1])


@given(st.lists(st.tuples(st.booleans(), unit), min_size=1, max_size=6))
def test_rlcr_never_pays_for_being_wrong(rows) -> None:
    correct, stated = [mark for mark, _ in rows], [[c] for _, c in rows]
    reward = rlcr_reward(correct, stated)
    assert all((value >= 0) if mark else (-1 <= value <= 0) for mark, value in zip(correct, reward, strict=True))
    # The two rewards differ by a part that the stated confidence cannot change.
    assert factuality(correct, stated) - reward == pytest.approx(1 - np.array(correct, dtype=float), abs=1e-12)


def test_objective_by_hand() -> None:
    # 3 + 0 + 1 + 0.96; −3 − 1.5 + 0 + 0.51; −3 − 3 + 1 − 1
    found = objective([True, False, False], [0, -0.5, -1], [1, 0, 1], [0.96, 0.51, -1])
    assert found == pytest.approx([4.96, -3.99, -6])


def test_objective_refuses_what_it_would_misread() -> None:
    with pytest.raises(ConfideError, match="truth values"):
        objective([1, -1], [0, 0], [1, 1], [1, 1])
    with pytest.raises(ConfideError, match=r"soft: 1 of 2 rows are outside .* 1 "):
        objective([True, True], [0, 0.5], [1, 1], [1, 1])
    with pytest.raises(ConfideError, match=r"correct: 1 of 2 rows are not a finite number: 0 "):
        objective([True, True], [0, 0], [None, 1], [1, 1])
    with pytest.raises(ConfideError, match="factual 1"):
        objective([True, True], [0, 0], [1, 1], [1])


# -- self-judgement --------------------------------------------------------------------------------------


def test_f_gold_by_hand() -> None:
    # 0.4 − 0.3 is a little more than 0.1 in floating point and still counts.
    stated, intrinsic = [[0.4], [0.41], [0.4, 0.9, None, 0.5], []], [[0.3], [0.3], [0.3, 0.3, 0.3, None], []]
    assert f_gold(stated, intrinsic).tolist() == [1, 0, 0.25, 0]
    assert f_gold(stated, intrinsic, 0.6).tolist() == [1, 1, 0.5, 0]
    with pytest.raises(ConfideError, match="tolerance"):
        f_gold(stated, intrinsic, -0.1)


@given(pairs, unit)
def test_f_gold_is_that_of_plain_loops(rows, tolerance) -> None:
    stated, intrinsic = columns(rows)
    found = f_gold(stated, intrinsic, tolerance)
    assert found == pytest.approx(slow_f_gold(stated, intrinsic, tolerance))
    assert all(value in (0, 1) for value, row in zip(found, rows, strict=True) if len(row) == 1)


def test_multiplier_by_hand() -> None:
    # 1 − 0; 1 − 0.7²; 1 − 1; unreadable: k + Z = 0 at k = 1
    assert multiplier([1, 0.3, 0, np.nan], [1, 1, 1, 0]) == pytest.approx([1, 0.51, 0, -1])
    assert multiplier([None, 0.5], [1, 0.5]).tolist() == [-1, 1]
    with pytest.raises(ConfideError, match=r"F_pred: 1 of 1 rows are outside"):
        multiplier([75], [1])
    with pytest.raises(ConfideError, match=r"F_gold: 1 of 2 rows"):
        multiplier([0.5, 0.5], [1, np.nan])


@given(st.lists(st.tuples(unit, unit), min_size=1, max_size=8))
def test_z_is_a_share_and_one_where_the_judgement_is_right(rows) -> None:
    predicted, gold = map(list, zip(*rows, strict=True))
    z = multiplier(predicted, gold)
    assert ((z >= 0) & (z <= 1)).all()
    assert multiplier(gold, gold).tolist() == [1.0] * len(gold)


# -- advantages ------------------------------------------------------------------------------------------


def test_advantages_by_hand() -> None:
    o, f, z = [4, 2, 0, 2], [12, 6, 0, 6], [0.5, 0.9, 0.9, 0.9]
    # One group: ō = 2, f̄ = 6. Row 0: 2 + 6 · (1 + 0.5) = 11; rows 1, 3 are at the mean; row 2: −2 − 6 = −8.
    assert advantages(o, f, z, 4).tolist() == [11, 0, -8, 0]
    # Groups of two: ō = 3, 1; f̄ = 9, 3. 1 + 3 · 1.5; −1 − 3; −1 − 3; 1 + 3 · 1.9
    assert advantages(o, f, z, 2) == pytest.approx([5.5, -4, -4, 6.7])
    assert advantages(o, f, None, 2).tolist() == [4, -4, -4, 4]
    # An unreadable self-judgement (−1) takes the positive part away at k = 1, and turns nothing round at k = 0.
    assert advantages(o, f, [-1] * 4, 2).tolist() == [1, -4, -4, 1]
    assert advantages(o, f, [-1] * 4, 2, k=0).tolist() == [1, -4, -4, 1]


@given(groups())
def test_advantages_are_those_of_plain_loops(drawn) -> None:
    o, f, z, size, k = drawn
    for scores in (z, None):
        expected = slow_advantages(o, f, scores, size, k)
        # Where f is at the mean rounding decides the side, which changes nothing that can be seen.
        assert advantages(o, f, scores, size, k) == pytest.approx(expected, abs=1e-9)


@given(groups(), st.floats(-5, 5, width=32))
def test_invariants_of_advantages(drawn, shift) -> None:
    o, f, z, size, k = drawn
    plain, refined = advantages(o, f, None, size), advantages(o, f, z, size, k)
    assert plain.reshape(-1, size).sum(axis=1) == pytest.approx(0, abs=1e-9)
    assert advantages(np.add(o, shift), f, z, size, k) == pytest.approx(refined, abs=1e-9)
    assert advantages(o, np.add(f, shift), z, size, k) == pytest.approx(refined, abs=1e-9)
    means = np.repeat(np.reshape(f, (-1, size)).mean(axis=1), size)
    below = np.asarray(f) <= means
    assert refined[below] == pytest.approx(plain[below])  # the multiplier acts above the mean only
    assert advantages(o, f, np.zeros(len(o)), size, 1.0) == pytest.approx(plain)
    # Groups do not touch each other.
    assert advantages(o[:size], f[:size], z[:size], size, k) == pytest.approx(refined[:size])


def test_advantages_refuse_nan_and_groups_that_do_not_fit() -> None:
    with pytest.raises(ConfideError, match=r"o: 1 of 4 rows are not a finite number: 2 "):
        advantages([1, 1, np.nan, 1], [1] * 4, None, 2)
    with pytest.raises(ConfideError, match=r"f: 6 of 6 .*0, 1, 2, 3, 4, …"):
        advantages([1] * 6, [np.inf] * 6, None, 2)
    with pytest.raises(ConfideError, match=r"Z: 1 of 2 .* 0 "):
        advantages([1, 1], [1, 1], [np.nan, 1], 2)
    with pytest.raises(ConfideError, match="5 completions are no whole groups of 2: rows from 4 on"):
        advantages([1] * 5, [1] * 5, None, 2)
    with pytest.raises(ConfideError, match="at least 2"):
        advantages([1], [1], None, 1)
    with pytest.raises(ConfideError, match="o 2, f 3"):
        advantages([1, 1], [1, 1, 1], None, 2)
    with pytest.raises(ConfideError, match="o 2, Z 4"):
        advantages([1, 1], [1, 1], [1] * 4, 2)
    with pytest.raises(ConfideError, match=r"shape \(1, 2\)"):
        advantages([[1, 1]], [1, 1], None, 2)


# -- controls --------------------------------------------------------------------------------------------


@given(groups(), st.integers(0, 9))
def test_shuffling_keeps_the_scores_of_a_group(drawn, seed) -> None:
    _, _, z, size, _ = drawn
    found = shuffled_within(z, size, np.random.default_rng(seed))
    assert np.sort(found.reshape(-1, size)).tolist() == np.sort(np.reshape(z, (-1, size))).tolist()
    assert found.tolist() == shuffled_within(z, size, np.random.default_rng(seed)).tolist()


def test_shuffling_moves_scores_and_groups_apart() -> None:
    z = np.arange(64) / 64
    found = shuffled_within(z, 8, np.random.default_rng(0)).reshape(8, 8)
    orders = {tuple(np.argsort(row)) for row in found}
    assert len(orders) > 1  # each group has its own order
    assert not (found == z.reshape(8, 8)).all(axis=1).any()


@given(st.lists(st.lists(unit, max_size=5), min_size=1, max_size=5), st.integers(0, 4))
def test_a_running_mean_goes_on_where_it_was(batches, cut) -> None:
    batches = [[0.5], *batches]
    whole, first, second = RunningMean(), RunningMean(), RunningMean()
    for i, batch in enumerate(batches):
        if i == min(cut, len(batches) - 1):
            second = RunningMean(**vars(first))
        found = whole.update(batch)
        assert found == (second if i >= cut else first).update(batch)
        assert found == pytest.approx(np.mean([value for seen in batches[: i + 1] for value in seen]))


def test_a_running_mean_of_nothing_is_refused() -> None:
    with pytest.raises(ConfideError, match="no value"):
        RunningMean().update([])
    with pytest.raises(ConfideError, match="not a finite number"):
        RunningMean().update([np.nan])


# -- silent groups ---------------------------------------------------------------------------------------


def test_groups_that_cannot_teach() -> None:
    stated = [
        [[0.9], [0.9]],  # agree, stated alike
        [[0.9], [0.2]],  # agree, stated differently: one is more faithful
        [[None], []],  # none can be read, though the formats differ
        [[0.9], [None]],  # one can be read
        [[0.9], [0.9]],  # stated alike, but one is right and one wrong
    ]
    intrinsic = [[[1.0] * len(row) for row in group] for group in stated]
    o = [5, 5, 5, 5, -6, -5, 5, -6, 5, 4]
    flat, truth = [row for group in stated for row in group], [row for group in intrinsic for row in group]
    f = FAITHFUL_WEIGHT * faithfulness(flat, truth)
    silent = silent_groups(o, f, flat, 2)
    assert silent.tolist() == [True, False, True, False, False]
    assert silent.dtype == np.bool_
    with pytest.raises(ConfideError, match="stated 2"):
        silent_groups(o, f, flat[:2], 2)


@given(groups())
def test_a_group_that_is_not_silent_has_an_advantage(drawn) -> None:
    o, f, z, size, _ = drawn
    silent = silent_groups(o, f, [[0.5]] * len(o), size)
    total = np.abs(advantages(o, np.zeros(len(o)), None, size)) + np.abs(advantages(np.zeros(len(o)), f, z, size))
    spread = total.reshape(-1, size).max(axis=1)
    assert (spread[silent] <= 1e-8).all()
    assert (spread[~silent] > 0).all()


def test_no_completions_are_no_groups() -> None:
    assert faithfulness([], []).shape == factuality([], []).shape == f_gold([], []).shape == (0,)
    assert advantages([], [], None, 4).shape == (0,)
