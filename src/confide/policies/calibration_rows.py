"""From records to the rows that calibration and validation use, and fingerprints that recognise them again."""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from confide.errors import ConfideError
from confide.hashing import sha256_of_text
from confide.numeric import Floats
from confide.policies.goals import GoalName
from confide.records import Record, RecordTable, Split
from confide.signals import along_signals
from confide.sources import log_space

# A policy file holds at most this many fingerprints, those with the lowest hashes (a bottom-k sketch): a
# person can still read the file, and an overlap of a few rows in a hundred is still seen.
_SKETCH = 512
_DIGITS = 10


@dataclass(frozen=True)
class CalibrationRows:
    """The rows of a file that a goal is about, and how many were left out for lacking what it needs.

    All arrays have shape [n] and belong to ``records``. ``confidence`` is −inf where there is none. ``correct`` and
    ``expert`` (is the expert right; true everywhere without one) count only where ``labelled``; where a judge has
    judged and nobody labelled, ``correct`` is its verdict. In ``log_space`` the
    confidences are log-probabilities. ``entities`` are what dependent rows share, where it is not what records say.
    """

    records: RecordTable
    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    expert: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    without_confidence: int = 0
    without_label: int = 0
    log_space: bool = False
    entities: Sequence[str] | None = None

    @property
    def clusters(self) -> Sequence[str]:
        """What dependent rows share, one entry per row."""
        return self.entities if self.entities is not None else self.records.clusters()

    def take(self, chosen: Sequence[int] | NDArray[np.int64]) -> CalibrationRows:
        """The rows at these indices."""
        at = np.asarray(chosen, dtype=int)
        arrays = (self.confidence, self.correct, self.expert, self.labelled)
        some = CalibrationRows(self.records.take(at), *(array[at] for array in arrays))
        entities = None if self.entities is None else [self.entities[i] for i in at]
        return replace(some, log_space=self.log_space, entities=entities)

    def independent(self, seed: int) -> CalibrationRows:
        """One row per cluster, drawn with ``seed``."""
        return self.take(one_per_cluster(self.clusters, seed))


def first_of_each(clusters: Sequence[str]) -> NDArray[np.int64]:
    """Indices, ascending, of the first row of each cluster, which stays the first when rows are added at the end."""
    _, first = np.unique(np.asarray(clusters, dtype=str), return_index=True)
    return np.sort(first)


def one_per_cluster(clusters: Sequence[str], seed: int) -> NDArray[np.int64]:
    """Indices, ascending, of one row drawn uniformly from each cluster of the (n,) ``clusters``."""
    shuffled = np.random.default_rng(seed).permutation(len(clusters))
    _, first = np.unique(np.asarray(clusters, dtype=str)[shuffled], return_index=True)
    return np.sort(shuffled[first])


def independent_records(records: Sequence[Record], seed: int) -> RecordTable:
    """One record per cluster, drawn with ``seed``."""
    table = RecordTable.of(records)
    return table.take(one_per_cluster(table.clusters(), seed))


def in_split(records: Sequence[Record], split: Split) -> RecordTable:
    """The records of ``split`` when records carry splits, all of them otherwise.

    Raises `ConfideError` naming the splits that exist when ``split`` is not among them.
    """
    table = RecordTable.of(records)
    splits = table.coded("split")
    sizes = splits.counts()
    if set(sizes) == {None}:
        return table
    if split not in sizes:
        there = ", ".join(f"{name or 'none'} ({count})" for name, count in sizes.items())
        raise ConfideError(f"no row belongs to the {split} split; there are: {there}")
    return table.take(splits.where(split))


def pick_source(records: Sequence[Record], wanted: str) -> str:
    """``wanted``, or ``given`` when ``stack`` is wanted and a bare number is all there is.

    Raises `ConfideError` naming the sources that exist when the wanted one is missing.
    """
    there = RecordTable.of(records).sources
    if wanted in there:
        return wanted
    if wanted == "stack" and there == {"given"}:
        return "given"
    if not there:
        raise ConfideError("no row has a confidence; `confide score` adds them")
    raise missing_source(records, wanted)


def missing_source(records: Sequence[Record], wanted: str, row: str = "row") -> ConfideError:
    """The error of records, none of which has a confidence from ``wanted``: it names the sources that exist."""
    there = ", ".join(sorted(RecordTable.of(records).sources)) or "none"
    return ConfideError(f"no {row} has a confidence from {wanted}; there are: {there}")


def rows_decided_by(source: str, records: Sequence[Record]) -> RecordTable:
    """Those of ``records``, which hold the confidence that decided and no other, that ``source`` decided."""
    table = RecordTable.of(records)
    return table.take(table.naming(source))


def confidences_of(records: RecordTable, source: str) -> Floats:
    """What `confidence_of` says of every record [n]; NaN for None."""
    values = records.confidence(source)
    ended = records.coded("finish").where("stop")
    return values if source in along_signals() else np.where(ended, values, np.nan)


def written_confidence(record: Record, source: str) -> float | None:
    """What the record says of ``source``; None when it is missing or not finite."""
    value = record.confidence.get(source)
    return value if value is not None and math.isfinite(value) else None


