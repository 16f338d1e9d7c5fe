"""Reasoning text (``<think>...</think>``) apart from the answer, in whole messages and in streams."""

from __future__ import annotations

import re

_OPEN, _CLOSE = "<think>", "</think>"
_REASONING = re.compile(rf"\s*{_OPEN}(.*?)(?:{_CLOSE}\s*|\Z)", re.DOTALL)


def split_reasoning(content: str) -> tuple[str | None, str]:
    """Split one message into its reasoning text and its answer.

    Reasoning stands between ``<think>`` and ``</think>`` at the start. Some chat templates open ``<think>`` in the
    prompt, so that the message holds only the closing tag.

    >>> split_reasoning("<think>Kyoto, so Japan.</think> Japan")
    ('Kyoto, so Japan.', 'Japan')
    >>> split_reasoning("Japan")
    (None, 'Japan')
    """
    if match := _REASONING.match(content):
        return match[1].strip(), content[match.end() :]
    if _CLOSE in content:
        reasoning, _, answer = content.partition(_CLOSE)
        return reasoning.strip(), answer.lstrip()
    return None, content


class ReasoningSplitter:
    """`split_reasoning` for text that arrives in pieces; each piece comes back as (is it reasoning, text)."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Add text; returns the pieces that are certain. What may be the start of a tag is held back."""
        pieces: list[tuple[bool, str]] = []
        self._held += text
        if self._state == "start":
            head = self._held.lstrip()
            if head.startswith(_OPEN):
                self._state, self._held = "thinking", head[len(_OPEN) :]
            elif _OPEN.startswith(head):
                return pieces
            else:
                self._state = "answering"
        if self._state == "thinking":
            thought, closed, rest = self._held.partition(_CLOSE)
            if closed:
                self._state, self._held = "closed", rest
            else:
                keep = next((n for n in range(len(_CLOSE) - 1, 0, -1) if thought.endswith(_CLOSE[:n])), 0)
                thought, self._held = thought[: len(thought) - keep], thought[len(thought) - keep :]
            pieces.append((True, thought))
        if self._state == "closed" and (rest := self._held.lstrip()):
            self._state, self._held = "answering", rest
        if self._state == "answering":
            pieces.append((False, self._held))
            self._held = ""
        return [(reasoning, piece) for reasoning, piece in pieces if piece]

    def finish(self) -> list[tuple[bool, str]]:
        """End the text; returns what was held back."""
        held, self._held = self._held, ""
        return [(self._state == "thinking", held)] if held and self._state != "closed" else []
