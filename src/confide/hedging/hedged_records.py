"""Hedged records: every answer of a file in words that carry its confidence, appended as they are worded."""

from __future__ import annotations

import asyncio
import functools
import math
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confide.errors import ConfideError
from confide.files import locked_file
from confide.hedging.claims import Claim, same_answer
from confide.hedging.hedge_reading import read_hedge
from confide.hedging.language import Language
from confide.hedging.rewording import Templates, Wording
from confide.hedging.statements import is_tagged, read_tagged
from confide.parts.sentences import split_sentences
from confide.policies.calibration_rows import confidence_of
from confide.records import Record, RecordWriter, check_records_file, write_records
from confide.settings import check_settings
from confide.sources import as_probability
from confide.tasks.questions import asked_of, question_of

BATCH = 64
"""Rows that are worded together and then saved; a run that is killed loses the wordings of at most so many."""

PHRASES_DIGITS = 12
"""Digits of the hash by which a style's phrases are told apart."""

SENTENCES = "sentences"
"""The key of a record that has a confidence for each of its sentences: a list of ``{"text", "confidence"}``."""

GAINED = ("hedged", "hedges", "hedge_confidence", "hedge_status", "hedge_with")
"""What a hedged row has beside its record."""

STATUSES = {
    "hedged": "worded",
    "no_confidence": "without a confidence",
    "no_answer": "without an answer",
    "malformed_tags": "with malformed tags",
    "not_kept": "that no wording could keep",
}
"""What became of a row (``hedge_status``), with its description; all but the first pass through as they are."""


@dataclass(frozen=True)
class Summary:
    """What became of all rows of a file.

    ``suffix``, ``replaced`` (by a template, after a model's rewrites were refused) and ``refused`` (rewrites) count
    claims: answers, or tagged sentences. ``hedged_before`` counts answers that bring a hedge of their own. ``error``
    and ``largest_error`` are the mean and the maximum of |confidence − number read back|.
    """

    rows: int
    statuses: dict[str, int]
    claims: int
    suffix: int
    replaced: int
    refused: int
    hedged_before: int
    error: float | None
    largest_error: float | None


def hedge(
    records: Sequence[Record],
    out: Path,
    wording: Templates,
    source: str,
    *,
    progress: Callable[[int, int, str], None] | None = None,
) -> Summary:
    """Word every record and append it to ``out``; wordings that are there already are kept.

    A row that is there takes what else its record holds now; where its answer or its confidence has changed it is
    worded anew.

    A record keeps everything and gains ``hedged`` (the text; None where ``hedge_status`` is not ``hedged``),
    ``hedges`` (for each sentence its confidence, the phrase, the ``value`` read back, and ``by`` which means), their
    mean ``hedge_confidence``, and the settings ``hedge_with``, which all rows of a file share.

    ``source`` names the confidence that is put into words. ``wording``, templates or a `Rewriter`, is closed at the
    end. ``progress`` is called with (done, total, note).

    Raises:
        ConfideError: ``out`` is hedged in another way or holds other answers, a confidence is no probability, the
            server fails.
    """
    check_records_file(out, appended=True)
    _check_probabilities(records, source)
    settings = {
        "source": source,
        "style": wording.style,
        "language": wording.language.code,
        "engine": wording.engine,
        "model": wording.model,
        "seed": wording.seed,
        "phrases": wording.language.sha256(wording.style)[:PHRASES_DIGITS],
    }
    with locked_file(out):
        rows = _kept(out, records, settings)
        done = {record.id for record in rows}
        pending = [record for record in records if record.id not in done]

        async def run(writer: RecordWriter) -> None:
            try:
                for start in range(0, len(pending), BATCH):
                    hedged = await _word_batch(pending[start : start + BATCH], wording, settings)
                    writer.write(hedged)
                    rows.extend(hedged)
                    if progress:
                        progress(len(rows), len(records), "")
            finally:
                await wording.close()

        with RecordWriter(out) as writer:
            asyncio.run(run(writer))
        return _summarise(rows, wording.language)


