"""Servers of several kinds on this machine, as the check of an engine meets them."""

from __future__ import annotations

import asyncio
import json
import math
import random
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from app_thread import app_in_thread
from confide.engines.openai.abilities import Abilities
from confide.engines.openai.engine_check import check_engine
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.upstream import Http

STANDARD = frozenset(
    {"model", "messages", "max_tokens", "max_completion_tokens", "temperature", "seed", "n", "stream", "stream_options",
     "logprobs", "top_logprobs"}
)  # fmt: skip
VLLM = STANDARD | {"logprob_token_ids", "return_tokens_as_token_ids", "return_token_ids", "prompt_logprobs"}
USAGE = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}


@dataclass
class Endpoint:
    """An OpenAI-compatible server that takes the fields in ``takes``.

    Attributes:
        takes: the fields of a chat that it knows; others are passed over, or refused where it is ``strict``.
        models: what it lists (None: it lists nothing). Where it is ``choosy``, others are not served.
        reports: what its answers call the model (None: as it was asked for).
        most_top: top_logprobs from here on are refused.
        vocabulary: how many ids it knows; with ``plugin`` the last 64 are the plug-in's.
        echoes: it repeats the prompt of a text completion, with log-probabilities.
        pages: other pages, path to JSON or text.
        statuses: field → status that a chat with it gets; ``hangs`` and ``dies`` are fields at which it says nothing
            more, or breaks the connection off and listens no longer.
        key: the key that it wants. It repeats it in everything that it says.
        think: what it thinks first: ``apart``, ``inside``, or nothing.
        prefix: where its API begins.
    """

    takes: frozenset[str] = STANDARD
    strict: bool = False
    models: list[dict[str, Any]] | None = field(default_factory=lambda: [{"id": "tiny"}])
    choosy: bool = True
    reports: str | None = None
    most_top: int = 20
    vocabulary: int = 1000
    plugin: bool = False
    echoes: bool = False
    pages: dict[str, Any] = field(default_factory=dict)
    statuses: dict[str, int] = field(default_factory=dict)
    hangs: str = ""
    dies: str = ""
    key: str = ""
    think: str = ""
    prefix: str = "/v1"
    token_id_beside: bool = False
    limit: str = "max_tokens"
    zeros: bool = False
    greedy: bool = False
    requests: list[dict[str, Any]] = field(default_factory=list)
    seen: list[str] = field(default_factory=list)
    sites: list[web.TCPSite] = field(default_factory=list)
    url: str = ""
    _drawn: int = 0

    # -- answers -----------------------------------------------------------------------------------------------------

    async def chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        if refusal := await self.refusal(request, body):
            return refusal
        known = {name: value for name, value in body.items() if name in self.takes}
        if past := [id for id in known.get("logprob_token_ids", ()) if id >= self.vocabulary]:
            return problem(
                400,
                f"token_id(s) {past} in logprob_token_ids contain out-of-vocab token ids. "
                f"Vocabulary size: {self.vocabulary}",
            )
        choices = [self.choice(known, place) for place in range(known.get("n", 1))]
        whole: dict[str, Any] = {"object": "chat.completion", "choices": choices, "usage": USAGE}
        whole["model"] = body["model"] if self.reports is None else self.reports
        if self.key:
            whole["model"] = whole["system_fingerprint"] = f"{whole['model']} {request.headers.get('Authorization')}"
        if "prompt_logprobs" in known:
            whole["prompt_logprobs"] = [None, {"17": {"logprob": -0.5, "rank": 1, "decoded_token": "Hi"}}]
        return await self.stream(request, known, whole) if known.get("stream") else web.json_response(whole)

    async def refusal(self, request: web.Request, body: dict[str, Any]) -> web.Response | None:
        """What stands in the way of an answer."""
        told = request.headers.get("Authorization", "")
        if self.key and told != f"Bearer {self.key}":
            return problem(401, f"you sent {told}")
        if self.hangs in body:
            await asyncio.sleep(600)
        if self.dies in body:
            assert request.transport is not None
            for site in self.sites:
                await site.stop()
            request.transport.abort()
        names = [card["id"] for card in self.models or ()]
        if self.choosy and names and body["model"] not in names:
            return problem(404, f"The model `{body['model']}` does not exist.", type="NotFoundError")
        if status := next((self.statuses[name] for name in sorted(body) if name in self.statuses), 0):
            return problem(status, f"no {told}")
        if self.limit not in body:
            return problem(400, "Unsupported parameter: use another limit", param="max_tokens")
        if self.strict and (odd := sorted(body.keys() - self.takes)):
            return problem(400, f"Unrecognized request argument supplied: {odd[0]}")
        if body.get("top_logprobs", 0) > self.most_top:
            return problem(400, f"top_logprobs must be at most {self.most_top}", param="top_logprobs")
        return None

    def choice(self, body: dict[str, Any], place: int) -> dict[str, Any]:
        text = "Hi"
        if body.get("max_tokens", body.get("max_completion_tokens", 2)) > 1:
            self._drawn += 1
            seed = body.get("seed", f"drawn {self._drawn}") if not self.greedy else "always"
            text = "".join(random.Random(f"{seed} {place}").choices("0123456789", k=12))
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if self.think == "apart":
            message |= {"reasoning_content": "Hm"}
        if self.think == "inside":
            message["content"] = f"<think>Hm{text}"
        choice: dict[str, Any] = {"index": place, "message": message, "finish_reason": "length", "logprobs": None}
        if body.get("logprobs"):
            choice["logprobs"] = {"content": [self.token(body)]}
        if body.get("return_token_ids"):
            choice["token_ids"] = [17]
        return choice

    def token(self, body: dict[str, Any]) -> dict[str, Any]:
        as_id = body.get("return_tokens_as_token_ids")
        ids = body.get("logprob_token_ids", list(range(17, 17 + body.get("top_logprobs", 0))))
        top = [
            {"token": f"token_id:{id}" if as_id else f"t{id}", "logprob": self.logprob(id, place)}
            for place, id in enumerate(ids)
        ]
        token: dict[str, Any] = {"token": "token_id:17" if as_id else "t17", "logprob": self.logprob(17, 0)}
        return token | {"top_logprobs": top} | ({"id": 17} if self.token_id_beside else {})

    def logprob(self, id: int, place: int) -> float:
        if self.plugin and id >= self.vocabulary - 64:
            return -780.5 + (1.25 if id == self.vocabulary - 63 else 0.0)
        return 0.0 if self.zeros else math.log(0.5) * (place + 1)

    async def stream(self, request: web.Request, body: dict[str, Any], whole: dict[str, Any]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        chunks: list[dict[str, Any]] = [{"choices": [{"index": 0, "delta": whole["choices"][0]["message"]}]}]
        if (body.get("stream_options") or {}).get("include_usage"):
            chunks.append({"choices": [], "usage": USAGE})
        for chunk in chunks:
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
        await response.write(b"data: [DONE]\n\n")
        return response

    async def completions(self, request: web.Request) -> web.Response:
        body = await request.json()
        self.requests.append(body)
        if not self.echoes:
            return web.json_response({"choices": [{"text": " Hi", "logprobs": None}]})
        words = [word if place == 0 else f" {word}" for place, word in enumerate(body["prompt"].split())] + [" Hi"]
        logprobs = {"tokens": words, "token_logprobs": [None, *([-0.7] * (len(words) - 1))]}
        return web.json_response({"choices": [{"text": "".join(words), "logprobs": logprobs}]})

    async def page(self, request: web.Request) -> web.Response:
        self.seen.append(f"{request.path} {request.headers.get('Authorization', '')}".strip())
        if request.path == f"{self.prefix}/models" and self.models is not None:
            return web.json_response({"object": "list", "data": self.models})
        if request.path not in self.pages:
            return web.Response(status=404, text="404 page not found")
        page = self.pages[request.path]
        return web.Response(text=page) if isinstance(page, str) else web.json_response(page)

    # -- the server --------------------------------------------------------------------------------------------------

    @contextmanager
    def running(self) -> Iterator[Endpoint]:
        """Serve in a thread of its own, on a free port."""
        app = web.Application()
        app.router.add_post(f"{self.prefix}/chat/completions", self.chat)
        app.router.add_post(f"{self.prefix}/completions", self.completions)
        app.router.add_get("/{path:.*}", self.page)
        with app_in_thread(app) as (site, address):
            self.sites = [site]
            self.url = f"{address}{self.prefix}"
            yield self

    def sent(self) -> set[str]:
        """Every field that any request had."""
        return set().union(*self.requests)


def problem(status: int, message: str, **more: Any) -> web.Response:
    told = {"message": message, "type": "invalid_request_error", "param": None, "code": None} | more
    return web.json_response({"error": told}, status=status)


def vllm(**more: Any) -> Endpoint:
    """As vLLM 0.32 answers, with 1,000 tokens, or with the plug-in on a model of 936."""
    card = {"id": "tiny", "root": "/models/tiny", "max_model_len": 2048}
    pages = {"/version": {"version": "0.32.0"}, "/metrics": "vllm:num_requests_running 0.0\n"}
    settings: dict[str, Any] = {"takes": VLLM, "models": [card], "pages": pages} | more
    return Endpoint(**settings)


def openai(**more: Any) -> Endpoint:
    """As hosted APIs that refuse what they do not know."""
    return Endpoint(strict=True, reports="tiny-2026-01-31", **more)


def ollama(**more: Any) -> Endpoint:
    """As Ollama before it had log-probabilities."""
    takes = STANDARD - {"logprobs", "top_logprobs", "n"}
    card = {"id": "tiny:latest"}
    return Endpoint(takes=takes, models=[card], choosy=False, pages={"/api/version": {"version": "0.12.3"}}, **more)


def llama_cpp(**more: Any) -> Endpoint:
    """As llama.cpp's server: one model, whatever it is asked for; ids beside log-probabilities; no second answer."""
    card = {"id": "/models/other-7b.gguf", "meta": {"n_ctx": 4096, "n_ctx_train": 131072}}
    takes = STANDARD - {"n"}
    return Endpoint(takes=takes, models=[card], choosy=False, token_id_beside=True, **more)


def silent(**more: Any) -> Endpoint:
    """Takes everything and passes over whatever it does not do, which is nearly all of it."""
    takes = frozenset({"model", "messages", "max_tokens"})
    return Endpoint(takes=takes, models=None, choosy=False, reports="", **more)


def check(server: Endpoint, *safe: str, model: str = "tiny", url: str = "", **more: Any) -> Abilities:
    """What the check finds of a server that runs."""

    async def run() -> Abilities:
        http = Http()
        try:
            config = ServerModel(name="engine", base_url=url or server.url, model=model, **more)
            return await check_engine(config, http, safe_to_ask=safe)
        finally:
            await http.close()

    return asyncio.run(run())
