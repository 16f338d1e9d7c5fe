"""What a confidence is worth: ranking, calibration, selective answering, routing; without torch."""

from confide.metrics.bootstrap import Bootstrap, Estimate, estimate
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
from confide.metrics.routing import RoutingCurve, aiq, apgr, cpt, parity_share, routing_curve
from confide.metrics.selective import (
    RiskCoverage,
    aurc,
    coverage_at_risk,
    excess_aurc,
    prr,
    risk_at_coverage,
    risk_coverage,
)

__all__ = [
    "Bin",
    "Bootstrap",
    "Estimate",
    "RiskCoverage",
    "RoutingCurve",
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
    "risk_coverage",
    "routing_curve",
    "smooth_ece",
    "spearman",
    "wilson",
    "within_auroc",
]