def with_sentences(records: Sequence[Record], parts: Sequence[Record], source: str) -> list[Record]:
    """Copies of answers with the confidences of their sentences, from the scored records of these.

    Raises:
        ConfideError: a record of no sentence, or an answer whose sentences are not all there.
    """
    told: dict[str, list[dict[str, Any]]] = {}
    for part in parts:
        if not part.part.startswith("sentence "):
            raise ConfideError(
                f"row {part.id} is no sentence of an answer: make such rows by `confide parts --by sentences`"
            )
        raw = confidence_of(part, source)
        sure = None if raw is None else float(as_probability(source, raw))
        told.setdefault(part.id.removesuffix(f"#{part.part}"), []).append({"text": part.answer, "confidence": sure})
    found = []
    for record in records:
        sentences = told.get(record.id, [])
        if [one["text"] for one in sentences] != split_sentences(record.answer):
            raise ConfideError(f"row {record.id}: the sentences of its answer are not among the records of parts")
        found.append(record.model_copy(update={SENTENCES: sentences}))
    return found


async def _word_batch(records: Sequence[Record], wording: Templates, settings: dict[str, Any]) -> list[Record]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(_word(record, wording, settings["source"])) for record in records]
    except* ConfideError as failures:
        raise failures.exceptions[0] from None
    gained = [{**task.result(), "hedge_with": settings} for task in tasks]
    return [_with(record, more) for record, more in zip(records, gained, strict=True)]


def _with(record: Record, gained: dict[str, Any]) -> Record:
    return Record.model_validate({**record.model_dump(mode="json", include=record.model_fields_set), **gained})


async def _word(record: Record, wording: Templates, source: str) -> dict[str, Any]:
    """What a record gains: ``hedged``, ``hedges``, ``hedge_confidence`` and ``hedge_status``."""
    claims = _claims(record, source)
    if isinstance(claims, str):
        return _unhedged(claims)
    wordings: list[Wording | None] = list(await asyncio.gather(*(wording.word(claim) for claim in claims)))
    if not _keep_answer(record, claims, wordings):
        # Sentences that each keep their answer can still hide it from a grader that reads the first one only.
        wordings = [wording.suffix(claim) for claim in claims]
        if not _keep_answer(record, claims, wordings):
            return _unhedged("not_kept")
    texts, hedges = [], []
    for claim, one in zip(claims, filter(None, wordings), strict=True):
        fields = asdict(one)
        texts.append(fields.pop("text"))
        hedges.append({"confidence": claim.confidence, **fields})
    return {
        "hedged": ("\n" if any("\n" in text for text in texts) else " ").join(texts),
        "hedges": hedges,
        "hedge_confidence": round(math.fsum(h["value"] for h in hedges) / len(hedges), 6),
        "hedge_status": "hedged",
    }


def _claims(record: Record, source: str) -> list[Claim] | str:
    """A tagged answer's sentences, else the answer with its confidence; or the status that says why there is none."""
    if not record.answer.strip(" .\n\t"):
        return "no_answer"
    claim = functools.partial(Claim, task=record.task, asked=asked_of(record))
    question = question_of(record)
    if is_tagged(record.answer):
        reading = read_tagged(record.answer)
        if not reading.strict:
            return "malformed_tags"
        # Not every one of several sentences holds the answer: the grader reads the whole text (`_keep_answer`).
        alone = question if len(reading.statements) == 1 else None
        return [
            claim(text=s.text, confidence=s.confidence, key=f"{record.id}-{i}", question=alone)
            for i, s in enumerate(reading.statements)
            if s.confidence is not None  # always so where the format is strict
        ]
    if told := (record.model_extra or {}).get(SENTENCES):
        if any(one["confidence"] is None for one in told):
            return "no_confidence"
        alone = question if len(told) == 1 else None
        return [
            claim(text=one["text"], confidence=one["confidence"], key=f"{record.id}-{i}", question=alone)
            for i, one in enumerate(told)
        ]
    confidence = confidence_of(record, source)
    if confidence is None:
        return "no_confidence"
    confidence = float(as_probability(source, confidence))
    return [claim(text=record.answer, confidence=confidence, key=record.id, question=question)]


