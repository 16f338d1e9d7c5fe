from __future__ import annotations

import asyncio
import time

import pytest

from confide.errors import ConfideError
from confide.hedging import load_language, rewriting
from confide.hedging.claims import Claim
from confide.hedging.rewriting import CONCURRENCY, PATIENCE, Rewriter
from confide.hedging.templates import Templates, Wording
from confide.records import Record
from confide.tasks.questions import question_of
from rewriter_server import Model

EN = load_language("en")


@pytest.fixture(autouse=True)
def no_key(monkeypatch):
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.setattr(rewriting, "_FIRST_WAIT_S", 0.01)


def claim(confidence: float = 0.9, text: str = "Japan", key: str = "1") -> Claim:
    question = question_of(Record.model_validate({"id": "1", "reference": ["Japan"], "question": "Where is Kyoto?"}))
    return Claim(text=text, confidence=confidence, key=key, asked="Where is Kyoto?", question=question)


def word(url: str, *claims: Claim) -> list[Wording | None]:
    async def run() -> list[Wording | None]:
        rewriter = Rewriter(url, "big", Templates(EN, "plain"))
        try:
            return list(await asyncio.gather(*(rewriter.word(c) for c in claims)))
        finally:
            await rewriter.close()

    return asyncio.run(run())


def test_a_model_rewrites_with_a_phrase_of_the_table():
    with Model().running() as server:
        (worded,) = word(server.url, claim(0.9))
    assert worded == Wording("Japan: highly likely.", "highly likely", 0.9, "model")
    (body,) = server.requests
    assert body["model"] == "big"
    assert "Where is Kyoto?" in body["messages"][1]["content"]
    assert "Authorization" not in server.headers[0]


def test_the_key_of_the_environment_is_sent(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    with Model().running() as server:
        word(f"{server.url}/chat/completions", claim())
    assert server.headers[0]["Authorization"] == "Bearer sk-test"


@pytest.mark.parametrize(
    ("written", "told"),
    [
        ("It is highly likely Peru.", "answer itself was changed"),
        ("It is highly likely not Japan.", "answer itself was changed"),
        ("It is Japan.", "likelihood was not expressed"),
        ("It is unlikely to be Japan.", "likelihood was not expressed"),
    ],
)
def test_a_rewrite_that_fails_is_asked_for_again_with_the_reason_and_then_replaced(written, told):
    with Model(writes=lambda messages: written).running() as server:
        (worded,) = word(server.url, claim(0.9))
    assert worded == Wording("It is highly likely that the answer is Japan.", "highly likely", 0.9, "template", 3)
    assert len(server.requests) == 3
    last = server.requests[-1]["messages"]
    assert [m["role"] for m in last] == ["system", "user", "assistant", "user", "assistant", "user"]
    assert told in last[-1]["content"]


def test_a_second_try_that_passes_counts_the_first():
    good = "Japan, which is highly likely."
    with Model(writes=lambda messages: "Peru" if len(messages) == 2 else good).running() as server:
        (worded,) = word(server.url, claim(0.9))
    assert worded == Wording(good, "highly likely", 0.9, "model", refused=1)


@pytest.mark.parametrize("trouble", ["500", "429", "empty", "malformed"])
def test_passing_trouble_is_waited_out(trouble):
    with Model(behaviour=[trouble, "ok"]).running() as server:
        (worded,) = word(server.url, claim(0.9))
    assert worded is not None
    assert worded.by == "model"
    assert len(server.requests) == 2


@pytest.mark.parametrize(
    ("behaviour", "sentence", "requests"),
    [
        ("500", r"fails \(5xx\)", PATIENCE),
        ("429", r"turns requests away \(429\)", PATIENCE),
        ("401", "refuses the key", 1),
        ("400", "model's name right, and does the address end in /v1", 2),
        ("redirect", "redirects to another address", 1),
    ],
)
def test_a_server_that_is_of_no_use_ends_the_run(behaviour, sentence, requests):
    with (
        Model(behaviour=[behaviour]).running() as server,
        pytest.raises(ConfideError, match=rf"the server at {server.url} .*{sentence}"),
    ):
        word(server.url, claim())
    assert len(server.requests) == requests


def test_a_server_that_takes_no_options_is_asked_without():
    class Strict(Model):
        async def handle(self, request):
            body = await request.json()
            self.behaviour = ["400" if "temperature" in body else "ok"]
            return await super().handle(request)

    with Strict().running() as server:
        worded = word(server.url, claim())
    assert worded[0] is not None
    assert worded[0].by == "model"
    assert sorted(server.requests[0]) == ["max_tokens", "messages", "model", "seed", "temperature"]
    assert sorted(server.requests[1]) == ["messages", "model"]


def test_a_server_that_hangs_is_given_up(monkeypatch):
    monkeypatch.setattr(rewriting, "TIMEOUT_S", 0.2)
    with Model(behaviour=["hang"]).running() as server, pytest.raises(ConfideError, match="gave no answer in"):
        word(server.url, claim())


def test_nobody_there():
    with pytest.raises(ConfideError, match=r"the server at http://127\.0\.0\.1:9/v1 cannot be reached"):
        word("http://127.0.0.1:9/v1", claim())


def test_one_request_that_a_working_server_rejects_costs_only_its_row():
    with Model(behaviour=["ok", "400"]).running() as server:

        async def run() -> list[Wording | None]:
            rewriter = Rewriter(server.url, "big", Templates(EN, "plain"))
            try:
                return [await rewriter.word(claim()), await rewriter.word(claim(key="2"))]
            finally:
                await rewriter.close()

        first, second = asyncio.run(run())
    assert first is not None
    assert second is not None
    assert (first.by, second.by) == ("model", "template")


def test_so_many_requests_are_under_way_together_and_no_more():
    open_now, most = 0, 0

    class Slow(Model):
        async def handle(self, request):
            nonlocal open_now, most
            open_now += 1
            most = max(most, open_now)
            await asyncio.sleep(0.05)
            open_now -= 1
            return await super().handle(request)

    with Slow().running() as server:
        began = time.monotonic()
        worded = word(server.url, *(claim(key=str(i)) for i in range(3 * CONCURRENCY)))
    assert all(w and w.by == "model" for w in worded)
    assert most == CONCURRENCY
    assert time.monotonic() - began < 0.05 * 3 * CONCURRENCY


@pytest.mark.parametrize("url", ["ftp://host/v1", "http://", "http://user:secret@host/v1", "http://host:port/v1"])
def test_an_address_that_is_none_is_refused(url):
    with pytest.raises(ConfideError, match="--engine"):
        Rewriter(url, "big", Templates(EN, "plain"))
