"""Asking a model about its answers: one question per record, in one of several wordings."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import ArrayLike

from confide.engines.engine import check_context, encode_at_once, first_difference
from confide.numeric import Floats, sigmoid
from confide.progress import Progress
from confide.records import Cost, Message, Record

if TYPE_CHECKING:
    from confide.engines.engine import Engine

Reply = Callable[[int, list[list[int]]], tuple[ArrayLike, int]]
"""From the number of a wording and a batch of prompts to one value per prompt, and how many tokens were generated."""


def ask_about(
    engine: Engine,
    records: Sequence[Record],
    wordings: Sequence[str],
    asked: Sequence[int],
    reply: Reply,
    *,
    room: int,
    note: str,
    reference: Callable[[Record], str] = lambda record: "",
    progress: Progress | None = None,
) -> tuple[Floats, Cost]:
    """Ask about every record's answer in the wordings whose numbers are ``asked``.

    Args:
        reference: the right answer to tell, "" for none.
        room: tokens that come on top of a prompt.
        note: what is going on, for ``progress``.

    Returns:
        Values [n, wordings], NaN for wordings that were not asked; and tokens and seconds per record. Tokens are those
        read (without the shared start of a batch's prompts) and those generated.

    Raises:
        ConfideError: prompts that do not fit the context, counted and named.
    """
    values = np.full((len(records), len(wordings)), np.nan)
    began, tokens, done = time.monotonic(), 0, 0
    for number in asked:
        messages = [question_about(record, wordings[number], reference(record)) for record in records]
        prompts = [encode_at_once(engine, turns) for turns in messages]
        lengths = {record.id: len(prompt) for record, prompt in zip(records, prompts, strict=True)}
        check_context(lengths, engine.context, room)
        for rows in engine.batches(prompts):
            some = [prompts[i] for i in rows]
            values[rows, number], generated = reply(number, some)
            tokens, done = tokens + generated + engine.tokens_read(some), done + len(rows)
            if progress:
                progress(done, len(asked) * len(records), note)
    n = max(1, len(records))
    return values, Cost(tokens=tokens / n, seconds=(time.monotonic() - began) / n)


def question_about(record: Record, wording: str, reference: str = "") -> list[Message]:
    """Question and answer as one user turn: worked examples would teach a model to answer with a name."""
    right = f"Right answer: {reference}\n" if reference else ""
    body = f"{question_shown(record)}\n{right}Proposed answer: {record.answer}\n{wording}"
    return [Message(role="user", content=body)]


def share_of_yes(engine: Engine, yes: str, no: str, prompts: Sequence[list[int]]) -> Floats:
    """Of the probability of both replies the share of ``yes`` [prompts], NaN where nothing came."""
    ids = first_difference(engine.encode_answer(yes), engine.encode_answer(no))
    logprobs = engine.next_tokens(prompts, ids).logprobs
    # In the logits' own precision, so that shares that are equal there tie here.
    return sigmoid((logprobs[:, 0] - logprobs[:, 1]).astype(np.float32))


def with_mean(values: Floats) -> Floats:
    """``values`` [n] with their mean for NaN, or 0.5 where all are: so what is not known ranks nothing."""
    known = ~np.isnan(values)
    return np.where(known, values, values[known].mean() if known.any() else 0.5)


def question_shown(record: Record) -> str:
    """The question as a text, behind what was said before it: a system prompt, passages, earlier turns."""
    question = f"Question: {record.question}"
    said = [f"{turn.role.capitalize()}: {_said(turn)}" for turn in record.earlier]
    return "\n\n".join(["What was said before the question:", *said, question]) if said else question


def _said(turn: Message) -> str:
    """What a turn says; the calls of tools as JSON."""
    calls = (turn.model_extra or {}).get("tool_calls")
    return "\n".join(filter(None, (turn.content, json.dumps(calls, ensure_ascii=False) if calls else "")))


def ask_each(
    engine: Engine,
    texts: Sequence[str],
    max_new_tokens: int,
    *,
    note: str,
    names: Sequence[str] = (),
    progress: Progress | None = None,
) -> list[str]:
    """The greedy reply to each text [n], asked as a conversation of one turn; equal texts are asked once.

    Worked examples or a system line of the task would teach a model to answer with a name, so there are none.
    ``note`` tells ``progress`` what the work is. Raises `ConfideError` with the ``names`` (by default the numbers) of
    texts that do not fit the model's context.
    """
    prompts = {text: encode_at_once(engine, [Message(role="user", content=text)]) for text in texts}
    names = names or [f"number {i}" for i in range(1, len(texts) + 1)]
    lengths = {name: len(prompts[text]) for name, text in zip(names, texts, strict=True)}
    check_context(lengths, engine.context, max_new_tokens)
    distinct, replies = list(prompts), dict[str, str]()
    for rows in engine.batches(list(prompts.values()), progress=progress, note=note):
        completions = engine.answer([prompts[distinct[i]] for i in rows], max_new_tokens)
        replies |= {distinct[i]: completion.text for i, completion in zip(rows, completions, strict=True)}
    return [replies[text] for text in texts]
