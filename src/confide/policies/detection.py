"""How much of what is not fine a policy does not keep: an estimate beside a promise about fine answers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from confide.policies.calibration_rows import confidences_of
from confide.policies.goals import Per
from confide.policies.guarantees import Detection
from confide.policies.policy import Policy
from confide.policies.policy_part import Part
from confide.policies.thresholds.binomial_bound import BinomialCount
from confide.policies.thresholds.cluster_bound import draw
from confide.records import Record, RecordTable

_SIDE = 0.975
"""Level of each side of an interval of 95 %."""


def with_detection(policy: Policy, records: Sequence[Record], per: Per, seed: int) -> Policy:
    """A ``policy`` that promises about false alarms with its `detection_of` these ``records``."""
    seen = {"detection": detection_of(policy, records, per, seed)}
    return policy.model_copy(update={"guarantee": policy.guarantee.model_copy(update=seen)})


def detection_of(part: Part, records: Sequence[Record], per: Per, seed: int) -> Detection | None:
    """The share of those ``records`` whose label is false that ``part`` does not keep (None: there are none).

    Rows count as those of a promise ``per`` question or entity do (`draw`, with ``seed``), with an exact interval. One
    without a confidence is not kept, as when the policy decides.
    """
    table = RecordTable.of(records)
    flawed = table.take(table.truth("correct") == 0)
    drawn = draw(flawed.clusters(), per, seed)
    if not (n := len(drawn.rows)):
        return None
    rows = flawed.take(drawn.rows)
    caught = part.decide_rows(confidences_of(rows, part.source), rows.coded("domain")) != "answer"
    kept = n - int(caught.sum())
    count = drawn.clusters.count(caught, np.ones(n), kept) if drawn.clusters else BinomialCount(n, kept, n - kept, n)
    low, high = count.interval(_SIDE)
    return Detection(n=n, detected=count.observed, low=low, high=high)
