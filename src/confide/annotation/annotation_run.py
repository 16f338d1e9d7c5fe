"""A run of annotation: questions are answered, graded and appended to a file, and a killed run goes on."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Container, Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, cast

from confide.annotation.answer_record import AnsweredBy, generated_record
from confide.annotation.asked_question import AnswerBy, AskedQuestion
from confide.annotation.question_answers import OPTIONS_PER_QUESTION, choose, generate, question_batches
from confide.annotation.run_checks import check_same_run, check_wanted
from confide.engines.engine import Engine, Sampling, check_context
from confide.files import locked_file
from confide.progress import Progress
from confide.records import Record, RecordWriter, check_records_file
from confide.tasks.marking import check_marked, mark

if TYPE_CHECKING:
    from confide.engines.engine import ArrivingEngine
    from confide.tasks import Task

log = logging.getLogger("confide")


def annotate(
    engine: Engine,
    task: Task,
    out: Path,
    *,
    splits: Mapping[str, str] | None = None,
    answer_by: AnswerBy | None = None,
    samples: int = 0,
    temperature: float = 1.0,
    batch_size: int = 64,
    seed: int = 0,
    progress: Progress | None = None,
) -> int:
    """Answer every question of ``task`` and append the records to ``out``.

    Args:
        splits: question id → split; a question that is absent is not asked.
        answer_by: how choices are answered, by default by ``options``: a small model that writes letters guesses, and
            an option's own tokens are what every other source reads. Other questions are always generated.
        samples: sampled answers beside the greedy one; only for answers that are generated.
        temperature: of the samples.

    Returns:
        How many records are new.

    Raises:
        ConfideError: ``out`` holds another model's or another task's records or was made with other settings, is in use
            by another run, prompts do not fit the model's context (they are counted and named), the answers cannot be
            given so, or the grader failed: what is answered is kept, and the next run grades it first.
    """
    named = [q for q in task.questions if splits is None or q.id in splits]
    asked = [AskedQuestion.of(engine, task, q, splits, answer_by) for q in named]
    check_records_file(out, appended=True)
    check_wanted(task, asked, answer_by, samples)
    by = {"model": engine.name, "identity": engine.identity}  # hashed once, not for every record
    check_context({q.id: len(q.prompt) + q.room for q in asked}, engine.context)
    sampling = Sampling(samples, temperature, seed)
    with locked_file(out), RecordWriter(out) as writer:
        by_id = {q.id: q for q in asked}
        by = check_same_run(writer.done, by, task, by_id, sampling, out)
        if any(r.grade_error for r in writer.done):
            marked = [mark(task, by_id[r.id].question, r) if r.grade_error else r for r in writer.done]
            writer.replace(marked)
        failed = [record for record in writer.done if record.grade_error]
        done = {record.id for record in writer.done}
        new = seen = 0
        unanswered: dict[str, str] = {}
        began = time.monotonic()
        for count, answers in _answers(engine, by, task, asked, batch_size, sampling, done, unanswered):
            seen += count
            fresh = [record for record in answers if record.id not in done]
            writer.write(fresh)
            failed += [record for record in fresh if record.grade_error]
            new += len(fresh)
            if progress:
                progress(seen, len(asked), f"{new / (time.monotonic() - began):.1f} questions/s")
    _tell_unanswered(unanswered)
    check_marked(failed, out)
    return new


def answered_records(
    engine: Engine, task: Task, *, answer_by: AnswerBy | None = None, batch_size: int = 64
) -> list[Record]:
    """The answers to every question of ``task``, marked, without a file: for a few questions, and a model that changes.

    Args:
        answer_by: as `annotate` takes it.
        batch_size: questions at a time.

    Returns:
        Records in the order of the questions, without those that the engine could not answer.

    Raises:
        ConfideError: prompts that do not fit the model's context, counted and named.
    """
    asked = [AskedQuestion.of(engine, task, question, None, answer_by) for question in task.questions]
    check_context({q.id: len(q.prompt) + q.room for q in asked}, engine.context)
    by = {"model": engine.name}  # weights on the move have no hash that counts
    unanswered: dict[str, str] = {}
    batches = _answers(engine, by, task, asked, batch_size, Sampling(), (), unanswered)
    found = {record.id: record for _, records in batches for record in records}
    _tell_unanswered(unanswered)
    return [found[q.id] for q in asked if q.id in found]


def _answers(
    engine: Engine,
    by: AnsweredBy,
    task: Task,
    asked: Sequence[AskedQuestion],
    batch_size: int,
    sampling: Sampling,
    done: Container[str],
    unanswered: dict[str, str],
) -> Iterator[tuple[int, list[Record]]]:
    """How many further questions are dealt with, and the records of those that were answered now.

    Batches are sorted by length and id, so that they are the same ones whenever the run is continued; one with nothing
    left to answer is passed over. An engine that answers one by one is asked only what is left.

    Args:
        unanswered: gets the reason for each question that the engine could not answer.
    """
    generated = [q for q in asked if not q.options]
    if "arrivals" in engine.capabilities:
        left = [q for q in generated if q.id not in done]
        yield len(generated) - len(left), []
        for arrival in cast("ArrivingEngine", engine).arrivals([q.prompt for q in left], task.max_new_tokens, sampling):
            q = left[arrival.row]
            if arrival.greedy is None:
                unanswered[q.id] = arrival.failed
                yield 1, []
                continue
            tokens = arrival.greedy.tokens + sum(c.tokens for c in arrival.samples)
            second = arrival.seconds / max(1, tokens)
            yield 1, [generated_record(by, task, q, arrival.greedy, arrival.samples, second, sampling)]
    else:
        for number, some in enumerate(question_batches(engine, generated, batch_size)):
            left = [q for q in some if q.id not in done]
            yield len(some), generate(engine, by, task, some, sampling, number) if left else []
    for some in question_batches(engine, [q for q in asked if q.options], max(1, batch_size // OPTIONS_PER_QUESTION)):
        left = [q for q in some if q.id not in done]
        yield len(some), choose(engine, by, task, some, unanswered) if left else []


def _tell_unanswered(unanswered: Mapping[str, str]) -> None:
    """Say in the log why questions have no answer, each reason once."""
    for reason, count in Counter(unanswered.values()).most_common():
        names = [name for name, why in unanswered.items() if why == reason]
        shown = ", ".join(names[:3]) + (", …" if count > 3 else "")
        log.warning("%d questions have no answer, because %s (%s)", count, reason, shown)
