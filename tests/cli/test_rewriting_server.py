from __future__ import annotations

import asyncio

import pytest

from confide.cli import rewriting_server
from confide.cli.rewriting_server import ATTEMPTS, CONCURRENCY, RewritingServer
from confide.engines.openai import patient_server
from confide.errors import ConfideError
from confide.hedging import load_language
from confide.hedging.rewording import Rewriter, Wording
from rewriter_server import Model, claim, reword

EN = load_language("en")


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(patient_server, "_FIRST_WAIT_S", 0.01)


def test_the_key_of_the_environment_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with Model().running() as server:
        reword(f"{server.url}/chat/completions", claim())
    assert server.headers[0]["Authorization"] == "Bearer sk-test"


@pytest.mark.parametrize("trouble", ["500", "429", "empty", "malformed"])
def test_passing_trouble_is_waited_out(trouble):
    with Model(behaviour=[trouble, "ok"]).running() as server:
        (worded,) = reword(server.url, claim(0.9))
    assert worded is not None
    assert worded.by == "model"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("behaviour", "sentence", "requests"),
    [
        ("500", r"fails \(5xx\)", ATTEMPTS),
        ("429", r"turns requests away \(429\)", ATTEMPTS),
        ("401", "wants a key", 1),
        ("400", "model's name right, and does the address end in /v1", 2),
        ("redirect", "redirects to another address", 1),
    ],
)
def test_a_server_that_is_of_no_use_ends_the_run(behaviour, sentence, requests):
    with (
        Model(behaviour=[behaviour]).running() as server,
        pytest.raises(ConfideError, match=rf"the server at {server.url} .*{sentence}"),
    ):
        reword(server.url, claim())
    assert len(server.requests) == requests


def test_a_server_that_takes_no_options_is_asked_without():
    class Strict(Model):
        async def handle(self, request):
            body = await request.json()
            self.behaviour = ["400" if "temperature" in body else "ok"]
            return await super().handle(request)

    with Strict().running() as server:
        worded = reword(server.url, claim())
    assert worded[0] is not None
    assert worded[0].by == "model"
    assert sorted(server.requests[0]) == ["max_tokens", "messages", "model", "seed", "temperature"]
    assert sorted(server.requests[1]) == ["messages", "model"]


def test_a_server_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(rewriting_server, "TIMEOUT_S", 0.2)
    with Model(behaviour=["hang"]).running() as server, pytest.raises(ConfideError, match="gave no answer in"):
        reword(server.url, claim())


def test_nobody_there():
    with pytest.raises(ConfideError, match=r"the server at http://127\.0\.0\.1:9/v1 cannot be reached"):
        reword("http://127.0.0.1:9/v1", claim())


def test_one_request_that_a_working_server_rejects_costs_only_its_row():
    with Model(behaviour=["ok", "400"]).running() as server:

        async def run() -> list[Wording | None]:
            rewriter = Rewriter(RewritingServer(server.url, "big"), EN, "plain")
            try:
                return [await rewriter.word(claim()), await rewriter.word(claim(key="2"))]
            finally:
                await rewriter.close()

        first, second = asyncio.run(run())
    assert first is not None
    assert second is not None
    assert (first.by, second.by) == ("model", "template")


def test_so_many_requests_are_under_way_together_and_no_more(monkeypatch):
    open_now, most = 0, 0

    class Overlapping(Model):
        async def handle(self, request):
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            # Answers wait for the others, so that requests one after another would end in the client's time limit.
            while most < CONCURRENCY:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.05)
            open_now -= 1
            return await super().handle(request)

    monkeypatch.setattr(rewriting_server, "TIMEOUT_S", 30)
    with Overlapping().running() as server:
        worded = reword(server.url, *(claim(key=str(i)) for i in range(3 * CONCURRENCY)))
    assert all(w and w.by == "model" for w in worded)
    assert most == CONCURRENCY


@pytest.mark.parametrize("url", ["ftp://host/v1", "http://", "http://user:secret@host/v1", "http://host:port/v1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfideError, match="--base-url"):
        RewritingServer(url, "big")


def test_the_address_of_the_chat_route_is_taken_as_the_servers():
    assert RewritingServer("http://127.0.0.1:9/v1/chat/completions", "big").url == "http://127.0.0.1:9/v1"
