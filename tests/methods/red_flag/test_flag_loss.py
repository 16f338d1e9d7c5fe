"""The three terms of the flag's loss, and where a flag goes."""

from __future__ import annotations

import random

import pytest
import torch

from confide.methods.red_flag.flag_loss import flag_loss, flag_place, three_terms

FLAG = 4


def test_the_flag_costs_its_own_log_probability() -> None:
    logits = torch.randn(3, 5)
    assert float(flag_loss(logits, FLAG)) == pytest.approx(-float(logits.log_softmax(-1)[:, FLAG].mean()), rel=1e-5)
    assert float(flag_loss(logits[:0], FLAG)) == 0


def test_what_is_held_to_the_base_costs_nothing_where_it_agrees_and_more_where_a_flag_is_likely() -> None:
    base = torch.randn(4, 5)
    agrees = base.clone()
    agrees[:, FLAG] = -30.0
    logits = torch.cat([agrees[:2], torch.randn(1, 5), agrees[2:]])
    flagged = torch.tensor([False, False, True, False, False])
    harmful = torch.tensor([True, True, False, False])
    _, follow, harmless = three_terms(logits, flagged, base, harmful, FLAG)
    assert float(follow) == pytest.approx(0, abs=1e-6)
    assert float(harmless) == pytest.approx(0, abs=1e-6)
    logits[3:, FLAG] = 3.0
    _, follow, harmless = three_terms(logits, flagged, base, harmful, FLAG)
    assert float(follow) == pytest.approx(0, abs=1e-6)
    assert float(harmless) > 0.5


def test_no_token_of_a_harmful_answer_is_made_likelier() -> None:
    """Where the model is the base model, the gradient on every ordinary token of a flagged position pushes it down."""
    logits = torch.randn(1, 5, requires_grad=True)
    flag_loss(logits, FLAG).backward()
    assert logits.grad is not None
    ordinary = logits.grad[0, :FLAG]
    assert (ordinary > 0).all()
    assert logits.grad[0, FLAG] < 0


def test_a_flag_goes_anywhere_from_the_offset_to_the_end() -> None:
    chance = random.Random(0)
    assert {flag_place(6, 2, chance) for _ in range(200)} == {2, 3, 4, 5, 6}
    assert flag_place(1, 2, chance) == 1
