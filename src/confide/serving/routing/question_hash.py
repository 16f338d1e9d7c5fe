"""One hash for requests that ask the same: the text of all turns, whatever its case, spacing and Unicode form."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Iterable, Mapping
from typing import Any

from confide.engines.openai.asked import text_of
from confide.hashing import sha256_of_text
from confide.serving.routing.stream_safe import stream_safe

_DIGITS = 32
_JSON = json.JSONEncoder(sort_keys=True)
_CALLS = ("tool_calls", "function_call", "tool_call_id", "name")


def question_hash(messages: Iterable[Mapping[str, Any]]) -> str:
    """32 hexadecimal digits that two conversations share when they say the same, turn by turn.

    Case, spaces and line ends do not count, nor does how Unicode writes a character (NFKC). Roles do, and so does what
    is no text: images and calls of tools are taken as they are.

    >>> question_hash([{"role": "user", "content": "Is  it RAINING?"}]) == question_hash(
    ...     [{"role": "user", "content": [{"type": "text", "text": "is it raining?\\n"}]}]
    ... )
    True
    """
    turns = []
    for message in messages:
        content = message.get("content")
        parts = [] if isinstance(content, str) else [part for part in content or () if part.get("type") != "text"]
        calls = [[key, message[key]] for key in _CALLS if message.get(key)]
        turns.append([message.get("role"), _plain(text_of(content)), parts, calls])
    # Escaped to ASCII, so that half characters, which JSON may carry and UTF-8 cannot, are hashed too.
    return sha256_of_text(_JSON.encode(turns))[:_DIGITS]


def _plain(text: str) -> str:
    """``text`` in one Unicode form and case, with single spaces."""
    return " ".join(unicodedata.normalize("NFKC", stream_safe(text)).casefold().split())
