"""Statements: the sentences of a completion, each with the confidence that is stated for it.

They are read from the tagged text of RLMF (Liu et al. 2026, 2606.32032, the answer prompt): every sentence stands
between ``<sentence>`` and ``</sentence>``, and directly after it a number from 0 to 1 between ``<confidence>`` and
``</confidence>``.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from confide.errors import ConfideError

TAGGED_PROMPT = (
    "Answer in short, complete sentences that give what was asked and nothing more. Put each sentence between "
    "<sentence> and </sentence>. Directly after each one, between <confidence> and </confidence>, put a number from "
    "0.00 to 1.00: how sure you are of that sentence, so that 0.00 means you would say something else every time you "
    "were asked and 1.00 means you would always say the same. Look at how sure you really are, and use the whole "
    "range. Example: <sentence>Water boils at 100 degrees Celsius at sea level.</sentence>"
    "<confidence>0.97</confidence> Stop after the last number, and write nothing outside the tags."
)
"""The system line that asks for tagged text."""


@dataclass(frozen=True)
class Statement:
    """One sentence of a completion and the confidence stated for it (None where no number can be read)."""

    text: str
    confidence: float | None


@dataclass(frozen=True)
class Reading:
    """The statements of a completion, and how well it keeps to the format.

    ``strict`` says that it is exactly the wanted format. ``soft`` in [-1, 0] says how far from it the text is.
    """

    statements: tuple[Statement, ...]
    strict: bool
    soft: float


_TAG = re.compile(r"</?(?:sentence|confidence)>")
_PLAIN = rf"(?:(?!{_TAG.pattern}).)*"
_CLAIM = re.compile(
    rf"<sentence>(?P<text>{_PLAIN})(?:(?P<closed></sentence>){_PLAIN}"
    rf"(?P<confidence><confidence>(?P<value>{_PLAIN})</confidence>)?)?",
    re.DOTALL,
)
_NUMBER = re.compile(r"\s*([0-9]*\.?[0-9]+)\s*")


def read_tagged(text: str) -> Reading:
    """Read tagged text without guessing.

    Every opened sentence with words in it is a statement. Its confidence is the first one after it and before the
    next sentence. It is None when there is none, when it is no number in [0, 1], and when a tag was not closed. So a
    completion cannot hide a statement by leaving its confidence out.

    Returns:
        The statements. ``soft`` is minus the share of characters, whitespace aside, outside the tags and text of
        statements with a confidence: stray text, unmatched tags, second confidences and unreadable numbers all count
        by their length. It is 0 exactly where ``strict`` holds, and −1 where no confidence can be read.

    >>> read_tagged("<sentence>It is Lyon.</sentence><confidence>0.4</confidence>").strict
    True
    >>> read_tagged("<sentence>It is Lyon.</sentence><confidence>high</confidence>")
    Reading(statements=(Statement(text='It is Lyon.', confidence=None),), strict=False, soft=-1.0)
    """
    statements, wanted = [], 0
    for claim in _CLAIM.finditer(text):
        words = claim["text"].strip()
        if not words:
            continue
        number = _NUMBER.fullmatch(claim["value"] or "")
        confidence = float(number[1]) if number and float(number[1]) <= 1 else None
        if confidence is not None:
            wanted += _length("<sentence></sentence>" + words + claim["confidence"])
        statements.append(Statement(words, confidence))
    total = _length(text)
    if not wanted:
        return Reading(tuple(statements), strict=False, soft=-1.0)
    return Reading(tuple(statements), strict=wanted == total, soft=(wanted - total) / total)


def is_tagged(answer: str) -> bool:
    """Whether an answer states confidences in tags of its own, well formed or not."""
    return _TAG.search(answer) is not None


def write_tagged(statements: Iterable[Statement]) -> str:
    """Write statements as tagged text, one per line, confidences with two decimals; `read_tagged` reads them back.

    A statement without a confidence gets no confidence tags.

    Raises:
        ConfideError: A text is blank or has such tags itself, or a confidence lies outside [0, 1].

    >>> write_tagged([Statement("It is Lyon.", 0.4)])
    '<sentence>It is Lyon.</sentence><confidence>0.40</confidence>'
    """
    lines = []
    for statement in statements:
        words, confidence = statement.text.strip(), statement.confidence
        if not words or _TAG.search(words):
            raise ConfideError(f"a statement needs words and no tags of its own, not {statement.text!r}")
        if confidence is not None and not 0 <= confidence <= 1:
            raise ConfideError(f"a confidence is in [0, 1], not {confidence}: {words!r}")
        number = "" if confidence is None else f"<confidence>{confidence:.2f}</confidence>"
        lines.append(f"<sentence>{words}</sentence>{number}")
    return "\n".join(lines)


def _length(text: str) -> int:
    """Characters that are not whitespace."""
    return sum(map(len, text.split()))
