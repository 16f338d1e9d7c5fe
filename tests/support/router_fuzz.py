"""Requests that no client should send, to a running router: from its OpenAPI description, bent bodies, raw bytes.

Allowed are answers below 500, a 5xx that the description of the operation lists, and, where HTTP itself is broken,
a closed connection. Not allowed: any other 5xx, a traceback in a body, no answer at all.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import random
import re
import urllib.request
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PATIENCE_S = 20.0
TRACES = (b"Traceback (most recent call last)", b'File "')
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)
_CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked", re.IGNORECASE)


@dataclass
class Findings:
    """What came back, and the first cases of what must not."""

    requests: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    problems: list[dict[str, Any]] = field(default_factory=list)

    def judge(self, part: str, sent: bytes, outcome: int | str, body: bytes, documented: set[int]) -> None:
        """Count one request; ``outcome`` is a status, "closed" or "hung"."""
        self.requests[part] += 1
        self.outcomes[str(outcome)] += 1
        wrong = []
        if outcome == "hung":
            wrong.append("no answer")
        if isinstance(outcome, int) and outcome >= 500 and outcome not in documented:
            wrong.append(f"status {outcome}")
        if outcome == "closed" and part != "raw":
            wrong.append("closed without an answer")
        if any(trace in body for trace in TRACES):
            wrong.append("traceback in the body")
        if wrong:
            about = {"part": part, "wrong": wrong, "sent": repr(sent[:400]), "got": repr(body[:200])}
            self.problems.append(about)


def run(port: int, key: str, count: int, *, seed: int) -> dict[str, Any]:
    """Send ``count`` requests to the router on ``port``: 40 % described, 40 % bent bodies, 20 % raw bytes."""
    found = Findings()
    description = fetch_description(port, key)
    described(found, description, port, key, round(0.4 * count), seed)
    draw = random.Random(seed)
    listed = {path: documented_5xx(description, path) for path in PATHS}
    asyncio.run(bent(found, draw, port, key, round(0.4 * count), listed))
    asyncio.run(raw(found, draw, port, key, count - sum(found.requests.values())))
    return {
        "requests": dict(found.requests),
        "outcomes": dict(sorted(found.outcomes.items())),
        "problems": len(found.problems),
        "first_problems": found.problems[:10],
    }


def fetch_description(port: int, key: str) -> dict[str, Any]:
    """The router's OpenAPI description."""
    asked = urllib.request.Request(f"http://127.0.0.1:{port}/openapi.json", headers={"Authorization": f"Bearer {key}"})
    with urllib.request.urlopen(asked, timeout=10) as reply:
        description: dict[str, Any] = json.load(reply)
    return description


def documented_5xx(description: dict[str, Any], path: str) -> set[int]:
    """The 5xx statuses that the description lists for a path."""
    operations = description["paths"].get(path, {}).values()
    return {int(s) for o in operations for s in o.get("responses", {}) if s.isdigit() and int(s) >= 500}


# From the description


def described(found: Findings, description: dict[str, Any], port: int, key: str, count: int, seed: int) -> None:
    """What schemathesis makes of the description, half of it valid and half not."""
    import requests
    import schemathesis
    from hypothesis import HealthCheck, Phase, given, settings
    from hypothesis import seed as seeded
    from schemathesis import Case, GenerationMode
    from schemathesis.core.result import Ok

    schema = schemathesis.openapi.from_dict(description)
    operations = [result.ok() for result in schema.get_all_operations() if isinstance(result, Ok)]
    # An operation without a body has little to vary.
    weights = [8 if operation.body else 1 for operation in operations]
    session = requests.Session()
    session.headers["Authorization"] = f"Bearer {key}"

    def call(case: Case[Any], documented: set[int]) -> None:
        sent = f"{case.method} {case.path} {case.query!r} {case.body!r}".encode(errors="replace")
        try:
            # Of a stream or a page the beginning is enough to judge.
            reply = case.call(base_url=f"http://127.0.0.1:{port}", session=session, timeout=PATIENCE_S)
        except requests.Timeout:
            found.judge("described", sent, "hung", b"", documented)
        except requests.ConnectionError:
            found.judge("described", sent, "closed", b"", documented)
        else:
            found.judge("described", sent, reply.status_code, reply.content or b"", documented)

    for operation, weight in zip(operations, weights, strict=True):
        send = functools.partial(call, documented=documented_5xx(description, operation.path))
        # Where nothing can be chosen, nothing can be chosen wrongly.
        modes = list(GenerationMode) if operation.body else [GenerationMode.POSITIVE]
        for mode in modes:
            sent = given(operation.as_strategy(generation_mode=mode))(lambda case: send(case))  # noqa: B023 (at once)
            limited = settings(
                max_examples=max(1, round(count * weight / sum(weights) / len(modes))),
                database=None,
                deadline=None,
                suppress_health_check=list(HealthCheck),
                phases=[Phase.generate],
            )
            seeded(seed)(limited(sent))()


