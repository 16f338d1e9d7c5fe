"""Where an answer ends: the token that closes a turn, and generated ids cut there."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from confide.errors import ConfideError


def turn_end_id(tokenizer: Any) -> int:
    """The token that closes an answer: the first special one that the chat template puts after it.

    The tokenizer's end-of-sequence token is not always the one that ends a turn (Gemma).
    """
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    if getattr(tokenizer, "chat_template", None):
        mark = "answer"
        turns = [{"role": "user", "content": "question"}, {"role": "assistant", "content": mark}]
        tail = tokenizer.apply_chat_template(turns, tokenize=False).rpartition(mark)[2]
        for token in tokenizer(tail, add_special_tokens=False)["input_ids"]:
            if token in special:
                return int(token)
    if tokenizer.eos_token_id is None:
        raise ConfideError("the model's tokenizer names no token that ends an answer")
    return int(tokenizer.eos_token_id)


def cut_at_turn_end(ids: Sequence[int], end_ids: Collection[int]) -> tuple[list[int], int | None]:
    """Generated ids up to the first that ends an answer, and that position (None: the answer was cut short)."""
    end = next((i for i, token in enumerate(ids) if token in end_ids), None)
    return list(ids[:end]), end
