import numpy as np
import pytest
from hypothesis import given
from hypothesis.extra.numpy import arrays

from confide.errors import ConfideError
from confide.metrics import routing_curve


def test_by_hand():
    # Least confident first: wrong, right, wrong, right; a perfect expert mends the wrong ones.
    curve = routing_curve([0.1, 0.4, 0.6, 0.9], [0, 1, 0, 1], points=5)
    assert curve.share.tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert curve.accuracy == pytest.approx([0.5, 0.75, 0.75, 1, 1])
    assert curve.area == pytest.approx((0.625 + 0.75 + 0.875 + 1) / 4)


def test_expert_can_do_harm():
    curve = routing_curve([0.1, 0.9], [1, 1], [0, 1], points=3)
    assert curve.accuracy == pytest.approx([1, 0.5, 0.5])


def test_ties_are_escalated_at_random():
    curve = routing_curve([0.5] * 10, [1, 0] * 5, points=11)
    assert curve.accuracy == pytest.approx(np.linspace(0.5, 1, 11))
    assert curve.area == pytest.approx(0.75)


@given(arrays(np.int8, 25), arrays(np.bool_, 25), arrays(np.bool_, 25))
def test_ends_are_the_model_and_the_expert(x, y, expert):
    curve = routing_curve(x, y, expert)
    assert curve.accuracy[0] == pytest.approx(y.mean())
    assert curve.accuracy[-1] == pytest.approx(expert.mean())


def test_lengths_must_agree():
    with pytest.raises(ConfideError, match="2 confidences, 1 outcomes"):
        routing_curve([0.1, 0.2], [1])
