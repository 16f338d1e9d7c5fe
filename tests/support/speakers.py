"""An engine that replies as a function says: what tests of asking need, without a model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from confide.records import Message


@dataclass(frozen=True)
class Said:
    text: str


class Scripted:
    """Replies to the text of a prompt with ``reply(text)``; ``prompts`` are those that it was given."""

    context = 10_000
    batch_size = 3

    def __init__(self, reply: Callable[[str], str]):
        self.reply = reply
        self.prompts: list[str] = []
        self.batches: list[int] = []

    def encode(self, messages: Sequence[Message]) -> list[int]:
        (message,) = messages
        assert message.role == "user"
        return list(map(ord, message.content))

    def share_prefixes(self, prompts: Sequence[list[int]]) -> list[int]:
        return [0] * len(prompts)

    def generate(self, prompts: Sequence[list[int]], max_new_tokens: int) -> tuple[list[Said], Any, Any]:
        texts = ["".join(map(chr, prompt)) for prompt in prompts]
        self.prompts += texts
        self.batches.append(len(texts))
        return [Said(self.reply(text)) for text in texts], [], None
