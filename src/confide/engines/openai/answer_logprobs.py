"""The log-probabilities that a server tells of the tokens of an answer."""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import accumulate
from typing import Any

from confide.engines.openai.reply import Choice
from confide.engines.reasoning import TAGS
from confide.engines.token_starts import starts_of_bytes

_CLOSING = re.compile(b"|".join(re.escape(closing.encode()) for _, closing in TAGS))


def first_token(choice: Choice) -> dict[str, Any]:
    """What is told of the first token that was written ({}: nothing)."""
    content = (choice.logprobs or {}).get("content")
    return content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}


def likeliest(token: dict[str, Any]) -> list[Any]:
    """The likeliest tokens at a token's place, as far as they are told."""
    listed = token.get("top_logprobs")
    return listed if isinstance(listed, list) else []


def plain_tokens(content: Sequence[Any]) -> list[dict[str, Any]]:
    """What a server tells of tokens where their ids were not asked for: their texts, and no likeliest ones."""
    found = [token for token in content if isinstance(token, dict)]
    return [token | {"token": _bytes(token).decode(errors="replace"), "top_logprobs": []} for token in found]


def answer_logprobs(choice: Choice) -> list[float] | None:
    """Log-probabilities (nats) of the tokens that make up a whole answer, without reasoning and closing tokens."""
    return text_logprobs(choice) if choice.readable else None


def tokens_before(choice: Choice) -> int | None:
    """How many tokens were written before the answer: those of reasoning (None: that cannot be told)."""
    if choice.reasoning is None:
        return 0
    tokens = [_bytes(token) for token in (choice.logprobs or {}).get("content") or ()]
    start = _start(b"".join(tokens), b"".join(tokens[:-1]), choice.text.encode(), True)
    return None if start < 0 else sum(stop <= start for stop in accumulate(map(len, tokens)))


def text_logprobs(choice: Choice) -> list[float] | None:
    """The same of any text, also of one that was cut."""
    return _told(choice)[0]


def text_starts(choice: Choice) -> list[int]:
    """The character of a text at which each of these tokens starts ([]: that cannot be told)."""
    return _told(choice)[1]


def written_tokens(choice: Choice) -> tuple[list[bytes], list[float]]:
    """The bytes of every token that was written, and log-probabilities (nats); nothing where one is not told."""
    content = (choice.logprobs or {}).get("content")
    tokens: list[bytes] = []
    values: list[float] = []
    for token in content if isinstance(content, list) else ():
        value = token.get("logprob") if isinstance(token, dict) else None
        if not isinstance(value, int | float) or not -1e6 < value <= 1e-3:
            return [], []
        values.append(min(float(value), 0.0))
        tokens.append(_bytes(token))
    return tokens, values


def _told(choice: Choice) -> tuple[list[float] | None, list[int]]:
    """Log-probabilities of a text's tokens (None: not told), and where each of them starts ([]: not told)."""
    tokens, values = written_tokens(choice)
    if not choice.text.strip() or not tokens:
        return None, []
    output, answer = b"".join(tokens), choice.text.encode()
    start = _start(output, b"".join(tokens[:-1]), answer, choice.reasoning is not None)
    if start < 0:
        # The server spells its tokens in a way of its own; without reasoning they still are the whole answer.
        return (None if choice.reasoning else values), []
    end = start + len(answer)
    begins = starts_of_bytes(tokens, choice.text, start)
    stops = zip(tokens, values, begins, accumulate(map(len, tokens)), strict=True)
    kept = [(value, begin) for token, value, begin, stop in stops if stop > start and stop - len(token) < end]
    return [value for value, _ in kept], [begin for _, begin in kept]


def _start(output: bytes, without_last: bytes, answer: bytes, reasoned: bool) -> int:
    """Where the answer starts in what was written (−1: it does not occur).

    A short answer may also occur in the reasoning before it and in the name of the token that closes the turn.
    """
    if not reasoned and output.startswith(answer):
        return 0
    closed = sorted(found.end() for found in _CLOSING.finditer(output))
    for end in closed:  # the answer itself may mention what closes reasoning
        start = len(output) - len(output[end:].lstrip())
        if output.startswith(answer, start):
            return start
    if closed:
        return output.find(answer, closed[-1])
    for written in (without_last, output):
        if written.rstrip().endswith(answer.rstrip()):
            return len(written.rstrip()) - len(answer.rstrip())
    return output.rfind(answer)


def _bytes(token: dict[str, Any]) -> bytes:
    raw = token.get("bytes")
    if isinstance(raw, list) and all(isinstance(b, int) and 0 <= b < 256 for b in raw):
        return bytes(raw)
    return str(token.get("token", "")).encode(errors="replace")
