"""Sentences of a text."""

from __future__ import annotations

import re

from confide.parts.part import Part, stripped_parts

# Marks that end a sentence, with the quotes and brackets that close after them. East Asian ones need no space.
_END = re.compile(r"(?:[.!?…]+[\"'”’»)\]]*(?=\s)|[。！？]+[」』”）]*)\s*")
# A full stop after these does not end a sentence. It may after "etc." and "Inc.", so they are not here.
_ABBREVIATION = re.compile(
    r"mr|mrs|ms|mx|dr|prof|rev|hon|gen|col|capt|lt|sgt|sen|rep|gov|pres|st|mt|ft|vs|cf|e\.g|i\.e|viz|approx|ca|eds|al|"
    r"dept|est|jan|feb|mar|apr|jun|jul|aug|sept?|oct|nov|dec",
    re.IGNORECASE,
)
# Nor does it after these where a number follows: "No. 5", but "I said no. He left."
_NUMBERED = re.compile(r"nos?|vol|figs?|eqs?|sec|ch|pp?", re.IGNORECASE)


def split_sentences(text: str) -> list[str]:
    """Split ``text`` into its sentences, stripped; only whitespace between them is lost.

    A line break ends a sentence. A full stop does not end one after an abbreviation, an initial ("J. Doe", "U.S.
    Senate") or the number of a list item, nor before a small letter, nor without a space after it ("3.5"). In doubt
    two sentences stay one, because half a claim is worse than a long one.

    >>> split_sentences("Dr. Who paid $3.50 in St. Ives. It rained! 1. Why?")
    ['Dr. Who paid $3.50 in St. Ives.', 'It rained!', '1. Why?']
    """
    return [part.text for part in sentence_parts(text)]


def sentence_parts(text: str) -> list[Part]:
    """The sentences of a text by `split_sentences`, named ``sentence 1``, ``sentence 2``, …"""
    cuts, begin = [], 0
    for line in text.split("\n"):
        start = 0
        for mark in _END.finditer(line):
            if _ends(line[start : mark.start()], mark[0].strip(), line[mark.end() :]):
                cuts.append((begin + start, begin + mark.end()))
                start = mark.end()
        cuts.append((begin + start, begin + len(line)))
        begin += len(line) + 1
    return stripped_parts(text, cuts, "sentence")


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
