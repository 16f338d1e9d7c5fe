"""Replies: what a model says, in a few tokens, to questions about answers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Protocol

from confide.annotation import check_context
from confide.engines.transformers.prefixes import group_batches
from confide.records import Message


class Written(Protocol):
    """A completion, of which only the text matters here."""

    @property
    def text(self) -> str:
        """What was written, without closing token."""
        ...


class Speaker(Protocol):
    """The part of an engine that asking takes; `TransformersEngine` is one."""

    @property
    def context(self) -> int:
        """The longest sequence that it takes, in tokens."""
        ...

    @property
    def batch_size(self) -> int:
        """Prompts that it takes at once."""
        ...

    def encode(self, messages: Sequence[Any]) -> list[int]:
        """Token ids of a conversation up to where the answer starts."""
        ...

    def share_prefixes(self, prompts: Sequence[list[int]]) -> list[int]:
        """Prepare for ``prompts``; the group of each, within which batches profit."""
        ...

    def generate(self, prompts: Sequence[list[int]], max_new_tokens: int) -> tuple[Sequence[Written], Any, Any]:
        """Greedy completions of a batch, and what else the engine gives."""
        ...


def replies(
    engine: Speaker,
    texts: Sequence[str],
    max_new_tokens: int,
    *,
    what: str,
    names: Sequence[str] = (),
    progress: Callable[[int, int, str], None] | None = None,
) -> list[str]:
    """The greedy reply to each text [n], asked as a conversation of one turn; equal texts are asked once.

    Worked examples or a system line of the task would teach a model to answer with a name, so there are none.
    ``what`` names the work for ``progress``. Raises `ConfideError` with the ``names`` (by default the numbers) of
    texts that do not fit the model's context.
    """
    distinct = list(dict.fromkeys(texts))
    prompts = [engine.encode([Message(role="user", content=text)]) for text in distinct]
    encoded = dict(zip(distinct, prompts, strict=True))
    called = names or [f"number {i}" for i in range(1, len(texts) + 1)]
    asked = {name: encoded[text] for name, text in zip(called, texts, strict=True)}
    check_context(asked, max_new_tokens, engine.context)
    said: dict[str, str] = {}
    for picked in group_batches(engine.share_prefixes(prompts), list(map(len, prompts)), engine.batch_size):
        completions = engine.generate([prompts[i] for i in picked], max_new_tokens)[0]
        said.update({distinct[i]: written.text for i, written in zip(picked, completions, strict=True)})
        if progress:
            progress(len(said), len(distinct), what)
    return [said[text] for text in texts]
