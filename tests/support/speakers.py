"""An engine that replies as a function says: what tests of asking need, without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

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
        self.batches_run: list[int] = []

    chat_template_kwargs: ClassVar[dict[str, Any]] = {}

    def encode(self, messages: Sequence[Message], chat_template_kwargs: Any = None) -> list[int]:
        (message,) = messages
        assert message.role == "user"
        return list(map(ord, message.content))

    def batches(self, prompts: Sequence[list[int]], *, progress: Any = None, note: str = "") -> Iterator[list[int]]:
        for start in range(0, len(prompts), self.batch_size):
            rows = list(range(len(prompts)))[start : start + self.batch_size]
            yield rows
            if progress:
                progress(rows[-1] + 1, len(prompts), note)

    def answer(self, prompts: Sequence[list[int]], max_new_tokens: int) -> list[Said]:
        texts = ["".join(map(chr, prompt)) for prompt in prompts]
        self.prompts += texts
        self.batches_run.append(len(texts))
        return [Said(self.reply(text)) for text in texts]
