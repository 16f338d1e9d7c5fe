"""The rewriting server: a language model on an OpenAI-compatible server, as ``confide hedge`` asks it."""

from __future__ import annotations

import math
from typing import Any

from confide.engines.openai.asked import Asked
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.patient_server import PatientServer
from confide.errors import ConfideError

CONCURRENCY = 8
"""Requests that are under way together."""
ATTEMPTS = 5
"""How often a request that the server could not take is sent; waits double from half a second."""
TIMEOUT_S = 120.0
MAX_TOKENS = 512


class RewritingServer:
    """The model ``name`` on the server at ``url``, as `confide.hedging.rewording.ChatModel` describes it.

    Its key comes from ``OPENAI_API_KEY``. Raises `ConfideError` for an address that is not one.
    """

    def __init__(self, url: str, name: str):
        endpoint = EndpointConfig(base_url=url, concurrency=CONCURRENCY, retries=ATTEMPTS - 1, timeout_s=TIMEOUT_S)
        try:
            config = endpoint.server(name)
        except ConfideError as error:
            raise ConfideError(f"--base-url {url}: {str(error).removeprefix('--base-url: ')}") from None
        self.url, self.name = config.base_url, name
        self._server = PatientServer(config, concurrency=CONCURRENCY, retries=ATTEMPTS - 1)
        self._has_answered = False
        self._takes_options = True

    async def close(self) -> None:
        """Close the connections."""
        await self._server.close()

    async def ask(self, messages: list[dict[str, Any]], seed: int) -> str:
        """The answer to chat messages, "" where the server works but this request was too much for it.

        Raises:
            ConfideError: The server fails, and goes on failing where asking again might have helped.
        """
        while True:
            options = {"temperature": 0.5, "seed": seed, "max_tokens": MAX_TOKENS} if self._takes_options else {}
            try:
                reply = await self._server.ask(Asked(chat=True, messages=messages, options=options, deadline=math.inf))
            except ModelError as failure:
                rejected = failure.kind in ("rejected", "unsupported")
                if rejected and options and not self._has_answered:
                    self._takes_options = False  # some servers and models take none of these
                    continue
                if failure.kind in ("malformed", "empty") or (rejected and self._has_answered):
                    return ""  # such as a request beyond the model's context
                raise ConfideError(f"the server at {self.url} {self._server.reason(failure)}") from None
            self._has_answered = True
            return reply.text.strip()
