"""Records whose answers are read: the one loop over closed answers, and token scores measured anew."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from confide.engines.directions import Directions
from confide.engines.engine import ClosedAnswers, Completion, Engine, check_context, prompt_and_answer, written
from confide.engines.options import choose_options
from confide.progress import Progress
from confide.records import Record

if TYPE_CHECKING:
    from confide.engines.transformers.transformers_engine import TransformersEngine


def read_closed(
    engine: Engine,
    records: Sequence[Record],
    layers: Sequence[int] = (),
    *,
    measure: bool = False,
    progress: Progress | None = None,
    share: tuple[int, int] = (0, 1),
) -> Iterator[tuple[list[int], ClosedAnswers]]:
    """Read every record's answer in batches that share the start of a prompt; equal prompts run once.

    Yields the row numbers of some records, and their closed answers.

    Args:
        layers: decoder layers (1 = the first) whose states are kept.
        measure: also measure the log-probabilities and entropies of the answers' tokens.
        share: which batches are read: those of the first number, of as many processes as the second says.

    Raises:
        ConfideError: records that do not fit the context, counted and named, before anything runs.
    """
    spans = _fitting(engine, records, [prompt_and_answer(engine, record) for record in records])
    longest: dict[tuple[int, ...], int] = {}
    for prompt, answer in spans:
        longest[tuple(prompt)] = max(longest.get(tuple(prompt), 0), len(answer))
    # Answers to one prompt stay together, so that it runs once.
    keys = [(len(p) + longest[tuple(p)], p, len(a)) for p, a in spans]
    batches = engine.batches([p for p, _ in spans], keys=keys, progress=progress, note="reading answers")
    for rows in itertools.islice(batches, share[0], None, share[1]):
        prompts, answers = zip(*(spans[i] for i in rows), strict=True)
        yield rows, engine.closed(prompts, answers, layers=layers, measure=measure)


def written_spans(engine: Engine, records: Sequence[Record]) -> list[tuple[list[int], list[int]]]:
    """Token ids of each record's prompt, and of all that was written behind it: reasoning and answer.

    Raises:
        ConfideError: records that do not fit the context, counted and named.
    """
    told = (written(engine, record) for record in records)
    return _fitting(engine, records, [(prompt, reasoning + answer) for prompt, reasoning, answer in told])


def read_written(
    engine: TransformersEngine,
    records: Sequence[Record],
    directions: Directions,
    *,
    progress: Progress | None = None,
) -> Iterator[tuple[list[int], list[Completion]]]:
    """Read directions along all that was written for each record; yields row numbers, and completions with shares."""
    spans = written_spans(engine, records)
    keys = [len(p) + len(written) for p, written in spans]
    for rows in engine.batches([p for p, _ in spans], keys=keys, progress=progress, note="reading answers"):
        prompts, texts = zip(*(spans[i] for i in rows), strict=True)
        yield rows, engine.closed(prompts, texts, directions=directions).completions


def _fitting(
    engine: Engine, records: Sequence[Record], spans: list[tuple[list[int], list[int]]]
) -> list[tuple[list[int], list[int]]]:
    lengths = {r.id: len(p) + len(a) for r, (p, a) in zip(records, spans, strict=True)}
    check_context(lengths, engine.context, room=1)
    return spans


def measure_records(engine: Engine, records: Sequence[Record]) -> list[Record]:
    """Copies of ``records`` with the token scores that this engine gives their answers and their options."""
    measured = measure_options(engine, records)
    for rows, closed in read_closed(engine, records, measure=True):
        for i, completion in zip(rows, closed.completions, strict=True):
            measured[i] = with_token_scores(measured[i], completion)
    return measured


def measure_options(engine: Engine, records: Sequence[Record]) -> list[Record]:
    """``records``, those with ``option_logprobs`` ([] counts) copied with what this engine gives their options."""
    measured = list(records)
    rows = [i for i, record in enumerate(records) if record.option_logprobs is not None and record.choices]
    prompts = [prompt_and_answer(engine, records[i])[0] for i in rows]
    most = max((len(records[i].choices or []) for i in rows), default=1)
    for picked in engine.batches(prompts, size=max(1, engine.batch_size // most)):
        texts = [records[rows[i]].choices or [] for i in picked]
        for i, choice in zip(picked, choose_options(engine, [prompts[i] for i in picked], texts), strict=True):
            measured[rows[i]] = records[rows[i]].model_copy(update={"option_logprobs": choice.option_logprobs})
    return measured


def with_token_scores(record: Record, completion: Completion) -> Record:
    """A copy of ``record`` with the token scores of ``completion``; a cut answer closes with nothing."""
    end = completion.end_logprob if record.finish == "stop" else None
    scores = {"logprobs": completion.logprobs, "entropies": completion.entropies, "end_logprob": end}
    starts = record.token_starts if record.answer_ids == completion.ids else completion.starts
    return record.model_copy(update={"answer_ids": completion.ids, "token_starts": starts} | scores)
