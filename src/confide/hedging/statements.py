"""Statements: the claims of a completion, each with the confidence that is stated for it.

The tagged text of RLMF (Liu et al. 2026, 2606.32032, the answer prompt): every sentence between ``<sentence>`` and
``</sentence>``, and directly after it a number from 0 to 1 between ``<confidence>`` and ``</confidence>``.
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
    """One claim of a completion and the confidence stated for it (None: it cannot be read)."""

    text: str
    confidence: float | None


@dataclass(frozen=True)
class Reading:
    """What a completion states. ``strict``: exactly the wanted format; ``soft`` in [-1, 0]: how far from it."""

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
    """Read tagged text; nothing is guessed.

    Every opened sentence with words in it is a statement. Its confidence is the first one after it and before the
    next sentence; it is None when there is none, when it is no number in [0, 1], and when a tag was not closed. So a
    statement cannot be hidden by leaving its confidence out.

    ``soft`` is minus the share of characters, whitespace aside, outside the tags and text of statements that can be
    read: stray text, unmatched tags, second confidences and unreadable numbers all count by their length. It is 0
    exactly where ``strict`` holds, and −1 where no confidence can be read.

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
        confidence = _number(claim["value"]) if claim["value"] is not None else None
        if confidence is not None:
            wanted += _length("<sentence></sentence>" + words + claim["confidence"])
        statements.append(Statement(words, confidence))
    total = _length(text)
    if not wanted:
        return Reading(tuple(statements), strict=False, soft=-1.0)
    return Reading(tuple(statements), strict=wanted == total, soft=(wanted - total) / total)


def write_tagged(statements: Iterable[Statement]) -> str:
    """Statements as tagged text, one a line, confidences with two decimals; `read_tagged` gives them back.

    A statement without a confidence gets no confidence tags. Raises `ConfideError` for a text that is blank or has
    such tags itself, and for a confidence outside [0, 1].

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


# Marks that end a sentence, with the quotes and brackets that close after them; East Asian ones need no space.
_END = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[」』”）]*)\s*")
_LINES = re.compile(r"\s*\n\s*")
# Before a full stop these do not end a sentence; "etc." and "Inc." may, so they are not here.
_ABBREVIATION = re.compile(
    r"mr|mrs|ms|mx|dr|prof|rev|hon|gen|col|capt|lt|sgt|sen|rep|gov|pres|st|mt|ft|vs|cf|e\.g|i\.e|viz|approx|ca|eds|al|"
    r"dept|est|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec",
    re.IGNORECASE,
)
# These do not before a number: "No. 5", but "I said no. He left."
_NUMBERED = re.compile(r"nos?|vol|figs?|eqs?|sec|ch|pp?", re.IGNORECASE)


def split_sentences(text: str) -> list[str]:
    """The sentences of ``text`` in order, stripped; nothing but whitespace between them is lost.

    A line break ends a sentence. A full stop does not after an abbreviation, an initial ("J. Doe", "U.S. Senate") or
    the number of a list item, nor before a small letter; decimals have no space after theirs. In doubt two sentences
    stay one: half a claim is worse than a long one.

    >>> split_sentences("Dr. Who paid $3.50 in St. Ives. It rained! 1. Why?")
    ['Dr. Who paid $3.50 in St. Ives.', 'It rained!', '1. Why?']
    """
    return [sentence for line in _LINES.split(text.strip()) if line for sentence in _split_line(line)]


def _split_line(line: str) -> list[str]:
    sentences, start = [], 0
    for mark in _END.finditer(line):
        if not _ends(line[start : mark.start()], mark[0].strip(), line[mark.end() :]):
            continue
        sentences.append(line[start : mark.end()].strip())
        start = mark.end()
    return [*sentences, line[start:].strip()] if line[start:].strip() else sentences


def _ends(before: str, mark: str, after: str) -> bool:
    """Whether ``mark`` ends the sentence that ``before`` begins."""
    if not before.strip() or after[:1].islower():
        return False
    if mark != ".":
        return True
    word = before.split()[-1].lstrip("\"'“‘«([")
    if before.strip() == word and word.isdigit():
        return False
    last = word.rpartition(".")[2]
    if len(last) == 1 and last.isupper() and word != "I":
        return False
    return not (_ABBREVIATION.fullmatch(word) or (after[:1].isdigit() and _NUMBERED.fullmatch(word)))


def _number(text: str) -> float | None:
    match = _NUMBER.fullmatch(text)
    value = float(match[1]) if match else None
    return value if value is not None and value <= 1 else None


def _length(text: str) -> int:
    """Characters that are not whitespace."""
    return sum(map(len, text.split()))
