"""The rows: what of a file of records is judged, as arrays, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from confide.errors import ConfideError
from confide.metrics.bootstrap import Bootstrap, Estimate, estimate
from confide.metrics.ranking import auroc
from confide.numeric import Bools, Floats, Ints
from confide.policies.guarantees import JudgeError
from confide.policies.identities import check_one_model, common_identity
from confide.policies.judged_rows import error_on
from confide.records import Record
from confide.sources import Source, as_probability, in_order


@dataclass(frozen=True)
class Rows:
    """The records that count, as arrays over their ``n`` rows, what was left out and why, and a judge's error."""

    records: list[Record]
    left_out: dict[str, int] = field(default_factory=dict)
    split: str | None = None
    judge: JudgeError | None = None

    @cached_property
    def correct(self) -> Bools:
        """Right or wrong [n]."""
        return np.array([bool(record.correct) for record in self.records])

    @cached_property
    def ended(self) -> Bools:
        """Whether the answer was finished, not cut [n]."""
        return np.array([record.finish == "stop" for record in self.records])

    @cached_property
    def answered(self) -> Ints:
        """A number for the candidate that each answer names [n]; -1 where it names none."""
        codes: dict[str | None, int] = {None: -1}
        return np.array([codes.setdefault(r.answered, len(codes) - 1) for r in self.records], dtype=np.int64)

    @cached_property
    def consistency(self) -> Floats:
        """Agreement among samples [n], NaN where it was not measured."""
        return numbers(record.consistency for record in self.records)

    @cached_property
    def samples(self) -> Floats:
        """How many samples the agreement rests on [n], NaN where the records do not say."""
        return numbers(len(record.samples) if record.samples else None for record in self.records)

    @cached_property
    def sources(self) -> list[str]:
        """The sources to judge that any row names, in table order."""
        return in_order(source for source in self._named if not Source.parse(source).auxiliary)

    @cached_property
    def competing(self) -> list[str]:
        """The sources that are judged against free ones, priors and floors."""
        return [source for source in self.sources if Source.parse(source).competes]

    @cached_property
    def auxiliary(self) -> list[Source]:
        """The sources that only serve a comparison with another one, in table order."""
        return [source for name in in_order(self._named) if (source := Source.parse(name)).auxiliary]

    @cached_property
    def _named(self) -> set[str]:
        return {source for record in self.records for source in record.confidence}

    def confidence(self, source: str) -> Floats:
        """A source's confidences [n] as they rank; NaN where missing (None, absent, or not a finite number)."""
        return numbers(record.confidence.get(source) for record in self.records)

    def probability(self, source: str) -> Floats | None:
        """The same as probabilities [n], e to log-probabilities; None for a source whose values are none."""
        values = as_probability(source, self.confidence(source))
        return values if probabilities(values) else None

    def present(self, *sources: str) -> Ints:
        """The rows where all of the sources have a value [k]."""
        values = [np.isfinite(self.confidence(source)) for source in sources]
        return np.flatnonzero(np.all(values, axis=0)).astype(np.int64)

    def auroc(self, source: str, bootstrap: Bootstrap, kept: Ints | None = None) -> Floats:
        """AUROC of a source [1 + resamples] on the rows ``kept`` (None: where it has a value), NaN without rows."""
        kept = self.present(source) if kept is None else kept
        if not len(kept):
            return np.full(1 + bootstrap.resamples, np.nan)
        return bootstrap.metric(auroc, self.confidence(source)[kept], self.correct[kept], kept)

    def auroc_difference(self, a: str, b: str, bootstrap: Bootstrap) -> Estimate:
        """AUROC of ``a`` minus that of ``b`` where both have a value."""
        both = self.present(a, b)
        return estimate(self.auroc(a, bootstrap, both) - self.auroc(b, bootstrap, both))

    def bootstrap(self, resamples: int, seed: int) -> Bootstrap:
        """Draws of the rows' entities; the same ones wherever rows come in the same order."""
        return Bootstrap([record.cluster for record in self.records], resamples=resamples, seed=seed)


def numbers(values: Iterable[float | None]) -> Floats:
    """Numbers [n], NaN where there is none."""
    out = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    out[~np.isfinite(out)] = np.nan
    return out


def probabilities(values: Floats) -> bool:
    """Whether there are finite values and all of them lie in [0, 1]."""
    present = values[np.isfinite(values)]
    return bool(len(present)) and bool(present.min() >= 0 and present.max() <= 1)


def extra(record: Record, name: str) -> Any:
    """A key of the record beyond the known ones, None where it is absent."""
    return (record.model_extra or {}).get(name)


def tested(records: list[Record]) -> list[Record]:
    """The test split where records carry splits, else all of them."""
    return [r for r in records if r.split == "test"] if any(r.split is not None for r in records) else records


def select(records: list[Record]) -> Rows:
    """The rows to report on: the test split where records carry splits, and only graded ones.

    Questions whose right option was removed (``has_answer`` is false) are for the rejection table alone.

    Raises `ConfideError` when nothing is left, when the rest is all right or all wrong, or when several models answered
    or gave one confidence (other than what a row says it was ``trained_on``).
    """
    if not records:
        raise ConfideError("there are no records to evaluate")
    splits = {record.split for record in records if record.split is not None}
    held_out = tested(records)
    if not held_out:
        raise ConfideError(f"no record is in the split 'test'; the file holds {', '.join(sorted(splits))}")
    _check_one_model(held_out)
    answerable = [record for record in held_out if extra(record, "has_answer") is not False]
    graded = [record for record in answerable if record.correct is not None]
    if not graded:
        more = "; a judge's verdict is no label (`confide label` takes labels in)" if error_on(answerable) else ""
        raise ConfideError(f"none of the {len(held_out)} records says whether its answer is correct{more}")
    right = sum(bool(record.correct) for record in graded)
    if right in (0, len(graded)):
        raise ConfideError(
            f"all answers are {'right' if right else 'wrong'} ({right} right, {len(graded) - right} wrong): "
            "a confidence can only be judged where there are both"
        )
    left_out = {
        "other_splits": len(records) - len(held_out),
        "ungraded": len(answerable) - len(graded),
        "without_answer": len(held_out) - len(answerable),
    }
    rows = Rows(graded, left_out, "test" if splits else None, error_on(answerable))
    if not any(np.isfinite(rows.confidence(source)).any() for source in rows.sources):
        raise ConfideError("no record holds a confidence: run `confide score` first")
    return rows


def _check_one_model(records: list[Record]) -> None:
    """Raise `ConfideError` for answers of several models, or one confidence of several checkpoints.

    Rows that say what their confidences were ``trained_on`` have a checkpoint for each.
    """
    common_identity(records, "")
    trained: dict[str, list[Record]] = {}
    for record in records:
        trained.setdefault(str(extra(record, "trained_on")), []).append(record)
    for rows in trained.values():
        check_one_model(rows)


def only(records: list[Record], sources: Iterable[str]) -> list[Record]:
    """The records with these sources alone (and what only serves them); raises `ConfideError` for one nobody has."""
    wanted = list(sources)
    named = {source for record in records for source in record.confidence}
    if unknown := [source for source in wanted if source not in named]:
        there = ", ".join(sorted(named)) or "none"
        raise ConfideError(f"no record has a confidence of the source {unknown[0]!r}; there are: {there}")
    kept = {n for n in named if n in wanted or str(replace(Source.parse(n), position=None, swapped=False)) in wanted}
    return [
        record.model_copy(update={"confidence": {s: v for s, v in record.confidence.items() if s in kept}})
        for record in records
    ]
