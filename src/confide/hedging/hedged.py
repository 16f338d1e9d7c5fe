"""Hedged records: every answer of a file in words that carry its confidence, appended as they are worded."""

from __future__ import annotations

import asyncio
import functools
import math
from collections import Counter
from collections.abc import Callable, Coroutine, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from confide.errors import ConfideError
from confide.files import locked
from confide.hedging.claims import Claim, same_answer
from confide.hedging.hedge_reading import read_hedge
from confide.hedging.statements import read_tagged
from confide.hedging.templates import Engine, Templates, Wording
from confide.policies.labelled import confidence_of
from confide.records import Record, RecordWriter
from confide.tasks.questions import asked_of, question_of

Progress = Callable[[int, int, str], None]
"""Called with (done, total, note) while long work runs."""

TOGETHER = 64
"""Rows that are worded, then written, together; a killed run words at most so many again."""

STATUSES = {
    "hedged": "worded",
    "no_confidence": "without a confidence",
    "no_answer": "without an answer",
    "malformed_tags": "with malformed tags",
    "not_kept": "that no wording could keep",
}
"""What became of a row (``hedge_status``), and how that is told; all but the first pass through as they are."""

_TAGS = ("<sentence>", "</sentence>", "<confidence>", "</confidence>")


@dataclass(frozen=True)
class Settings:
    """How rows are hedged. It is written with every row (``hedge_with``), so that a file holds one way only."""

    source: str
    style: str
    language: str
    engine: str
    model: str | None
    seed: int


@dataclass(frozen=True)
class Summary:
    """What became of all rows of a file.

    ``suffix``, ``replaced`` (by a template, after a model's rewrites were refused) and ``refused`` (rewrites) count
    claims: answers, or tagged sentences. ``hedged_before`` counts answers that bring a hedge of their own. ``error``
    and ``largest_error`` are |confidence − number read back|.
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
    templates: Templates,
    settings: Settings,
    *,
    engine: Engine | None = None,
    progress: Progress | None = None,
) -> Summary:
    """Word every record and append it to ``out``; rows that are there already are left as they are.

    A record keeps everything and gains ``hedged`` (the text; None where ``hedge_status`` is not ``hedged``),
    ``hedges`` (for each sentence its confidence, the phrase, the ``value`` read back, and ``by`` whom), their mean
    ``hedge_confidence``, and ``hedge_with``. ``engine`` words claims in place of ``templates``.

    Raises:
        ConfideError: ``out`` is hedged in another way or holds other answers, a confidence is no probability, the
            server fails.
    """
    if out.suffix == ".parquet":
        raise ConfideError("rows are appended as they are worded: give --out a .jsonl file")
    _check_probabilities(records, settings.source)
    with locked(out.parent), RecordWriter(out) as writer:
        _check_same_run(writer.done, records, settings, out)
        done = {record.id for record in writer.done}
        left = [record for record in records if record.id not in done]
        rows = list(writer.done)

        async def run() -> None:
            for start in range(0, len(left), TOGETHER):
                new = await _together(left[start : start + TOGETHER], engine or templates, templates, settings)
                writer.write(new)
                rows.extend(new)
                if progress:
                    progress(len(rows), len(records), "")

        asyncio.run(_closing(run(), engine))
        return summarise(rows, settings.language)


async def word_record(record: Record, engine: Engine, templates: Templates, source: str) -> dict[str, Any]:
    """What a record gains: ``hedged``, ``hedges``, ``hedge_confidence`` and ``hedge_status``."""
    if not record.answer.strip(" .\n\t"):
        return _passed("no_answer")
    claims = _claims(record, source)
    if isinstance(claims, str):
        return _passed(claims)
    worded: list[Wording | None] = list(await asyncio.gather(*(engine.word(claim) for claim in claims)))
    if not _kept(record, claims, worded):
        # Sentences that each keep their answer can still hide it from a grader that reads the first one only.
        worded = [templates.suffix(claim) for claim in claims]
        if not _kept(record, claims, worded):
            return _passed("not_kept")
    texts, hedges = [], []
    for claim, wording in zip(claims, filter(None, worded), strict=True):
        told = asdict(wording)
        texts.append(told.pop("text"))
        hedges.append({"confidence": claim.confidence, **told})
    mean = math.fsum(h["value"] for h in hedges) / len(hedges)
    return {
        "hedged": ("\n" if any("\n" in text for text in texts) else " ").join(texts),
        "hedges": hedges,
        "hedge_confidence": round(mean, 6),
        "hedge_status": "hedged",
    }


def is_tagged(answer: str) -> bool:
    """Whether an answer states confidences in tags of its own, well formed or not."""
    return any(tag in answer for tag in _TAGS)


def summarise(records: Iterable[Record], language: str = "en") -> Summary:
    """Count what became of hedged records."""
    rows = [{"answer": record.answer, **(record.model_extra or {})} for record in records]
    hedges = [h for row in rows for h in row["hedges"]]
    errors = [abs(h["confidence"] - h["value"]) for h in hedges]
    statuses = Counter(row["hedge_status"] for row in rows)
    return Summary(
        rows=len(rows),
        statuses={name: statuses[name] for name in STATUSES},
        claims=len(hedges),
        suffix=sum(h["by"] == "suffix" for h in hedges),
        replaced=sum(h["refused"] > 0 and h["by"] != "model" for h in hedges),
        refused=sum(h["refused"] for h in hedges),
        hedged_before=sum(
            row["hedge_status"] == "hedged" and read_hedge(row["answer"], language) is not None for row in rows
        ),
        error=math.fsum(errors) / len(errors) if errors else None,
        largest_error=max(errors, default=None),
    )


async def _closing(work: Coroutine[Any, Any, None], engine: Engine | None) -> None:
    try:
        await work
    finally:
        if (close := getattr(engine, "close", None)) is not None:
            await close()


async def _together(
    records: Sequence[Record], engine: Engine, templates: Templates, settings: Settings
) -> list[Record]:
    try:
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(word_record(r, engine, templates, settings.source)) for r in records]
    except* ConfideError as failures:
        raise failures.exceptions[0] from None
    kept = [record.model_dump(mode="json", include=record.model_fields_set) for record in records]
    gained = [{**task.result(), "hedge_with": asdict(settings)} for task in tasks]
    return [Record.model_validate({**old, **new}) for old, new in zip(kept, gained, strict=True)]


def _claims(record: Record, source: str) -> list[Claim] | str:
    """What is to be worded, or why nothing is: a tagged answer's sentences, else the answer with its confidence."""
    claim = functools.partial(Claim, task=record.task, asked=asked_of(record))
    question = question_of(record)
    if is_tagged(record.answer):
        reading = read_tagged(record.answer)
        if not reading.strict:
            return "malformed_tags"
        # Of several sentences not each holds the answer: the grader reads the whole text (`_kept`).
        alone = question if len(reading.statements) == 1 else None
        return [
            claim(text=s.text, confidence=s.confidence, key=f"{record.id}-{i}", question=alone)
            for i, s in enumerate(reading.statements)
            if s.confidence is not None  # always so where the format is strict
        ]
    confidence = confidence_of(record, source)
    if confidence is None:
        return "no_confidence"
    return [claim(text=record.answer, confidence=confidence, key=record.id, question=question)]


