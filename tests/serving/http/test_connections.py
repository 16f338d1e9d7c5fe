"""Connections by raw sockets: what is refused before a key is known, with which status, and what is not kept."""

from __future__ import annotations

import json
import re
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from confide.serving.api_keys import hash_key
from confide.serving.http import connections
from routers import serve
from upstreams import Running, Upstream, router, small_server

KEY = "sk-client-0123456789abcdef0123456789abcdef"
GET = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n"


@contextmanager
def open_to(running: Running) -> Iterator[socket.socket]:
    host, _, port = running.url.removeprefix("http://").partition(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        yield connection


def read_all(connection: socket.socket) -> bytes:
    """All that comes until the other side closes, or breaks the connection."""
    found = b""
    try:
        while piece := connection.recv(65536):
            found += piece
    except ConnectionError:
        pass
    return found


def read_one(connection: socket.socket) -> bytes:
    """One whole response, or what came before the other side broke the connection."""
    told = b""
    try:
        while piece := connection.recv(65536):
            told += piece
            head, _, body = told.partition(b"\r\n\r\n")
            length = re.search(rb"content-length: (\d+)", head.lower())
            if length and len(body) >= int(length[1]):
                break
    except ConnectionError:
        pass
    return told


def send(connection: socket.socket, data: bytes) -> int:
    """Send until all is taken or the other side breaks the connection; returns how much was taken."""
    sent = 0
    try:
        while sent < len(data):
            sent += connection.send(data[sent : sent + 65536])
    except ConnectionError:
        pass
    return sent


def statuses(told: bytes) -> list[int]:
    return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d{3}) ", told)]


def ask(key: str = "", body: bytes = b"", *fields: bytes) -> bytes:
    """A POST of a question whose body is said to be longer or shorter by other ``fields``."""
    fields = fields or (b"Content-Length: %d" % len(body),)
    given = [b"Authorization: Bearer " + key.encode()] if key else []
    head = [b"POST /v1/chat/completions HTTP/1.1", b"Host: localhost", b"Content-Type: application/json"]
    return b"\r\n".join([*head, *given, *fields, b"", body])


@contextmanager
def keyed(folder: Path, small: Upstream, **settings: Any) -> Iterator[Running]:
    keys = [{"name": "app", "hash": hash_key(KEY)}]
    with router(folder, small=small_server(small), mode="observe", api_keys=keys, **settings) as running:
        yield running


QUESTION = json.dumps({"messages": [{"role": "user", "content": "Where?"}]}).encode()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (GET + b"a: b\r\n" * 10_000_000, 431),
        (GET + b"a: " + b"b" * 60_000_000, 431),
        (GET + b"a" * 60_000_000, 431),
        (b"GET /" + b"a" * 60_000_000, 414),
        (b"GET /" + b"a" * 20_000 + b" HTTP/1.1\r\n" + b"a: b\r\n" * 10_000, 414),
        (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03", 400),
        (b"CONNECT localhost:80 HTTP/1.1\r\n\r\n", 400),
        (GET + b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
    ],
    ids=["small headers", "one long value", "one long name", "a long address", "both", "TLS", "CONNECT",
         "two lengths"],
)  # fmt: skip
def test_what_is_too_long_or_no_http_is_refused_early(
    tmp_path: Path, small: Upstream, data: bytes, status: int
) -> None:
    with keyed(tmp_path, small) as running, open_to(running) as connection:
        sent = send(connection, data)
        assert statuses(read_all(connection))[:1] == [status]
        assert sent < 20_000_000  # what the system holds on the way included


