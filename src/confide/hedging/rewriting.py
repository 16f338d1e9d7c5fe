"""Rewriting: claims worded by a language model on an OpenAI-compatible server, checked, or else by templates."""

from __future__ import annotations

import asyncio
import os
import random
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from pydantic import ValidationError

from confide.errors import ConfideError
from confide.hedging.claims import Claim, check
from confide.hedging.templates import Templates, Wording

if TYPE_CHECKING:
    from confide.serving.routing.upstream import Http, Server

CONCURRENCY = 8
"""Requests that are under way together."""
TRIES = 3
"""A rewrite that was refused is asked for again, twice."""
TIMEOUT_S = 120.0
PATIENCE = 5
"""How often a request that the server could not take is sent; waits double from half a second."""
MOST_WAIT_S = 60.0
MAX_TOKENS = 512
_FIRST_WAIT_S = 0.5
_KEY = "OPENAI_API_KEY"

_FAILURES = {
    "refused": "cannot be reached",
    "broken": "broke off the connection",
    "timeout": f"gave no answer in {TIMEOUT_S:.0f} s",
    "unauthorized": f"refuses the key ({_KEY})",
    "rate_limited": "turns requests away (429)",
    "server_error": "fails (5xx)",
    "redirected": "redirects to another address, which is not followed",
    "rejected": "rejects the request: is the model's name right, and does the address end in /v1?",
}


class Rewriter:
    """Asks a model to reword each claim; what it does to the answer or to the likelihood is checked.

    A rewrite that changes either is asked for again with the reason, and after `TRIES` the template takes its place.
    A server that fails ends the run: rows that are done are kept, and the next run goes on behind them.

    Raises `ConfideError` for an address that is none, and without the extra ``serve``.
    """

    def __init__(self, url: str, model: str, templates: Templates):
        try:
            from confide.serving.config import ServerModel
            from confide.serving.routing.upstream import Http, Server
        except ImportError:
            raise ConfideError("--engine URL needs aiohttp: pip install 'confide[serve]'") from None
        key = _KEY if os.environ.get(_KEY, "").strip() else None
        try:
            config = ServerModel(
                name="engine", base_url=url.removesuffix("/chat/completions"), model=model, api_key_env=key
            )
        except ValidationError as error:
            reason = error.errors()[0]["msg"].removeprefix("Value error, ")
            raise ConfideError(f"--engine {url}: {reason}") from None
        self.url = config.base_url
        self.templates = templates
        self._http: Http = Http()
        self._server: Server = Server(config, self._http)
        self._room = asyncio.Semaphore(CONCURRENCY)
        self._answered = False
        self._options: dict[str, Any] = {"temperature": 0.5, "seed": templates.seed, "max_tokens": MAX_TOKENS}

    async def close(self) -> None:
        """Close the connections."""
        await self._http.close()

    async def word(self, claim: Claim) -> Wording | None:
        """The model's wording, or the template's after `TRIES` that did not pass."""
        language, style = self.templates.language, self.templates.style
        hedges = language.style(style).near(claim.confidence)
        told = language.prompt.user.format(
            question=claim.asked or "-", answer=claim.text.strip(), phrases="; ".join(h.written for h in hedges)
        )
        messages = [{"role": "system", "content": language.prompt.system}, {"role": "user", "content": told}]
        for attempt in range(TRIES):
            text = await self._ask(messages)
            checked = check(claim, text, None, language, style)
            if checked.wrong is None and checked.value is not None:
                return Wording(text, checked.phrase, checked.value, "model", refused=attempt)
            why = language.prompt.wording if checked.wrong == "wording" else language.prompt.content
            messages = [*messages, {"role": "assistant", "content": text}, {"role": "user", "content": why}]
        worded = await self.templates.word(claim)
        return None if worded is None else replace(worded, refused=TRIES)

    async def _ask(self, messages: list[dict[str, Any]]) -> str:
        """What the model answers ("" when that is nothing); raises `ConfideError` when the server is of no use."""
        from confide.serving.http.api_errors import ModelError
        from confide.serving.http.request_bodies import Asked

        async with self._room:
            for attempt in range(PATIENCE):
                options = self._options
                asked = Asked(chat=True, messages=messages, options=options, deadline=float("inf"))
                try:
                    async with asyncio.timeout(TIMEOUT_S):
                        reply = await self._server.ask(asked)
                except TimeoutError:
                    failure = ModelError("timeout")
                except ModelError as error:
                    failure = error
                else:
                    self._answered = True
                    return reply.text.strip()
                if failure.kind == "rejected" and options and not self._answered:
                    self._options = {}  # some servers and models take none of these
                    continue
                if failure.kind in ("malformed", "empty") or (failure.kind == "rejected" and self._answered):
                    return ""  # this one request was too much for it, such as an answer beyond its context
                if not failure.again or attempt == PATIENCE - 1:
                    break
                wait = _FIRST_WAIT_S * 2**attempt * random.uniform(0.5, 1.0)
                await asyncio.sleep(min(max(wait, failure.retry_after or 0.0), MOST_WAIT_S))
        raise ConfideError(f"the server at {self.url} {_FAILURES.get(failure.kind, f'failed ({failure.kind})')}")