# Bodies that are nearly right

# Kinds of content: mostly the right one.
KINDS = ["application/json"] * 12 + ["text/plain", "application/x-www-form-urlencoded", "", "application/json; x=\xff"]
PATHS = (
    "/v1/chat/completions", "/v1/completions", "/v1/feedback", "/v1/responses", "/v1/messages", "/v1/embeddings",
)  # fmt: skip
_GOOD: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {
        "model": "small",
        "messages": [{"role": "system", "content": "Be short."}, {"role": "user", "content": "Where is Lyon"}],
        "temperature": 0,
        "max_tokens": 8,
        "n": 1,
        "stream": False,
        "stop": ["\n"],
        "logprobs": True,
        "top_logprobs": 2,
        "response_format": {"type": "text"},
        "stream_options": {"include_usage": True},
        "user": "somebody",
    },
    "/v1/completions": {"model": "small", "prompt": "Where is Lyon", "max_tokens": 8, "stream": False},
    "/v1/feedback": {"decision_id": "dec_" + "0" * 32, "correct": True, "about": "small", "note": "no"},
    "/v1/responses": {
        "model": "small",
        "input": [{"role": "user", "content": [{"type": "input_text", "text": "Where is Lyon"}]}],
        "instructions": "Be short.",
        "max_output_tokens": 8,
        "metadata": {"a": "b"},
        "include": ["message.output_text.logprobs"],
        "text": {"format": {"type": "text"}},
        "stream": False,
    },
    "/v1/messages": {
        "model": "small",
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Where is Lyon"}]}],
        "system": "Be short.",
        "max_tokens": 8,
        "stop_sequences": ["\n"],
        "metadata": {"user_id": "u"},
        "stream": False,
    },
    "/v1/embeddings": {"model": "small", "input": ["Lyon", "Kyoto"], "encoding_format": "float"},
}
# Written as text, because some of it is no JSON that a library would write.
_ODD = (
    "null", "true", "-1", "0", "1e400", "-1e400", "NaN", "Infinity", "9" * 5000, "0.1e-400", '""', '"\\u0000"',
    '"\\ud800"', '"\\ud83d\\ude00"', '"' + "x" * 200_000 + '"', "[]", "{}", "[null]", "[[]]",
    "{" + '"a":{' * 40 + "}" * 41,
    "[" * 60 + "]" * 60, "[" * 100_000 + "]" * 100_000, '{"role": "user"}', '[{"role": "user", "content": null}]',
    '[{"role": 7, "content": "x"}]',
    '[{"role": "user", "content": [{"type": "image_url", "image_url": {"url": "http://127.0.0.1:1/x"}}]}]',
    '[{"role": "tool", "content": "x", "tool_call_id": null}]', '"' + "\\u202e" * 50 + '"', "1" + "0" * 400,
    "2147483648", "1.5",
    '"<script>alert(1)</script>"', "\"'; DROP TABLE decisions; --\"", '"http://169.254.169.254/"', '"../../etc/passwd"',
)  # fmt: skip


