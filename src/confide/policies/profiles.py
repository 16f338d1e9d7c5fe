"""Are these rows like the calibration rows? A check without labels, from a summary that a policy file holds.

A promise is about rows exchangeable with the calibration rows. Labels of new rows are seldom there, but what can be
seen without them can be compared: raw confidences, how many are missing, domains, answer lengths, cut answers. Each is
kept as counts in a few bins, and a chi-squared test of homogeneity compares the counts (Bonferroni over the
features). How questions were asked is compared row by row (`confide.policies.requests`). Likeness proves nothing: a
model may grow worse at the same confidence. Unlikeness voids the promise.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Container, Sequence
from dataclasses import dataclass
from typing import Annotated, Protocol

import numpy as np
from pydantic import BaseModel, Field, model_validator
from scipy.stats import binom, chi2_contingency

from confide.numeric import Floats, Ints
from confide.policies.calibration_rows import independent_records
from confide.policies.requests import Requests, request_of_record, requests_of, unlike
from confide.records import Record, RecordTable

ERROR = 0.01
"""Probability of a warning on rows that are exchangeable with the calibration rows (all features together)."""
LEAST_MOVED = 0.05
"""Differences below this share of rows are ignored, however many rows show them."""
MIN_FRESH = 20
_LEAST_EXPECTED = 5.0
_BINS = 10
_ROWS_PER_BIN = 20
_MOST_DOMAINS = 20

Count = Annotated[int, Field(ge=0)]


class Histogram(BaseModel, extra="forbid"):
    """Rows by a number: ``counts`` below, between and above the ascending ``edges``, and rows without the number."""

    edges: list[Annotated[float, Field(allow_inf_nan=False)]]
    counts: list[Count]
    missing: Count = 0

    @model_validator(mode="after")
    def _fits(self) -> Histogram:
        if len(self.counts) != len(self.edges) + 1 or np.any(np.diff(self.edges) <= 0):
            raise ValueError("a histogram wants ascending edges and one count more than edges")
        return self


class Profile(BaseModel, extra="forbid"):
    """A label-free summary of calibration rows; a feature that says nothing there is None.

    ``domains`` holds the twenty largest, the others count under ``""``; ``answer_length`` is in characters; ``cut``
    counts answers that did not end by themselves; ``requests`` says how the questions were asked; ``answered`` is the
    share of all calibration rows that the policy answers.
    """

    n: int = Field(ge=1)
    confidence: Histogram
    domains: dict[str, Count] | None = None
    answer_length: Histogram | None = None
    cut: Count | None = None
    requests: Requests | None = None
    answered: Annotated[float, Field(ge=0, le=1)] | None = None


class ProfiledPart(Protocol):
    """What holds the profile of its calibration rows: a part of a policy."""

    source: str
    profile: Profile | None

    def on_own_scale(self, records: Sequence[Record]) -> RecordTable:
        """``records`` with their confidences on the scale of the profile."""


class Profiled(ProfiledPart, Protocol):
    """A policy. The first of its parts is itself; of the others' profiles only confidences are compared."""

    @property
    def parts(self) -> Sequence[ProfiledPart]:
        """What each source of its order decides."""


@dataclass(frozen=True)
class Feature:
    """One comparison: the share of rows that moved to other bins (total variation) and the test's p-value."""

    name: str
    moved: float
    p_value: float


@dataclass(frozen=True)
class Shift:
    """How unlike the calibration rows ``n`` fresh ones are; ``warnings`` has a sentence for each feature that moved.

    ``checked`` is False when the policy holds no summary or there are too few rows to tell.
    """

    n: int
    checked: bool
    features: list[Feature]
    warnings: list[str]


def profile_of(records: Sequence[Record], source: str, seed: int = 0) -> Profile:
    """The summary of ``records``, one row per cluster (drawn with ``seed``), by the raw confidence of ``source``."""
    rows = independent_records(records, seed)
    confidence = rows.confidence(source)
    domains = Counter(rows.coded("domain").counts())
    shown = {name for name, _ in domains.most_common(_MOST_DOMAINS)}
    # Rows without a text tell neither its length nor how it ended.
    lengths = _lengths(rows)
    return Profile(
        n=len(rows),
        confidence=_histogram(confidence, _edges(confidence[np.isfinite(confidence)])),
        domains=dict(_mix(domains, shown)) if set(domains) != {""} else None,
        answer_length=None if lengths is None else _histogram(lengths, _edges(lengths)),
        cut=None if lengths is None else int(rows.coded("finish").where("length").sum()),
        requests=requests_of(rows),
    )


