"""Stand-ins for a stock vLLM and for llama.cpp's server that run an exported reader: what they read, they say.

The shapes are those of vLLM 0.32.0 and of llama.cpp b11434, as they answered. A token is a byte, or one of those below.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from app_thread import app_in_thread
from confide.engines.openai.exported_reader import FILE, FOLDER, Example, ExportedReader
from endpoint_server import share_of

END, START, SILENT, CONFIDENT, UNCONFIDENT = 256, 257, 258, 260, 261
WORDS = {END: "<end>", START: "<start>", SILENT: "<silent>", CONFIDENT: "<yes>", UNCONFIDENT: "<no>"}
VOCABULARY = 264


def encoded(text: str) -> list[int]:
    return list(text.encode())


def templated(turns: Sequence[dict[str, Any]]) -> str:
    return "".join(f"[{turn['role']}]{turn['content']}" for turn in turns) + "[assistant]"


def prompt_of(turns: Sequence[dict[str, Any]]) -> list[int]:
    return [START, *encoded(templated(turns))]


def z_of(ids: Sequence[int]) -> float:
    """What the model says after these tokens: it hangs on every one of them, and is sure of "Japan"."""
    right = bytes(id for id in ids if id < 256).rpartition(b"[assistant]")[2] == b"Japan"
    return (2.0 if right else -2.0) + share_of(tuple(ids))


def exported() -> ExportedReader:
    examples = []
    for answer in ("Japan", "Peru", "I do not know."):
        ids = (*prompt_of([{"role": "user", "content": "Where is Kyoto?"}]), *encoded(answer))
        examples.append(Example(ids, z_of([*ids, END])))
    return ExportedReader(
        CONFIDENT, UNCONFIDENT, END, frozenset({END}), "weights=abc, confidence=def", "tiny", tuple(examples)
    )


def exported_folder(folder: Path, reader: ExportedReader | None = None) -> Path:
    (folder / FOLDER).mkdir(parents=True)
    (folder / FOLDER / FILE).write_text(json.dumps((reader or exported()).to_json()))
    return folder


@dataclass
class VerdictServer:
    """``knows`` gives the answer to a last turn, ``written`` its tokens where they are not those of the text.

    ``z`` is what the model says, ``masked`` whether log-probabilities are told after the mask, ``silent`` whether token
    ids are not told, ``fails`` how many second requests are answered with ``status`` before one succeeds, ``stalls``
    how many seconds one takes.
    """

    knows: Callable[[str], str] = lambda text: "Japan"
    written: Callable[[str], list[int]] = lambda text: [*encoded(text), END]
    z: Callable[[Sequence[int]], float] = z_of
    masked: bool = False
    silent: bool = False
    fails: int = 0
    status: int = 500
    stalls: float = 0.0
    finish: str = "stop"
    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    keys: list[str | None] = field(default_factory=list)
    url: str = ""

    def bodies(self, path: str) -> list[dict[str, Any]]:
        return [body for asked, body in self.asked if asked == path]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.asked.append((request.path, body))
        self.keys.append(request.headers.get("Authorization"))
        if request.path in ("/v1/completions", "/completion"):
            await asyncio.sleep(self.stalls)
        if request.path in ("/v1/completions", "/completion") and self.fails:
            self.fails -= 1
            return web.json_response({"error": {"message": "oops"}}, status=self.status)
        if request.path == "/v1/chat/completions":
            chunks = self.chat(body)
            return await self.stream(request, chunks) if body.get("stream") else web.json_response(chunks[-1])
        told = {
            "/v1/completions": self.completions,
            "/completion": self.completion,
            "/tokenize": self.tokenize,
            "/apply-template": lambda body: {"prompt": templated(body["messages"])},
        }[request.path](body)
        return web.json_response(told, status=400 if "error" in told else 200)

    async def stream(self, request: web.Request, chunks: list[dict[str, Any]]) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks[:-1]:
            await response.write(b"data: " + json.dumps(chunk).encode() + b"\n\n")
            await asyncio.sleep(0)
        await response.write(b"data: [DONE]\n\n")
        return response

    def chat(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        """The chunks of a stream, and at the end the whole."""
        raise NotImplementedError

    def tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    def completions(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"error": {"message": "no such path"}}

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"error": {"message": "no such path"}}

    async def models(self, request: web.Request) -> web.Response:
        return web.json_response({"object": "list", "data": [{"id": "tiny", "root": "/models/tiny"}]})

    @contextmanager
    def running(self) -> Iterator[VerdictServer]:
        app = web.Application()
        for path in ("/v1/chat/completions", "/v1/completions", "/completion", "/tokenize", "/apply-template"):
            app.router.add_post(path, self.handle)
        app.router.add_get("/v1/models", self.models)
        with app_in_thread(app) as (_, address):
            self.url = f"{address}/v1"
            yield self

    def answers(self, body: dict[str, Any]) -> list[tuple[str, list[int]]]:
        text = self.knows(body["messages"][-1]["content"])
        return [(text, self.written(text)) for _ in range(body.get("n") or 1)]

    def usage(self, body: dict[str, Any]) -> dict[str, int]:
        read, wrote = len(prompt_of(body["messages"])), sum(len(ids) for _, ids in self.answers(body))
        return {"prompt_tokens": read, "completion_tokens": wrote, "total_tokens": read + wrote}


class VllmServer(VerdictServer):
    """vLLM 0.32.0."""

    def chat(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        told = bool(body.get("return_token_ids")) and not self.silent
        head = {"id": "chatcmpl-1", "model": body["model"], "created": 1}
        prompt = prompt_of(body["messages"]) if told else None
        chunks: list[dict[str, Any]] = []
        choices = []
        for index, (text, ids) in enumerate(self.answers(body)):
            pieces = [ids[:2], ids[2:-1], ids[-1:]]
            for place, piece in enumerate(pieces):
                delta = {"content": bytes(id for id in piece if id < 256).decode(errors="ignore")}
                last = place == len(pieces) - 1
                chunks.append(head | {"object": "chat.completion.chunk", "choices": [{
                    "index": index, "delta": delta, "logprobs": self.logprobs(piece, body),
                    "finish_reason": self.finish if last else None, "token_ids": piece if told else None,
                }]})  # fmt: skip
            choices.append({
                "index": index, "message": {"role": "assistant", "content": text}, "finish_reason": self.finish,
                "logprobs": self.logprobs(ids, body), "token_ids": ids if told else None,
            })  # fmt: skip
        chunks[0]["prompt_token_ids"] = prompt
        chunks.append(head | {"object": "chat.completion.chunk", "choices": [], "usage": self.usage(body)})
        whole = head | {"object": "chat.completion", "choices": choices, "usage": self.usage(body)}
        return [*chunks, whole | {"prompt_token_ids": prompt, "prompt_logprobs": None}]

    def logprobs(self, ids: list[int], body: dict[str, Any]) -> dict[str, Any] | None:
        if not body.get("logprobs"):
            return None
        names = [WORDS.get(id) or bytes([id]).decode(errors="replace") for id in ids]
        tokens = [
            {"token": name if id < 256 else "", "logprob": -0.1, "bytes": [id] if id < 256 else [], "top_logprobs": []}
            for id, name in zip(ids, names, strict=True)
        ]
        return {"content": tokens}

    def tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        chat = "messages" in body
        tokens = prompt_of(body["messages"]) if chat else encoded(body["prompt"])
        if not chat and body.get("add_special_tokens", True):
            tokens = [START, *tokens]
        return {"count": len(tokens), "max_model_len": 1024, "tokens": tokens, "token_strs": None}

    def completions(self, body: dict[str, Any]) -> dict[str, Any]:
        ids, z = body["prompt"], self.z(body["prompt"])
        wanted = body.get("logprob_token_ids") or body.get("allowed_token_ids") or [65]
        if any(not 0 <= id < VOCABULARY for id in (*ids, *wanted)):
            return {"error": {"message": "Token id is out of vocabulary", "type": "BadRequestError", "code": 400}}
        logprobs = {CONFIDENT: -12.0 - math.log1p(math.exp(-z)), UNCONFIDENT: -12.0 - math.log1p(math.exp(z)), 65: -0.1}
        allowed = body.get("allowed_token_ids")
        sampled = allowed[0] if allowed else 65
        name = "token_id:{}".format if body.get("return_tokens_as_token_ids") else lambda id: WORDS.get(id, chr(id))
        listed = {name(id): logprobs[id] for id in {sampled: 0, **dict.fromkeys(body.get("logprob_token_ids") or ())}}
        if self.masked and allowed:
            listed = {name(sampled): 0.0}
        return {
            "id": "cmpl-1", "object": "text_completion", "model": body["model"],
            "choices": [{
                "index": 0, "text": WORDS.get(sampled, "A"), "finish_reason": "length", "token_ids": None,
                "logprobs": {
                    "text_offset": [0], "tokens": [name(sampled)], "token_logprobs": [listed[name(sampled)]],
                    "top_logprobs": [listed],
                },
            }],
            "usage": {"prompt_tokens": len(ids), "completion_tokens": 1, "total_tokens": len(ids) + 1},
        }  # fmt: skip


class LlamaCppServer(VerdictServer):
    """llama.cpp's server, b11434; it passes over tokens that end within a character."""

    def chat(self, body: dict[str, Any]) -> list[dict[str, Any]]:
        head = {"id": "chatcmpl-1", "model": body["model"], "created": 1, "system_fingerprint": "b11434"}
        chunks: list[dict[str, Any]] = []
        choices = []
        for index, (text, ids) in enumerate(self.answers(body)):
            for token in self.tokens(ids[:-1] if ids[-1:] == [END] else ids):  # a stream does not tell the last one
                delta = {"content": bytes(token["bytes"]).decode()}
                logprobs = {"content": [token]} if body.get("logprobs") else None
                chunks.append(head | {"object": "chat.completion.chunk", "choices": [{
                    "index": index, "delta": delta, "logprobs": logprobs, "finish_reason": None,
                }]})  # fmt: skip
            chunks.append(head | {"object": "chat.completion.chunk", "choices": [{
                "index": index, "delta": {}, "finish_reason": self.finish,
            }]})  # fmt: skip
            choices.append({
                "index": index, "message": {"role": "assistant", "content": text}, "finish_reason": self.finish,
            } | ({"logprobs": {"content": self.tokens(ids)}} if body.get("logprobs") else {}))  # fmt: skip
        chunks.append(head | {"object": "chat.completion.chunk", "choices": [], "usage": self.usage(body)})
        return [*chunks, head | {"object": "chat.completion", "choices": choices, "usage": self.usage(body)}]

    def tokens(self, ids: list[int]) -> list[dict[str, Any]]:
        found, held = [], b""
        for id in ids:
            held += bytes([id]) if id < 256 else b""
            try:
                text = held.decode()
            except UnicodeDecodeError:
                continue
            told = {"id": id, "token": text, "bytes": list(held), "logprob": -0.1, "top_logprobs": []}
            found.append({name: value for name, value in told.items() if not (self.silent and name == "id")})
            held = b""
        return found

    def tokenize(self, body: dict[str, Any]) -> dict[str, Any]:
        return {"tokens": [*([START] if body.get("add_special") else []), *encoded(body["content"])]}

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        ids, z = body["prompt"], self.z(body["prompt"])
        lifted = dict(body.get("logit_bias", []))
        if set(lifted) != {CONFIDENT, UNCONFIDENT} or not body.get("post_sampling_probs"):
            return {"error": {"message": "not what is asked here"}}
        shares = {CONFIDENT: 1 / (1 + math.exp(-z)), UNCONFIDENT: 1 / (1 + math.exp(z))}
        listed = sorted(shares.items(), key=lambda pair: -pair[1])[: body["n_probs"]]
        told = [{"id": id, "token": "", "bytes": [], "prob": share} for id, share in listed if share > 0]
        place = told[0] | {"top_probs": told}
        return {
            "index": 0, "content": "", "tokens": [], "stop": True, "model": "tiny", "tokens_predicted": 1,
            "tokens_evaluated": len(ids), "stop_type": "limit", "completion_probabilities": [place],
        }  # fmt: skip


class AdaptedLlamaCpp(LlamaCppServer):
    """It was started with adapter 1 on; only with that one does it read as the exported reader did."""

    def scale(self, body: dict[str, Any]) -> float:
        listed = body.get("lora", [])
        return {one["id"]: one["scale"] for one in listed}.get(1, 0.0) if listed else 1.0

    def answers(self, body: dict[str, Any]) -> list[tuple[str, list[int]]]:
        text = "Peru" if self.scale(body) else self.knows(body["messages"][-1]["content"])
        return [(text, self.written(text)) for _ in range(body.get("n") or 1)]

    def words_by_the_model_alone(self) -> bool:
        """Whether every request for words switched the adapter off."""
        return not any(map(self.scale, self.bodies("/v1/chat/completions")))

    def completion(self, body: dict[str, Any]) -> dict[str, Any]:
        self.z = z_of if self.scale(body) == 1.0 else lambda ids: 5.0
        return super().completion(body)


ADAPTERS = {"vllm": "reads", "llama.cpp": "1"}
"""What the adapter that reads is called."""

KINDS: dict[str, type[VerdictServer]] = {"vllm": VllmServer, "llama.cpp": LlamaCppServer}
BOTH = pytest.mark.parametrize("kind", KINDS)
