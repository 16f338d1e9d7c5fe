"""Requests that no client should send, to `confide serve` as a process of its own; the benchmark sends 10,000."""

from __future__ import annotations

import asyncio
import random
import socketserver
import threading
import time
from collections.abc import Iterator

import pytest

import router_fuzz as fuzz
import routers


@pytest.fixture(scope="module")
def router(tmp_path_factory: pytest.TempPathFactory) -> Iterator[routers.Server]:
    """confide in front of two stubs, with a deadline short enough to wait for."""
    work = tmp_path_factory.mktemp("router")
    with (
        routers.stub(work, delay_ms=1) as small,
        routers.stub(work, "expert", delay_ms=1) as expert,
        routers.confide(work, small.port, {"expert": expert.port}, deadline_s=3.0) as server,
    ):
        yield server


def test_no_request_brings_the_router_down(router: routers.Server) -> None:
    found = fuzz.run(router.port, routers.KEY, 400, seed=1)
    assert sum(found["requests"].values()) == 400
    assert found["problems"] == 0, found["first_problems"]
    assert found["outcomes"].get("200", 0) > 20, "hardly any request got through to the models"
    assert "Traceback" not in router.said()
    assert router.answers()


def test_a_body_that_never_ends_is_given_up(router: routers.Server) -> None:
    head = fuzz.http("/v1/chat/completions", b"", routers.KEY).replace(b"Content-Length: 0", b"Content-Length: 100")

    async def wait() -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", router.port)
        writer.write(head + b'{"messages"')
        began = time.monotonic()
        got = await asyncio.wait_for(reader.read(200), 10)
        assert time.monotonic() - began > 2
        writer.close()
        return got

    assert asyncio.run(wait()).startswith(b"HTTP/1.1 408")


class _Bad(socketserver.BaseRequestHandler):
    """A server that does everything wrong: silence, a bare 500, a traceback."""

    def handle(self) -> None:
        path = self.request.recv(65536).split(b" ")[1]
        body = b"Traceback (most recent call last)" if path == b"/trace" else b"{}"
        status = b"200" if path == b"/trace" else b"500"
        if path == b"/silent":
            time.sleep(3)
        elif path != b"/close":
            self.request.sendall(b"HTTP/1.1 %s x\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body))


@pytest.mark.parametrize(
    ("path", "problem"),
    [("/silent", "no answer"), ("/error", "status 500"), ("/trace", "traceback in the body"),
     ("/close", "closed without an answer")],
)  # fmt: skip
def test_what_must_not_come_back_is_noticed(monkeypatch: pytest.MonkeyPatch, path: str, problem: str) -> None:
    monkeypatch.setattr(fuzz, "PATIENCE_S", 0.5)
    with socketserver.ThreadingTCPServer(("127.0.0.1", 0), _Bad) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        sent = fuzz.http(path, b"{}", "key")
        outcome, body = asyncio.run(fuzz.exchange(server.server_address[1], sent))
        server.shutdown()
    found = fuzz.Findings()
    found.judge("bent", sent, outcome, body, {503})
    assert [case["wrong"] for case in found.problems] == [[problem]]


def test_bent_bodies_are_mostly_json_that_goes_somewhere() -> None:
    draw = random.Random(0)
    bodies = {fuzz.bend(draw, fuzz._GOOD["/v1/feedback"]) for _ in range(300)}
    assert len(bodies) > 250
    assert any(b"NaN" in body for body in bodies)
    assert any(len(body) > 100_000 for body in bodies)