def _kept(record: Record, claims: Sequence[Claim], worded: Sequence[Wording | None]) -> bool:
    if any(wording is None for wording in worded):
        return False
    if len(claims) == 1:
        return True  # its engine has checked it
    before, after = " ".join(c.text for c in claims), " ".join(w.text for w in worded if w)
    return same_answer(record.task, question_of(record), before, after) is not False


def _passed(status: str) -> dict[str, Any]:
    return {"hedged": None, "hedges": [], "hedge_confidence": None, "hedge_status": status}


def _check_probabilities(records: Iterable[Record], source: str) -> None:
    values = {record.id: confidence_of(record, source) for record in records}
    wrong = {name: value for name, value in values.items() if value is not None and not 0 <= value <= 1}
    if wrong:
        name, value = next(iter(wrong.items()))
        raise ConfideError(
            f"{len(wrong)} confidences from {source} are no probabilities (row {name}: {value:g}); "
            "words stand for numbers from 0 to 1"
        )


def _check_same_run(done: Sequence[Record], records: Sequence[Record], settings: Settings, out: Path) -> None:
    answers = {record.id: record.answer for record in records}
    for record in done:
        before = (record.model_extra or {}).get("hedge_with")
        if not isinstance(before, dict):
            raise ConfideError(f"{out} holds records that are not hedged (row {record.id}); choose another file")
        differ = [
            f"{name} {before.get(name)!r}" for name, value in asdict(settings).items() if before.get(name) != value
        ]
        if differ:
            raise ConfideError(f"{out} was hedged with {', '.join(differ)}; choose another file or delete it")
        if answers.get(record.id) != record.answer:
            raise ConfideError(f"{out} holds an answer that is not among the records (row {record.id})")
