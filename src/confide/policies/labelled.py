"""From records to the rows that calibration and validation use, and fingerprints that tell them apart."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from confide.errors import ConfideError
from confide.records import Record, Split

# A policy file holds at most this many fingerprints, those with the lowest hashes (a bottom-k sketch): a
# person can still read the file, and an overlap of a few rows in a hundred is still seen.
_SKETCH = 512
_DIGITS = 10


@dataclass(frozen=True)
class LabelledRows:
    """Rows with a label and a confidence, and how many were left out for lacking one.

    ``confidence`` (float) and ``correct`` (bool) have shape (n,) and belong to ``records``.
    """

    records: list[Record]
    confidence: NDArray[np.float64]
    correct: NDArray[np.bool_]
    without_confidence: int
    without_label: int

    @property
    def clusters(self) -> list[str]:
        """What dependent rows share, one entry a row."""
        return [record.cluster for record in self.records]


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


def pick_source(records: Iterable[Record], wanted: str, default: str = "stack") -> str:
    """``wanted``, or ``given`` when the default is wanted and a bare number is all there is.

    Raises `ConfideError` naming the sources that exist when the wanted one is missing.
    """
    there = sorted({source for record in records for source in record.confidence})
    if wanted in there:
        return wanted
    if wanted == default and there == ["given"]:
        return "given"
    if not there:
        raise ConfideError("no row has a confidence; `confide score` adds them")
    raise ConfideError(f"no row has a confidence from {wanted}; there are: {', '.join(there)}")


def confidence_of(record: Record, source: str) -> float | None:
    """The record's raw confidence from ``source``; None when it is missing or not finite."""
    value = record.confidence.get(source)
    return value if value is not None and math.isfinite(value) else None


def labelled_rows(records: list[Record], source: str) -> LabelledRows:
    """Rows with both a label and a confidence from ``source``; the others are left out and counted."""
    kept, confidence = [], []
    without_confidence = without_label = 0
    for record in records:
        value = confidence_of(record, source)
        if record.correct is None:
            without_label += 1
        elif value is None:
            without_confidence += 1
        else:
            kept.append(record)
            confidence.append(value)
    return LabelledRows(
        records=kept,
        confidence=np.array(confidence, dtype=float),
        correct=np.array([record.correct for record in kept], dtype=bool),
        without_confidence=without_confidence,
        without_label=without_label,
    )


def expert_labels(expert: Iterable[Record], records: Iterable[Record]) -> dict[str, bool]:
    """Whether the expert is right, by the id of the question, for those of ``records`` that it has a label for.

    Raises `ConfideError` when there is none.
    """
    wanted = {record.id for record in records}
    right = {record.id: record.correct for record in expert if record.correct is not None and record.id in wanted}
    if not right:
        raise ConfideError("the expert's records have no labelled row with an id of these questions")
    return right


def models_of(records: Iterable[Record]) -> str:
    """The models that answered, joined by commas ("" when no record says)."""
    return ", ".join(sorted({record.model for record in records if record.model}))


def data_sha256(rows: LabelledRows) -> str:
    """One hash of the rows' ids, confidences and labels, whatever their order."""
    lines = sorted(
        f"{record.id}\t{value!r}\t{bool(right)}"
        for record, value, right in zip(rows.records, rows.confidence.tolist(), rows.correct, strict=True)
    )
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def fingerprint(record: Record, source: str) -> str:
    """Ten hexadecimal digits that a row keeps when it is written to another file.

    Ids alone will not do: foreign files often number their rows from 1. The question settles it where there
    is one, the label and the confidence (to six digits) where there is none.
    """
    value = confidence_of(record, source)
    told = record.question or f"{record.correct} {value if value is None else format(value, '.6g')}"
    return hashlib.sha256(f"{record.id}\t{told}".encode()).hexdigest()[:_DIGITS]


def sketch(records: Iterable[Record], source: str) -> str:
    """The lowest fingerprints of ``records``, at most 512 of them, one after the other."""
    return "".join(sorted({fingerprint(record, source) for record in records})[:_SKETCH])


def seen_again(rows_seen: str, records: Iterable[Record], source: str) -> tuple[int, bool]:
    """How many of ``records`` are in a policy's ``rows_seen``, and whether that is all of them that could be.

    With more calibration rows than the sketch holds the count is a lower bound, and the second value is
    False.
    """
    known = {rows_seen[i : i + _DIGITS] for i in range(0, len(rows_seen), _DIGITS)}
    return sum(fingerprint(record, source) in known for record in records), len(known) < _SKETCH


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
