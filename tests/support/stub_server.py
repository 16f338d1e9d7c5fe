"""A stand-in for a model server: answers OpenAI chat requests after a fixed delay, thousands of them a second.

    python tests/support/stub_server.py --port 9101 --delay-ms 20 --name small

The answer repeats the mark of the question (its last word), so that a client can tell that an answer is its own.
Log-probabilities are low where the question holds the word "unsure" and high elsewhere. ``GET /count`` tells how many
chat requests were answered. Raw protocol on purpose: what is measured beside it must be slower than it is.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import signal
import time
from collections.abc import Callable
from typing import Any, cast

SURE, UNSURE = -0.01, -2.0
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)


def mark_of(body: dict[str, Any]) -> tuple[str, bool]:
    """The last word of the last message, and whether the question says that it is unsure."""
    text = body["messages"][-1]["content"] if "messages" in body else body.get("prompt", "")
    if isinstance(text, list):  # content in parts
        text = " ".join(part.get("text", "") for part in text if isinstance(part, dict))
    words = str(text).split() or ["nothing"]
    return words[-1], "unsure" in words


def logprob_of(token: str, value: float) -> dict[str, Any]:
    top = {"token": token, "logprob": value, "bytes": list(token.encode())}
    return top | {"top_logprobs": [top]}


def completion(body: dict[str, Any], name: str, length: int = 2) -> dict[str, Any]:
    """A chat completion of ``length`` tokens that answers `body`."""
    mark, unsure = mark_of(body)
    tokens = [f"{name}:", f" {mark}"] + [" and"] * (length - 2)
    choice: dict[str, Any] = {
        "message": {"role": "assistant", "content": "".join(tokens)},
        "finish_reason": "stop",
        "logprobs": None,
    }
    if body.get("logprobs"):
        choice["logprobs"] = {"content": [logprob_of(t, UNSURE if unsure else SURE) for t in tokens]}
    return {
        "id": f"chatcmpl-{mark}",
        "object": "chat.completion",
        "created": 1,
        "model": name,
        "choices": [{"index": index} | choice for index in range(int(body.get("n") or 1))],
        "usage": {"prompt_tokens": 20, "completion_tokens": len(tokens), "total_tokens": 20 + len(tokens)},
    }


def events(whole: dict[str, Any]) -> list[bytes]:
    """The same answer as server-sent events, one token an event."""
    choice = whole["choices"][0]
    head = {"id": whole["id"], "object": "chat.completion.chunk", "created": 1, "model": whole["model"]}
    tokens = re.findall(r" ?\S+", choice["message"]["content"])
    listed = (choice["logprobs"] or {}).get("content") or [None] * len(tokens)
    chunks: list[dict[str, Any]] = []
    for at, (token, logprob) in enumerate(zip(tokens, listed, strict=True)):
        delta = {"content": token} | ({"role": "assistant"} if at == 0 else {})
        logprobs = {"content": [logprob]} if logprob else None
        chunks.append({"choices": [{"index": 0, "delta": delta, "logprobs": logprobs, "finish_reason": None}]})
    chunks.append({"choices": [{"index": 0, "delta": {}, "logprobs": None, "finish_reason": "stop"}]})
    chunks.append({"choices": [], "usage": whole["usage"]})
    return [f"data: {json.dumps(head | chunk)}\n\n".encode() for chunk in chunks] + [b"data: [DONE]\n\n"]


def response(body: bytes, kind: str = "application/json", status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body


STREAM = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


def chunked(parts: list[bytes]) -> list[bytes]:
    """Each part as a chunk of a chunked body, with head and end."""
    framed = [b"%x\r\n%s\r\n" % (len(part), part) for part in parts]
    return [STREAM + framed[0], *framed[1:-1], framed[-1] + b"0\r\n\r\n"]


class Stub(asyncio.Protocol):
    """One connection; requests on it are answered in turn."""

    answered = 0

    def __init__(self, name: str, delay: float, tokens: int, token_delay: float):
        self.name, self.delay, self.tokens, self.token_delay = name, delay, tokens, token_delay
        self.data = bytearray()
        self.loop = asyncio.get_running_loop()
        self.waiting: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def connection_lost(self, error: Exception | None) -> None:
        if self.waiting:
            self.waiting.cancel()

    def data_received(self, data: bytes) -> None:
        self.data += data
        while (end := self.data.find(b"\r\n\r\n")) >= 0:
            head = bytes(self.data[:end])
            found = _LENGTH.search(head)
            size = int(found[1]) if found else 0
            if len(self.data) < end + 4 + size:
                return
            body = bytes(self.data[end + 4 : end + 4 + size])
            del self.data[: end + 4 + size]
            self.answer(head, body)

    def answer(self, head: bytes, body: bytes) -> None:
        method, path = head.split(b" ", 2)[:2]
        if method == b"GET":
            models = {"object": "list", "data": [{"id": self.name, "object": "model"}]}
            about = {"answered": Stub.answered} if path == b"/count" else models
            self.transport.write(response(json.dumps(about).encode()))
            return
        try:
            asked = json.loads(body)
            whole = completion(asked, self.name, self.tokens)
            streamed = bool(asked.get("stream"))
            parts = chunked(events(whole)) if streamed else [response(json.dumps(whole).encode())]
        except (ValueError, KeyError, TypeError, IndexError, AttributeError):
            parts = [response(b'{"error": {"message": "not understood"}}', status="400 Bad Request")]
            streamed = True
        if not self.token_delay:
            parts = [b"".join(parts)]
        # A whole answer takes as long as the last piece of a stream.
        writing = 0.0 if streamed else (self.tokens + 2) * self.token_delay
        self.send_at(time.monotonic() + self.delay + writing, parts)

    def send_at(self, due: float, parts: list[bytes]) -> None:
        """Send once the clock says so: uvloop's timers count from the start of its turn, and may ring early."""
        left = due - time.monotonic()
        if left > 0:
            self.waiting = self.loop.call_later(left, self.send_at, due, parts)
        else:
            self.send(parts)

    def send(self, parts: list[bytes]) -> None:
        self.transport.write(parts[0])
        if parts[1:]:
            self.waiting = self.loop.call_later(self.token_delay, self.send, parts[1:])
        else:
            Stub.answered += 1


async def serve(port: int, make: Callable[[], Stub]) -> None:
    """Answer on 127.0.0.1 until the process is told to end."""
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    server = await loop.create_server(make, "127.0.0.1", port, backlog=2048)
    async with server:
        await stop.wait()


def main() -> None:
    import uvloop

    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--port", type=int, required=True)
    parser.add_argument("--delay-ms", type=float, default=20.0, help="pause before an answer")
    parser.add_argument("--name", default="small")
    parser.add_argument("--tokens", type=int, default=2, help="length of an answer, two or more")
    parser.add_argument("--token-ms", type=float, default=0.0, help="pause between the tokens of a stream")
    given = parser.parse_args()
    delay, pause = given.delay_ms / 1000, given.token_ms / 1000
    uvloop.run(serve(given.port, lambda: Stub(given.name, delay, given.tokens, pause)))


if __name__ == "__main__":
    main()
