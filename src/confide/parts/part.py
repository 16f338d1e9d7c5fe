"""The part: a span of characters of an answer that can be right or wrong by itself."""

from __future__ import annotations

import re
from bisect import bisect_left
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

_INDEX = re.compile(r"/(0|[1-9]\d*)(?=/|$)")


@dataclass(frozen=True)
class Part:
    """One part of a text.

    Attributes:
        name: what tells it from the text's other parts: a JSON pointer (RFC 6901) such as ``/year``, or ``sentence 2``.
        start: its first character.
        end: the character behind its last one.
        text: what it says: of a JSON string without quotes and escapes.
        value: the JSON value (None for null, and where there is none).
    """

    name: str
    start: int
    end: int
    text: str
    value: Any = None

    @property
    def kind(self) -> str:
        """What parts of many answers share: the pointer with ``*`` for places of lists ("": sentences and the like).

        >>> Part("/items/12/price", 0, 1, "9").kind
        '/items/*/price'
        """
        return kind_of(self.name)


def kind_of(name: str) -> str:
    """`Part.kind` of a part's name."""
    return _INDEX.sub("/*", name) if "/" in name else ""


def token_span(start: int, end: int, starts: Sequence[int]) -> tuple[int, int]:
    """The first token of a span of characters, and the one behind its last; tokens that reach into it belong to it.

    Args:
        starts: the character at which each token starts, not falling.

    >>> token_span(3, 5, [0, 2, 4, 5])
    (1, 3)
    """
    last = bisect_left(starts, end)
    first = bisect_left(starts, start)
    if first < len(starts) and starts[first] == start:
        return first, last
    before = max(first - 1, 0)
    # Several tokens that start there spell one character.
    return (bisect_left(starts, starts[before]) if starts else 0), last


def stripped_parts(text: str, spans: Iterable[tuple[int, int]], name: str) -> list[Part]:
    """Spans of a text without the blanks around them, numbered from 1 by ``name``; blank ones are none."""
    parts: list[Part] = []
    for start, end in spans:
        words = text[start:end].strip()
        if words:
            start += text[start:end].index(words)
            parts.append(Part(f"{name} {len(parts) + 1}", start, start + len(words), words))
    return parts
