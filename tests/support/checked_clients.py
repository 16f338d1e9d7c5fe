"""Clients that check every answer, and the rows that must stand behind it in the router's database."""

from __future__ import annotations

import asyncio
import json
import random
import re
import sqlite3
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from load_client import BrokenError, Protocol, Target, marks

_DECISION = re.compile(rb"\r\nx-confide-decision-id: *(\S+)", re.IGNORECASE)


@dataclass(slots=True)
class Reply:
    """What a client got for one request; ``status`` 0: the connection ended before the response did."""

    mark: str
    unsure: bool
    stream: bool
    at: float  # seconds since the start, when the response was whole
    status: int = 0
    decision_id: str = ""
    served: str = ""
    answer: str = ""
    ends: int = 0  # ends of the answer: 1 for a whole body, the number of [DONE] in a stream


def read_reply(reply: Reply, status: int, head: bytes, body: bytes) -> None:
    """Fill in what the response says."""
    reply.status = status
    found = _DECISION.search(head)
    reply.decision_id = found[1].decode() if found else ""
    if status != 200:
        return
    extension: dict[str, Any]
    if reply.stream:
        events = [line[6:] for line in body.decode().split("\n") if line.startswith("data: ")]
        reply.ends = events.count("[DONE]")
        chunks: list[dict[str, Any]] = [json.loads(event) for event in events if event != "[DONE]"]
        deltas = [choice["delta"] for chunk in chunks for choice in chunk["choices"]]
        reply.answer = "".join(delta.get("content") or "" for delta in deltas)
        extension = next((chunk["confide"] for chunk in reversed(chunks) if "confide" in chunk), {})
    else:
        whole = json.loads(body)
        reply.ends = 1
        reply.answer = whole["choices"][0]["message"]["content"] or ""
        extension = whole.get("confide") or {}
    reply.decision_id = reply.decision_id or str(extension.get("decision_id", ""))
    reply.served = str(extension.get("served", ""))


async def run_clients(
    target: Target, clients: int, stop: asyncio.Event, *, seed: int, unsure: float, streams: float
) -> list[Reply]:
    """So many clients ask one question after the other until ``stop`` is set; a broken one is not asked again."""
    loop = asyncio.get_running_loop()
    began, names = loop.time(), marks()
    replies: list[Reply] = []

    async def client(number: int) -> None:
        draw = random.Random(f"{seed}-{number}")
        connection: Protocol | None = None
        while not stop.is_set():
            if connection is None or not connection.open:
                try:
                    connection = await target.connect()
                except OSError:  # down: nothing was sent
                    await asyncio.sleep(0.05)
                    continue
            reply = Reply(next(names), draw.random() < unsure, draw.random() < streams, 0.0)
            request = target.request(reply.mark, unsure=reply.unsure, stream=reply.stream)
            try:
                status, head, body = await asyncio.wait_for(connection.exchange(request), 90)
                read_reply(reply, status, head, body)
            except (BrokenError, TimeoutError):
                connection.transport.abort()
                connection = None
            reply.at = loop.time() - began
            replies.append(reply)
        if connection is not None:
            if connection.extra:
                replies.append(Reply("extra bytes", False, False, loop.time() - began, status=-1))
            connection.transport.close()

    await asyncio.gather(*(client(number) for number in range(clients)))
    return replies


def rows_of(database: Path) -> Iterator[tuple[str, str, str, str]]:
    """Decision id, request id, what was served and by whom, of every row."""
    with sqlite3.connect(database) as connection:
        yield from connection.execute("SELECT id, request_id, served, answered_by FROM decisions")


def check(replies: list[Reply], database: Path) -> dict[str, Any]:
    """Compare what clients got with the rows; every count under ``wrong`` must be zero.

    ``lost`` are requests without a whole response, ``refused`` those with another status than 200, ``twice`` those
    that were answered or stored more than once, ``not_own`` answers that are not the one to the question,
    ``without_row`` whole answers whose row is missing or tells another story.
    """
    rows = list(rows_of(database))
    by_id = {row[0]: row for row in rows}
    asked_twice = {mark for mark, count in Counter(row[1] for row in rows).items() if count > 1}
    whole = [reply for reply in replies if reply.status == 200]
    wrong = {
        "lost": sum(r.status == 0 for r in replies),
        "refused": sum(r.status not in (-1, 0, 200) for r in replies),
        "extra_bytes": sum(r.status == -1 for r in replies),
        "twice": sum(r.ends != 1 for r in whole) + len(asked_twice),
        "not_own": sum(r.answer not in (f"small: {r.mark}", f"expert: {r.mark}") for r in whole),
        "without_row": sum(not tells(by_id.get(r.decision_id), r) for r in whole),
    }
    return {
        "requests": len(replies),
        "whole": len(whole),
        "status": dict(Counter(str(r.status) for r in replies)),
        "served": dict(Counter(r.served for r in whole)),
        "streamed": sum(r.stream for r in whole),
        "rows": len(rows),
        "wrong": wrong,
    }


def tells(row: tuple[str, str, str, str] | None, reply: Reply) -> bool:
    """Whether the row tells of this very answer."""
    if row is None:
        return False
    by = reply.answer.partition(":")[0]
    return row[1] == reply.mark and row[2] == reply.served and row[3] == by
