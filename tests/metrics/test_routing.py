import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from confide.errors import ConfideError
from confide.metrics import apgr, cpt, parity_share
from confide.metrics.metric import Weighted
from confide.metrics.routing import Escalated, aiq


def escalated(x, y, expert=None):
    x, y = np.asarray(x, float), np.asarray(y, float)
    return Escalated.of(Weighted(x, y, np.ones((1, len(x)))), np.ones(len(x)) if expert is None else expert)


def test_by_hand():
    # Least confident first: wrong, right, wrong, right; a perfect expert mends the wrong ones.
    curve = escalated([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1])
    assert curve.share[0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.accuracy(5)[0] == pytest.approx([0.5, 0.75, 0.75, 1, 1])
    assert curve.accuracy(3)[0].tolist() == [0.5, 0.75, 1]
    assert curve.area() == pytest.approx((0.625 + 0.75 + 0.875 + 1) / 4)


def test_expert_can_do_harm():
    curve = escalated([0.1, 0.9], [1, 1], [0, 1])
    assert curve.accuracy(3)[0] == pytest.approx([1, 0.5, 0.5])


def test_ties_are_escalated_at_random():
    curve = escalated([0.5] * 10, [1, 0] * 5)
    assert curve.accuracy(11)[0] == pytest.approx(np.linspace(0.5, 1, 11))
    assert curve.area() == pytest.approx(0.75)


def test_lengths_must_agree():
    with pytest.raises(ConfideError, match=r"confidences of shape \(2,\), outcomes of shape \(1,\)"):
        apgr([0.1, 0.2], [1], expert=[1, 1])
    for metric in (apgr, cpt, parity_share):
        settings = {apgr: {}, cpt: {"part": 0.5}, parity_share: {"margin": 0.0}}[metric]
        with pytest.raises(ConfideError, match=r"expert's outcomes of shape \(1,\), outcomes of shape \(2,\)"):
            metric([0.1, 0.2], [1, 0], expert=[1], **settings)


@given(arrays(np.int8, 25), arrays(np.bool_, 25), arrays(np.bool_, 25))
def test_ends_are_the_model_and_the_expert(x, y, expert):
    curve = escalated(x, y, expert)
    assert curve.accuracy()[0][0] == curve.own == pytest.approx(y.mean())
    assert curve.accuracy()[0][-1] == curve.expert == pytest.approx(expert.mean())


N = 24
scores = arrays(np.int64, N, elements=st.integers(0, 8))
marks = arrays(np.bool_, N)
counts = arrays(np.int64, N, elements=st.integers(0, 3)).filter(lambda w: w.sum() > 0)


def test_gap_recovered_by_hand():
    # Least confident first: own wrong, right, wrong, right; the expert right, right, right, wrong.
    x, y, expert = [0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1], [1, 1, 1, 0]
    # Accuracy over shares 0, 1/4 .. 1: .5, .75, .75, 1, .75.
    assert apgr(x, y, expert=expert) == pytest.approx(((0.5 + 0.75) / 8 + 0.75 / 4 + 1.75 / 8 + 1.75 / 8 - 0.5) / 0.25)
    assert cpt(x, y, expert=expert, part=0.5) == pytest.approx(0.125)
    assert cpt(x, y, expert=expert, part=0.95) == pytest.approx(0.25 * 0.95)
    assert parity_share(x, y, expert=expert, margin=0.0) == pytest.approx(0.25)
    assert parity_share(x, y, expert=expert, margin=0.05) == pytest.approx(0.2)


def test_agrees_with_routellm_on_its_own_grid():
    # RouteLLM's evaluation: trapezoids over the shares of strong calls, interpolated shares for the thresholds.
    rng = np.random.default_rng(0)
    x = rng.permutation(400) / 400
    y, expert = rng.random(400) < x, rng.random(400) < 0.9
    order = np.argsort(x)
    share = np.arange(401) / 400
    accuracy = (y.sum() + np.concatenate([[0], np.cumsum((expert.astype(int) - y)[order])])) / 400
    weak, strong = y.mean(), expert.mean()
    expected = (np.trapezoid(accuracy, share) - weak) / (strong - weak)
    assert apgr(x, y, expert=expert) == pytest.approx(expected, abs=1e-12)
    best = np.maximum.accumulate(accuracy)
    for part in (0.5, 0.8, 0.95):
        expected = share[np.argmax(best >= weak + part * (strong - weak) - 1e-12)]
        assert cpt(x, y, expert=expert, part=part) == pytest.approx(expected, abs=1 / 400)


@given(scores, marks, marks, counts)
def test_weights_are_repetition(x, y, expert, w):
    again = {"expert": np.repeat(expert, w)}
    for metric, extra in ((apgr, {}), (cpt, {"part": 0.8}), (parity_share, {})):
        repeated = metric(np.repeat(x, w), np.repeat(y, w), **again, **extra)
        assert metric(x, y, w, expert=expert, **extra) == pytest.approx(repeated, abs=1e-9, nan_ok=True)


@given(scores, marks, marks)
def test_routing_only_sees_the_ranking(x, y, expert):
    for metric, extra in ((apgr, {}), (cpt, {"part": 0.5}), (parity_share, {})):
        value = metric(x, y, expert=expert, **extra)
        assert metric(3 * x + 1, y, expert=expert, **extra) == pytest.approx(value, abs=1e-12, nan_ok=True)


@given(scores, marks, marks)
def test_thresholds_are_in_order_and_undefined_without_a_better_expert(x, y, expert):
    shares = [cpt(x, y, expert=expert, part=part) for part in (0.5, 0.8, 0.95)]
    if expert.sum() > y.sum():
        assert 0 <= shares[0] <= shares[1] <= shares[2] <= 1
    else:
        assert np.isnan(shares).all()
        assert np.isnan(apgr(x, y, expert=expert))
    assert 0 <= parity_share(x, y, expert=expert) <= 1


def test_random_order_recovers_what_is_escalated():
    y = np.arange(100) % 2
    assert apgr(np.zeros(100), y, expert=np.ones(100)) == pytest.approx(0.5)
    assert cpt(np.zeros(100), y, expert=np.ones(100), part=0.8) == pytest.approx(0.8)
    assert parity_share(np.zeros(100), y, expert=np.ones(100), margin=0.1) == pytest.approx(0.8)


def hull_area(points, limit):
    """Area under the non-decreasing convex hull of points, by brute force over a fine grid."""
    grid = np.linspace(1, limit, 4001)
    points = sorted((*points, (limit, max(y for _, y in points))))
    best = np.zeros_like(grid)
    for i, (x0, y0) in enumerate(points):
        best = np.maximum(best, np.where(grid >= x0, y0, 0))
        for x1, y1 in points[i + 1 :]:
            inside = (grid >= x0) & (grid <= x1)
            if x1 > x0:
                best = np.maximum(best, np.where(inside, y0 + (y1 - y0) * (grid - x0) / (x1 - x0), 0))
    return np.trapezoid(best, grid) / (limit - 1)


def test_quality_over_cost_by_hand():
    # Without overhead: accuracy .5 at cost 1, 1 at cost 2 and after: the hull is full from cost 2 on.
    assert aiq(np.array([[0.5, 1.0, 1.0]]), overhead=0, expert_cost=2, limit=3) == pytest.approx([0.875])
    # An overhead of 1 moves the points right; the model alone stays at cost 1.
    assert aiq(np.array([[0.5, 1.0, 1.0]]), overhead=1, expert_cost=2, limit=4) == pytest.approx([(1.5 + 1) / 3])


@given(arrays(np.float64, (3, 6), elements=st.floats(0, 1, width=16)), st.sampled_from([0.0, 0.5, 2.0]))
def test_quality_over_cost_is_the_area_under_the_hull(accuracy, overhead):
    cost = 1 + overhead + 4 * np.linspace(0, 1, 6)
    expected = [hull_area([(1.0, row[0]), *zip(cost, row, strict=True)], 8.0) for row in accuracy]
    assert aiq(accuracy, overhead=overhead, expert_cost=4, limit=8) == pytest.approx(expected, abs=2e-3)


def test_a_dearer_confidence_is_worth_less():
    own, expert = np.eye(2).repeat(25, axis=1)
    curve = Escalated.of(Weighted(np.random.default_rng(0).random(50), own, np.ones((1, 50))), expert)
    values = [aiq(curve.accuracy(), overhead=h, expert_cost=10, limit=14)[0] for h in (0, 1, 3)]
    assert values[0] > values[1] > values[2]


def test_costs_must_be_possible():
    with pytest.raises(ConfideError, match="expert cost 0"):
        aiq(np.ones((1, 3)), overhead=0, expert_cost=0, limit=3)
