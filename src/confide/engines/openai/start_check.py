"""What a server does not take of the fields that the router adds by itself, found out by asking it a word.

Only the router's own question teaches this: what a client's request made a server say would hold for all others.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from typing import Any

from confide.engines.openai.model_error import ModelError

log = logging.getLogger("confide.serving")

QUESTION = [{"role": "user", "content": "Hello"}]
ADDED: dict[str, dict[str, Any]] = {
    "logprobs": {"logprobs": True},
    "stream": {"stream": True},
    "stream_options": {"stream": True, "stream_options": {"include_usage": True}},
}
"""What the router may add to a request by itself, each with what it needs."""

_FIRST_WAIT_S, _MOST_WAIT_S = 1.0, 60.0
_REFUSED = frozenset({"rejected", "unsupported"})

Send = Callable[[dict[str, Any]], Awaitable[None]]


class StartCheck:
    """Asks one server for one token, with everything that is added; where it refuses that, with one thing at a time.

    ``left_out`` are the fields that it does not take, ``answered`` is set once it has answered. Five requests at most
    are answered; one that is not is sent again after a doubling wait of up to a minute.
    """

    def __init__(self, name: str, send: Send):
        self.name = name
        self.answered = False
        self.left_out: frozenset[str] = frozenset()
        self._send = send

    async def run(self) -> None:
        """Ask until the server has answered."""
        wait, told = _FIRST_WAIT_S, ""
        while not self.answered:
            try:
                self.left_out = await self._find_left_out()
                self.answered = True
            except ModelError as failure:
                if failure.kind != told:
                    log.warning(
                        "%s does not answer the check at the start (%s); it is repeated", self.name, failure.kind
                    )
                told = failure.kind
                await asyncio.sleep(wait)
                wait = min(2 * wait, _MOST_WAIT_S)
        if self.left_out:
            log.warning("%s does not take %s: left out", self.name, ", ".join(sorted(self.left_out)))

    async def _find_left_out(self) -> frozenset[str]:
        """The added fields that the server refuses; raises `ModelError` while it does not answer."""
        if await self._takes({key: value for more in ADDED.values() for key, value in more.items()}):
            return frozenset()
        if not await self._takes({}):
            log.warning("%s refuses a question with max_tokens 1, so what it takes cannot be told", self.name)
            return frozenset()
        found = {name for name in ("logprobs", "stream") if not await self._takes(ADDED[name])}
        if "stream" in found or not await self._takes(ADDED["stream_options"]):
            found.add("stream_options")
        return frozenset(found)

    async def _takes(self, more: dict[str, Any]) -> bool:
        try:
            await self._send({"messages": QUESTION, "max_tokens": 1, **more})
        except ModelError as failure:
            if failure.kind not in _REFUSED:
                raise
            return False
        return True