def shift(policy: Profiled, records: Sequence[Record], seed: int = 0) -> Shift:
    """Compare ``records`` (labels are not read) with the calibration rows of ``policy``.

    One row per cluster counts, drawn with ``seed``. A feature warns when its p-value is below 0.01 divided by the
    number of features and at least 5 % of the rows sit in other bins.
    """
    before = policy.profile
    rows = independent_records(records, seed)
    if before is None or len(rows) < MIN_FRESH:
        return Shift(len(rows), False, [], [])
    tables = _confidence_tables(policy, rows)
    if before.domains is not None:
        mix = _mix(Counter(rows.coded("domain").counts()), before.domains)
        names = sorted({*before.domains, *mix})
        tables["domains"] = np.array([[before.domains.get(name, 0) for name in names], [mix[name] for name in names]])
    lengths = _lengths(rows)
    if before.answer_length is not None and lengths is not None:
        tables["answer length"] = _beside(before.answer_length, lengths)
    if before.cut is not None and lengths is not None:
        cut = int(rows.coded("finish").where("length").sum())
        tables["cut answers"] = np.array([[before.cut, before.n - before.cut], [cut, len(rows) - cut]])
    features = [Feature(name, *_compare(table)) for name, table in tables.items()]
    if before.requests is not None:
        others = sum(bool(unlike(before.requests, request_of_record(record))) for record in rows)
        # Of rows that were asked alike, one in a hundred at most is taken for another kind.
        features.append(Feature("requests", others / len(rows), float(binom.sf(others - 1, len(rows), ERROR))))
    warnings = [
        f"{feature.name}: {feature.moved:.0%} of these {len(rows)} rows are unlike the calibration rows "
        f"(p {'< 0.0001' if feature.p_value < 1e-4 else f'= {feature.p_value:.4f}'}), so the promise may not hold here"
        for feature in features
        if feature.p_value < ERROR / len(features) and feature.moved >= LEAST_MOVED
    ]
    return Shift(len(rows), True, features, warnings)


def _confidence_tables(policy: Profiled, rows: Sequence[Record]) -> dict[str, Ints]:
    """The raw confidences of each source of the order beside those of the calibration rows.

    How many have none is compared of the first source alone: rows often hold no more than the confidence that decided.
    """
    tables = {}
    for part in policy.parts:
        values = part.on_own_scale(rows).confidence(part.source)
        if part is policy and part.profile is not None:
            tables["confidence"] = _beside(part.profile.confidence, values)
        elif part.profile is not None and np.isfinite(values).any():
            tables[f"confidence from {part.source}"] = _beside(part.profile.confidence, values)[:, :-1]
    return tables


def _lengths(rows: RecordTable) -> Floats | None:
    """Characters of every answer [n]; None where no row has a text."""
    answers = rows.coded("answer")
    lengths = answers.of([float(len(answer)) for answer in answers.values])
    return lengths if lengths.any() else None


def _mix(domains: Counter[str], shown: Container[str]) -> Counter[str]:
    """How many rows each of the domains ``shown`` has, and all others together."""
    mix = Counter[str]()
    for name, count in domains.items():
        mix[name if name in shown else ""] += count
    return mix


def _edges(values: Floats) -> list[float]:
    """Quantiles that part ``values`` into at most ten bins of about equal size; ties stay together."""
    bins = min(_BINS, max(1, len(values) // _ROWS_PER_BIN))
    inner = np.quantile(values, np.arange(1, bins) / bins, method="lower") if bins > 1 else np.array([])
    return [float(edge) for edge in np.unique(inner)]


def _histogram(values: Floats, edges: list[float]) -> Histogram:
    known = values[np.isfinite(values)]
    bins = np.searchsorted(edges, known, side="right")
    counts = np.bincount(bins, minlength=len(edges) + 1)
    return Histogram(edges=edges, counts=[int(count) for count in counts], missing=len(values) - len(known))


def _beside(before: Histogram, values: Floats) -> Ints:
    """Counts of the calibration rows and of the fresh ones, (2, bins + 1), rows without a value last."""
    after = _histogram(values, before.edges)
    return np.array([[*before.counts, before.missing], [*after.counts, after.missing]])


def _compare(table: Ints) -> tuple[float, float]:
    """Total variation between the rows of a (2, bins) table, and the p-value of their homogeneity."""
    shares = table / table.sum(axis=1, keepdims=True)
    moved = float(np.abs(shares[0] - shares[1]).sum() / 2)
    # Bins with few rows expected are one bin: the chi-squared approximation needs some in each.
    expected = table.sum(axis=0) * table.sum(axis=1).min() / table.sum()
    small = expected < _LEAST_EXPECTED
    merged = np.column_stack([table[:, ~small], table[:, small].sum(axis=1)])
    merged = merged[:, merged.sum(axis=0) > 0]
    if merged.shape[1] < 2:
        return moved, 1.0
    return moved, float(chi2_contingency(merged, correction=False).pvalue)
