"""What the router makes of a request: its conversation, its options, its deadline."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Any

_TIMER_S = 0.002
"""uvloop counts in whole milliseconds: its timers may fire that much before their time."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """One request: its conversation, what else it asks of a server, and how it wants the answer.

    ``options`` are the remaining keys of its body. ``deadline`` is in seconds of the event loop's clock. ``read`` says
    whether a learned confidence is wanted, where there is one; an answer without is no traffic of later ones. ``key``
    names the client's key (None: there are no keys), ``question_hash`` is the same for all requests that ask the same.
    """

    chat: bool
    messages: list[dict[str, Any]]
    options: dict[str, Any]
    deadline: float
    n: int = 1
    max_tokens: int | None = None
    stream: bool = False
    include_usage: bool = False
    logprobs: bool = False
    top_logprobs: int | None = None
    read: bool = True
    domain: str | None = None
    request_id: str | None = None
    key: str | None = None
    question_hash: str = ""

    @property
    def late(self) -> bool:
        """Whether the deadline has come, by the clock of the running event loop."""
        return asyncio.get_running_loop().time() >= self.deadline - _TIMER_S

    @property
    def question(self) -> str:
        """The text of the last user turn ("" for none)."""
        return next((text_of(m["content"]) for m in reversed(self.messages) if m["role"] == "user"), "")

    @property
    def plain(self) -> bool:
        """Whether one answer in plain text is wanted: no tools, no format, no second choice."""
        tools = self.options.get("tools") or self.options.get("functions")
        return self.n == 1 and not self.formatted and not tools

    @property
    def formatted(self) -> bool:
        """Whether the answer is to have a format, such as JSON."""
        wanted: str = (self.options.get("response_format") or {}).get("type", "text")
        return wanted != "text"


def text_of(content: Any) -> str:
    """The text of a message's content, parts joined by line ends."""
    if isinstance(content, str):
        return content
    return "\n".join(part.get("text") or "" for part in content or () if part.get("type") == "text")
