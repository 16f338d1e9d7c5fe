"""Lines and reasoning steps of a text."""

from __future__ import annotations

from dataclasses import replace

from confide.parts.part import Part, stripped_parts
from confide.parts.sentences import sentence_parts


def line_parts(text: str) -> list[Part]:
    """The lines of a text that are not blank, named ``line 1``, ``line 2``, …"""
    spans, begin = [], 0
    for line in text.split("\n"):
        spans.append((begin, begin + len(line)))
        begin += len(line) + 1
    return stripped_parts(text, spans, "line")


def step_parts(text: str) -> list[Part]:
    """The steps of a reasoning, named ``step 1``, ``step 2``, …: its lines, or of a single line the sentences.

    >>> [part.text for part in step_parts("12 + 5 = 17. So it is 17.")]
    ['12 + 5 = 17.', 'So it is 17.']
    """
    lines = line_parts(text)
    parts = lines if len(lines) > 1 else sentence_parts(text)
    return [replace(part, name=f"step {number}") for number, part in enumerate(parts, 1)]
