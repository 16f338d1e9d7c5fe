"""Text to token ids, so that nothing a user writes becomes one of a model's special tokens.

A name such as ``<|confident|>`` or ``<|im_end|>`` in a question, an answer or a system line is encoded as ordinary
characters. Verdict tokens are written by the model or appended by id; they never come out of text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from typing import Any

from confide.engines.reasoning import unopened
from confide.errors import ConfideError
from confide.report_tokens import GRADED, report_names


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text in which no special token's name counts as the token."""
    cut = _Cut(tokenizer, [text])
    return cut.encode(cut(text))


def encode_chat(
    tokenizer: Any, messages: Sequence[Mapping[str, Any]], chat_template_kwargs: Mapping[str, Any] | None = None
) -> list[int]:
    """Token ids of a conversation, up to where the answer starts.

    Special tokens' names in its messages are encoded as ordinary characters. Without such names the ids are those of
    ``apply_chat_template``. With ``enable_thinking`` False an empty reasoning is written where the template knows no
    such switch, but what would close reasoning.

    Raises:
        ConfideError: the tokenizer has no chat template, or the template refuses the conversation.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfideError("the model's tokenizer has no chat template: an instruction-tuned model is wanted")
    found: list[str] = []

    def note(text: str) -> str:
        found.append(text)
        return text

    turns = _each_text(messages, note)
    cut = _Cut(tokenizer, found)
    return cut.encode(render_chat(tokenizer, _each_text(turns, cut), chat_template_kwargs or {}))


def _each_text(value: Any, change: Callable[[str], str]) -> Any:
    """A value with every text in it changed; arguments of tool calls in JSON are parsed, as templates want them."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, Mapping):
        return {_each_text(key, change): _each_text(_parsed(key, inner), change) for key, inner in value.items()}
    return [_each_text(inner, change) for inner in value] if isinstance(value, list | tuple) else value


def _parsed(key: str, value: Any) -> Any:
    if key == "arguments" and isinstance(value, str):
        with suppress(ValueError, RecursionError):
            return json.loads(value)
    return value


def render_chat(tokenizer: Any, messages: list[dict[str, Any]], chat_template_kwargs: Mapping[str, Any]) -> str:
    """A conversation in a model's chat template, as text; see `encode_chat`."""
    template = str(tokenizer.chat_template)
    # Templates that know no such switch may refuse it.
    known = "enable_thinking" in template
    given = {key: value for key, value in chat_template_kwargs.items() if known or key != "enable_thinking"}
    text = _fold_and_render(tokenizer, messages, given)
    if chat_template_kwargs.get("enable_thinking") is False:
        text += unopened(text, "" if known else template)
    return text


def _fold_and_render(tokenizer: Any, messages: list[dict[str, Any]], given: Mapping[str, Any]) -> str:
    """The text of a conversation; turns that a template refuses or leaves out are folded into others."""

    def render(turns: list[dict[str, Any]]) -> str:
        return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, **given))

    refusal = "it leaves turns out"
    for turns in (messages, _fold(messages)):
        # Marks in the place of what is said tell whether a template leaves a turn out, whatever it does to the words.
        marks = [f"turn{number}x" for number in range(len(turns))]
        try:
            seen = render([{**turn, "content": mark} for turn, mark in zip(turns, marks, strict=True)])
            if all(mark in seen for mark, turn in zip(marks, turns, strict=True) if turn["role"] != "assistant"):
                return render(turns)
        except Exception as error:
            refusal = str(error)
    raise ConfideError(f"the model's chat template refuses this conversation: {refusal}")


def _fold(messages: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """A conversation as the strictest templates want it (Gemma, Mistral): no system turn, roles that alternate.

    System lines go to the start of the first user turn; neighbours of one role become one turn.
    """
    system = [m["content"] for m in messages if m["role"] == "system"]
    turns: list[dict[str, Any]] = []
    for message in messages:
        if message["role"] == "system":
            continue
        if turns and turns[-1]["role"] == message["role"]:
            turns[-1]["content"] += f"\n\n{message['content']}"
        else:
            turns.append(dict(message))
    if system:
        first = next((turn for turn in turns if turn["role"] == "user"), None)
        if first is None:
            turns.insert(0, first := {"role": "user", "content": ""})
        first["content"] = "\n\n".join([*system, *([first["content"]] if first["content"] else [])])
    return turns


class _Cut:
    """Cuts special tokens' names apart in text, so that no piece is taken for the token.

    A private-use character that the texts do not contain marks the cuts. Each cut text goes through the chat
    template as it is; encoding the pieces one by one and joining their ids leaves every character in place.
    """

    def __init__(self, tokenizer: Any, texts: Iterable[str]):
        self.tokenizer = tokenizer
        used = set("".join(texts))
        if half := next((char for char in used if "\ud800" <= char <= "\udfff"), None):
            raise ConfideError(f"the text holds U+{ord(half):04X}, half of a character, which no model can read")
        self._mark = next(char for char in map(chr, range(0xF0000, 0x10FFFE)) if char not in used)
        # Other added tokens (runs of spaces, tags) are part of how a model reads ordinary text: left alone.
        names = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        names |= {*report_names(), *GRADED}
        longest_first = sorted((re.escape(name) for name in names if len(name) > 1), key=len, reverse=True)
        self._names = re.compile("|".join(longest_first))

    def __call__(self, text: str) -> str:
        while (cut := self._names.sub(lambda m: m[0][0] + self._mark + m[0][1:], text)) != text:
            text = cut  # again, for a name inside what is left of another
        return text

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in text.split(self._mark):
            ids += self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return ids
