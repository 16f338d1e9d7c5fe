"""The kept answers among rows that a policy decided on: how many of those with a label are wrong, and what to mind."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from confide.metrics.calibration_error import wilson
from confide.policies.guarantees import Guarantee
from confide.policies.policy import Policy
from confide.records import Record, RecordTable

MOST_MISSING = 0.5
"""Share of rows without a confidence from which on that is worth a warning."""


@dataclass(frozen=True)
class SeenRisk:
    """Of ``labelled`` kept answers ``wrong`` are wrong; ``low`` and ``high`` are Wilson's 95 % interval of the risk."""

    labelled: int
    wrong: int
    low: float
    high: float

    @property
    def risk(self) -> float:
        """The share of wrong ones."""
        return self.wrong / self.labelled

    def explain(self, policy: Policy) -> str:
        """The risk beside what ``policy`` promises of it."""
        said = f"Of {self.labelled} kept answer{'s' * (self.labelled != 1)} with a label, {self.wrong} "
        said += f"{'is' if self.wrong == 1 else 'are'} wrong ({self.risk:.1%}, 95% interval "
        said += f"{self.low:.1%} to {self.high:.1%}, rows taken as independent)."
        if not isinstance(policy.guarantee, Guarantee):
            return said
        limit = policy.guarantee.max_risk
        place = "above" if self.low > limit else "within" if self.high <= limit else "not clearly on one side of"
        of = " of each source by itself" * bool(policy.fallbacks)
        return (
            f"{said} That is {place} the promised {limit:.1%}{of}; `confide validate` checks the promise on fresh rows."
        )


def seen_of_kept(kept: Sequence[Record]) -> SeenRisk | None:
    """What the labels of the ``kept`` answers show; None where none has a label."""
    right = RecordTable.of(kept).truth("correct")
    labelled, wrong = int(np.isfinite(right).sum()), int((right == 0).sum())
    return SeenRisk(labelled, wrong, *wilson(wrong, labelled)) if labelled else None


def cautions(policy: Policy, records: Sequence[Record]) -> list[str]:
    """Sentences on ``records`` that the promise of ``policy`` does not speak for, or about which little is decided."""
    found, table = [], RecordTable.of(records)
    n = len(table)
    missing = int(np.isnan(policy.decided(table).confidence).sum())
    if missing > MOST_MISSING * n:
        sources = " or ".join(policy.sources)
        found.append(f"{missing} of the {n} rows have no confidence from {sources}: little is decided here")
    known = policy.profile.domains if policy.profile else None
    if known is not None and "" not in known:
        named = {domain for part in policy.parts for domain in part.thresholds}
        domains = table.coded("domain")
        new = sorted(set(domains.present()) - set(known) - named)
        count = int(domains.where(*new).sum())
        if count:
            names = ", ".join(name or "none" for name in new[:3])
            found.append(f"{count} of the {n} rows are of domains that no calibration row speaks for ({names})")
    trained = int(table.coded("split").where("train", "validation").sum())
    if trained:
        found.append(f"{trained} of the {n} rows are of the training or validation split: the promise is void for them")
    again, complete = policy.used_before(table)
    if again:
        count_said = f"{again}" if complete else f"at least {again}"
        found.append(f"{count_said} of the {n} rows were used in calibration: they are not fresh")
    return found
