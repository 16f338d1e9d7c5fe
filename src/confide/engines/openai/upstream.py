"""OpenAI-compatible servers behind the router: one request, whole or streamed, on one shared connection pool.

Only addresses in the configuration are called: redirects are not followed, proxies of the environment are not used,
and nothing in a request names an address. Of what a server writes in an error only its kind is kept, since it may
repeat the key.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Mapping
from contextlib import aclosing, asynccontextmanager, contextmanager
from dataclasses import replace
from email.utils import parsedate_to_datetime
from functools import cached_property
from time import monotonic, time
from typing import Any

import aiohttp
from pydantic_core import from_json, to_json

from confide.engines.openai.answer_logprobs import plain_tokens, tokens_before
from confide.engines.openai.asked import Asked
from confide.engines.openai.followed_signals import FILTERED, Follower, Signals
from confide.engines.openai.learned_reading import LearnedReading
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.model_listing import is_adapter, listed_identity
from confide.engines.openai.reading_check import LearnedCheck, speculates
from confide.engines.openai.reply import ALIVE, Choice, Delta, Model, Reply
from confide.engines.openai.request_fields import as_sent, not_taken
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.server_errors import failure_of
from confide.engines.openai.server_replies import ServerBody
from confide.engines.openai.start_check import StartCheck
from confide.policies.identities import PORTABLE_PART, identity_parts, identity_text

MOST_BYTES = 32_000_000
"""The longest answer that is read; a longer one counts as malformed."""

LOOK_S = 60.0
"""How long what a server lists of its model is believed."""

_CONNECT_S = 5.0
_CHECK_S = 30.0
_ERROR_BYTES, _ERROR_S = 65_536, 2.0


Sources = Callable[[Asked, Reply], tuple[dict[str, float | None], str]]
"""Raw confidences, by the name of their source, that follow from a request and its reply, and the source to use without
a policy.
"""


class Http:
    """The connection pool that all servers share; opened on first use, inside the event loop."""

    @cached_property
    def session(self) -> aiohttp.ClientSession:
        """The shared session."""
        connector = aiohttp.TCPConnector(limit=0, keepalive_timeout=15)
        return aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar(), trust_env=False)

    async def close(self) -> None:
        """Close every connection."""
        if "session" in vars(self):
            await self.session.close()
            del self.session


class Server(Model):
    """A model on an OpenAI-compatible server.

    With ``sources`` the server is asked for log-probabilities, and replies carry the confidences that this makes of
    them. What it lists of the model is then looked at when this is made and again every minute: ``identity``. Fields
    that the ``check`` at the start found it not to take are left out.

    Args:
        reading: the learned reading that this server gives, by its operator's word: answers are asked for with it for
            as long as the ``reading`` check finds it there.
        export: the identity of what was exported, which replies that carry the reading have.
        beside: that of what gives a confidence without a reading, which all replies have.
        signals: what the reading says along each answer, which may end it.
        always: fields that the server is sent with every request, whatever the request says of them.
    """

    def __init__(
        self,
        config: ServerModel,
        http: Http,
        *,
        sources: Sources | None = None,
        reading: LearnedReading | None = None,
        export: str = "",
        beside: str = "",
        signals: Signals | None = None,
        always: Mapping[str, Any] | None = None,
    ):
        self._config = config
        self._always = dict(always or {})
        self._http = http
        self._sources = sources
        self._signals = signals
        self._export = identity_parts(export)
        self._export.pop(PORTABLE_PART, None)  # that lies beside the model, and is not what the server runs
        self._beside = identity_parts(beside)
        self.check = StartCheck(config.name, self._send)
        self.reading = (
            LearnedCheck(config.name, reading, self._told, self._speculates, self._adapted) if reading else None
        )
        self.identity = listed_identity(config) if sources else ""
        self._looked = monotonic()
        self._looking: asyncio.Task[None] | None = None
        # The guard around this model watches the rest of the time.
        self._timeout = aiohttp.ClientTimeout(total=None, sock_connect=min(_CONNECT_S, config.timeout_s))
        self._url = f"{config.base_url}/chat/completions"
        self._headers = {"Content-Type": "application/json", "Accept-Encoding": "identity"}
        if (key := config.api_key()) is not None:
            self._headers["Authorization"] = f"Bearer {key.get_secret_value()}"

    async def ask(self, asked: Asked) -> Reply:
        """The whole answer; raises `ModelError`."""
        reading = self._reads(asked)
        try:
            return await self._ask(asked, reading)
        except ModelError as failure:
            if not (reading and await self._refused_for_it(failure)):
                raise
        return await self._ask(asked, False)

    async def _ask(self, asked: Asked, reading: bool) -> Reply:
        if reading and self._follow(asked) is not None:  # as a stream, so that it can be ended
            async with aclosing(self._stream(asked, reading)) as pieces:
                return [piece async for piece in pieces if isinstance(piece, Reply)][-1]
        async with self._post(self._body(asked, stream=False, reading=reading)) as response:
            body = ServerBody()
            async for data in _bytes(response):
                body.feed(data)
            _, reply = body.end()
        return self._completed(asked, reply, reading)

    async def sample(self, asked: Asked, count: int) -> Reply:
        """Sampled answers, one per choice; raises `ModelError`."""
        options = {**asked.options, "n": count, "temperature": 1.0}
        return await self.ask(replace(asked, n=count, options=options, logprobs=False))

    async def stream(self, asked: Asked) -> AsyncGenerator[Delta | Reply]:
        """The answer as it comes, then the whole of it; raises `ModelError`."""
        reading, begun = self._reads(asked), False
        try:
            async with aclosing(self._stream(asked, reading)) as pieces:
                async for piece in pieces:
                    begun = True
                    yield piece
                return
        except ModelError as failure:
            if begun or not (reading and await self._refused_for_it(failure)):
                raise
        async with aclosing(self._stream(asked, False)) as pieces:
            async for piece in pieces:
                yield piece

    async def _stream(self, asked: Asked, reading: bool) -> AsyncGenerator[Delta | Reply]:
        stream = "stream" not in self.check.left_out
        async with self._post(self._body(asked, stream=stream, reading=reading)) as response:
            body, follower = ServerBody(), self._follow(asked) if reading else None
            watched = self._signals is not None and self._signals.stops
            async for data in _bytes(response):
                # Event by event, however many come at once: an answer ends at the token that ends it.
                for part in data.splitlines(keepends=True) if follower is not None else (data,):
                    deltas = body.feed(part)
                    if follower is not None and follower.ends(body.told, said=bool(deltas)):
                        # Leaving the response closes its connection, which ends the generation.
                        yield self._completed(asked, body.stop(FILTERED, deltas), reading)
                        return
                    for delta in deltas if not watched or (follower is not None and follower.known) else ():
                        yield _plain(delta) if reading else delta
                if body.done:
                    break
                yield ALIVE
            deltas, reply = body.end()
            ended = follower is not None and follower.ends(body.told, said=bool(deltas))
            for delta in deltas if not watched or (follower is not None and follower.known and not ended) else ():
                yield _plain(delta) if reading else delta
        yield self._completed(asked, reply, reading)

    def _follow(self, asked: Asked) -> Follower | None:
        """What may end the one answer to a request while it is written."""
        signals = self._signals
        return signals.follow() if signals is not None and signals.stops and asked.n == 1 else None

    # -- the learned reading -------------------------------------------------------------------------------

    def _reads(self, asked: Asked) -> bool:
        """Whether a request goes with the ids of the reading, which would take the place of its likeliest tokens."""
        there = self.reading is not None and self.reading.problem is None and "logprobs" not in self.check.left_out
        return there and asked.read and not asked.top_logprobs

    async def _refused_for_it(self, failure: ModelError) -> bool:
        """Whether a request failed because the server does not give the reading (any more)."""
        assert self.reading is not None
        if failure.kind == "refused":
            self.reading.away(failure)
        return failure.kind in ("rejected", "unsupported") and await self.reading.look() is not None

    async def _told(self, body: dict[str, Any]) -> list[Any]:
        """What is told of each token of the answer to a check's question; raises `ModelError`."""
        async with self._answering(body) as response:
            data = from_json(b"".join([data async for data in _bytes(response)]))
        try:
            content = data["choices"][0]["logprobs"]["content"]
        except (KeyError, IndexError, TypeError):
            return []
        return content if isinstance(content, list) else []

    async def _speculates(self) -> bool:
        """Whether the server's metrics show speculative decoding; what has none says nothing."""
        url = f"{self._config.root}/metrics"
        try:
            with connection_failures():
                async with (
                    asyncio.timeout(min(_CHECK_S, self._config.timeout_s)),
                    self._http.session.get(url, allow_redirects=False, timeout=self._timeout) as response,
                ):
                    return response.status == 200 and speculates(await response.read())
        except TimeoutError:
            raise ModelError("timeout") from None

    async def _adapted(self) -> bool:
        return await asyncio.to_thread(is_adapter, self._config)

    def _read(self, choice: Choice) -> None:
        """Take what the engine read out of what is told of a choice's tokens, and leave that as it is without."""
        assert self.reading is not None
        content = (choice.logprobs or {}).get("content")
        if not isinstance(content, list) or not content:
            return
        try:
            before = tokens_before(choice)
            choice.read = None if before is None else self.reading.reading.read(content, before)
        except (ValueError, KeyError, TypeError):  # not told in the shape that was asked for
            self.reading.doubt()
        choice.logprobs = {"content": plain_tokens(content)}
        if choice.read is not None and choice.read.other:
            self.reading.doubt()

    # -- what comes of a reply -----------------------------------------------------------------------------

    def _completed(self, asked: Asked, reply: Reply, reading: bool) -> Reply:
        """A reply with what was read beside it, and with the confidences that follow from it."""
        parts = identity_parts(reply.identity)
        if self._sources is not None:
            parts |= identity_parts(self.identity)
        if reading:
            for choice in reply.choices:
                self._read(choice)
            if all(choice.read is not None and not choice.read.other for choice in reply.choices):
                parts |= self._export
            if self._signals is not None:
                reply.signals = self._signals.lowest(reply.choices)
        reply.identity = identity_text(parts | self._beside)
        if self._sources is None:
            return reply
        if monotonic() - self._looked > LOOK_S:
            self._looked = monotonic()
            self._looking = asyncio.create_task(self._look())
        reply.sources, reply.source = self._sources(asked, reply)
        return reply

    async def _look(self) -> None:
        """Look again at what is listed: another model may answer under the same name."""
        self.identity = await asyncio.to_thread(listed_identity, self._config) or self.identity

    async def _send(self, body: dict[str, Any]) -> None:
        """Send the check's question, and see that it is answered; raises `ModelError`."""
        async with self._answering(body) as response:
            async for _ in _bytes(response):
                pass

    @asynccontextmanager
    async def _answering(self, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The response to a question of a check, which does not wait for long."""
        if "max_tokens" in self._config.drop:  # else the answer had no limit
            body = {**body, "max_completion_tokens": body["max_tokens"]}
        try:
            async with asyncio.timeout(min(_CHECK_S, self._config.timeout_s)):
                async with self._post({"model": self._config.model, **body}) as response:
                    yield response
        except TimeoutError:
            raise ModelError("timeout") from None

    def _body(self, asked: Asked, *, stream: bool, reading: bool) -> dict[str, Any]:
        """What the server is sent; raises `ModelError` where the client wants what it does not take."""
        left_out = self.check.left_out
        unknown = not_taken(self._config, asked.options)
        if unknown is None and asked.logprobs and "logprobs" in left_out:
            unknown = "logprobs"
        if unknown is not None:
            raise ModelError("unsupported", counts=False, param=unknown)
        body: dict[str, Any] = {**asked.options, "model": self._config.model, "messages": asked.messages}
        if (self._sources is not None or asked.logprobs) and "logprobs" not in left_out:
            body["logprobs"] = True
            if asked.top_logprobs is not None:
                body["top_logprobs"] = asked.top_logprobs
        if reading and self.reading is not None:
            body |= self.reading.reading.fields()
        if stream:
            body["stream"] = True
            if "stream_options" not in left_out:
                body["stream_options"] = {"include_usage": True}
                if reading and self._signals is not None:  # of vLLM: an answer that is ended has no last chunk
                    body["stream_options"]["continuous_usage_stats"] = True
        return body

    @asynccontextmanager
    async def _post(self, body: dict[str, Any]) -> AsyncIterator[aiohttp.ClientResponse]:
        """The server's response; what cannot be read inside the ``with`` (ValueError) counts as malformed."""
        sent = as_sent(self._config, body) | self._always
        try:
            data = to_json(sent)
        except ValueError:  # half of a surrogate pair is no text
            raise ModelError("rejected", counts=False) from None
        with connection_failures():
            async with self._http.session.post(
                self._url, data=data, headers=self._headers, allow_redirects=False, timeout=self._timeout
            ) as response:
                if response.status != 200:
                    wait = retry_after(response.headers.get("Retry-After"))
                    raise failure_of(response.status, await _error(response), sent, wait)
                try:
                    yield response
                except ValueError:
                    raise ModelError("malformed", again=True) from None


@contextmanager
def connection_failures() -> Iterator[None]:
    """What goes wrong with a connection, as a `ModelError`."""
    try:
        yield
    except aiohttp.ServerTimeoutError:
        raise ModelError("timeout") from None
    except aiohttp.ClientConnectorError:
        raise ModelError("refused", again=True) from None
    except (aiohttp.ClientError, ConnectionError):
        raise ModelError("broken", again=True) from None


def _plain(delta: Delta) -> Delta:
    """A piece with what is told of its tokens as it is without the reading."""
    content = (delta.logprobs or {}).get("content")
    return replace(delta, logprobs={"content": plain_tokens(content)}) if isinstance(content, list) else delta


async def _error(response: aiohttp.ClientResponse) -> bytes:
    """The beginning of an error's body, as far as it comes at once."""
    body = b""
    try:
        async with asyncio.timeout(_ERROR_S):
            while len(body) < _ERROR_BYTES and (data := await response.content.readany()):
                body += data
    except (TimeoutError, aiohttp.ClientError, ConnectionError):
        pass
    return body[:_ERROR_BYTES]


def retry_after(value: str | None) -> float | None:
    """Seconds to wait, from a number or a date."""
    if value is None:
        return None
    if re.fullmatch(r"\d{1,9}(\.\d+)?", value.strip()):
        return float(value)
    try:
        return max(0.0, parsedate_to_datetime(value).timestamp() - time())
    except (ValueError, OverflowError):
        return None


async def _bytes(response: aiohttp.ClientResponse) -> AsyncIterator[bytes]:
    size = 0
    async for data in response.content.iter_any():
        size += len(data)
        if size > MOST_BYTES:
            raise ModelError("malformed")
        yield data
