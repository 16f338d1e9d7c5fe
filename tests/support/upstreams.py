"""Real servers on this machine for tests of the router: stub upstreams that misbehave on demand, and the router."""

from __future__ import annotations

import asyncio
import http.client
import json
import math
import socket
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

import httpx
from aiohttp import web

from app_thread import app_in_thread
from confide.engines.openai.start_check import QUESTION
from confide.policies.profiles import profile_of
from confide.records import Message, Record, RequestShape
from confide.serving.config import ServeConfig
from confide.serving.http.application import create_app
from confide.serving.http.connections import make_server

THRESHOLD = 0.5
HANG_S = 600.0
"""How long a server hangs: far longer than any client or deadline of a test waits."""
KEY = "sk-secret-of-the-expert-0123456789"
CALL = {"name": "look", "arguments": '{"x": 1}'}
FINISHES = {
    "tools": "tool_calls", "function": "function_call", "length": "length", "content_filter": "content_filter",
    "error": "error", "abort": "abort", "odd": "recitation", "eos": "EOS", "null": None,
}  # fmt: skip
"""Finish reasons by the word of a behaviour; every other word ends with stop."""


def policy_file(
    folder: Path,
    *,
    source: str = "logprob_sum",
    last_resort: str | None = None,
    abstain: float = 0,
    identity: str = "",
    requests: Sequence[RequestShape] = (),
    easy: bool = True,
    name: str = "policy.json",
) -> Path:
    """A policy that answers from raw confidence 0.5 up, and abstains below ``abstain``; all answers of a domain "easy".

    On ``logprob_sum`` it is one of those made when that was a probability: it states no scale. It was made for the
    model ``identity``, on rows that were asked as ``requests`` were.
    """
    rules = [{"below": abstain, "decision": "abstain"}] if abstain else []
    data = {
        "schema": 1,
        "source": source,
        "calibrator": {"kind": "platt", "parameters": {"transform": "identity", "slope": 2.0, "intercept": 0.0}},
        "thresholds": {"*": [*rules, {"below": THRESHOLD, "decision": "escalate"}], **({"easy": []} if easy else {})},
        "guarantee": {
            "max_risk": 0.2,
            "level": 0.95,
            "method": "by hand",
            "n": 100,
            "observed_risk": 0.1,
            "upper_bound": 0.19,
            "coverage": 0.5,
        },
        "data_sha256": "0" * 64,
    }
    if identity:
        data["identity"] = identity
    if requests:
        asked = [
            Record(id=f"{n}", request_shape=request, confidence={source: 0.5}) for n, request in enumerate(requests)
        ]
        data["profile"] = profile_of(asked, source).model_dump()
    if last_resort:
        data["last_resort"] = last_resort
    path = folder / name
    path.write_text(json.dumps(data))
    return path


def until(holds: Callable[[], object]) -> None:
    """Wait until something holds; a test fails where it never does."""
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.02)


