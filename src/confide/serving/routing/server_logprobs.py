"""The confidences that come with a server's reply: those that were learned, and those of its tokens."""

from __future__ import annotations

from confide.engines.openai.answer_logprobs import answer_logprobs
from confide.engines.openai.asked import Asked
from confide.engines.openai.reply import Reply
from confide.methods.free import free_confidence
from confide.methods.learned_confidences import LearnedConfidences
from confide.methods.portable.portable_file import PORTABLE
from confide.methods.stack.served_stack import SERVED
from confide.methods.trace import lowest_of
from confide.records import Message, Record
from confide.serving.routing.reply_parts import FieldsOfReplies

_FREE = "logprob_sum"


def server_sources(
    asked: Asked, reply: Reply, learned: LearnedConfidences | None = None, fields: FieldsOfReplies | None = None
) -> tuple[dict[str, float | None], str]:
    """The confidences of a server's reply, and the one to use without a policy.

    All choices are sent, so the lowest value counts. Empty when a choice is no whole text or its log-probabilities are
    missing or cannot be matched to the answer.

    Args:
        asked: the request; of it the text of the last user turn counts. Where it is not to be read, nothing learned is.
        learned: what was trained for this server's model.
        fields: what tells the fields of the reply, which then stand in its ``parts``.
    """
    if fields is not None and asked.read:
        reply.parts = fields.read(asked, reply)
    question = [Message(role="user", content=asked.question)]
    records, readings = [], []
    for choice in reply.choices:
        logprobs = answer_logprobs(choice)
        if logprobs is None:
            return {}, _FREE
        read = choice.read  # its tokens are known by their ids; else they are what annotated records have, too
        records.append(
            Record(
                id="0",
                messages=question,
                answer=choice.text.strip(),
                answer_ids=read.ids if read else [],
                logprobs=read.logprobs if read else logprobs,
                end_logprob=read.end_logprob if read else None,
            )
        )
        readings.append(read.z if read else None)
    columns = learned.read(records, readings) if learned and asked.read else {}
    free = [free_confidence(record) for record in records]
    columns |= {source: [row[source] for row in free] for source in free[0]}
    lowest = {source: lowest_of(values) for source, values in columns.items()}
    return lowest, next((source for source in (SERVED, PORTABLE) if lowest.get(source) is not None), _FREE)