def _keep_answer(record: Record, claims: Sequence[Claim], wordings: Sequence[Wording | None]) -> bool:
    if any(wording is None for wording in wordings):
        return False
    if len(claims) == 1:
        return True  # checked as it was worded
    before, after = " ".join(c.text for c in claims), " ".join(w.text for w in wordings if w)
    return same_answer(record.task, question_of(record), before, after) is not False


def _unhedged(status: str) -> dict[str, Any]:
    return {"hedged": None, "hedges": [], "hedge_confidence": None, "hedge_status": status}


def _summarise(records: Iterable[Record], language: Language) -> Summary:
    rows = [{"answer": record.answer, **(record.model_extra or {})} for record in records]
    hedges = [h for row in rows for h in row["hedges"]]
    errors = [abs(h["confidence"] - h["value"]) for h in hedges]
    statuses = Counter(row["hedge_status"] for row in rows)
    hedged = [row["answer"] for row in rows if row["hedge_status"] == "hedged"]
    return Summary(
        rows=len(rows),
        statuses={name: statuses[name] for name in STATUSES},
        claims=len(hedges),
        suffix=sum(h["by"] == "suffix" for h in hedges),
        replaced=sum(h["refused"] > 0 and h["by"] != "model" for h in hedges),
        refused=sum(h["refused"] for h in hedges),
        hedged_before=sum(read_hedge(answer, language.code) is not None for answer in hedged),
        error=math.fsum(errors) / len(errors) if errors else None,
        largest_error=max(errors, default=None),
    )


def _check_probabilities(records: Iterable[Record], source: str) -> None:
    values = {record.id: confidence_of(record, source) for record in records}
    known = {name: float(as_probability(source, value)) for name, value in values.items() if value is not None}
    wrong = {name: value for name, value in known.items() if not 0 <= value <= 1}
    if wrong:
        name, value = next(iter(wrong.items()))
        raise ConfideError(
            f"{len(wrong)} confidences from {source} are no probabilities (row {name}: {value:g}); "
            "words stand for numbers from 0 to 1"
        )


def _kept(out: Path, records: Sequence[Record], settings: dict[str, Any]) -> list[Record]:
    """The rows of ``out`` with their wordings, as these records are now; those to be worded anew leave the file.

    Raises `ConfideError` for a file that was hedged with other settings, or whose rows are none of the records.
    """
    with RecordWriter(out) as writer:
        done = writer.done
    now = {record.id: record for record in records}
    kept = []
    for row in done:
        more = row.model_extra or {}
        if not isinstance(before := more.get("hedge_with"), dict):
            raise ConfideError(f"{out} holds records that are not hedged (row {row.id}); choose another file")
        check_settings(f"{out}, row {row.id},", before, settings)
        if row.id not in now:
            raise ConfideError(
                f"{out} holds an answer that is not among the records (row {row.id}); choose another file"
            )
        if _worded(row, settings["source"]) == _worded(now[row.id], settings["source"]):
            kept.append(_with(now[row.id], {name: more[name] for name in GAINED if name in more}))
    if [row.line() for row in kept] != [row.line() for row in done]:
        write_records(out, kept)
    return kept


def _worded(record: Record, source: str) -> object:
    """What a wording depends on: texts, confidences and what grading takes; or why there is none."""
    claims = _claims(record, source)
    texts = claims if isinstance(claims, str) else [(claim.text, claim.confidence, claim.asked) for claim in claims]
    return texts, record.task, record.kind, record.choices, record.reference
