"""The confidences that a server's log-probabilities give for free."""

from __future__ import annotations

from confide.engines.openai.answer_logprobs import answer_logprobs
from confide.engines.openai.reply import Reply
from confide.methods.free import free_confidence
from confide.records import Record


def server_sources(reply: Reply) -> dict[str, float | None]:
    """The free confidences of a server's reply, from the log-probabilities of its answers' tokens.

    All choices are sent, so the lowest value counts. Empty when a choice is no text or its log-probabilities are
    missing or cannot be matched to the answer.
    """
    rows = []
    for choice in reply.choices:
        logprobs = answer_logprobs(choice)
        if logprobs is None:
            return {}
        record = Record(id="0", answer=choice.text, answer_ids=[0] * len(logprobs), logprobs=logprobs)
        rows.append(free_confidence(record))
    lowest: dict[str, float | None] = {}
    for source in rows[0]:
        values = [row[source] for row in rows]
        lowest[source] = min(v for v in values if v is not None) if None not in values else None
    return lowest
