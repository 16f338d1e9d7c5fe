"""The tables of the report: which figures stand in them, under which names, and what a domain's row holds."""

from __future__ import annotations

from typing import Any

import numpy as np

from confide.evaluation.record_columns import Rows

COMPARED = {
    "auroc": "AUROC",
    "within_question_auroc": "AUROC within the same question, averaged",
    "within_question_auroc_pooled": "AUROC within the same question, by pairs",
    "within_answer_auroc_averaged": "AUROC within the same answer, averaged",
    "within_answer_auroc": "AUROC within the same answer, by pairs",
    "brier": "Brier score",
    "log_loss": "Log loss",
    "aurc": "Area under risk–coverage",
    "prr": "Prediction–rejection ratio",
    "apgr": "APGR, the share of the expert's lead that is recovered",
}
"""The metrics of the paired differences as the page names them."""

CALIBRATION = {
    "ece": "ECE",
    "ece_mass": "ECE, equal mass",
    "smooth_ece": "Smooth ECE",
    "mce": "MCE",
    "brier": "Brier",
    "log_loss": "Log loss",
}
"""The metrics that stand beside the reliability diagrams."""

METRICS: dict[str, dict[str, tuple[str, str]]] = {
    "Ranking": {
        "auroc": ("AUROC", "number"),
        "auroc_ended": ("of finished answers", "number"),
        "within_question_auroc": ("within a question", "number"),
        "within_question_auroc_pooled": ("within a question, by pairs", "number"),
        "within_answer_auroc": ("within an answer, by pairs", "number"),
        "within_answer_auroc_averaged": ("within an answer", "number"),
        "spearman": ("Spearman with agreement", "number"),
    },
    "Calibration": {
        "brier": ("Brier", "number"),
        "brier_skill": ("Brier skill", "number"),
        "brier_reliability": ("reliability", "number"),
        "brier_resolution": ("resolution", "number"),
        "brier_uncertainty": ("uncertainty", "number"),
        "brier_within": ("within bins", "number"),
        "log_loss": ("log loss", "number"),
        "ece": ("ECE", "number"),
        "ece_mass": ("ECE, equal mass", "number"),
        "smooth_ece": ("smooth ECE", "number"),
        "mce": ("MCE", "number"),
    },
    "Keeping the surest": {
        "aurc": ("AURC", "number"),
        "excess_aurc": ("excess AURC", "number"),
        "prr": ("prediction–rejection ratio", "number"),
        "coverage_at_risk": ("kept", "percent"),
        "risk_at_coverage": ("wrong", "percent"),
    },
    "Escalating the rest": {
        "apgr": ("APGR", "number"),
        "cpt_50": ("CPT(50)", "percent"),
        "cpt_80": ("CPT(80)", "percent"),
        "cpt_95": ("CPT(95)", "percent"),
        "parity_share": ("parity share", "percent"),
        "aiq": ("AIQ", "number"),
    },
    "Faithfulness": {
        "mfg": ("MFG", "number"),
        "cmfg": ("cMFG", "number"),
        "cmfg_star": ("cMFG*", "number"),
        "cmfg_star_skill": ("cMFG* skill", "number"),
    },
}
"""Group to its metrics in results.json, each with the title of its column and how its values read."""


def metric_tables(estimators: dict[str, dict[str, Any]]) -> dict[str, list[dict[str, str]]]:
    """The columns of every group that some source has a value for: ``{"name", "title", "form"}``."""
    tables = {}
    for group, metrics in METRICS.items():
        columns = []
        for name, (title, form) in metrics.items():
            entries = [entry[name] for entry in estimators.values() if entry.get(name)]
            if any(entry["value"] is not None for entry in entries):
                columns.append({"name": name, "title": title + _parameters(entries[0]), "form": form})
        if columns:
            tables[group] = columns
    return tables


def _parameters(entry: dict[str, Any]) -> str:
    """What a metric was computed with, for the title of its column."""
    if "bins" in entry:
        return f", {entry['bins']:g} bins"
    if "risk" in entry:
        return f" with at most {entry['risk']:.0%} wrong"
    if "coverage" in entry:
        return f" when {entry['coverage']:.0%} are kept"
    return ""


def domains(results: dict[str, Any], rows: Rows, source: str | None) -> list[dict[str, Any]]:
    """A row of the table by domain: its size, its share of right answers, what the source says, and AUROCs.

    ``said`` is the mean confidence where all of the source's values are probabilities, else None.
    """
    found = results["controls"]["domains"]["domains"]
    if source is None:
        return []
    confidence = rows.confidence(source)
    present = np.isfinite(confidence)
    probability = confidence[present].min() >= 0 and confidence[present].max() <= 1
    names = np.array([record.domain for record in rows.records], dtype=object)
    out = []
    for name, entry in found.items():
        inside = present & (names == name)
        said = float(confidence[inside].mean()) if probability and inside.any() else None
        right = float(rows.correct[inside].mean()) if inside.any() else None
        out.append(
            {
                "name": name or "none",
                "n": entry["n"],
                "right": entry["right"] / entry["n"],
                "said": said,
                "gap": None if said is None or right is None else said - right,
                "auroc": entry["auroc"],
            }
        )
    return out
