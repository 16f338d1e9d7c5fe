"""Reasoning apart from the answer that follows it: in whole texts, in streams and in token ids.

Models mark what they think before they answer. A server that parses this keeps it away from the answer; one that does
not, and a model in this process, write both as one text.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

TAGS = (
    ("<think>", "</think>"),  # Qwen, DeepSeek, Granite, SmolLM, OLMo
    ("[THINK]", "[/THINK]"),  # Magistral
    ("<|START_THINKING|>", "<|END_THINKING|>"),  # Cohere
    ("<seed:think>", "</seed:think>"),  # Seed-OSS
    ("<|channel|>analysis<|message|>", "<|channel|>final<|message|>"),  # gpt-oss
)
"""What opens reasoning and what closes it."""

_ENDS = dict(TAGS)
_OPENED = re.compile(r"\s*(" + "|".join(re.escape(opening) for opening in _ENDS) + ")")
_CLOSED = re.compile("|".join(re.escape(closing) for closing in _ENDS.values()))
_OPENING = re.compile("|".join(re.escape(opening) for opening in _ENDS))
_LINE_ENDS = re.compile(r"[^\S\n]*(?:\n|\Z)")
_OPENED_QUOTE = re.compile(r"(?:[(\[{]|(?<![\w.!?…%)\]}])[`\"'“”‘’«»‹›„])\Z")
"""A bracket or a quote that opens: one behind a word, or what ends a sentence, closes."""
_LEFT_OPEN = re.compile("(" + "|".join(re.escape(opening) for opening in _ENDS) + r")\s*\Z")


def split_reasoning(content: str) -> tuple[str | None, str]:
    """Split one message into its reasoning text and its answer.

    Reasoning stands between two of the `TAGS` at the start. Some chat templates open it in the prompt, so that the
    message holds only what closes it. A text that only mentions such a tag is an answer: one that stands in quotes,
    brackets or code, in the middle of a sentence, or behind one that opens.

    >>> split_reasoning("<think>Kyoto, so Japan.</think> Japan")
    ('Kyoto, so Japan.', 'Japan')
    >>> split_reasoning("Japan")
    (None, 'Japan')
    """
    if opened := _OPENED.match(content):
        reasoning, _, answer = content[opened.end() :].partition(_ENDS[opened[1]])
        return reasoning.strip(), answer.lstrip()
    if closed := _end_of_unopened(content):
        return content[: closed.start()].strip(), content[closed.end() :].lstrip()
    return None, content


def _end_of_unopened(content: str) -> re.Match[str] | None:
    """The tag that ends reasoning which the prompt opened; None for a text that holds none, or only mentions one."""
    fences = ticks = at = 0
    for closed in _CLOSED.finditer(content):
        before, at = content[at : closed.start()], closed.end()
        if _OPENING.search(before):
            return None
        fences += before.count("```")
        *earlier, line = before.split("\n")
        ticks = line.count("`") + (0 if earlier else ticks)
        in_sentence = before[-1:] in (" ", "\t") and not _LINE_ENDS.match(content, at)
        in_quotes = _OPENED_QUOTE.search(before[-2:])
        if fences % 2 == 0 and ticks % 2 == 0 and not in_quotes and not in_sentence:
            return closed
    return None


def without_tags(reasoning: str) -> str:
    """Reasoning as it was written, without what opens and closes it."""
    return _CLOSED.sub("", _OPENED.sub("", reasoning, count=1)).strip()


def left_open(prompt: str) -> str | None:
    """What would close the reasoning that a chat template has opened at the end of ``prompt`` (None: it has not)."""
    opened = _LEFT_OPEN.search(prompt)
    return _ENDS[opened[1]] if opened else None


def unopened(prompt: str, template: str) -> str:
    """What to write behind a ``prompt`` so that the answer follows at once: what would close its model's reasoning.

    Args:
        template: the chat template, which tells by what a model reasons that was not let to open it yet.
    """
    if closing := left_open(prompt):
        return f"\n\n{closing}\n\n"
    opening, closing = next((pair for pair in TAGS if pair[1] in template), ("", ""))
    if "<|channel|>" in closing:
        return closing
    return f"{opening}\n\n{closing}\n\n" if closing else ""


def reasoning_tokens(
    ids: Sequence[int], decode: Callable[[Sequence[int]], str], *, opened: bool = False, cut: bool = False
) -> int:
    """How many leading tokens of what a model wrote are reasoning, with what closes it and the space after that.

    Args:
        ids: the tokens written.
        decode: token ids to text, with the names of special tokens in it.
        opened: whether the prompt had opened the reasoning already; without an end all is reasoning then.
        cut: whether the text was cut, which may fall within the tag that opens.
    """
    text = decode(ids)
    begun = cut and len(text.strip()) > 2 and any(opening.startswith(text.strip()) for opening in _ENDS)
    start, closed = _OPENED.match(text), None
    if start:
        closed = re.compile(re.escape(_ENDS[start[1]])).search(text, start.end())
    elif opened:
        closed = _CLOSED.search(text)
    if closed is None:
        return len(ids) if start or opened or begun else 0
    low, high = 0, len(ids)  # the fewest tokens whose text holds what closes it
    while low < high:
        middle = (low + high) // 2
        low, high = (low, middle) if len(decode(ids[:middle])) >= closed.end() else (middle + 1, high)
    while low < len(ids) and not decode(ids[low : low + 1]).strip():
        low += 1
    return low


class ReasoningSplitter:
    """`split_reasoning` for text that arrives in pieces; each piece comes back as (is it reasoning, text)."""

    def __init__(self) -> None:
        self._held = ""
        self._state = "start"
        self._end = ""

    def feed(self, text: str) -> list[tuple[bool, str]]:
        """Add text; returns the pieces that are certain. What may be the start of a tag is held back."""
        pieces: list[tuple[bool, str]] = []
        self._held += text
        if self._state == "start":
            head = self._held.lstrip()
            if opened := _OPENED.match(self._held):
                self._state, self._end, self._held = "thinking", _ENDS[opened[1]], self._held[opened.end() :]
            elif any(opening.startswith(head) for opening in _ENDS):
                return pieces
            else:
                self._state = "answering"
        if self._state == "thinking":
            thought, closed, rest = self._held.partition(self._end)
            if closed:
                self._state, self._held = "closed", rest
            else:
                keep = next((n for n in range(len(self._end) - 1, 0, -1) if thought.endswith(self._end[:n])), 0)
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
