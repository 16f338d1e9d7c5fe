"""Batches of questions, and the records of their answers."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from confide.annotation.answer_record import AnsweredBy, chosen_record, generated_record
from confide.annotation.asked_question import AskedQuestion
from confide.engines.engine import Completion, Engine, Sampling
from confide.engines.options import choose_options
from confide.errors import RefusedQuestionError
from confide.records import Record

if TYPE_CHECKING:
    from confide.tasks import Task

OPTIONS_PER_QUESTION = 4
"""A batch of choices holds this many times fewer questions: each runs all of its options."""


def question_batches(engine: Engine, asked: Sequence[AskedQuestion], size: int) -> Iterator[list[AskedQuestion]]:
    """Questions in batches of at most ``size``, which follow from the questions alone."""
    keys = [(len(q.prompt), q.id) for q in asked]
    for rows in engine.batches([q.prompt for q in asked], keys=keys, size=size):
        yield [asked[i] for i in rows]


def generate(
    engine: Engine, by: AnsweredBy, task: Task, some: Sequence[AskedQuestion], sampling: Sampling, number: int
) -> list[Record]:
    """Answer the questions of a batch by generation, with sampled answers besides."""
    prompts, room, began = [q.prompt for q in some], task.max_new_tokens, time.monotonic()
    sampled: list[list[Completion]] = [[] for _ in prompts]
    if sampling.count:
        seed = sampling.seed * 1_000_003 + number
        sampled = engine.sample(prompts, room, sampling.count, temperature=sampling.temperature, seed=seed)
    greedy = engine.answer(prompts, room)
    # A batch is one generation: each token written takes an equal share of its time.
    tokens = sum(c.tokens for c in greedy) + sum(c.tokens for row in sampled for c in row)
    second = (time.monotonic() - began) / max(1, tokens)
    return [
        generated_record(by, task, q, g, s, second, sampling) for q, g, s in zip(some, greedy, sampled, strict=True)
    ]


def choose(
    engine: Engine, by: AnsweredBy, task: Task, some: Sequence[AskedQuestion], unanswered: dict[str, str]
) -> list[Record]:
    """Answer choice questions by the likeliest of their options.

    Where one of them cannot be asked they are asked one by one, so that the others have answers.
    """
    try:
        choices = choose_options(engine, [q.prompt for q in some], [q.options for q in some])
    except RefusedQuestionError as error:
        if len(some) == 1:
            unanswered[some[0].id] = str(error)
            return []
        return [record for q in some for record in choose(engine, by, task, [q], unanswered)]
    return [chosen_record(by, task, q, choice) for q, choice in zip(some, choices, strict=True)]
