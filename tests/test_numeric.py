"""Numbers between probabilities, log-probabilities and logits, exact at both ends."""

from __future__ import annotations

import numpy as np
import pytest

from confide.numeric import logit_of_exp, sigmoid


def test_logits_of_confident_replies_do_not_saturate() -> None:
    """Log-odds of yes over no, in single precision as models give them, keep their order as shares of yes."""
    logits = np.concatenate([np.linspace(-700, 0, 300), np.linspace(0.05, 33, 300)]).astype(np.float32)
    assert np.all(np.diff(sigmoid(logits)) > 0)


def test_log_odds_of_a_log_probability_are_exact_at_both_ends() -> None:
    c = [-1e-12, -1e-3, -0.5, -np.log(2), -1.0, -40.0, -1e5]
    expected = [27.63102111592805, 6.907255237315471, 0.43275212956718856, 0.0, -0.5413248546129181, -40.0, -1e5]
    assert logit_of_exp(c) == pytest.approx(expected, rel=1e-12, abs=1e-12)
    with np.errstate(divide="raise", invalid="raise", over="raise"):
        logit_of_exp(c)
