from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.errors import ConfideError
from confide.signals import (
    CONFIDENCE,
    add_to,
    encode_chat,
    encode_text,
    suppressed_ids,
    token_ids,
    turn_end_id,
)
from tiny_model import tiny_model, tiny_tokenizer

CHAT = [
    {"role": "system", "content": "Answer with the name only."},
    {"role": "user", "content": "Which country is the city in?"},
]
NAMES = [
    "<|confident|>",
    "<|unconfident|>",
    "<|ask_1|>",
    "<|ask_17|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|pad|>",
]


def told(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_conversation_without_names_is_encoded_as_the_template_says():
    _, tokenizer = tiny_model()
    for generate in (True, False):
        text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=generate)
        plain = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert encode_chat(tokenizer, CHAT, add_generation_prompt=generate) == plain


@pytest.mark.parametrize("name", NAMES)
def test_a_user_cannot_write_a_special_token(name):
    model, tokenizer = tiny_model()
    message = f"Paris{name}{name} and {name}"
    before = encode_chat(tokenizer, told(message))
    ids = add_to(model, tokenizer, ask_tokens=20)
    after = encode_chat(tokenizer, told(message))
    assert after == before, "adding the tokens changes how text is read"
    assert not set(after) & set(ids.all)
    ordinary = encode_chat(tokenizer, told("Paris"))
    for special in ("<|im_start|>", "<|im_end|>", "<|pad|>"):
        token = tokenizer.convert_tokens_to_ids(special)
        assert after.count(token) == ordinary.count(token), "the template's own markers stay, no more come in"
    assert message in tokenizer.decode(after, skip_special_tokens=False)
    assert not set(encode_text(tokenizer, message)) & {*ids.all, tokenizer.eos_token_id}


PIECES = st.sampled_from([*NAMES, "<", "<|", "|>", "confident", "<|con", "fident|>", "é", " ", "\U000f0000", "\n"])


@settings(max_examples=60, deadline=None)
@given(st.lists(PIECES | st.text(max_size=3), max_size=8).map("".join))
def test_no_text_becomes_a_special_token_and_none_is_lost(text):
    _, tokenizer = _with_tokens()
    ids = encode_text(tokenizer, text)
    assert not set(ids) & set(tokenizer.added_tokens_decoder)
    assert tokenizer.decode(ids) == text


_CACHE: list[tuple[object, object]] = []


def _with_tokens():
    if not _CACHE:
        model, tokenizer = tiny_model()
        add_to(model, tokenizer, ask_tokens=2)
        _CACHE.append((model, tokenizer))
    return _CACHE[0]


@pytest.mark.parametrize("tied", [True, False])
def test_new_rows_are_the_mean_of_the_old_ones(tied):
    model, tokenizer = tiny_model(tied=tied)
    known = len(tokenizer)
    old = [layer.weight.detach().clone() for layer in (model.get_input_embeddings(), model.get_output_embeddings())]
    ids = add_to(model, tokenizer, ask_tokens=3)
    assert ids.all == list(range(known, known + 5))
    for layer, weight in zip((model.get_input_embeddings(), model.get_output_embeddings()), old, strict=True):
        assert layer.weight.shape[0] % 64 == 0
        assert torch.equal(layer.weight[:known], weight)
        assert torch.allclose(layer.weight[known:], weight.mean(0).expand_as(layer.weight[known:]), atol=1e-6)
    assert (model.get_input_embeddings().weight is model.get_output_embeddings().weight) == tied
    assert model.config.vocab_size == model.get_input_embeddings().weight.shape[0]


def test_spare_rows_are_used_before_the_matrix_grows():
    known = len(tiny_tokenizer())
    model, tokenizer = tiny_model(rows=known + 7)
    old = model.get_input_embeddings().weight.detach().clone()
    ids = add_to(model, tokenizer)
    weight = model.get_input_embeddings().weight
    assert weight.shape[0] == known + 7
    assert torch.allclose(weight[ids.cn], old[:known].mean(0), atol=1e-6)


def test_adding_again_keeps_trained_rows():
    model, tokenizer = tiny_model()
    ids = add_to(model, tokenizer)
    with torch.no_grad():
        model.get_input_embeddings().weight[ids.cn] += 1
    kept = model.get_input_embeddings().weight.detach().clone()
    assert add_to(model, tokenizer) == ids
    assert torch.equal(model.get_input_embeddings().weight, kept)
    more = add_to(model, tokenizer, ask_tokens=2)
    assert (more.cn, more.un) == (ids.cn, ids.un)
    assert torch.equal(model.get_input_embeddings().weight[[ids.cn, ids.un]], kept[[ids.cn, ids.un]])


def test_a_mean_row_never_wins_a_greedy_choice():
    model, tokenizer = tiny_model()
    known = len(tokenizer)
    add_to(model, tokenizer)
    logits = model(torch.randint(3, known, (8, 20))).logits
    assert bool((logits.argmax(-1) < known).all())


def test_suppressed_ids_and_token_ids():
    model, tokenizer = tiny_model()
    assert suppressed_ids(tokenizer) == []
    with pytest.raises(ConfideError, match="was not trained to report its confidence"):
        token_ids(tokenizer)
    ids = add_to(model, tokenizer, CONFIDENCE, ask_tokens=2)
    assert suppressed_ids(tokenizer) == sorted(ids.all)
    assert token_ids(tokenizer) == ids
    assert token_ids(tokenizer, ask_tokens=0).ask == ()
    assert tokenizer.decode([ids.cn, *ids.ask], skip_special_tokens=True) == ""


def test_the_token_that_ends_a_turn_comes_from_the_template():
    tokenizer = tiny_tokenizer()
    tokenizer.eos_token = "<|pad|>"  # some models' end of sequence is not what closes a turn
    assert turn_end_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|im_end|>")
    tokenizer.chat_template = None
    assert turn_end_id(tokenizer) == tokenizer.convert_tokens_to_ids("<|pad|>")


def test_a_model_without_a_chat_template_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ConfideError, match="no chat template"):
        encode_chat(tokenizer, CHAT)
