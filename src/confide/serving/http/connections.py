"""Connections, before anyone's key is known: how many there are, what is kept of each, and for how long.

uvicorn reads HTTP with httptools, which bounds neither the size of a request's head nor the time it takes. Here both
are, and whoever has to go is told so in an HTTP response where one is possible.
"""

from __future__ import annotations

import asyncio
import logging
import sys
from collections.abc import Awaitable
from functools import partial
from http import HTTPStatus
from typing import Any

from fastapi import FastAPI
from uvicorn import Config, Server
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol, RequestResponseCycle

from confide.serving.api_errors import ApiError
from confide.serving.config import ServeConfig
from confide.serving.http.authentication import SECURITY_FIELDS

log = logging.getLogger("confide.serving")

HEAD_BYTES = 32_768
"""The longest head of a request; as much may stand between two pieces of a body."""

HEAD_S = 10.0
"""How long a head may take to arrive, from the connection's or from its own first byte."""

KEEP_ALIVE_S = 75
"""How long a connection may be idle between requests: longer than is usual for a proxy, so that it closes first."""

STALL_S = 30.0
"""How long a client may leave what it is sent unread before it counts as gone."""

CLOSE_S = 5.0
"""How long a connection may take to end: what still comes is thrown away, so that the client gets to read why."""

CLOSE_BYTES = 1_000_000
"""How much is thrown away at most."""

PIPELINED = 8
"""How many requests may wait behind the one of the same connection that is worked on."""


class Room:
    """The connections there are, at most ``most``.

    When there is no room for one more, the connection that has waited longest for a request has to go. So nobody can
    keep others out by connections on which nothing happens, also when all of them come from one proxy's address.
    """

    def __init__(self, most: int):
        self.most = most
        self.open: set[Connection] = set()
        self.idle: dict[Connection, None] = {}  # no request is worked on; the longest idle comes first

    def enter(self, connection: Connection) -> bool:
        """Take a connection in; False: there is no room, and all others are at work."""
        if len(self.open) >= self.most:
            if not self.idle:
                return False
            next(iter(self.idle)).make_room()
        self.open.add(connection)
        return True

    def leave(self, connection: Connection) -> None:
        """A connection is gone, or as good as."""
        self.open.discard(connection)
        self.idle.pop(connection, None)


class TooLongError(Exception):
    """The head of a request is longer than `HEAD_BYTES`."""


class TooManyError(Exception):
    """More than `PIPELINED` requests wait."""


