"""From records to the rows that calibration and validation use, and fingerprints that recognise them again."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from confide.errors import ConfideError
from confide.hashing import sha256_of_text
from confide.policies.goals import GoalName
from confide.records import Record, Split
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

    records: list[Record]
    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    expert: NDArray[np.bool_]
    labelled: NDArray[np.bool_]
    without_confidence: int = 0
    without_label: int = 0
    log_space: bool = False
    entities: list[str] | None = None

    @property
    def clusters(self) -> list[str]:
        """What dependent rows share, one entry per row."""
        return self.entities if self.entities is not None else [record.cluster for record in self.records]

    def take(self, chosen: Sequence[int] | NDArray[np.int64]) -> CalibrationRows:
        """The rows at these indices."""
        at = np.asarray(chosen, dtype=int)
        arrays = (self.confidence, self.correct, self.expert, self.labelled)
        some = CalibrationRows([self.records[i] for i in at], *(array[at] for array in arrays))
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


def independent_records(records: Sequence[Record], seed: int) -> list[Record]:
    """One record per cluster, drawn with ``seed``."""
    return [records[i] for i in one_per_cluster([record.cluster for record in records], seed)]


def in_split(records: list[Record], split: Split) -> list[Record]:
    """The records of ``split`` when records carry splits, all of them otherwise.

    Raises `ConfideError` naming the splits that exist when ``split`` is not among them.
    """
    sizes = Counter(record.split for record in records)
    if set(sizes) == {None}:
        return records
    if split not in sizes:
        there = ", ".join(f"{name or 'none'} ({count})" for name, count in sizes.items())
        raise ConfideError(f"no row belongs to the {split} split; there are: {there}")
    return [record for record in records if record.split == split]


def pick_source(records: Sequence[Record], wanted: str) -> str:
    """``wanted``, or ``given`` when ``stack`` is wanted and a bare number is all there is.

    Raises `ConfideError` naming the sources that exist when the wanted one is missing.
    """
    there = {source for record in records for source in record.confidence}
    if wanted in there:
        return wanted
    if wanted == "stack" and there == {"given"}:
        return "given"
    if not there:
        raise ConfideError("no row has a confidence; `confide score` adds them")
    raise missing_source(records, wanted)


def missing_source(records: Sequence[Record], wanted: str, row: str = "row") -> ConfideError:
    """The error of records, none of which has a confidence from ``wanted``: it names the sources that exist."""
    there = ", ".join(sorted({source for record in records for source in record.confidence})) or "none"
    return ConfideError(f"no {row} has a confidence from {wanted}; there are: {there}")


def rows_decided_by(source: str, records: Sequence[Record]) -> list[Record]:
    """Those of ``records``, which hold the confidence that decided and no other, that ``source`` decided."""
    return [record for record in records if source in record.confidence]


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
    right: dict[str, bool] | None = None
    if expert is not None:
        ids = {record.id for record in records}
        right = {record.id: record.correct for record in expert if record.correct is not None and record.id in ids}
        if not right:
            raise ConfideError("the expert's records have no labelled row with an id of these questions")
    chosen, confidence, labels = [], [], []
    without_confidence = without_label = 0
    for record in records:
        value = confidence_of(record, source)
        labelled = record.correct is not None and (right is None or record.id in right)
        if not (labelled or goal == "budget" or (judged and record.judged is not None)):
            without_label += 1
        elif value is None and goal == "max_risk":
            without_confidence += 1
        elif goal != "false_alarms" or record.correct:
            chosen.append(record)
            confidence.append(-math.inf if value is None else value)
            labels.append(labelled)
    return CalibrationRows(
        records=chosen,
        confidence=np.array(confidence, dtype=float),
        correct=np.array([bool(r.judged if r.correct is None else r.correct) for r in chosen], dtype=bool),
        expert=np.array([right is None or right.get(record.id, False) for record in chosen], dtype=bool),
        labelled=np.array(labels, dtype=bool),
        without_confidence=without_confidence,
        without_label=without_label,
        log_space=log_space(source),
    )


def models_of(records: Iterable[Record]) -> str:
    """The models that answered, joined by commas ("" when no record says)."""
    return ", ".join(sorted({record.model for record in records if record.model}))


def data_sha256(rows: CalibrationRows) -> str:
    """One hash of the rows' ids, confidences, labels and verdicts, whatever their order."""
    # Verdicts count where some row has no label, and are told apart from labels there.
    said = (
        [f"{right}" for right in rows.correct.tolist()]
        if rows.labelled.all()
        else [f"{record.correct} {record.judged}" for record in rows.records]
    )
    lines = sorted(
        f"{record.id}\t{value!r}\t{says}"
        for record, value, says in zip(rows.records, rows.confidence.tolist(), said, strict=True)
    )
    return sha256_of_text("\n".join(lines))


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
    return "".join(sorted({fingerprint(record, source) for record in records})[:_SKETCH])


def seen_again(rows_seen: str, records: Iterable[Record], source: str) -> tuple[list[bool], bool]:
    """Which of ``records`` are in a policy's ``rows_seen``, and whether all that should be are.

    With more calibration rows than the sketch holds some are not.
    """
    known = {rows_seen[i : i + _DIGITS] for i in range(0, len(rows_seen), _DIGITS)}
    return [fingerprint(record, source) in known for record in records], len(known) < _SKETCH


def used_before(records: Sequence[Record]) -> int:
    """How many calibration rows share an entity or a prompt with training or validation rows of the same file."""
    earlier = [record for record in records if record.split in ("train", "validation")]
    entities = {record.entity for record in earlier} - {None}
    prompts = {tuple((m.role, m.content) for m in record.messages) for record in earlier} - {()}
    return sum(
        record.split == "calibration"
        and (record.entity in entities or tuple((m.role, m.content) for m in record.messages) in prompts)
        for record in records
    )
