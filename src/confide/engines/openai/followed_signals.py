"""What a client of a server knows of signals along its answers: they may end one, and have a lowest value each.

What becomes of a reading is a method's business; the router brings it along.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Protocol

from confide.engines.openai.reply import Choice

FILTERED = "content_filter"
"""The finish reason of an answer that a signal ended, in OpenAI's words."""


class Follower(Protocol):
    """Follows the signals of one answer that is being written."""

    def ends(self, content: Sequence[Any], *, said: bool) -> bool:
        """Whether it ends before the newest of its tokens, of which ``content`` is told so far.

        Args:
            said: whether a piece of it came since the last time.
        """
        ...

    @property
    def known(self) -> bool:
        """Whether all of it so far was read; what was not may be shown to nobody."""
        ...


class Signals(Protocol):
    """What is read along the answers of a server."""

    @property
    def stops(self) -> bool:
        """Whether answers may end by it."""
        ...

    def follow(self) -> Follower:
        """What follows one answer."""
        ...

    def lowest(self, choices: Sequence[Choice]) -> dict[str, float | None]:
        """The lowest value of each signal along whole answers."""
        ...
