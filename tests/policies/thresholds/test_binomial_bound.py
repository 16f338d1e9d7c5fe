from __future__ import annotations

import numpy as np
import pytest
from scipy.stats import binom

from confide.policies.thresholds.binomial_bound import clopper_pearson, fewest_rows


@pytest.mark.parametrize(
    ("max_risk", "level", "rows"), [(0.1, 0.95, 29), (0.5, 0.75, 2), (0.05, 0.95, 59), (0.2, 0.9, 11)]
)
def test_rows_needed(max_risk, level, rows):
    assert fewest_rows(max_risk, level) == rows
    assert (1 - max_risk) ** rows <= 1 - level + 1e-12 < (1 - max_risk) ** (rows - 1)


def test_interval_against_tables():
    # One-sided 95 % Clopper–Pearson: 5 wrong of 100 give 0.1023 above and 0.0199 below.
    assert clopper_pearson(5, 100, 0.95) == pytest.approx((0.0199, 0.1023), abs=5e-5)
    assert clopper_pearson(0, 100, 0.95) == pytest.approx((0.0, 1 - 0.05**0.01))
    assert clopper_pearson(7, 7, 0.95) == pytest.approx((0.05 ** (1 / 7), 1.0))
    assert clopper_pearson(0, 0, 0.95) == (0.0, 1.0)


def test_verdicts_err_no_more_than_the_level_says():
    # Every number of wrong answers among 200 kept, with its probability at the limit itself.
    wrong = np.arange(201)
    chance = binom.pmf(wrong, 200, 0.1)
    intervals = [clopper_pearson(int(w), 200, 0.95) for w in wrong]
    assert sum(p for p, (_, upper) in zip(chance, intervals, strict=True) if upper <= 0.1) <= 0.05
    assert sum(p for p, (lower, _) in zip(chance, intervals, strict=True) if lower > 0.1) <= 0.05
