"""What a confidence is worth: ranking, calibration, selective answering, routing; without torch.

Every metric is called alike: ``metric(confidence, correct, weights=None, **parameters)``, with ``confidence`` and
``correct`` of shape [n]. See `confide.metrics.metric.Metric`.

    >>> auroc([0.9, 0.5, 0.5, 0.1], [1, 1, 0, 0])
    0.875
    >>> round(ece([0.9, 0.8, 0.3, 0.1], [1, 0, 0, 0], bins=2), 3)
    0.275
"""

from confide.metrics.accumulator import Accumulator
from confide.metrics.bootstrap import Bootstrap, estimate
from confide.metrics.calibration_error import (
    Bin,
    brier,
    brier_skill,
    brier_term,
    ece,
    log_loss,
    mce,
    reliability,
    smooth_ece,
    wilson,
)
from confide.metrics.faithfulness import cmfg, cmfg_star, cmfg_star_skill, mfg
from confide.metrics.ranking import auroc, spearman, within_auroc
from confide.metrics.routing import aiq, apgr, cpt, parity_share
from confide.metrics.selective import aurc, coverage_at_risk, excess_aurc, prr, risk_at_coverage

__all__ = [
    "Accumulator",
    "Bin",
    "Bootstrap",
    "aiq",
    "apgr",
    "aurc",
    "auroc",
    "brier",
    "brier_skill",
    "brier_term",
    "cmfg",
    "cmfg_star",
    "cmfg_star_skill",
    "coverage_at_risk",
    "cpt",
    "ece",
    "estimate",
    "excess_aurc",
    "log_loss",
    "mce",
    "mfg",
    "parity_share",
    "prr",
    "reliability",
    "risk_at_coverage",
    "smooth_ece",
    "spearman",
    "wilson",
    "within_auroc",
]
