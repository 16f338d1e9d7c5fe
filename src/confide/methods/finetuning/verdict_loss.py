"""What verdicts on validation rows cost: log loss after a logistic fit, with new answers counting for half.

More training makes a verdict a better prior over answers that training gave, and a worse one elsewhere. So that the
epoch is not chosen for the prior alone, rows whose answer training never gave to that kind of question have half of the
weight, however few they are.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from confide.errors import ConfideError
from confide.methods.portable.answer_history import answer_keys, answer_text
from confide.methods.portable.question_kinds import QuestionKinds
from confide.numeric import Bools, Floats
from confide.records import Record

FEWEST = 20
"""Fewer new or known answers than this say nothing apart: all rows count alike then."""


def row_weights(train: Sequence[Record], validation: Sequence[Record], seed: int = 0) -> Floats:
    """The weight of each validation row, [n], of mean 1."""
    kinds = QuestionKinds.fit([r.question for r in train], [answer_text(r) for r in train], seed)
    given, asked = (answer_keys(kinds.predict([r.question for r in rows]), rows) for rows in (train, validation))
    known = set(given)
    new = np.array([key not in known for key in asked], dtype=np.bool_)
    if min(new.sum(), (~new).sum()) < FEWEST:
        return np.ones(len(validation))
    return np.where(new, 0.5 / new.mean(), 0.5 / (~new).mean())


def verdict_loss(z: Floats, right: Bools, weights: Floats) -> float:
    """Weighted log loss in nats of logits ``z`` [n] against labels [n], after a logistic fit to them.

    Mixing right and wrong rows shifts the base rate that a verdict reflects, and training on makes it more extreme; the
    fit takes both out, so that what is left is how well the verdict tells right from wrong.

    Infinite where training has diverged, so that z is no number.

    >>> round(verdict_loss(np.zeros(4), np.array([True, False, True, False]), np.ones(4)), 3)
    0.693
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    if not np.isfinite(z).all():
        return float("inf")
    column = np.asarray(z, dtype=np.float64)[:, None]
    model = LogisticRegression(C=1e6).fit(column, right, weights)
    if model.coef_[0, 0] < 0:  # a verdict that says the opposite is worth no more than none
        column = np.zeros_like(column)
        model.fit(column, right, weights)
    fitted = model.predict_proba(column)[:, 1]
    return float(log_loss(right, fitted, sample_weight=weights))


def finite_losses(losses: Sequence[float]) -> list[float | None]:
    """Losses on held-out rows as JSON can hold them: None for an epoch that had diverged.

    Raises `ConfideError` where every epoch had.
    """
    if losses and math.isinf(min(losses)):
        raise ConfideError(f"training diverged in each of {len(losses)} epochs: lower the learning rate")
    return [loss if math.isfinite(loss) else None for loss in losses]
