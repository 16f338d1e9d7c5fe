"""The rows: what of a file of records is judged, as arrays, and what is left out."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
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
from confide.records import Record, RecordTable
from confide.sources import Source, as_probability, in_order


@dataclass(frozen=True, init=False)
class Rows:
    """The records that count, as arrays over their ``n`` rows, what was left out and why, and a judge's error."""

    records: RecordTable
    left_out: dict[str, int]
    split: str | None
    judge: JudgeError | None

    def __init__(
        self,
        records: Sequence[Record],
        left_out: dict[str, int] | None = None,
        split: str | None = None,
        judge: JudgeError | None = None,
    ):
        own = {"records": RecordTable.of(records), "left_out": left_out or {}, "split": split, "judge": judge}
        for name, value in own.items():
            object.__setattr__(self, name, value)

    @cached_property
    def correct(self) -> Bools:
        """Right or wrong [n]."""
        return np.asarray(self.records.truth("correct") == 1)

    @cached_property
    def ended(self) -> Bools:
        """Whether the answer was finished, not cut [n]."""
        return self.records.coded("finish").where("stop")

    @cached_property
    def answered(self) -> Ints:
        """A number for the candidate that each answer names [n]; -1 where it names none."""
        named = self.records.coded("answered")
        return np.where(named.where(None), -1, named.codes)

    @cached_property
    def consistency(self) -> Floats:
        """Agreement among samples [n], NaN where it was not measured."""
        return self.records.numbers("consistency")

    @cached_property
    def samples(self) -> Floats:
        """How many samples the agreement rests on [n], NaN where the records do not say."""
        return self.records.numbers("samples")

    @cached_property
    def sources(self) -> list[str]:
        """The sources to judge that any row names, in table order."""
        return in_order(source for source in self.records.sources if not Source.parse(source).auxiliary)

    @cached_property
    def competing(self) -> list[str]:
        """The sources that are judged against free ones, priors and floors."""
        return [source for source in self.sources if Source.parse(source).competes]

    @cached_property
    def auxiliary(self) -> list[Source]:
        """The sources that only serve a comparison with another one, in table order."""
        return [source for name in in_order(self.records.sources) if (source := Source.parse(name)).auxiliary]

    def confidence(self, source: str) -> Floats:
        """A source's confidences [n] as they rank; NaN where missing (None, absent, or not a finite number)."""
        return self.records.confidence(source)

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
        return Bootstrap(self.records.clusters(), resamples=resamples, seed=seed)


def numbers(values: Iterable[float | None]) -> Floats:
    """Numbers [n], NaN where there is none."""
    out = np.array([np.nan if value is None else value for value in values], dtype=np.float64)
    out[~np.isfinite(out)] = np.nan
    return out


def marks_of(graded: Sequence[Record], rows: RecordTable) -> Floats:
    """Whether the answer to the same question was right among the records ``graded``, by id [n]; NaN where unknown."""
    table = RecordTable.of(graded)
    marks = dict(zip(table.ids.tolist(), table.truth("correct").tolist(), strict=True))
    return np.array([marks.get(own, np.nan) for own in rows.ids.tolist()])


def probabilities(values: Floats) -> bool:
    """Whether there are finite values and all of them lie in [0, 1]."""
    present = values[np.isfinite(values)]
    return bool(len(present)) and bool(present.min() >= 0 and present.max() <= 1)


def extra(record: Record, name: str) -> Any:
    """A key of the record beyond the known ones, None where it is absent."""
    return (record.model_extra or {}).get(name)


def tested(records: Sequence[Record]) -> RecordTable:
    """The test split where records carry splits, else all of them."""
    table = RecordTable.of(records)
    splits = table.coded("split")
    return table if splits.present() in ([], [None]) else table.take(splits.where("test"))


def answerable(records: RecordTable) -> RecordTable:
    """The rows without those that lost their right option (``has_answer`` is false)."""
    return records.take(~records.extra("has_answer").mark(lambda value: value is False))


def graded(records: RecordTable) -> RecordTable:
    """The rows that say whether the answer is right."""
    return records.take(np.isfinite(records.truth("correct")))


def select(records: Sequence[Record]) -> Rows:
    """The rows to report on: the test split where records carry splits, and only graded ones.

    Questions whose right option was removed (``has_answer`` is false) are for the rejection table alone.

    Raises `ConfideError` when nothing is left, when the rest is all right or all wrong, or when several models answered
    or gave one confidence (other than what a row says it was ``trained_on``).
    """
    if not records:
        raise ConfideError("there are no records to evaluate")
    table = RecordTable.of(records)
    splits = set(table.coded("split").present()) - {None}
    held_out = tested(table)
    if not held_out:
        raise ConfideError(f"no record is in the split 'test'; the file holds {', '.join(sorted(splits))}")
    _check_one_model(held_out)
    with_answer = answerable(held_out)
    kept = graded(with_answer)
    if not kept:
        more = "; a judge's verdict is no label (`confide label` takes labels in)" if error_on(with_answer) else ""
        raise ConfideError(f"none of the {len(held_out)} records says whether its answer is correct{more}")
    right = int(kept.truth("correct").sum())
    if right in (0, len(kept)):
        raise ConfideError(
            f"all answers are {'right' if right else 'wrong'} ({right} right, {len(kept) - right} wrong): "
            "a confidence can only be judged where there are both"
        )
    left_out = {
        "other_splits": len(table) - len(held_out),
        "ungraded": len(with_answer) - len(kept),
        "without_answer": len(held_out) - len(with_answer),
    }
    rows = Rows(kept, left_out, "test" if splits else None, error_on(with_answer))
    if not any(np.isfinite(rows.confidence(source)).any() for source in rows.sources):
        raise ConfideError("no record holds a confidence: run `confide score` first")
    return rows


def _check_one_model(records: RecordTable) -> None:
    """Raise `ConfideError` for answers of several models, or one confidence of several checkpoints.

    Rows that say what their confidences were ``trained_on`` have a checkpoint for each.
    """
    common_identity(records, "")
    told = records.extra("trained_on")
    trained = np.array([str(value) for value in told.values])[told.codes]
    for name in np.unique(trained):
        check_one_model(records.take(trained == name))


def only(records: Sequence[Record], sources: Iterable[str]) -> RecordTable:
    """The records with these sources alone (and what only serves them); raises `ConfideError` for one nobody has."""
    table, wanted = RecordTable.of(records), list(sources)
    named = table.sources
    if unknown := [source for source in wanted if source not in named]:
        there = ", ".join(sorted(named)) or "none"
        raise ConfideError(f"no record has a confidence of the source {unknown[0]!r}; there are: {there}")
    return table.only(
        n for n in named if n in wanted or str(replace(Source.parse(n), position=None, swapped=False)) in wanted
    )
