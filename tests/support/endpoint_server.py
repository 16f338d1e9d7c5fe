"""A model behind an OpenAI-compatible endpoint: it knows answers, tells what it is set to tell, and fails on demand."""

from __future__ import annotations

import asyncio
import hashlib
import math
import random
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from aiohttp import web

from upstreams import Upstream


def share_of(*parts: object) -> float:
    """A number in [0, 1) that hangs on the parts alone."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:6], "big") / 2**48


@dataclass
class Endpoint(Upstream):
    """Answers with ``knows(text of the last turn)``; of sampled answers three in ten are "Peru".

    ``top`` is how many likeliest tokens it tells, ``several`` whether it takes ``n``, ``silent`` whether it takes what
    it does not know without a word, ``reads`` whether it tells of given text (`prompt_logprobs`), ``fails`` the share
    of requests that end in an error, a reset or a stall.
    """

    knows: Callable[[str], str] = lambda text: "Japan"
    top: int = 20
    several: bool = True
    silent: bool = True
    reads: bool = False
    fails: float = 0.0
    stall_s: float = 30.0
    asked: Counter[str] = field(default_factory=Counter)
    answered: Counter[str] = field(default_factory=Counter)
    chance: random.Random = field(default_factory=lambda: random.Random(0))

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.requests.append(body)
        self.headers.append(dict(request.headers))
        text = body["messages"][-1]["content"]
        self.asked[text] += 1
        known = {"prompt_logprobs", "add_generation_prompt", "continue_final_message"} if self.reads else set()
        unknown = {"prompt_logprobs", "chat_template_kwargs"} & body.keys() - known
        if unknown and not self.silent:
            problem = {"message": f"Unrecognized request argument supplied: {min(unknown)}"}
            return web.json_response({"error": problem}, status=400)
        if self.chance.random() < self.fails:
            return await self._fail(request)
        await asyncio.sleep(self.pause_s)
        self.answered[text] += 1
        return web.json_response(self.completion(body, "ok"))

    async def _fail(self, request: web.Request) -> web.StreamResponse:
        kind = self.chance.choice(["429", "500", "reset", "stall"])
        if kind == "429":
            return web.json_response({"error": {"message": "slow down"}}, status=429, headers={"Retry-After": "0"})
        if kind == "stall":
            await asyncio.sleep(self.stall_s)
        if kind == "500":
            return web.json_response({"error": {"message": "oops"}}, status=500)
        assert request.transport is not None
        request.transport.abort()
        return web.Response()

    def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
        turns = body["messages"]
        text = turns[-1]["content"]
        sampled = body.get("temperature", 1) > 0
        n = (body.get("n") or 1) if self.several else 1
        answers = [self.knows(text)] * n
        if sampled:
            drawn = [share_of(text, body.get("seed"), place) for place in range(n)]
            answers = [answer if share < 0.7 else "Peru" for answer, share in zip(answers, drawn, strict=True)]
        limit = body.get("max_tokens") or body.get("max_completion_tokens") or 99
        choices = []
        for index, answer in enumerate(answers):
            pieces = [answer[i : i + 3] for i in range(0, len(answer), 3)]
            told = "".join(pieces[:limit])
            choices.append({
                "index": index,
                "message": {"role": "assistant", "content": told},
                "finish_reason": "length" if len(pieces) > limit else "stop",
                "logprobs": {"content": self.tokens_of(text, pieces[:limit], body)} if self._tells(body) else None,
            })  # fmt: skip
        written = sum(min(limit, math.ceil(len(answer) / 3)) for answer in answers)
        usage = {"prompt_tokens": len(text.split()), "completion_tokens": written}
        more = {"prompt_logprobs": self.read(turns)} if self.reads and "prompt_logprobs" in body else {}
        return (
            {"object": "chat.completion", "choices": choices, "usage": usage, "model": body["model"]}
            | more
            | {**self.reports}
        )

    def _tells(self, body: dict[str, Any]) -> bool:
        return self.logprobs and bool(body.get("logprobs"))

    def tokens_of(self, text: str, pieces: list[str], body: dict[str, Any]) -> list[dict[str, Any]]:
        count = min(self.top, body.get("top_logprobs") or 0)
        value = -0.01 - share_of(text)
        found = []
        for piece in pieces:
            others = [{"token": f"<{n}>", "logprob": value - 1 - n} for n in range(1, count)]
            if body.get("max_tokens") == 1 and count:  # a question with a yes or no for an answer
                yes = share_of(text, "yes")
                others = [{"token": " Yes", "logprob": math.log(yes)}, {"token": "No", "logprob": math.log(1 - yes)}]
            listed = [{"token": piece, "logprob": value}, *others][:count]
            found.append({"token": piece, "logprob": value, "bytes": None, "top_logprobs": listed})
        return found

    def read(self, turns: list[dict[str, Any]]) -> list[Any]:
        """What vLLM tells of a prompt: nothing of its first token, then token id → text and log-probability."""
        words = " ".join(f"<{turn['role']}> {turn['content']}" for turn in turns)
        pieces = [words[i : i + 4] for i in range(0, len(words), 4)]
        last = str(turns[-1]["content"])
        if turns[-1]["role"] == "assistant":  # tokens part where the answer begins
            head = words[: len(words) - len(last)]
            pieces = [head, *(last[i : i + 4] for i in range(0, len(last), 4))]
        value = -0.1 - share_of(last)
        return [None, *({str(n): {"logprob": value, "rank": 1, "decoded_token": p}} for n, p in enumerate(pieces))]
