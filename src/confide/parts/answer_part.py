"""Parts of an answer, each with how sure the model is of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from confide.parts.part import kind_of


@dataclass(frozen=True)
class AnswerPart:
    """One field or claim of an answer.

    Attributes:
        name: a JSON pointer such as ``/year``, ``tool/argument``, or ``sentence 2``.
        text: what it says.
        value: the JSON value; of a claim its text.
        confidence: P(right) in [0, 1]; None where there is none.
        source: what the confidence comes from.
        start: its first character in the answer.
        end: the character behind its last one.
        choice: which of several answers to one request has it, counted from 0.
    """

    name: str
    text: str
    value: Any
    confidence: float | None
    source: str
    start: int
    end: int
    choice: int = 0

    @property
    def kind(self) -> str:
        """What parts of many answers share, as `Part.kind`."""
        return kind_of(self.name)