class Connection(HttpToolsProtocol):
    """One connection of uvicorn's, within bounds."""

    def __init__(self, room: Room, **options: Any):
        super().__init__(**options)
        self._room = room
        self._head = 0  # bytes of a request's address and header fields
        self._unread = 0  # bytes since a request began, or since the last piece of its body
        self._in_head = False
        self._ending = False  # what still comes is thrown away
        self._thrown = 0
        self._unsent = 0
        self._active: RequestResponseCycle | None = None
        self._timers: dict[str, asyncio.TimerHandle] = {}

    # -- what the transport calls ------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Wait for a request, or say that there is no room."""
        super().connection_made(transport)
        if self._room.enter(self):
            self._wait()
            self._start("head", HEAD_S, self._head_late)
        else:
            transport.write(_response(_no_room()))
            self._end(at_once=True)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget the connection."""
        self._room.leave(self)
        self._stop(*self._timers)
        if self._active is not None and self._active is not self.cycle:  # uvicorn tells the last of a pipeline only
            self._active.disconnected = True
            self._active.message_event.set()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Read a part of a request, within the bounds."""
        if self._ending:
            self._thrown += len(data)
            if self._thrown > CLOSE_BYTES:
                self.transport.abort()
            return
        self._unread += len(data)
        super().data_received(data)
        if self._ending or self.transport.is_closing():
            return
        if self._unread > HEAD_BYTES:
            self._refuse(self._too_long())
        elif self._idle and "head" not in self._timers:
            self._start("head", HEAD_S, self._head_late)

    def pause_writing(self) -> None:
        """The client does not read what it is sent."""
        super().pause_writing()
        self._watch_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        super().resume_writing()
        if not self._ending:
            self._stop("stall")

    # -- what the parser calls ---------------------------------------------------------------------------

    def on_message_begin(self) -> None:
        """A request begins."""
        super().on_message_begin()
        self._head, self._in_head = 0, True

    def on_headers_complete(self) -> None:
        """The head is there: the request is worked on, or waits behind the one before it."""
        self._head = len(self.url) + sum(len(name) + len(value) for name, value in self.headers)
        if self._head > HEAD_BYTES:
            raise TooLongError
        self._in_head, self._unread = False, 0
        self._stop("head")
        self._room.idle.pop(self, None)
        if len(self.pipeline) >= PIPELINED:
            raise TooManyError
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        """A piece of the body."""
        self._unread = 0
        super().on_body(body)

    def on_message_complete(self) -> None:
        """The request is there as a whole."""
        self._unread = 0
        super().on_message_complete()

    # -- what uvicorn does with it -----------------------------------------------------------------------

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: Any) -> None:
        """Work on a request; a client that is still sending its body when it is answered has to connect anew.

        HTTP/1.0 has no chunks: a stream ends there with its connection.
        """
        unchunked = False

        def bounded(scope: Any, receive: Any, send: Any) -> Awaitable[None]:
            def send_bounded(message: Any) -> Awaitable[None]:
                nonlocal unchunked
                if message["type"] == "http.response.start":
                    if cycle.more_body:
                        cycle.keep_alive = False
                    sized = any(name == b"content-length" for name, _ in message["headers"])
                    if unchunked := scope["http_version"] == "1.0" and not sized:
                        cycle.chunked_encoding, cycle.expected_content_length = False, sys.maxsize
                elif unchunked and not message.get("more_body"):
                    cycle.expected_content_length = len(message.get("body", b""))
                sent: Awaitable[None] = send(message)
                return sent

            done: Awaitable[None] = app(scope, receive, send_bounded)
            return done

        self._active = cycle
        cycle.transport = _Ending(self)  # type: ignore[assignment]
        super()._start_asgi_task(cycle, bounded)

    def on_response_complete(self) -> None:
        """A request is answered."""
        if self._ending:
            return
        super().on_response_complete()
        if self._idle and not self.transport.is_closing():
            self._wait()
            if self._in_head:
                self._start("head", HEAD_S, self._head_late)

    def timeout_keep_alive_handler(self) -> None:
        """No further request came."""
        self._end(at_once=True)

    def send_400_response(self, msg: str) -> None:
        """What came is no HTTP, or its head is too long."""
        too_long = self._head > HEAD_BYTES
        self._refuse(self._too_long() if too_long else ApiError(400, "this is not HTTP", code="http"))

    def _unsupported_upgrade_warning(self) -> None:
        """No other protocol is spoken here: the request is answered as one of HTTP, and nothing behind it is read."""
        if self.cycle is not None:
            self.cycle.keep_alive = False

    # -- bounds ------------------------------------------------------------------------------------------

    @property
    def _idle(self) -> bool:
        """Whether no request is worked on."""
        return self.cycle is None or self.cycle.response_complete

    def _wait(self) -> None:
        self._room.idle.pop(self, None)
        self._room.idle[self] = None

    def _too_long(self) -> ApiError:
        if self._in_head and len(self.url) > HEAD_BYTES // 2:
            return ApiError(414, "the address is too long", code="too_large")
        return ApiError(431, f"the head of a request has at most {HEAD_BYTES} bytes", code="too_large")

    def _head_late(self) -> None:
        if self._unread:
            self._refuse(ApiError(408, "the head of the request did not arrive in time", code="slow_head"))
        else:
            self._end(at_once=True)

    def make_room(self) -> None:
        """End for another connection's sake; it is no answer that is cut off so."""
        if self._ending:
            self._room.leave(self)
            self.transport.abort()
            return
        if self._unread:
            self.transport.write(_response(_no_room()))
        self._end(at_once=True)

    def _refuse(self, error: ApiError) -> None:
        """Say why the connection ends, unless a response is under way, which would be mistaken for its rest."""
        if self._idle:
            self.transport.write(_response(error))
            self._end()
        else:
            self.transport.abort()

    def end(self) -> None:
        """End the connection behind the last response."""
        self._end(at_once=self.cycle is not None and not self.cycle.more_body)

    def _end(self, *, at_once: bool = False) -> None:
        """End the connection when all is sent, ``at_once`` without waiting for what the client still sends."""
        if self._ending:
            return
        self._ending = True
        self._unset_keepalive_if_required()
        self._stop("head")
        if at_once or not self.transport.can_write_eof():
            self._room.leave(self)
            self._watch_reading()
            self.transport.close()
        else:
            self._start("end", CLOSE_S, self.transport.abort)
            self._wait()
            self.transport.write_eof()
            self.flow.resume_reading()

    def _watch_reading(self) -> None:
        """Let the client go that for `STALL_S` takes nothing of what it is sent."""
        self._unsent = self.transport.get_write_buffer_size()
        self._start("stall", STALL_S, self._stalled)

    def _stalled(self) -> None:
        if 0 < self.transport.get_write_buffer_size() < self._unsent:
            self._watch_reading()
        else:
            self.transport.abort()

    def _start(self, name: str, seconds: float, then: Any) -> None:
        self._stop(name)
        self._timers[name] = self.loop.call_later(seconds, then)

    def _stop(self, *names: str) -> None:
        for name in names:
            if (timer := self._timers.pop(name, None)) is not None:
                timer.cancel()


