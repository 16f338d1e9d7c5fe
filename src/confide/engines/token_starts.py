"""Where each token of an answer starts in its text, told from the tokens themselves.

A part of an answer is a span of characters; with these it is a span of tokens, wherever the answer was written.
A token that begins inside a character of several bytes starts where the character does.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

_WINDOW = 32
"""Tokens that are decoded together at most: a prefix of a long answer would be decoded as often as it has tokens."""
_CONTEXT = 8
"""Tokens in front of a window that are decoded with it: some spell a first token without the space before it."""
_BROKEN = "\ufffd"
"""What a decoder writes for bytes that are no whole character."""


def starts_of_ids(ids: Sequence[int], decode: Callable[[Sequence[int]], str]) -> list[int]:
    """The character of ``decode(ids)`` at which each token starts; [] where the tokens do not add up to it."""
    starts: list[int] = []
    window = anchor = before = at = 0  # `at`: characters in front of the anchor; `before`: of them, in the window
    end = 0
    for number in range(len(ids)):
        if number - anchor >= _WINDOW and number > _CONTEXT and not decode(ids[window:number]).endswith(_BROKEN):
            window, anchor, at = number - _CONTEXT, number, end
            before = len(decode(ids[window:number]))
        starts.append(end)
        text = decode(ids[window : number + 1])
        end = max(end, at + len(text.rstrip(_BROKEN)) - before)
    whole = decode(ids)
    return starts if end == len(whole.rstrip(_BROKEN)) else []


def starts_of_bytes(tokens: Sequence[bytes], text: str, start: int = 0) -> list[int]:
    """The character of ``text`` at which each of ``tokens`` starts, whose bytes hold the text from ``start`` on."""
    edges = [0, *accumulate(len(character.encode(errors="replace")) for character in text)]
    begins = [stop - len(token) - start for token, stop in zip(tokens, accumulate(map(len, tokens)), strict=True)]
    return [min(max(bisect_right(edges, begin) - 1, 0), len(text)) for begin in begins]


def moved(starts: Sequence[int], by: int) -> list[int]:
    """``starts`` in a text that has lost its first ``by`` characters."""
    return [max(start - by, 0) for start in starts]
