"""Server-sent events as servers really send them: the JSON of each, however it is laid out in lines.

https://html.spec.whatwg.org/multipage/server-sent-events.html says how a stream is read. Servers differ from it and
from OpenAI: lines that end in CR, several ``data:`` lines, no empty line behind an event, pings, a last line without
its end.
"""

from __future__ import annotations

import re
from typing import Any

from pydantic_core import from_json

BOM = b"\xef\xbb\xbf"
"""What some servers write in front of text in UTF-8."""

DONE = b"[DONE]"
_PINGS = (b"ping", b"heartbeat", b"keepalive", b"keep-alive")
_ANSWERS = re.compile(rb'"choices"|\[DONE\]')
"""What a ping does not say: where servers end no event, it is the line of the next one."""
_LINE_END = re.compile(rb"[\r\n]")


class EventReader:
    """Reads a stream of events from its bytes, in whatever pieces these come.

    ``done`` is set once ``[DONE]`` has come; nothing behind it is read.
    """

    def __init__(self) -> None:
        self.done = False
        self._begun = False
        self._rest: list[bytes] = []  # of a line whose end has not come
        self._data: list[bytes] = []  # lines that are JSON only together
        self._event = b""

    def feed(self, data: bytes) -> list[Any]:
        """Add bytes; returns what the events that are complete now hold. Raises ValueError for what is no JSON."""
        self._rest.append(data)
        if not _LINE_END.search(data):
            return []
        lines = b"".join(self._rest).splitlines(keepends=True)
        # A CR at the end may be half of a line's end.
        self._rest = [lines.pop()] if not lines[-1].endswith(b"\n") else []
        return self._read(lines)

    def end(self) -> list[Any]:
        """The bytes have ended; returns what the last event holds, where no empty line stood behind it.

        A part of an event is nothing: whether the stream was whole before it, the other events tell.
        """
        try:
            return self._read([*b"".join(self._rest).splitlines(), b""])
        except ValueError:
            return []

    def _read(self, lines: list[bytes]) -> list[Any]:
        found: list[Any] = []
        for line in lines:
            if self.done:
                break
            if not self._begun:
                self._begun, line = True, line.removeprefix(BOM)
            name, _, value = line.strip(b"\r\n").partition(b":")
            if name == b"data":
                self._add(value.strip(), found)
            elif name == b"event":
                self._event = value.strip().lower()
            elif not line.strip():
                self._close(found)
        return found

    def _add(self, value: bytes, found: list[Any]) -> None:
        """One line of data. It is read at once where it is JSON by itself, since some servers end no event."""
        if self._event in _PINGS and not _ANSWERS.search(value):
            return
        if self._data:
            self._data.append(value)
        elif value == DONE:
            self.done = True
        elif value and value.lower() not in _PINGS:
            try:
                found.append(self._named(from_json(value)))
            except ValueError:
                self._data.append(value)

    def _close(self, found: list[Any]) -> None:
        """The end of an event: what its lines hold together."""
        data, self._data = self._data, []
        if data:
            found.append(self._named(from_json(b"\n".join(data))))
        self._event = b""

    def _named(self, value: Any) -> Any:
        """An event of the name ``error`` is one, whatever its data looks like."""
        name, self._event = self._event, b""
        return {"error": value} if name == b"error" and value else value