class _Ending:
    """The transport as a response sees it: closing it ends the connection within the bounds."""

    def __init__(self, connection: Connection):
        self._connection = connection
        self.write = connection.transport.write

    def is_closing(self) -> bool:
        return self._connection._ending or self._connection.transport.is_closing()

    def close(self) -> None:
        self._connection.end()


def _no_room() -> ApiError:
    return ApiError(503, "too many connections", code="overloaded", retry_after=1)


def _response(error: ApiError) -> bytes:
    """An error as the bytes of a response, behind which the connection ends."""
    response = error.response()
    lines = [f"HTTP/1.1 {error.status} {HTTPStatus(error.status).phrase}".encode()]
    named = [*response.raw_headers, *SECURITY_FIELDS, (b"connection", b"close")]
    lines += [name + b": " + value for name, value in named]
    return b"\r\n".join([*lines, b"", bytes(response.body)])


def make_server(app: FastAPI, config: ServeConfig) -> Server:
    """The server of the application, with its bounds; it is to be run on a socket that listens."""
    room = Room(_most_connections(config.limits.connections))
    return Server(
        Config(
            app,
            http=partial(Connection, room),  # type: ignore[arg-type]
            ws="none",
            access_log=False,
            server_header=False,
            proxy_headers=False,
            log_level="warning",
            timeout_keep_alive=KEEP_ALIVE_S,
            timeout_graceful_shutdown=int(config.deadline_s) + 5,
        )
    )


def _most_connections(wanted: int) -> int:
    """As many connections as are wanted, if the process may open so many files: half of them are for other things."""
    if sys.platform == "win32":
        return wanted
    import resource

    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0]
    allowed = wanted if most == resource.RLIM_INFINITY else min(wanted, max(1, most // 2))
    if allowed < wanted:
        log.warning(
            "limits.connections is %d, but this process may open %d files: %d connections are taken (ulimit -n)",
            wanted, most, allowed,
        )  # fmt: skip
    return allowed
