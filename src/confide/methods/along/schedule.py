"""The schedule: at which tokens of an answer a signal is read.

==============  ==============================================================
``tokens``      every token
``every:N``     every N-th token, and the last one
``sentences``   where a sentence ends, or a line
``lines``       where a line ends: the steps of worked reasoning
==============  ==============================================================
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import numpy as np

from confide.engines.token_starts import starts_of_ids
from confide.errors import ConfideError
from confide.numeric import Ints

_KNOWN = re.compile(r"tokens|sentences|lines|every:[1-9][0-9]*")
_SENTENCE_END = re.compile(r"[.!?…。！？][\"'”’)\]]*\s*$")


def check_schedule(schedule: str) -> str:
    """The ``schedule``, if it is one; raises `ConfideError` for what is none."""
    if not _KNOWN.fullmatch(schedule):
        raise ConfideError(f"a schedule is tokens, sentences, lines or every:N (a whole number), not {schedule!r}")
    return schedule


def needs_text(schedule: str) -> bool:
    """Whether the text of the tokens decides."""
    return schedule in ("sentences", "lines")


def is_due(schedule: str, count: int, piece: str, following: str | None) -> bool:
    """Whether a signal is read at a token.

    Args:
        count: which token of the answer it is, from 1.
        piece: its text.
        following: the text that follows it; None: it is the last one.

    >>> is_due("lines", 3, "4.\\n", "Step"), is_due("sentences", 3, "3.", "14"), is_due("sentences", 4, "Peru.", " It")
    (True, False, True)
    """
    if schedule == "tokens" or following is None:
        return True
    if schedule.startswith("every:"):
        return count % int(schedule.removeprefix("every:")) == 0
    if piece.endswith("\n"):
        return not following.startswith("\n")
    spaced = following[:1].isspace() and not following.startswith("\n")
    return schedule == "sentences" and spaced and _SENTENCE_END.search(piece) is not None


def due_rows(schedule: str, read: int, pieces: Sequence[str] = ()) -> Ints:
    """The rows of an answer's shares at which a signal is read: i is the i-th token, the last one is always among them.

    Args:
        read: how many tokens were read, all of them or all but the last.
        pieces: the text of each token, where the schedule `needs_text`; tokens without a text of their own are "".
    """
    if schedule == "tokens":
        return np.arange(1, read + 1)
    if not needs_text(schedule):
        return np.array([n for n in range(1, read + 1) if is_due(schedule, n, "", "" if n < read else None)], dtype=int)
    rows = []
    for number in range(1, read + 1):
        following = next((piece for piece in pieces[number:] if piece), "") if number < read else None
        if pieces[number - 1] or following is None:
            rows += [number] if is_due(schedule, number, pieces[number - 1], following) else []
    return np.array(rows, dtype=int)


def pieces_of(text: str, starts: Sequence[int]) -> list[str]:
    """The text of each token, from where they start."""
    ends = [*starts[1:], len(text)]
    return [text[start:end] for start, end in zip(starts, ends, strict=True)]


def due_of_ids(schedule: str, ids: Sequence[int], rows: int, decode: Callable[[Sequence[int]], str]) -> Ints:
    """`due_rows` of tokens that a decoder spells.

    Args:
        rows: how many rows of shares there are, that of the last token before the answer included.
    """
    if not needs_text(schedule):
        return due_rows(schedule, rows - 1)
    starts = starts_of_ids(ids, decode)
    return due_rows(schedule, rows - 1, pieces_of(decode(ids), starts) if starts else [""] * len(ids))
