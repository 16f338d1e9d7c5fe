"""The rewriting server: a language model on an OpenAI-compatible server, as ``confide hedge`` asks it."""

from __future__ import annotations

import asyncio
import os
import random
from typing import Any

from pydantic import ValidationError

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.upstream import Http, Server
from confide.errors import ConfideError

CONCURRENCY = 8
"""Requests that are under way together."""
ATTEMPTS = 5
"""How often a request that the server could not take is sent; waits double from half a second."""
TIMEOUT_S = 120.0
MAX_WAIT_S = 60.0
MAX_TOKENS = 512
_FIRST_WAIT_S = 0.5
_KEY = "OPENAI_API_KEY"

_REASONS = {
    "refused": "cannot be reached",
    "broken": "broke off the connection",
    "timeout": f"gave no answer in {TIMEOUT_S:.0f} s",
    "unauthorized": f"refuses the key ({_KEY})",
    "rate_limited": "turns requests away (429)",
    "server_error": "fails (5xx)",
    "redirected": "redirects to another address, which is not followed",
    "unpaid": "wants to be paid",
    "misconfigured": "knows no such address or model: is the model's name right, and does the address end in /v1?",
    "rejected": "rejects the request: is the model's name right, and does the address end in /v1?",
    "unsupported": "does not take the request's options",
}


class RewritingServer:
    """The model ``name`` on the server at ``url``, as `confide.hedging.rewording.ChatModel` describes it.

    Its key comes from ``OPENAI_API_KEY``. Raises `ConfideError` for an address that is not one.
    """

    def __init__(self, url: str, name: str):
        key = _KEY if os.environ.get(_KEY, "").strip() else None
        try:
            config = ServerModel(
                name="engine", base_url=url.removesuffix("/chat/completions"), model=name, api_key_env=key
            )
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfideError(f"--engine {url}: {reason}") from None
        self.url, self.name = config.base_url, name
        self._http = Http()
        self._server = Server(config, self._http)
        self._slots = asyncio.Semaphore(CONCURRENCY)
        self._has_answered = False
        self._takes_options = True

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def ask(self, messages: list[dict[str, Any]], seed: int) -> str:
        """The answer to chat messages, "" where the server works but this request was too much for it.

        Raises:
            ConfideError: The server fails, and goes on failing where asking again might have helped.
        """
        async with self._slots:
            for attempt in range(ATTEMPTS):
                options = {"temperature": 0.5, "seed": seed, "max_tokens": MAX_TOKENS} if self._takes_options else {}
                asked = Asked(chat=True, messages=messages, options=options, deadline=float("inf"))
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        reply = await self._server.ask(asked)
                except TimeoutError:
                    failure = ModelError("timeout")
                except ModelError as error:
                    failure = error
                else:
                    self._has_answered = True
                    return reply.text.strip()
                rejected = failure.kind in ("rejected", "unsupported")
                if rejected and options and not self._has_answered:
                    self._takes_options = False  # some servers and models take none of these
                    continue
                if failure.kind in ("malformed", "empty") or (rejected and self._has_answered):
                    return ""  # such as a request beyond the model's context
                if not failure.again or attempt == ATTEMPTS - 1:
                    break
                wait = _FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.0)
                await asyncio.sleep(min(max(wait, failure.retry_after or 0.0), MAX_WAIT_S))
        raise ConfideError(f"the server at {self.url} {_REASONS.get(failure.kind, f'failed ({failure.kind})')}")