def bend(draw: random.Random, good: dict[str, Any]) -> bytes:
    """A body with one to three things wrong with it."""
    parts = {key: json.dumps(value) for key, value in good.items() if draw.random() < 0.8}
    for _ in range(draw.randint(1, 3)):
        key = draw.choice([*good, *good, "extra", "__proto__", "", "tools", "tool_choice", "seed", "logit_bias", "é"])
        parts[key] = draw.choice(_ODD)
    if draw.random() < 0.2:
        parts["stream"] = "true"
    body = ("{" + ", ".join(f"{json.dumps(key)}: {value}" for key, value in parts.items()) + "}").encode()
    if draw.random() < 0.15:
        body = draw.choice(
            [
                body[: draw.randint(0, len(body))],
                body + draw.choice([b"}", b"\0", b"\xff", b"{}"]),
                body.replace(b'"model"', b'"model\xff"'),
                b"\xef\xbb\xbf" + body,
                body.decode().encode("utf-16"),
                draw.choice(_ODD).encode(),
            ]
        )
    return body


async def bent(
    found: Findings, draw: random.Random, port: int, key: str, count: int, listed: dict[str, set[int]]
) -> None:
    """Whole HTTP requests whose JSON is bent."""

    async def one() -> None:
        path = draw.choices(PATHS, weights=[6, 2, 2, 4, 4, 1])[0]
        body = bend(draw, _GOOD[path])
        data = http(path, body, key, kind=draw.choice(KINDS))
        outcome, got = await exchange(port, data)
        found.judge("bent", data.partition(b"\r\n\r\n")[2], outcome, got, listed[path])

    await at_once(one, count)


# Raw bytes


def http(path: str, body: bytes, key: str, *, kind: str = "application/json", head: str = "") -> bytes:
    """A well-formed POST."""
    lines = f"POST {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n"
    return (lines + (f"Content-Type: {kind}\r\n" if kind else "") + head + "\r\n").encode() + body


def raw_cases(key: str) -> list[Callable[[random.Random], bytes]]:
    """Ways to break HTTP, each drawn anew for every request."""
    path = PATHS[0]
    body = json.dumps(_GOOD[path]).encode()
    good = http(path, body, key)
    start = (
        b"POST " + path.encode() + b" HTTP/1.1\r\nHost: 127.0.0.1\r\nAuthorization: Bearer " + key.encode() + b"\r\n"
    )

    def flipped(draw: random.Random) -> bytes:
        data = bytearray(good)
        for _ in range(draw.randint(1, 8)):
            data[draw.randrange(len(data))] = draw.randrange(256)
        return bytes(data)

    def length(draw: random.Random) -> bytes:
        value = draw.choice([b"-1", b"1e3", b"99999999999999999999", b"0x10", b"", b"5, 6", b"+5", b" 7 7", b"1048577"])
        return start + b"Content-Length: " + value + b"\r\n\r\n" + body

    def chunked(draw: random.Random) -> bytes:
        chunks = draw.choice(
            [b"zz\r\n{}\r\n0\r\n\r\n", b"5\r\n{}\r\n0\r\n\r\n", b"ffffffffffffffffff\r\n", b"-1\r\n", b"2\r\n{}",
             b"0\r\n",
             b"2;" + b"x" * 70_000 + b"\r\n{}\r\n0\r\n\r\n", b"%x\r\n%s\r\n0\r\n\r\n" % (len(body), body)]
        )  # fmt: skip
        both = draw.choice([b"", b"Content-Length: 3\r\n"])
        return start + both + b"Transfer-Encoding: chunked\r\n\r\n" + chunks

    def headers(draw: random.Random) -> bytes:
        many = draw.choice(
            [b"X: " + b"a" * draw.choice([70_000, 1_000_000]) + b"\r\n", b"X: y\r\n" * draw.choice([200, 20_000]),
             b"Bad Header\r\n", b": none\r\n", b"X: \x00\r\n", b"X: \xff\xfe\r\n", b" folded: yes\r\n", b"Host: b\r\n",
             b"Expect: 100-continue\r\n", b"Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Key: eA==\r\n"
             b"Sec-WebSocket-Version: 13\r\n", b"Content-Encoding: gzip\r\n", b"X-Request-Id: " + b"r" * 5000 + b"\r\n",
             b"X-Confide-Domain: " + b"\xc3\xa9" * 300 + b"\r\n", b"Origin: http://evil.example\r\n"]
        )  # fmt: skip
        return start + many + b"Content-Length: %d\r\n\r\n" % len(body) + body

    def line(draw: random.Random) -> bytes:
        target = draw.choice(
            [b"/v1/%00", b"/../../etc/passwd", b"/" + b"a" * 100_000, b"http://169.254.169.254/", b"*", b"//evil",
             b"/v1/models?" + b"a=b&" * 5000,
             b"/\xff\xfe", b"/v1/chat/completions/", b"/?days=NaN", b"/?window=" + b"9" * 400, b"/metrics?\r"]
        )  # fmt: skip
        method = draw.choice(
            [b"GET", b"PUT", b"DELETE", b"TRACE", b"CONNECT", b"OPTIONS", b"get", b"G\0T", b"X" * 5000, b""]
        )
        version = draw.choice([b"HTTP/1.1", b"HTTP/1.0", b"HTTP/0.9", b"HTTP/2.0", b"HTTP/9", b"", b"http"])
        return (
            method
            + b" "
            + target
            + b" "
            + version
            + b"\r\nHost: a\r\nAuthorization: Bearer "
            + key.encode()
            + b"\r\n\r\n"
        )

    return [
        lambda draw: draw.randbytes(draw.randint(1, 3000)),
        lambda draw: good[: draw.randint(1, len(good) - 1)],
        flipped,
        length,
        chunked,
        headers,
        line,
        lambda draw: b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + draw.randbytes(40),
        lambda draw: good + draw.choice([good, b"\r\n\r\n", draw.randbytes(30)]),
        lambda draw: b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + draw.randbytes(200),
    ]


