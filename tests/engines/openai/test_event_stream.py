"""Server-sent events in the shapes in which servers send them, in pieces of any size."""

from __future__ import annotations

from typing import Any

import pytest

from confide.engines.openai.event_stream import BOM, EventReader

A, B = {"a": 1}, {"b": "x: y"}


def read(stream: bytes, size: int) -> tuple[list[Any], bool]:
    """What a stream holds that comes in pieces of ``size`` bytes, and whether it said that it is whole."""
    reader, found = EventReader(), []
    for at in range(0, len(stream), size):
        found += reader.feed(stream[at : at + size])
    return found + reader.end(), reader.done


@pytest.mark.parametrize("size", [1, 2, 3, 7, 1000])
@pytest.mark.parametrize(
    ("stream", "found"),
    [
        (b'data: {"a": 1}\n\ndata: {"b": "x: y"}\n\ndata: [DONE]\n\n', [A, B]),
        (b'data:{"a": 1}\r\n\r\ndata:{"b": "x: y"}\r\n\r\ndata:[DONE]\r\n\r\n', [A, B]),
        (b'data: {"a": 1}\r\rdata: {"b": "x: y"}\r\rdata: [DONE]\r\r', [A, B]),
        (BOM + b'data: {"a": 1}\n\ndata: {"b": "x: y"}\n\ndata: [DONE]', [A, B]),
        (b'data: {"a": 1}\ndata: {"b": "x: y"}\ndata: [DONE]\n', [A, B]),
        (b'data: {"a":\ndata: 1}\n\ndata: {\ndata: "b": "x: y"\ndata: }\n\ndata: [DONE]\n\n', [A, B]),
        (b'data: {"a":\r\ndata: 1}\r\n\r\ndata: {"b": "x: y"}\r\n\r\ndata: [DONE]\r\n\r\n', [A, B]),
        (b': hello\n\n:\n\ndata: {"a": 1}\n\n: alive\n\ndata: {"b": "x: y"}\n\ndata: [DONE]\n\n', [A, B]),
        (b'id: 1\nevent: message\nretry: 5\ndata: {"a": 1}\n\ndata: {"b": "x: y"}\n\ndata: [DONE]\n\n', [A, B]),
        (b'event: ping\ndata: {}\n\nevent: ping\ndata: now\n\ndata: {"a": 1}\n\ndata: {"b": "x: y"}\n\ndata: [DONE]',
         [A, B]),
        (b'data: ping\n\ndata: {"a": 1}\n\ndata: PING\n\ndata: {"b": "x: y"}\n\ndata: [DONE]', [A, B]),
        (b'event: ping\ndata: {"type":\ndata: "ping"}\n\ndata: {"a": 1}\ndata: {"b": "x: y"}\ndata: [DONE]', [A, B]),
        (b'event: ping\ndata: {}\ndata: {"choices": []}\nevent: ping\ndata: {}\ndata: [DONE]\n', [{"choices": []}]),
        (b'data: null\n\ndata:\n\ndata\n\ndata: {"a": 1}\n\ndata: {"b": "x: y"}\n\ndata: [DONE]\n\n', [None, A, B]),
        (b'data: {"a": 1}\n\ndata: [DONE]\n\ndata: {"b": 2}\n\n', [A]),
        (b'event: error\ndata: {"message": "no"}\n\ndata: [DONE]\n\n', [{"error": {"message": "no"}}]),
    ],
)  # fmt: skip
def test_events_are_read_in_any_shape(stream: bytes, found: list[Any], size: int) -> None:
    assert read(stream, size) == (found, True)


def test_an_event_is_read_as_soon_as_its_line_is_there() -> None:
    reader = EventReader()
    assert reader.feed(b'data: {"a": 1}\n') == [A]
    assert reader.feed(b'data: {"b": "x: y"}') == []
    assert not reader.done
    assert reader.end() == [B]


@pytest.mark.parametrize("stream", [b'data: {"a": 1\n\n', b"data: oops\n\n", b'data: {"a":\ndata: [DONE]\n\n'])
def test_what_is_no_json_is_refused(stream: bytes) -> None:
    with pytest.raises(ValueError, match=r"JSON|EOF|expected"):
        read(stream, 1000)
