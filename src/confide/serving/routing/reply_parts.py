"""The fields of a server's reply: values of its JSON and arguments of its tool calls, with how sure the model is."""

from __future__ import annotations

from dataclasses import replace

from confide.engines.engine import Completion
from confide.engines.openai.answer_logprobs import text_logprobs, text_starts, tokens_before, written_tokens
from confide.engines.openai.asked import Asked
from confide.engines.openai.reply import Choice, Reply
from confide.engines.token_starts import starts_of_bytes
from confide.methods.answer_traffic import TrafficWindow
from confide.methods.parts.part_reading import PartReading
from confide.methods.parts.told_parts import told_parts
from confide.parts.answer_part import AnswerPart
from confide.parts.part import Part
from confide.parts.tool_arguments import argument_parts
from confide.records import Message
from confide.signals import FIELD


class FieldsOfReplies:
    """Tells the fields of replies, each read once.

    Args:
        reading: what was learned of such fields; None: the probability of each field's own tokens.
        columns: which of the shares that come with a learned reading are of fields; None: none.
    """

    def __init__(self, reading: PartReading | None = None, columns: slice | None = None):
        self._reading, self._columns = reading, columns
        self._window = TrafficWindow()

    def read(self, asked: Asked, reply: Reply) -> list[AnswerPart]:
        """The fields of all choices of a reply."""
        question = [Message(role="user", content=asked.question)]
        found = [self._of_choice(question, choice) for choice in reply.choices]
        return [replace(part, choice=number) for number, parts in enumerate(found) for part in parts]

    def _of_choice(self, question: list[Message], choice: Choice) -> list[AnswerPart]:
        calls = choice.more.get("tool_calls")
        if not isinstance(calls, list) or not calls:
            return self._told(question, choice, _text(choice), tokens_before(choice))
        # The text that the tokens spell holds the calls; what a server made of them says where.
        written = _written(choice)
        parts = argument_parts(written.text, [call for call in calls if isinstance(call, dict)])
        return self._told(question, choice, written, 0, parts)

    def _told(
        self,
        question: list[Message],
        choice: Choice,
        written: Completion,
        before: int | None,
        parts: list[Part] | None = None,
    ) -> list[AnswerPart]:
        """The fields of what was ``written`` behind so many tokens of reasoning."""
        shares = choice.read.shares if choice.read else None
        if shares is None or self._columns is None or before is None:
            return told_parts(FIELD.name, question, written, self._reading, None, self._window, parts)
        # Which tokens they are does not count here, but how many: shares are told by the number of the token.
        numbered = replace(written, ids=[0] * len(written.starts), reasoning_ids=[0] * before)
        shares = shares[:, self._columns]
        return told_parts(FIELD.name, question, numbered, self._reading, shares, self._window, parts)


def _text(choice: Choice) -> Completion:
    """A choice's text with what is told of its tokens."""
    logprobs, starts = text_logprobs(choice) or [], text_starts(choice)
    known = starts if len(starts) == len(logprobs) else []
    return Completion(choice.text, [], logprobs, [], None, "length" if choice.cut else "stop", starts=known)


def _written(choice: Choice) -> Completion:
    """All that a model wrote for a choice, as its tokens spell it, those that call tools included."""
    tokens, logprobs = written_tokens(choice)
    text = b"".join(tokens).decode(errors="replace")
    return Completion(text, [], logprobs, [], None, "stop", starts=starts_of_bytes(tokens, text))