async def raw(found: Findings, draw: random.Random, port: int, key: str, count: int) -> None:
    """Bytes that are hardly HTTP."""
    cases = raw_cases(key)

    async def one() -> None:
        data = draw.choice(cases)(draw)
        outcome, got = await exchange(port, data)
        found.judge("raw", data, outcome, got, {503, 504})

    await at_once(one, count)


async def at_once(one: Callable[[], Any], count: int, width: int = 16) -> None:
    """Do ``count`` things, some at a time."""
    left = iter(range(count))

    async def worker() -> None:
        for _ in left:
            await one()

    await asyncio.gather(*(worker() for _ in range(width)))


async def exchange(port: int, data: bytes) -> tuple[int | str, bytes]:
    """Send bytes and read one response: its status and body, "closed" or "hung".

    When nothing comes for a while the request may have been incomplete: then our side is closed, and the router
    must let go of the connection.
    """
    reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=2**26)
    got = bytearray()
    try:
        writer.write(data)
        # It may not want to hear the rest; its answer may be here all the same.
        with contextlib.suppress(ConnectionError):
            await writer.drain()
        for wait, last in ((1.0, False), (PATIENCE_S, True)):
            try:
                async with asyncio.timeout(wait):
                    while not whole(got) and (more := await reader.read(65536)):
                        got += more
                break
            except TimeoutError:
                if last:
                    return "hung", bytes(got)
                if writer.can_write_eof() and not got:
                    writer.write_eof()
    except ConnectionError:
        pass
    finally:
        writer.transport.abort()
    match = re.match(rb"HTTP/1\.[01] (\d{3})", got)
    return (int(match[1]) if match else "closed"), bytes(got.partition(b"\r\n\r\n")[2])


def whole(data: bytearray) -> bool:
    """Whether a response is all there (one that ends with the connection never is)."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return False
    head = bytes(data[:end])
    if head[9:10] == b"1":  # 100 Continue and the like
        del data[: end + 4]
        return whole(data)
    if _CHUNKED.search(head):
        return data.endswith(b"0\r\n\r\n")
    length = _LENGTH.search(head)
    return length is not None and len(data) >= end + 4 + int(length[1])
