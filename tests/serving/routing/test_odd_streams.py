"""Streams of servers that differ from OpenAI's, through the router: whole ones are answers, broken ones are not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from upstreams import Upstream, events, expert_server, router, said, small_server


def event(**choice: Any) -> bytes:
    return b"data: " + json.dumps({"choices": [{"index": 0, **choice}]}).encode() + b"\n\n"


SAID = event(delta={"content": "It is "}) + event(delta={"content": "Japan"})
STOP = event(delta={}, finish_reason="stop")
DONE = b"data: [DONE]\n\n"
USAGE = b'data: {"choices": [], "usage": {"prompt_tokens": 10, "completion_tokens": 2}}\n\n'
WHOLE = json.dumps({"choices": [{"message": {"content": "It is Japan"}, "finish_reason": "stop"}]}).encode()

COMPLETE: dict[str, list[bytes | None]] = {
    "null choices and events": [b'data: {"choices": null}\n\ndata: null\n\ndata: {}\n\n', SAID, STOP, DONE],
    "pings and comments": [b": hello\n\nevent: ping\ndata: {}\n\n", SAID, b":\n\n", STOP, b": bye\n\n", DONE],
    "pings in words": [b"data: ping\n\n", SAID, b"event: ping\ndata: {\ndata: }\n\n", STOP, DONE],
    "reasoning as a part": [event(delta={"content": [{"type": "reasoning", "text": "Kyoto?"}]}), SAID, STOP, DONE],
    "usage first": [USAGE, SAID, STOP, DONE],
    "an empty finish reason": [event(delta={"content": "It is "}, finish_reason=""),
                               event(delta={"content": "Japan"}, finish_reason=""), STOP, DONE],
    "no finish reason": [SAID, DONE],
    "no end": [SAID, STOP],
    "no line end": [SAID, STOP.rstrip()],
    "CRLF": [(SAID + STOP + DONE).replace(b"\n", b"\r\n")],
    "CR": [(SAID + STOP + DONE).replace(b"\n", b"\r")],
    "a byte order mark": [b"\xef\xbb\xbf" + SAID, STOP, DONE],
    "no space": [(SAID + STOP + DONE).replace(b"data: ", b"data:")],
    "lines of one event": [SAID.replace(b', "', b',\ndata: "'), STOP, DONE],
    "events without an empty line": [(SAID + STOP + DONE).replace(b"\n\n", b"\n")],
    "parts": [event(delta={"content": [{"type": "text", "text": "It is "}]}),
              event(delta={"content": [{"type": "text", "text": "Japan"}]}), STOP, DONE],
    "an answer in one piece": [b"\n", WHOLE],
    "an answer as the only event": [b"data: " + WHOLE + b"\n\n" + DONE],
    "a part of an event behind the end": [SAID, STOP, b'data: {"choices": [], "usa'],
    "a break behind the end": [SAID, STOP, DONE, None],
}  # fmt: skip
BROKEN: dict[str, list[bytes | None]] = {
    "in the middle": [SAID, None],
    "with a clean end": [SAID],
    "in an event": [SAID, STOP[:-9]],
    "in the end": [SAID, b"data: [DO"],
    "with an error": [SAID, b'data: {"error": {"message": "overloaded"}}\n\n', DONE],
    "with an error event": [SAID, b'event: error\ndata: {"message": "overloaded"}\n\n', DONE],
    "with something else": [SAID, b"data: oops\n\n", STOP, DONE],
    "in a choice": [SAID, event(index=1, delta={"content": "It"}), STOP],
}


@pytest.mark.parametrize("shape", COMPLETE)
def test_a_whole_stream_is_an_answer(tmp_path: Path, small: Upstream, big: Upstream, shape: str) -> None:
    small.probability, big.raw = 0.2, COMPLETE[shape]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big, retries=0)]) as running:
        chunks = events(running.ask(stream=True))
        assert said(chunks) == "It is Japan"
        assert chunks[-1] == "[DONE]"
        known = shape != "no finish reason"
        assert chunks[-2]["choices"][0]["finish_reason"] == ("stop" if known else "unknown")
        assert (chunks[-2]["confide"]["served"], chunks[-2]["confide"]["verified"]) == ("expert", known)
        assert running.rows()[0]["error"] is None
        assert running.rows()[0]["expert_tokens"] == (12 if shape == "usage first" else 0)


@pytest.mark.parametrize("shape", BROKEN)
def test_a_broken_stream_stays_a_failure(tmp_path: Path, small: Upstream, big: Upstream, shape: str) -> None:
    small.probability, big.raw = 0.2, BROKEN[shape]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big, retries=0)]) as running:
        response = running.ask(stream=True)
        assert "[DONE]" not in response.text
        # Nothing may have been passed on where all came at once.
        code = (
            events(response)[-1]["error"]["code"] if response.status_code == 200 else response.json()["error"]["code"]
        )
        assert code == ("broken_off" if response.status_code == 200 else "no_answer")
        assert running.rows()[0]["served"] == "error"


@pytest.mark.parametrize("sign", [b": alive\n\n", b"\n", b'data: {"choices": []}\n\n', b": al"])
def test_a_sign_of_life_is_waited_for(tmp_path: Path, small: Upstream, big: Upstream, sign: bytes) -> None:
    small.probability, big.pause_s, big.raw = 0.2, 0.4, [*[sign] * 5, b"\n\n" + SAID + STOP + DONE]
    patient = {"small": small_server(small), "experts": [expert_server(big, retries=0, timeout_s=1.0)]}
    with router(tmp_path, **patient) as running:
        assert said(events(running.ask(stream=True))) == "It is Japan"
    with router(tmp_path, **patient, deadline_s=1.5) as running:
        response = running.ask(stream=True)
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline")


def test_signs_of_life_alone_are_no_first_piece(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.raw = 0.2, [b": alive\n\n", b": alive\n\n", None]
    with Upstream(answer="Spare").running() as spare:
        experts = [expert_server(big, retries=1), expert_server(spare, "spare")]
        with router(tmp_path, small=small_server(small), experts=experts) as running:
            assert said(events(running.ask(stream=True))) == "Spare"
            assert len(big.requests) == 2


@pytest.mark.parametrize("probability", [0.9, 0.2])
def test_the_first_chunk_of_every_choice_names_its_role(
    tmp_path: Path, small: Upstream, big: Upstream, probability: float
) -> None:
    small.probability, small.answers = probability, ("Japan", "Japan", "")
    small.behaviour = ["one-cut"]  # the last choice has no text
    pieces = [event(index=index, delta={"content": "Japan"}) for index in (2, 0, 1)]
    big.raw = [*pieces, *[event(index=index, delta={}, finish_reason="stop") for index in range(3)], DONE]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], mode="observe") as running:
        held = events(running.ask(stream=True, n=3))[:-1]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        passed = events(running.ask(stream=True, n=3))[:-1]
    for chunks in (held, passed):
        for index in range(3):
            roles = [c["choices"][0]["delta"].get("role") for c in chunks if c["choices"][0]["index"] == index]
            assert roles[0] == "assistant"
            assert not any(roles[1:])