@dataclass
class Upstream:
    """An OpenAI-compatible server whose behaviour is a list of words, one a request; the last word stays.

    Words: ok, hang, 500, 400, 401, 429 (Retry-After 0), 429-long, malformed, empty, redirect, break (a stream ends
    halfway), think, tools, refuse, slow (pauses between the pieces of a stream), wait (for ``resume`` after the first
    piece), function (a call of the legacy kind), one-cut (the last choice is), and the words of `FINISHES`. ``answers``
    are the texts of several choices, ``answer`` that of one. ``raw`` are the bytes of a stream in place of all this,
    with ``pause_s`` behind each piece; at a None the connection breaks. ``reports`` are keys of every reply that say
    which model it is from, ``error`` is the body of an error, ``card`` is what /v1/models lists of it, ``metrics`` its
    page of that name. ``refuses`` are fields of a request that it does not take. The router's own question at its start
    is kept apart, in ``checks``, and answered by the words of ``checked``.
    """

    answer: str = "Japan"
    answers: tuple[str, ...] = ()
    probability: float = 0.9
    log_probability: float | None = None  # of the whole answer, where a probability would be 0
    behaviour: list[str] = field(default_factory=lambda: ["ok"])
    logprobs: bool = True
    reports: dict[str, str] = field(default_factory=dict)
    card: dict[str, str] = field(default_factory=dict)
    metrics: str = ""
    raw: Sequence[bytes | None] = ()
    pause_s: float = 0.0
    error: Any = None
    refuses: frozenset[str] = frozenset()
    checked: list[str] = field(default_factory=lambda: ["ok"])
    checks: list[dict[str, Any]] = field(default_factory=list)
    requests: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    hung_up: threading.Event = field(default_factory=threading.Event)
    resume: threading.Event = field(default_factory=threading.Event)
    url: str = ""

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        check = body.get("messages") == QUESTION
        (self.checks if check else self.requests).append(body)
        if not check:
            self.headers.append(dict(request.headers))
        words = self.checked if check else self.behaviour
        word = words.pop(0) if len(words) > 1 else words[0]
        answer = "Japan" if check else self.answer  # a test's long answer is not also written out for the check
        if odd := sorted(self.refuses & body.keys()):
            problem = {"message": f"Unrecognized request argument supplied: {odd[0]}", "type": "invalid_request_error"}
            return web.json_response({"error": problem}, status=400)
        echo = {"error": {"message": f"you sent {request.headers.get('Authorization')}"}}  # as some servers do
        told = self.error or echo
        if word == "hang":
            try:
                await asyncio.sleep(HANG_S)
            except asyncio.CancelledError:
                self.hung_up.set()
                raise
        if word.isdigit() and word != "429":
            return web.json_response(told, status=int(word))
        if word.startswith("429"):
            wait = "0" if word == "429" else "30"
            return web.json_response(told, status=429, headers={"Retry-After": wait})
        if word == "redirect":
            return web.Response(status=307, headers={"Location": "http://127.0.0.1:9/elsewhere"})
        if word == "malformed":
            return web.Response(body=b'{"choices": [{"mess', content_type="application/json")
        if request.path.endswith("/embeddings"):
            vector = {"object": "embedding", "index": 0, "embedding": [0.5, -1.25]}
            read = {"prompt_tokens": 3, "total_tokens": 3}
            return web.json_response({"object": "list", "data": [vector], "model": "e", "usage": read, "more": "x"})
        if body.get("stream"):
            return await self.stream(request, body, word, answer)
        return web.json_response(self.completion(body, word))

    async def models(self, request: web.Request) -> web.Response:
        if not self.card:
            raise web.HTTPNotFound
        return web.json_response({"object": "list", "data": [{"id": "other"}, {"id": "tiny", **self.card}]})

    async def tell_metrics(self, request: web.Request) -> web.Response:
        if not self.metrics:
            raise web.HTTPNotFound
        return web.Response(text=self.metrics)

    def text(self, word: str, answer: str) -> str:
        return {"think": f"<think>Kyoto, so...</think>\n{answer}", "empty": ""}.get(word, answer)

    def tokens(self, text: str) -> list[dict[str, Any]]:
        pieces = [text[i : i + 3] for i in range(0, len(text), 3)]
        whole = math.log(self.probability) if self.log_probability is None else self.log_probability
        value = whole / max(1, len(pieces))
        return [{"token": p, "logprob": value, "bytes": list(p.encode()), "top_logprobs": []} for p in pieces]

    def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
        message: dict[str, Any] = {"role": "assistant", "content": self.text(word, self.answer)}
        if word == "tools":
            call = {"id": "call_1", "type": "function", "function": {"name": "look", "arguments": '{"x": 1}'}}
            message = {"role": "assistant", "content": None, "tool_calls": [call]}
        if word == "refuse":
            message = {"role": "assistant", "content": None, "refusal": "I cannot help with that."}
        if word == "function":
            message = {"role": "assistant", "content": None, "function_call": CALL}
        with_logprobs = self.logprobs and body.get("logprobs")
        logprobs = {"content": self.tokens(self.text(word, self.answer))} if with_logprobs else None
        choice = {
            "message": message,
            "finish_reason": FINISHES.get(word, "stop"),
            "logprobs": logprobs,
        }
        choices = [{"index": i, **choice} for i in range(body.get("n") or 1)]
        for told, text in zip(choices, self.answers, strict=False):
            told["message"] = {"role": "assistant", "content": text}
            told["logprobs"] = {"content": self.tokens(text)} if with_logprobs else None
        if word == "one-cut":
            choices[-1]["finish_reason"] = "length"
        return {"id": "x", "object": "chat.completion", "choices": choices, "usage": USAGE, **self.reports}

    async def stream(self, request: web.Request, body: dict[str, Any], word: str, answer: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)

        for piece in self.raw:
            if piece is None:
                assert request.transport is not None
                request.transport.abort()
                return response
            await response.write(piece)
            await asyncio.sleep(self.pause_s)
        if self.raw:
            return response

        async def send(data: dict[str, Any]) -> None:
            await response.write(b"data: " + json.dumps({**self.reports, **data}).encode() + b"\n\n")

        await send({"choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]})
        if word == "function":
            for piece in ({"name": CALL["name"], "arguments": ""}, {"arguments": '{"x":'}, {"arguments": " 1}"}):
                await send({"choices": [{"index": 0, "delta": {"function_call": piece}}]})
        for token in self.tokens("" if word == "function" else self.text(word, answer)):
            logprobs = {"content": [token]} if self.logprobs and body.get("logprobs") else None
            await send({"choices": [{"index": 0, "delta": {"content": token["token"]}, "logprobs": logprobs}]})
            if word == "break":
                assert request.transport is not None
                request.transport.abort()
                return response
            if word == "wait":
                await asyncio.to_thread(self.resume.wait, 60)
            if word == "slow":
                try:
                    await asyncio.sleep(0.3)
                except asyncio.CancelledError:
                    self.hung_up.set()
                    raise
        await send({"choices": [{"index": 0, "delta": {}, "finish_reason": FINISHES.get(word, "stop")}]})
        await send({"choices": [], "usage": USAGE})
        await response.write(b"data: [DONE]\n\n")
        return response

    @contextmanager
    def running(self) -> Iterator[Upstream]:
        """Serve in a thread of its own, on a free port."""
        app = web.Application()
        app.router.add_post("/v1/chat/completions", self.handle)
        app.router.add_post("/v1/embeddings", self.handle)
        app.router.add_get("/v1/models", self.models)
        app.router.add_get("/metrics", self.tell_metrics)
        with app_in_thread(app) as (_, address):
            self.url = f"{address}/v1"
            yield self


USAGE = {"prompt_tokens": 10, "completion_tokens": 2, "total_tokens": 12}


@dataclass
class FakeAnswer:
    text: str
    confidence: float | None
    source: str = "logprob_sum"
    finish: str = "stop"
    ids: list[int] = field(default_factory=lambda: [1, 2])
    prompt_tokens: int = 10
    completion_tokens: int = 2
    reasoning: str | None = None
    along: dict[str, Any] = field(default_factory=dict)
    stopped_by: str | None = None
    fields: list[Any] = field(default_factory=list)

    @property
    def sources(self) -> dict[str, float | None]:
        raw = self.confidence
        return {self.source: math.log(raw) if raw is not None and self.source == "logprob_sum" else raw}


class FakeModel:
    """A small model in process: answers "<question>!" with confidences by the question's last word."""

    identity = "weights=fake, confidence=fake"
    unseen: ClassVar[dict[str, Any]] = {}
    signals: ClassVar[dict[str, Any]] = {}
    room = 0

    def __init__(self, confidence: Callable[[str], float | None] | None = None):
        self.batches: list[int] = []
        self.seen: list[Any] = []
        self.aside: list[int] = []
        """How many questions came before each time that answers were no traffic."""
        self._confidence = confidence or (lambda question: 0.2 if question.endswith("unsure") else 0.9)

    def prompt_tokens(self, question: Any, *, max_new_tokens: int) -> int:
        return len(str(question).split())

    def answers(
        self, questions: Sequence[Any], *, max_new_tokens: int, gone: Any = None, stop: Any = None, fields: bool = False
    ) -> list[FakeAnswer]:
        self.batches.append(len(questions))
        self.seen += questions
        time.sleep(0.002)
        texts = [q if isinstance(q, str) else q[-1]["content"] for q in questions]
        return [FakeAnswer(f"{text}!", self._confidence(text)) for text in texts]

    @contextmanager
    def uncounted(self) -> Iterator[None]:
        self.aside.append(len(self.seen))
        yield

    def as_asked(self, question: Any) -> list[Message]:
        turns = [{"role": "user", "content": question}] if isinstance(question, str) else question
        return [Message.model_validate(turn) for turn in turns]

    def sampled(self, question: Any, count: int, *, max_new_tokens: int, gone: Any = None) -> list[FakeAnswer]:
        return [FakeAnswer(text, None) for text in ["Japan", "China", "japan."][:count] + ["Japan"] * (count - 3)]


@dataclass
class Running:
    """A router that listens."""

    url: str
    database: Path

    def ask(self, text: str = "Where is Kyoto?", headers: dict[str, str] | None = None, **more: Any) -> httpx.Response:
        body = {"model": "any", "messages": [{"role": "user", "content": text}], **more}
        return httpx.post(f"{self.url}/v1/chat/completions", json=body, headers=headers, timeout=30, trust_env=False)

    def post(self, path: str, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
        return httpx.post(self.url + path, json=body, headers=headers, timeout=30, trust_env=False)

    def get(self, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
        return httpx.get(self.url + path, headers=headers, timeout=30, trust_env=False)

    def hang_up(self, when: Callable[[], Any], **more: Any) -> None:
        """Ask, and hang up as soon as ``when`` is true, however long that takes."""
        body = {"messages": [{"role": "user", "content": "Where is Kyoto?"}], **more}
        connection = http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=60)
        headers = {"Content-Type": "application/json"}
        connection.request("POST", "/v1/chat/completions", json.dumps(body), headers)
        until = time.monotonic() + 60
        while not when() and time.monotonic() < until:
            time.sleep(0.02)
        connection.close()

    def rows(self) -> list[dict[str, Any]]:
        """All decisions, as they are in the file."""
        connection = sqlite3.connect(self.database)
        connection.row_factory = sqlite3.Row
        try:
            return [dict(row) for row in connection.execute("SELECT * FROM decisions ORDER BY created")]
        finally:
            connection.close()

    def wait_for(self, holds: Callable[[dict[str, Any]], bool], seconds: float = 60) -> dict[str, Any]:
        """The latest row, as soon as ``holds`` is true of it."""
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            if (rows := self.rows()) and holds(rows[-1]):
                return rows[-1]
            time.sleep(0.02)
        raise AssertionError(f"no such row: {self.rows()}")


@contextmanager
def router(folder: Path, *, model: Any = None, **settings: Any) -> Iterator[Running]:
    """``confide serve`` in a thread, on a free port; settings as in serve.yaml."""
    database = folder / "confide.db"
    if "policy" not in settings and settings.get("mode") != "observe":
        settings["policy"] = policy_file(folder)
    settings.setdefault("store", f"sqlite:///{database}")
    settings.setdefault("audit_share", 0)
    config = ServeConfig.model_validate({"port": 0, **settings})
    server = make_server(create_app(config, model=model), config)
    listening = socket.create_server((config.host, 0), backlog=2048)
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + 20
    while not server.started and time.monotonic() < until and thread.is_alive():
        time.sleep(0.01)
    assert server.started
    port = listening.getsockname()[1]
    try:
        yield Running(f"http://127.0.0.1:{port}", database)
    finally:
        server.should_exit = True
        thread.join(20)
        assert not thread.is_alive()


def small_server(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"base_url": upstream.url, "model": "tiny", "price": {"input": 1, "output": 2}, **more}


def expert_server(upstream: Upstream, name: str = "big", **more: Any) -> dict[str, Any]:
    return {"name": name, "base_url": upstream.url, "model": "gpt-x", "price": {"input": 10, "output": 20}, **more}


def embeddings_server(upstream: Upstream, **more: Any) -> dict[str, Any]:
    return {"base_url": upstream.url, "model": "BAAI/bge-small", **more}


def events(response: httpx.Response) -> list[Any]:
    """The data of a stream's events; ``[DONE]`` stays a string."""
    lines = [line[6:] for line in response.text.split("\n") if line.startswith("data: ")]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def said(chunks: list[Any], key: str = "content") -> str:
    """The text of a stream."""
    return "".join(c["choices"][0]["delta"].get(key) or "" for c in chunks if isinstance(c, dict) and c.get("choices"))
