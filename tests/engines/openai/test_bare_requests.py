"""Requests whose answers are looked at as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from aiohttp import web

from checked_endpoints import Endpoint, vllm
from confide.engines.openai import bare_requests
from confide.engines.openai.bare_requests import ATTEMPTS, BareRequests, Told
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.upstream import Http


def with_requests(server: Endpoint, call: Callable[[BareRequests], Awaitable[Any]], **more: Any) -> Any:
    async def run() -> Any:
        http = Http()
        try:
            return await call(BareRequests(ServerModel(name="e", base_url=server.url, model="tiny", **more), http))
        finally:
            await http.close()

    with server.running():
        return asyncio.run(run())


class Busy(Endpoint):
    """Turns the first requests away."""

    times = 2
    wait: str | None = None

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.requests.append({})
        if len(self.requests) <= self.times:
            return web.Response(status=429, headers={"Retry-After": self.wait} if self.wait else {})
        return await super().chat(request)


BODY: dict[str, Any] = {"model": "tiny", "messages": [], "max_tokens": 1}


@pytest.fixture
def slept(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """How long was waited, without waiting."""
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds:  # libraries give way with 0
            waits.append(seconds)

    monkeypatch.setattr(bare_requests.asyncio, "sleep", sleep)
    return waits


def test_a_busy_server_is_asked_again_after_what_it_asks_for(slept: list[float]) -> None:
    server = Busy()
    assert with_requests(server, lambda requests: requests.post("chat/completions", BODY)).taken
    assert slept == [1.0, 2.0]
    slept.clear()
    server = Busy()
    server.wait = "7"
    assert with_requests(server, lambda requests: requests.post("chat/completions", BODY)).taken
    assert slept == [7.0, 7.0]


def test_it_is_not_waited_for_ever(slept: list[float]) -> None:
    server = Busy()
    server.times, server.wait = 99, "86400"
    told = with_requests(server, lambda requests: requests.post("chat/completions", BODY))
    assert (told.status, told.retry_after, told.taken) == (429, 86400.0, False)
    assert (slept, len(server.requests)) == ([20.0, 20.0], ATTEMPTS)


def test_a_long_answer_is_not_read_to_its_end() -> None:
    server = vllm(pages={"/metrics": "x" * 9_000_000})
    told = with_requests(server, lambda requests: requests.look(server.url.removesuffix("/v1") + "/metrics"))
    assert 4_000_000 < len(told.body) < 6_000_000


def test_a_redirect_is_not_followed() -> None:
    class Elsewhere(Endpoint):
        async def page(self, request: web.Request) -> web.Response:
            self.seen.append(request.path)
            return web.Response(status=302, headers={"Location": "/v1/elsewhere"})

    server = Elsewhere()
    told = with_requests(server, lambda requests: requests.look(f"{server.url}/models"))
    assert (told.status, server.seen) == (302, ["/v1/models"])


def test_the_key_stays_below_the_base_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-1")
    server = vllm()

    async def call(requests: BareRequests) -> None:
        root = server.url.removesuffix("/v1")
        for page in ("/v1/models", "/v10/models", "/version"):
            await requests.look(root + page)

    with_requests(server, call, api_key_env="MY_KEY")
    assert server.seen == ["/v1/models Bearer sk-1", "/v10/models", "/version"]


def test_what_gets_no_answer_is_a_model_error() -> None:
    for server, kind in ((vllm(hangs="messages"), "timeout"), (vllm(dies="messages"), "broken")):
        with pytest.raises(ModelError) as raised:
            with_requests(server, lambda requests: requests.post("chat/completions", BODY), timeout_s=1)
        assert raised.value.kind == kind


@pytest.mark.parametrize("body", [b"", b"null", b"[1]", b'"x"', b"{", b"\xff", b"[" * 10_000])
def test_what_is_no_object_holds_nothing(body: bytes) -> None:
    assert Told(200, body).data == {}


@pytest.mark.parametrize(
    ("status", "body", "taken"),
    [
        (200, b"{}", True),
        (200, b'{"error": null}', True),
        (200, b'{"error": {"message": "no"}}', False),
        (200, b'{"object": "error"}', False),
        (400, b"{}", False),
    ],
)
def test_an_error_under_status_200_is_a_refusal(status: int, body: bytes, taken: bool) -> None:
    assert Told(status, body).taken == taken
