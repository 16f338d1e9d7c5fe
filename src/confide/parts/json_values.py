"""JSON values with their places in a text, of JSON that may be cut, broken, or wrapped in words and code fences.

Where the JSON ends too early, or goes on as no JSON does, the values that were whole until then count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from json import JSONDecoder
from typing import Any, Literal

from confide.parts.part import Part

DEEPEST = 64
"""Levels of lists and objects in each other; deeper ones are no answer."""

_BLANK = re.compile(r"[ \t\r\n]*")
_OPENING = re.compile(r"[{\[]")
_LITERAL = re.compile(r"null|true|false|-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][-+]?\d+)?")
_GOES_ON = re.compile(r"[\w.+-]")
_STRINGS = JSONDecoder(strict=False)  # models write line ends into strings
_CLOSED = re.compile(r'(?:[^"\\]|\\.)*"', re.DOTALL)
_HALVES = re.compile("[\ud800-\udfff]")  # of a character: no text holds one alone, no file can
_WORDS = {"null": None, "true": True, "false": False}


@dataclass(frozen=True)
class JsonValues:
    """What was found.

    Attributes:
        parts: the leaf values in the order of the text; empty lists and objects are leaves, too.
        state: ``whole``, ``cut`` (the text ends in the middle), ``broken`` (it goes on as no JSON does), ``none``.
        duplicates: pointers whose key occurs twice in its object; the last one counts, as parsers have it.
        start: where the JSON starts.
        end: where it ends.
    """

    parts: list[Part]
    state: Literal["whole", "cut", "broken", "none"]
    duplicates: list[str] = field(default_factory=list)
    start: int = 0
    end: int = 0

    @property
    def values(self) -> dict[str, Any]:
        """Pointer → leaf value."""
        return {part.name: part.value for part in self.parts}


def json_values(text: str) -> JsonValues:
    """The leaf values of the longest JSON object or list in a text.

    >>> [(part.name, part.text) for part in json_values('Sure: {"a": {"b/c": [1e5, null]}, "d": "x').parts]
    [('/a/b~1c/0', '1e5'), ('/a/b~1c/1', 'null')]
    """
    found = [values for values in all_json_values(text) if values.parts]
    return max(found, key=lambda values: values.end - values.start, default=JsonValues([], "none"))


def all_json_values(text: str) -> Iterator[JsonValues]:
    """Every object and list in a text that is not inside another one."""
    at = 0
    while opened := _OPENING.search(text, at):
        scan = _Scan(text, opened.start())
        yield scan.values()
        at = max(scan.at, opened.end())


def leaves(value: Any, pointer: str = "") -> dict[str, Any]:
    """Pointer → leaf value of a parsed JSON value; empty lists and objects are leaves.

    >>> leaves({"a": [1, {}]})
    {'/a/0': 1, '/a/1': {}}
    """
    if isinstance(value, dict) and value:
        return {name: leaf for key in value for name, leaf in leaves(value[key], pointer + escaped(str(key))).items()}
    if isinstance(value, list) and value:
        return {name: leaf for n, one in enumerate(value) for name, leaf in leaves(one, f"{pointer}/{n}").items()}
    return {pointer: value}


def escaped(key: str) -> str:
    """A key as a step of a pointer.

    >>> escaped("a/b~c")
    '/a~1b~0c'
    """
    return "/" + key.replace("~", "~0").replace("/", "~1")


class _CutError(Exception):
    """The text ends within a value."""


class _BrokenError(Exception):
    """The text goes on as no JSON does."""


class _Scan:
    """Reads one object or list from where it opens; ``at`` is how far it came."""

    def __init__(self, text: str, start: int):
        self._text, self._start, self.at = text, start, start
        self._leaves: dict[str, Part] = {}
        self._duplicates: list[str] = []
        # What was read in its order, leaves and keys of objects, and which of it each key holds: where a key comes
        # again, only what stood under it is gone through.
        self._read: list[str] = []
        self._held: dict[str, tuple[int, int]] = {}

    def values(self) -> JsonValues:
        """What is whole of it."""
        state: Literal["whole", "cut", "broken"] = "whole"
        try:
            self._value("", 0)
        except _CutError:
            state, self.at = "cut", len(self._text)
        except _BrokenError:
            state = "broken"
        parts = sorted(self._leaves.values(), key=lambda part: part.start)
        return JsonValues(parts, state, self._duplicates, self._start, self.at)

    def _value(self, pointer: str, depth: int) -> None:
        """Read the value at ``at``, and what it holds."""
        start, character = self.at, self._next()
        if character == "{":
            self._many(pointer, depth, "}", self._entry)
        elif character == "[":
            self._many(pointer, depth, "]", self._item)
        elif character == '"':
            value = self._string()
            self._keep(Part(pointer, start, self.at, value, value))
        else:
            self._literal(pointer)

    def _literal(self, pointer: str) -> None:
        found = _LITERAL.match(self._text, self.at)
        if found is None:
            rest = self._text[self.at : self.at + 8]  # longer than any of the words
            raise _CutError if any(word.startswith(rest) for word in (*_WORDS, "-")) else _BrokenError
        if found.end() == len(self._text):
            raise _CutError  # 19 may be the start of 1984
        if _GOES_ON.match(self._text, found.end()):
            cut = re.fullmatch(r"(?:\.|\.?\d*[eE][-+]?)", self._text[found.end() :])
            raise _CutError if cut else _BrokenError
        raw = found[0]
        value = _WORDS[raw] if raw in _WORDS else _number(raw)
        self._keep(Part(pointer, found.start(), found.end(), raw, value))
        self.at = found.end()

    def _many(self, pointer: str, depth: int, closing: str, read: Any) -> None:
        """Read an object or a list."""
        if depth >= DEEPEST:
            self.at = len(self._text)
            raise _BrokenError
        start, count = self.at, 0
        self.at += 1
        self._blank()
        while (character := self._next()) != closing or count:
            if count and character == closing:
                break
            if count and character != ",":
                raise _BrokenError
            if count:
                self.at += 1
                self._blank()
            read(pointer, depth, count)
            count += 1
            self._blank()
        self.at += 1
        if not count:
            self._keep(Part(pointer, start, self.at, "{}" if closing == "}" else "[]", _empty(closing)))

    def _item(self, pointer: str, depth: int, count: int) -> None:
        self._value(f"{pointer}/{count}", depth + 1)

    def _entry(self, pointer: str, depth: int, _: int) -> None:
        if self._next() != '"':
            raise _BrokenError
        name = pointer + escaped(self._string())
        self._blank()
        if self._next() != ":":
            raise _BrokenError
        self.at += 1
        self._blank()
        if name in self._held:
            self._duplicates.append(name)
            for key in self._read[slice(*self._held[name])]:
                self._leaves.pop(key, None)
                self._held.pop(key, None)
        first = len(self._read)
        self._value(name, depth + 1)
        self._held[name] = first, len(self._read)
        self._read.append(name)

    def _keep(self, leaf: Part) -> None:
        self._leaves[leaf.name] = leaf
        self._read.append(leaf.name)

    def _string(self) -> str:
        """Read the string at ``at``."""
        try:
            value, self.at = _STRINGS.raw_decode(self._text, self.at)
        except ValueError as error:  # an escape that is none, or no closing quote
            closed = _CLOSED.match(self._text, self.at + 1)
            raise (_BrokenError if closed else _CutError) from error
        return _HALVES.sub("\ufffd", str(value))

    def _next(self) -> str:
        if self.at >= len(self._text):
            raise _CutError
        return self._text[self.at]

    def _blank(self) -> None:
        found = _BLANK.match(self._text, self.at)
        assert found is not None
        self.at = found.end()


def _number(raw: str) -> int | float:
    digits = raw.lstrip("-")
    return int(raw) if digits.isdigit() and len(digits) < 1000 else float(raw)


def _empty(closing: str) -> Any:
    return {} if closing == "}" else []
