"""Log-probabilities and entropies are those of a plain softmax over what is allowed."""

from __future__ import annotations

import torch

from confide.engines.transformers.token_scores import token_scores


def test_token_scores_are_those_of_a_plain_softmax() -> None:
    torch.manual_seed(0)
    logits, targets = torch.randn(7, 50) * 20, torch.randint(40, (7,))
    logprobs, entropies = token_scores(logits, targets, [41, 42])
    allowed = [i for i in range(50) if i not in (41, 42)]
    plain = torch.distributions.Categorical(logits=logits[:, allowed].double())
    torch.testing.assert_close(entropies.double(), plain.entropy(), atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(logprobs.double(), plain.log_prob(targets), atol=1e-5, rtol=1e-4)
    certain = torch.full((1, 5), -torch.inf)
    certain[0, 2] = 3.0
    assert [float(v) for v in token_scores(certain, torch.tensor([2]))] == [0.0, 0.0]