def test_trailers_and_extensions_are_bounded_too(tmp_path: Path, small: Upstream) -> None:
    chunked = ask(KEY, b"", b"Transfer-Encoding: chunked")
    with keyed(tmp_path, small) as running:
        with open_to(running) as connection:
            assert send(connection, chunked.replace(b"Bearer", b"") + b"0\r\n" + b"a: b\r\n" * 10_000_000) < 20_000_000
            assert statuses(read_all(connection)) in ([401], [])
        for more in (b"0\r\n" + b"a: b\r\n" * 100_000, b"0\r\na: " + b"b" * 1_000_000, b"1;" + b"x" * 1_000_000):
            with open_to(running) as connection:
                send(connection, chunked + b"%x\r\n%s\r\n" % (len(QUESTION), QUESTION) + more)
                assert read_all(connection) == b""  # a response was due: nothing else can be said
        with open_to(running) as connection:
            send(connection, chunked + b"%x\r\n%s\r\n0\r\na: b\r\n\r\n" % (len(QUESTION), QUESTION))
            assert statuses(read_one(connection)) == [200]
        assert len(small.requests) == 1


@pytest.mark.parametrize("begun", [b"G", GET, GET + b"a: " + b"b" * 20_000, b"\r\n"])
def test_a_head_that_does_not_come_is_not_waited_for(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch, begun: bytes
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    with keyed(tmp_path, small) as running:
        with open_to(running) as connection:
            connection.sendall(begun)
            assert statuses(read_all(connection)) == [408]
        with open_to(running) as connection:
            assert read_all(connection) == b""  # nothing was asked, so nothing is answered
        with open_to(running) as connection:  # the second request of a connection is waited for no longer
            connection.sendall(GET + b"\r\n")
            assert statuses(read_one(connection)) == [200]
            connection.sendall(begun)
            assert statuses(read_all(connection)) == [408]


def test_a_head_that_trickles_in_is_not_waited_for(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 0.5)
    with keyed(tmp_path, small) as running, open_to(running) as connection:
        connection.settimeout(0.05)
        told, until = b"", time.monotonic() + 30
        connection.sendall(GET)
        while not told and time.monotonic() < until:
            send(connection, b"a")
            try:
                told = connection.recv(65536)
            except TimeoutError:
                continue
            except ConnectionError:
                break
        assert statuses(told) == [408]


def test_an_idle_connection_is_closed(tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connections, "KEEP_ALIVE_S", 0.5)
    with keyed(tmp_path, small) as running, open_to(running) as connection:
        connection.sendall(GET + b"\r\n")
        assert statuses(read_all(connection)) == [200]


@pytest.mark.parametrize("fields", [b"Content-Length: 900000", b"Transfer-Encoding: chunked", b"Content-Length: 9" * 2])
@pytest.mark.parametrize(
    ("key", "path"), [("", b"/v1/chat/completions"), ("wrong", b"/v1/feedback"), ("", b"/nowhere")]
)
def test_the_body_of_a_client_without_a_key_is_not_read(
    tmp_path: Path, small: Upstream, key: str, path: bytes, fields: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "CLOSE_BYTES", 100_000)
    bad = fields == b"Content-Length: 9" * 2
    with keyed(tmp_path, small) as running, open_to(running) as connection:
        connection.sendall(ask(key, b"", fields).replace(b"/v1/chat/completions", path))
        told = read_all(connection)  # before a byte of the body is sent, and then the connection ends
        assert statuses(told) == [400 if bad else 401]
        assert b"connection: close" in told.lower()
        assert json.loads(told.partition(b"\r\n\r\n")[2])["error"]["code"] == ("http" if bad else "invalid_api_key")


def test_a_small_body_leaves_the_connection_open(tmp_path: Path, small: Upstream) -> None:
    with keyed(tmp_path, small) as running, open_to(running) as connection:
        for key, status in (("wrong", 401), (KEY, 200), ("", 401), (KEY, 200)):
            connection.sendall(ask(key, QUESTION))
            told = read_one(connection)
            assert statuses(told) == [status]
            assert b"connection: close" not in told.lower()


@pytest.mark.parametrize("length", [b"Content-Length: 3000000", b"Transfer-Encoding: chunked"])
def test_a_body_that_is_too_large_is_refused_and_the_client_gets_to_read_why(
    tmp_path: Path, small: Upstream, length: bytes
) -> None:
    body = b"f4240\r\n" + b"x" * 1_000_000 + b"\r\n" + b"1\r\nx\r\n" if b"chunked" in length else b"x" * 1_500_000
    with keyed(tmp_path, small) as running, open_to(running) as connection:
        send(connection, ask(KEY, b"", length) + body)
        assert statuses(read_all(connection)) == [413]


def test_a_body_that_trickles_in_is_given_up_by_the_deadline(tmp_path: Path, small: Upstream) -> None:
    with keyed(tmp_path, small, deadline_s=0.6) as running, open_to(running) as connection:
        connection.sendall(ask(KEY, b"{", b"Content-Length: 1000"))
        connection.settimeout(0.05)
        told, until = b"", time.monotonic() + 30
        while not told and time.monotonic() < until:
            send(connection, b" ")
            try:
                told = connection.recv(65536)
            except TimeoutError:
                continue
        assert statuses(told) == [408]


def test_idle_connections_make_room_for_a_new_one(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(connections, "HEAD_S", 300.0)
    with keyed(tmp_path, small, limits={"connections": 8}) as running, ExitStack() as stack:
        held = [stack.enter_context(open_to(running)) for _ in range(30)]
        half = stack.enter_context(open_to(running))
        half.sendall(GET)
        used = stack.enter_context(open_to(running))
        used.sendall(GET + b"\r\n")
        assert statuses(read_one(used)) == [200]
        for _ in range(20):
            assert running.get("/healthz").status_code == 200
        for connection in held[:24]:
            assert read_all(connection) == b""
        held += [stack.enter_context(open_to(running)) for _ in range(8)]
        assert statuses(read_all(half)) == [503]
        assert read_all(used) == b""
        held[-1].sendall(GET + b"\r\n")  # the newest are there still
        assert statuses(read_one(held[-1])) == [200]


def test_connections_at_work_stay_and_a_new_one_is_turned_away(tmp_path: Path, small: Upstream) -> None:
    small.behaviour = ["hang"]
    with keyed(tmp_path, small, limits={"connections": 4}, deadline_s=300) as running, ExitStack() as stack:
        at_work = [stack.enter_context(open_to(running)) for _ in range(4)]
        for connection in at_work:
            connection.sendall(ask(KEY, QUESTION))
        until = time.monotonic() + 30
        while len(small.requests) < 4:
            assert time.monotonic() < until
            time.sleep(0.02)
        for _ in range(10):
            with open_to(running) as connection:
                told = read_all(connection)
                assert statuses(told) == [503]
                assert b"retry-after: 1" in told
        at_work.pop().close()
        until = time.monotonic() + 30
        while True:
            with open_to(running) as connection:
                send(connection, GET + b"\r\n")
                if statuses(read_one(connection)) == [200]:
                    break
            assert time.monotonic() < until
        assert len(small.requests) == 4


def test_pipelined_requests_are_answered_in_order_and_bounded(tmp_path: Path, small: Upstream) -> None:
    with keyed(tmp_path, small) as running:
        with open_to(running) as connection:
            connection.sendall((GET + b"\r\n") * 5 + ask(KEY, QUESTION) + GET + b"Connection: close\r\n\r\n")
            told = read_all(connection)
            assert statuses(told) == [200] * 7
            assert b'"Japan"' in told
        with open_to(running) as connection:
            send(connection, ask(KEY, QUESTION) + (GET + b"\r\n") * 1000)
            assert len(statuses(read_all(connection))) < 1001
        assert running.get("/healthz").status_code == 200


def test_leaving_a_pipeline_stops_the_work_on_its_first_request(tmp_path: Path, small: Upstream) -> None:
    small.behaviour = ["hang"]
    with keyed(tmp_path, small, deadline_s=300) as running:
        with open_to(running) as connection:
            connection.sendall(ask(KEY, QUESTION) + GET + b"\r\n")
            until = time.monotonic() + 30
            while not small.requests:
                assert time.monotonic() < until
                time.sleep(0.02)
        assert small.hung_up.wait(60)


@pytest.mark.parametrize("protocol", [b"websocket", b"h2c"])
def test_an_upgrade_is_answered_as_plain_http(tmp_path: Path, small: Upstream, protocol: bytes) -> None:
    fields = b"Connection: Upgrade\r\nUpgrade: %s\r\nSec-WebSocket-Key: AA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
    with keyed(tmp_path, small) as running:
        with open_to(running) as connection:
            connection.sendall(GET + fields % protocol + b"\x81\x05hello" + GET + b"\r\n")
            assert statuses(read_all(connection)) == [200]
        with open_to(running) as connection:
            connection.sendall((GET + fields % protocol).replace(b"/healthz", b"/v1/chat/completions"))
            assert statuses(read_all(connection)) == [401]
        with open_to(running) as connection:
            send(connection, (GET + fields % protocol).replace(b"/healthz", b"/v1/models") + b"x" * 10_000_000)
            assert statuses(read_all(connection)) in ([401], [])


def test_http_1_0_is_answered_and_closed(tmp_path: Path, small: Upstream) -> None:
    with keyed(tmp_path, small) as running, open_to(running) as connection:
        connection.sendall(ask(KEY, QUESTION).replace(b"HTTP/1.1", b"HTTP/1.0"))
        told = read_all(connection)
        assert statuses(told) == [200]
        assert json.loads(told.partition(b"\r\n\r\n")[2])["choices"][0]["message"]["content"] == "Japan"


def test_a_stream_over_http_1_0_comes_without_chunks(tmp_path: Path, small: Upstream) -> None:
    question = QUESTION.removesuffix(b"}") + b', "stream": true}'
    with keyed(tmp_path, small) as running, open_to(running) as connection:
        connection.sendall(ask(KEY, question).replace(b"HTTP/1.1", b"HTTP/1.0"))
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert b"transfer-encoding" not in head.lower()
        assert all(line.startswith(b"data: ") for line in body.split(b"\n\n")[:-1])
        assert body.endswith(b"data: [DONE]\n\n")


def test_what_clients_without_a_key_send_is_not_kept(tmp_path: Path, small: Upstream) -> None:
    keys = [{"name": "app", "hash": hash_key(KEY)}]
    settings = {"small": small_server(small), "mode": "observe", "api_keys": keys}
    with serve(tmp_path, "bounded", settings, set()) as process, ExitStack() as stack:
        running = Running(f"http://127.0.0.1:{process.port}", tmp_path / "bounded.db")
        before = process.rss_mb()
        half = (GET + b"a: b\r\n" * 2_000, b"GET /" + b"a" * 20_000, ask("wrong", b"", b"Content-Length: 900000"))
        for head in half * 30:
            stack.enter_context(open_to(running)).sendall(head)
        for data in (GET + b"a: b\r\n" * 10_000_000, GET + b"a: " + b"b" * 60_000_000):
            assert send(stack.enter_context(open_to(running)), data) < 20_000_000
        assert running.get("/healthz").status_code == 200
        assert process.rss_mb() - before < 60


@pytest.mark.parametrize(("files", "taken"), [(1024, 512), (65536, 4096), (1, 1), (-1, 4096)])
def test_no_more_connections_are_taken_than_files_may_be_open(
    files: int, taken: int, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    import resource

    monkeypatch.setattr(resource, "getrlimit", lambda _: (files, files))
    assert connections._most_connections(4096) == taken
    assert ("ulimit -n" in caplog.text) == (taken < 4096)


def test_whoever_does_not_read_an_answer_is_let_go(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    lost: list[Any] = []
    forget = connections.Connection.connection_lost

    def note(self: connections.Connection, error: Exception | None) -> None:
        forget(self, error)
        lost.append(self)

    monkeypatch.setattr(connections, "STALL_S", 0.5)
    monkeypatch.setattr(connections.Connection, "connection_lost", note)
    small.answer, small.logprobs = "Japan " * 2_000_000, False
    with keyed(tmp_path, small) as running:
        for more in (b"", b"Connection: close\r\n"):
            with open_to(running) as connection:
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 65536)
                connection.sendall(ask(KEY, QUESTION).replace(b"Host:", more + b"Host:"))
                until = time.monotonic() + 60
                while not lost:
                    assert time.monotonic() < until
                    time.sleep(0.05)
                lost.clear()
                assert len(read_all(connection)) < len(small.answer)
