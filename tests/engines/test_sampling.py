"""Sampling: the tokens' probabilities are the softmax's, and what is forbidden never comes."""

from __future__ import annotations

import pytest
import torch

from confide.engines.transformers.sampling import Sampler

CPU = torch.device("cpu")


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_shares_are_those_of_the_softmax(temperature: float) -> None:
    logits = torch.tensor([2.0, -torch.inf, 1.0, 0.0, -torch.inf, -1.0])
    drawn = Sampler(temperature, 0, CPU)(torch.empty(0), logits.expand(40_000, -1)).argmax(-1)
    shares = torch.bincount(drawn, minlength=6) / 40_000
    torch.testing.assert_close(shares, (logits / temperature).softmax(-1), atol=0.01, rtol=0)
    assert shares[1] == shares[4] == 0


def test_a_token_without_probability_never_comes_at_the_edges() -> None:
    edge = torch.full((20_000, 5), -torch.inf)
    edge[:, 2] = 3.0
    assert (Sampler(1.0, 1, CPU)(torch.empty(0), edge).argmax(-1) == 2).all()
    tiny = torch.full((1000, 50_000), -30.0)
    tiny[:, -1] = -torch.inf
    assert (Sampler(1.0, 2, CPU)(torch.empty(0), tiny).argmax(-1) < 49_999).all()


def test_draws_are_seeded_and_leave_one_token() -> None:
    scores = torch.randn(8, 100)
    one, two = (Sampler(1.0, 7, CPU)(torch.empty(0), scores) for _ in range(2))
    assert torch.equal(one, two)
    assert (torch.isfinite(one).sum(1) == 1).all()
    sampler = Sampler(1.0, 7, CPU)
    assert not torch.equal(sampler(torch.empty(0), scores), sampler(torch.empty(0), scores))
