"""Text to token ids, so that nothing a user writes becomes one of a model's special tokens.

A name such as ``<|confident|>`` or ``<|im_end|>`` in a question, an answer or a system line is encoded as ordinary
characters. Verdict and ask tokens are written by the model or appended by id; they never come out of text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from confide.errors import ConfideError
from confide.report_tokens import ASK_NAME, CONFIDENCE, GRADED


def encode_text(tokenizer: Any, text: str) -> list[int]:
    """Token ids of a text in which no special token's name counts as the token."""
    cut = _Cut(tokenizer, [text])
    return cut.encode(cut(text))


def encode_chat(tokenizer: Any, messages: Sequence[Mapping[str, str]]) -> list[int]:
    """Token ids of a conversation, up to where the answer starts.

    Special tokens' names in its messages are encoded as ordinary characters. Without such names the ids are those of
    ``apply_chat_template``.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ConfideError("the model's tokenizer has no chat template: an instruction-tuned model is wanted")
    cut = _Cut(tokenizer, (message["content"] for message in messages))
    safe = [{**message, "content": cut(message["content"])} for message in messages]
    text = tokenizer.apply_chat_template(safe, tokenize=False, add_generation_prompt=True)
    return cut.encode(text)


class _Cut:
    """Cuts special tokens' names apart in text, so that no piece is taken for the token.

    A private-use character that the texts do not contain marks the cuts. Each cut text goes through the chat
    template as it is; encoding the pieces one by one and joining their ids leaves every character in place.
    """

    def __init__(self, tokenizer: Any, texts: Iterable[str]):
        self.tokenizer = tokenizer
        used = set("".join(texts))
        self._mark = next(char for char in map(chr, range(0xF0000, 0x10FFFE)) if char not in used)
        # Other added tokens (runs of spaces, tags) are part of how a model reads ordinary text: left alone.
        names = {str(token) for token in tokenizer.added_tokens_decoder.values() if token.special}
        names |= {*CONFIDENCE.verdict, *GRADED}
        longest_first = sorted((re.escape(name) for name in names if len(name) > 1), key=len, reverse=True)
        self._names = re.compile("|".join([*longest_first, ASK_NAME.pattern]))

    def __call__(self, text: str) -> str:
        while (cut := self._names.sub(lambda m: m[0][0] + self._mark + m[0][1:], text)) != text:
            text = cut  # again, for a name inside what is left of another
        return text

    def encode(self, text: str) -> list[int]:
        ids: list[int] = []
        for piece in text.split(self._mark):
            ids += self.tokenizer(piece, add_special_tokens=False)["input_ids"]
        return ids
