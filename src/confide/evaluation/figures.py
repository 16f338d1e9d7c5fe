"""The figures: every metric of a source as it stands in results.json, what it needs, and where it is shown."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from confide.metrics.calibration_error import brier, brier_skill, brier_term, ece, log_loss, mce
from confide.metrics.ranking import auroc, within_auroc
from confide.metrics.routing import MARGIN, apgr, cpt, parity_share
from confide.metrics.selective import aurc, coverage_at_risk, excess_aurc, prr, risk_at_coverage
from confide.numeric import Floats

BINS = 10


class Figure(NamedTuple):
    """A metric of a source as it stands in results.json.

    ``needs`` says what it is computed from: all "rows", rows of a source whose values are "probabilities", rows that
    the "expert" answered too, or pairs of the same "answer". Figures without a ``metric`` are computed elsewhere.
    ``shown`` figures stand in tables by default; paired differences are taken of those that are ``compared``.
    """

    name: str
    metric: Callable[..., Floats] | None = None
    needs: str = "rows"
    options: Mapping[str, Any] = {}
    shown: bool = False
    compared: bool = False
    lower_is_better: bool = False


FIGURES = (
    Figure("auroc", auroc.on, shown=True, compared=True),
    Figure("auroc_ended"),
    Figure("within_question_auroc", shown=True, compared=True),
    Figure("within_question_auroc_pooled", compared=True),
    Figure("within_answer_auroc", within_auroc.on, "answer", shown=True, compared=True),
    Figure("within_answer_auroc_averaged", within_auroc.on, "answer", {"average": True}, compared=True),
    Figure("brier", brier.on, "probabilities", shown=True, compared=True, lower_is_better=True),
    Figure("brier_reliability", brier_term.on, "probabilities", {"term": "reliability", "bins": BINS}),
    Figure("brier_resolution", brier_term.on, "probabilities", {"term": "resolution", "bins": BINS}),
    Figure("brier_uncertainty", brier_term.on, "probabilities", {"term": "uncertainty", "bins": BINS}),
    Figure("brier_within", brier_term.on, "probabilities", {"term": "within", "bins": BINS}),
    Figure("brier_skill", brier_skill.on, "probabilities"),
    Figure("log_loss", log_loss.on, "probabilities", shown=True, compared=True, lower_is_better=True),
    Figure("ece", ece.on, "probabilities", {"bins": BINS, "kind": "width"}, shown=True),
    Figure("ece_mass", ece.on, "probabilities", {"bins": BINS, "kind": "mass"}),
    Figure("smooth_ece", shown=True),
    Figure("mce", mce.on, "probabilities", {"bins": BINS}),
    Figure("aurc", aurc.on, compared=True, lower_is_better=True),
    Figure("excess_aurc", excess_aurc.on),
    Figure("prr", prr.on, shown=True, compared=True),
    Figure("coverage_at_risk", coverage_at_risk.on, options={"risk": 0.1}, shown=True),
    Figure("risk_at_coverage", risk_at_coverage.on, options={"coverage": 0.8}),
    Figure("apgr", apgr.on, "expert", shown=True, compared=True),
    Figure("cpt_50", cpt.on, "expert", {"part": 0.5}),
    Figure("cpt_80", cpt.on, "expert", {"part": 0.8}),
    Figure("cpt_95", cpt.on, "expert", {"part": 0.95}),
    Figure("parity_share", parity_share.on, "expert", {"margin": MARGIN}),
    Figure("aiq", shown=True),
    Figure("mfg"),
    Figure("cmfg", options={"bins": BINS}),
    Figure("cmfg_star", options={"bins": BINS}),
    Figure("cmfg_star_skill", shown=True),
    Figure("spearman"),
)
"""Every metric of a source, in the order of results.json."""

METRICS = tuple(figure.name for figure in FIGURES)

SHOWN = tuple(figure.name for figure in FIGURES if figure.shown)
"""The twelve metrics that tables show by default; the others are in results.json."""

COMPARED = tuple(figure.name for figure in FIGURES if figure.compared)
"""Metrics of the paired differences."""

LOWER_IS_BETTER = frozenset(figure.name for figure in FIGURES if figure.lower_is_better)

PRINTED = {"bins": "bins", "kind": "binning", "risk": "risk", "coverage": "coverage", "margin": "margin"}
"""Options of a metric that stand beside its value in results.json, and their names there."""