def confidence_of(record: Record, source: str) -> float | None:
    """The confidence that decides: what is written, but none for an answer that was cut, as in the router.

    A signal that is read along an answer needs no end of it.
    """
    return written_confidence(record, source) if record.finish == "stop" or source in along_signals() else None


def labelled_rows(records: Sequence[Record], source: str) -> CalibrationRows:
    """Rows with both a label and a confidence from ``source``."""
    return rows_for("max_risk", records, source)


def rows_for(
    goal: GoalName,
    records: Sequence[Record],
    source: str,
    expert: Sequence[Record] | None = None,
    *,
    judged: bool = False,
) -> CalibrationRows:
    """The rows that ``goal`` is about.

    The risk of kept answers needs a label and a confidence, a share of escalations neither; all other goals need a
    label, and the label of ``expert`` on the same question where its records are given. False alarms are about fine
    answers, whose label is true, alone. Where ``judged``, a judge's verdict will do in place of a label. Raises
    `ConfideError` when the expert has none.
    """
    table = RecordTable.of(records)
    helped = np.ones(len(table)) if expert is None else _expert_right(table, expert)
    values, right, verdict = confidences_of(table, source), table.truth("correct"), table.truth("judged")
    labelled = np.isfinite(right) & np.isfinite(helped)
    usable = labelled | (goal == "budget") | (np.isfinite(verdict) & judged)
    missing = usable & np.isnan(values) & (goal == "max_risk")
    chosen = np.flatnonzero(usable & ~missing & ((goal != "false_alarms") | (right == 1)))
    said = np.where(np.isnan(right), verdict, right)
    return CalibrationRows(
        records=table.take(chosen),
        confidence=np.where(np.isnan(values), -np.inf, values)[chosen],
        correct=(said == 1)[chosen],
        expert=(helped == 1)[chosen],
        labelled=labelled[chosen],
        without_confidence=int(missing.sum()),
        without_label=int((~usable).sum()),
        log_space=log_space(source),
    )


def _expert_right(table: RecordTable, expert: Sequence[Record]) -> Floats:
    """Whether the expert is right on each row [n], NaN where it gave no graded answer; raises where it gave none."""
    theirs = RecordTable.of(expert)
    marks = dict(zip(theirs.ids.tolist(), theirs.truth("correct").tolist(), strict=True))
    found = np.array([marks.get(own, np.nan) for own in table.ids.tolist()])
    if np.isnan(found).all():
        raise ConfideError("the expert's records have no labelled row with an id of these questions")
    return found


def models_of(records: Iterable[Record]) -> str:
    """The models that answered, joined by commas ("" when no record says)."""
    return ", ".join(sorted(set(RecordTable.of(records).coded("model").present()) - {""}))


def data_sha256(rows: CalibrationRows) -> str:
    """One hash of the rows' ids, confidences, labels and verdicts, whatever their order."""
    # Verdicts count where some row has no label, and are told apart from labels there.
    if rows.labelled.all():
        said = [f"{right}" for right in rows.correct.tolist()]
    else:
        both = zip(rows.records.coded("correct").each(), rows.records.coded("judged").each(), strict=True)
        said = [f"{right} {verdict}" for right, verdict in both]
    each = zip(rows.records.ids.tolist(), rows.confidence.tolist(), said, strict=True)
    return sha256_of_text("\n".join(sorted(f"{own}\t{value!r}\t{says}" for own, value, says in each)))


def fingerprint(record: Record, source: str) -> str:
    """Ten hexadecimal digits that a row keeps when it is written to another file.

    Ids alone will not do: foreign files often number their rows from 1. The question settles it where there
    is one, and where there is none the confidence (to six digits) with what was first said of the answer: the
    verdict, since a label may come to it later, else the label.
    """
    value = written_confidence(record, source)
    said = record.correct if record.judged is None else record.judged
    content = record.question or f"{said} {value if value is None else format(value, '.6g')}"
    return sha256_of_text(f"{record.id}\t{content}")[:_DIGITS]


def sketch(records: Iterable[Record], source: str) -> str:
    """The lowest fingerprints of ``records``, at most 512 of them, joined."""
    return "".join(heapq.nsmallest(_SKETCH, {fingerprint(record, source) for record in records}))


def seen_again(rows_seen: str, records: Iterable[Record], source: str) -> tuple[list[bool], bool]:
    """Which of ``records`` are in a policy's ``rows_seen``, and whether all that should be are.

    With more calibration rows than the sketch holds some are not.
    """
    known = {rows_seen[i : i + _DIGITS] for i in range(0, len(rows_seen), _DIGITS)}
    return [fingerprint(record, source) in known for record in records], len(known) < _SKETCH


def used_before(records: Sequence[Record]) -> int:
    """How many calibration rows share an entity or a prompt with training or validation rows of the same file."""
    table = RecordTable.of(records)
    splits = table.coded("split")
    earlier, later = table.take(splits.where("train", "validation")), table.take(splits.where("calibration"))
    seen = (later.coded(name).where(*set(earlier.coded(name).present()) - {None}) for name in ("entity", "prompt"))
    return int(np.any([*seen], axis=0).sum())
