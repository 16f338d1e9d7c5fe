"""The fields of a server's reply: values of its JSON and arguments of its tool calls, with how sure the model is."""

from __future__ import annotations

from confide.engines.engine import Completion
from confide.engines.openai.answer_logprobs import text_logprobs, text_starts, written_tokens
from confide.engines.openai.asked import Asked
from confide.engines.openai.reply import Choice, Reply
from confide.engines.token_starts import starts_of_bytes
from confide.methods.answer_traffic import TrafficWindow
from confide.methods.parts.part_reading import PartReading
from confide.methods.parts.told_parts import told_parts
from confide.methods.portable.portable_file import PortableFile
from confide.parts.answer_part import AnswerPart
from confide.parts.tool_arguments import argument_parts
from confide.records import Message
from confide.signals import FIELD


class FieldsOfReplies:
    """Tells the fields of replies, each read once.

    Args:
        portable: what was learned of such fields; None: the probability of each field's own tokens.
    """

    def __init__(self, portable: PortableFile | None = None):
        self._reading = PartReading(FIELD.name, portable) if portable else None
        self._window = TrafficWindow()

    def read(self, asked: Asked, reply: Reply) -> list[AnswerPart]:
        """The fields of a reply's first choice."""
        choice = reply.choices[0]
        question = [Message(role="user", content=asked.question)]
        calls = choice.more.get("tool_calls")
        if not isinstance(calls, list) or not calls:
            return told_parts(FIELD.name, question, _text(choice), self._reading, traffic=self._window)
        # The text that the tokens spell holds the calls; what a server made of them says where.
        written = _written(choice)
        parts = argument_parts(written.text, [call for call in calls if isinstance(call, dict)])
        return told_parts(FIELD.name, question, written, self._reading, traffic=self._window, parts=parts)


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
