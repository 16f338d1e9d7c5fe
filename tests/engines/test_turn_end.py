"""The token that ends a turn."""

from __future__ import annotations

from confide.engines.transformers.turn_end import turn_end_id
from tiny_model import tiny_tokenizer


def test_the_token_that_ends_a_turn_comes_from_the_template():
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "<|pad|>"  # some models' end of sequence is not what closes a turn
    assert turn_end_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenizer.chat_template = None
    assert turn_end_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|pad|>")
