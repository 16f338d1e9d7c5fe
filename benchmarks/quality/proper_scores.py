"""Brier score and log loss of every source alike: each after the calibrator that ``auto`` fits on rows beside the test.

A missing value (a cut answer has no value as served) counts as the lowest of the rows that the calibrator is fitted on.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from benchmarks.common import Json
from benchmarks.quality.cells import sampled_metrics
from confide.evaluation.record_columns import Rows
from confide.methods.method import labels
from confide.metrics.bootstrap import estimate
from confide.numeric import Bools, Floats
from confide.policies.calibrators import Calibrator, Kind, fit_calibrator
from confide.records import Record
from confide.sources import log_space

SCORES = ("brier", "log_loss")


@dataclass(frozen=True)
class Readings:
    """Some rows, and what each source says of them, [n] (NaN where it has no value)."""

    records: list[Record]
    values: dict[str, Floats]

    def where(self, chosen: Bools) -> Readings:
        """The rows that are chosen, [n]."""
        records = [record for record, taken in zip(self.records, chosen.tolist(), strict=True) if taken]
        return Readings(records, {name: values[chosen] for name, values in self.values.items()})


def fit_auto(held: Readings, source: str, seed: int) -> tuple[Calibrator, float]:
    """The calibrator of a source by cross-validated log loss, entities kept together, and what stands for no value."""
    values = held.values[source]
    lowest = float(np.nanmin(values))
    clusters = [record.cluster for record in held.records]
    filled = np.nan_to_num(values, nan=lowest)
    fitted = fit_calibrator(filled, labels(held.records), "auto", clusters, seed, log_space=log_space(source))
    return fitted, lowest


def sampled_scores(
    held: Readings, tested: Readings, resamples: int, seed: int
) -> tuple[dict[str, dict[str, Floats]], dict[str, Kind]]:
    """Draws [1 + resamples] of each source's AUROC, Brier score and log loss on ``tested``, and its kind of calibrator.

    Calibrators are fitted on ``held``; AUROC is that of the values as they are, where none counts as the lowest.
    """
    y, n = labels(tested.records), len(tested.records)
    bootstrap = Rows(tested.records, {}, "test").bootstrap(resamples, seed)
    drawn, kinds = {}, {}
    for name, values in tested.values.items():
        calibrator, lowest = fit_auto(held, name, seed)
        probability = calibrator.predict(np.nan_to_num(values, nan=lowest))
        raw = np.where(np.isnan(values), -np.inf, values)
        ranks = np.unique(raw, return_inverse=True)[1].astype(np.float64)
        found = sampled_metrics(bootstrap, np.arange(n), ranks, probability, y)
        drawn[name] = {metric: found[metric] for metric in ("auroc", *SCORES)}
        kinds[name] = calibrator.kind
    return drawn, kinds


def proper_scores(held: Readings, tested: Readings, resamples: int, seed: int) -> Json:
    """Brier score and log loss of each source on ``tested`` calibrated on ``held``, and the calibrator's kind."""
    drawn, kinds = sampled_scores(held, tested, resamples, seed)
    return {
        name: {"calibrator": kinds[name], **{score: estimate(found[score]) for score in SCORES}}
        for name, found in drawn.items()
    }
