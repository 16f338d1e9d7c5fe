"""The confidences that come with a server's reply: the learned one where it was read, and those of its tokens."""

from __future__ import annotations

from confide.engines.openai.answer_logprobs import answer_logprobs
from confide.engines.openai.reply import Reply
from confide.methods.free import free_confidence
from confide.methods.stack.served_stack import SERVED, ServedMixture
from confide.records import Record

_FREE = "logprob_sum"


def server_sources(reply: Reply, mixture: ServedMixture | None = None) -> tuple[dict[str, float | None], str]:
    """The confidences of a server's reply, and the one to use without a policy.

    All choices are sent, so the lowest value counts. Empty when a choice is no text or its log-probabilities are
    missing or cannot be matched to the answer.

    Args:
        mixture: what makes a confidence of the reading that the server's engine gives.
    """
    rows = []
    for choice in reply.choices:
        logprobs = answer_logprobs(choice)
        if logprobs is None:
            return {}, _FREE
        read = choice.read  # its tokens are known by their ids; else they are what annotated records have, too
        record = Record(
            id="0",
            answer=choice.text.strip(),
            answer_ids=read.ids if read else [],
            logprobs=read.logprobs if read else logprobs,
            end_logprob=read.end_logprob if read else None,
        )
        learned = {SERVED: mixture.confidences([read.z if read else None], [record])[0]} if mixture else {}
        rows.append(learned | free_confidence(record))
    lowest: dict[str, float | None] = {}
    for source in rows[0]:
        values = [row[source] for row in rows]
        lowest[source] = min(v for v in values if v is not None) if None not in values else None
    return lowest, _FREE if lowest.get(SERVED) is None else SERVED
