from __future__ import annotations

import numpy as np
import pytest

from confide.errors import ConfideError
from confide.methods.finetuning.verdict_loss import finite_losses, row_weights, verdict_loss
from graded_rows import NEW, graded


def test_new_answers_have_half_of_the_weight():
    train, known, new = graded(300, 1), graded(60, 2), graded(20, 3, answers=NEW)
    weights = row_weights(train, known + new)
    assert weights[:60].sum() == pytest.approx(weights[60:].sum())
    assert weights.mean() == pytest.approx(1)
    assert len(set(weights.tolist())) == 2


def test_a_known_answer_to_another_kind_of_question_is_new():
    train = graded(300, 1)
    asked = "On which continent does {} lie?"
    elsewhere = graded(30, 2, kinds=[asked], answers=("Norvonia", "krondukat"))
    weights = row_weights(train, graded(90, 3) + elsewhere)
    assert (weights[90:] > weights[:90].max()).all()


def test_too_few_of_either_kind_count_alike():
    train = graded(300, 1)
    assert (row_weights(train, graded(60, 2) + graded(19, 3, answers=NEW)) == 1).all()
    assert (row_weights(train, graded(19, 2) + graded(60, 3, answers=NEW)) == 1).all()


def test_the_loss_knows_no_scale_and_no_shift_and_rewards_ranking():
    rng = np.random.default_rng(0)
    right = rng.random(400) < 0.4
    z = np.where(right, 1.0, -1.0) + rng.normal(size=400)
    ones = np.ones(400)
    assert verdict_loss(5 * z - 20, right, ones) == pytest.approx(verdict_loss(z, right, ones), abs=1e-4)
    base = -np.mean(np.where(right, np.log(right.mean()), np.log(1 - right.mean())))
    assert verdict_loss(z, right, ones) < base - 0.1
    assert verdict_loss(rng.permutation(z), right, ones) == pytest.approx(base, abs=0.01)
    assert verdict_loss(-z, right, ones) == pytest.approx(base, abs=1e-4), "the fit does not turn a verdict round"


def test_what_is_no_number_costs_more_than_anything_and_is_no_number_in_json():
    right, ones = np.array([True, False, True]), np.ones(3)
    lost = verdict_loss(np.array([1.0, np.nan, 0.0]), right, ones)
    assert lost == np.inf
    assert finite_losses([lost, 0.5]) == [None, 0.5]
    assert finite_losses([]) == []
    with pytest.raises(ConfideError, match="diverged in each of 2 epochs"):
        finite_losses([lost, lost])


def test_rows_count_by_their_weight():
    rng = np.random.default_rng(1)
    right = rng.random(400) < 0.5
    good = np.arange(400) < 200
    z = np.where(good, np.where(right, 2.0, -2.0), 0.0) + rng.normal(size=400)
    heavy, light = np.where(good, 1.9, 0.1), np.where(good, 0.1, 1.9)
    assert verdict_loss(z, right, heavy) < verdict_loss(z, right, np.ones(400)) < verdict_loss(z, right, light)
