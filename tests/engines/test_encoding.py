"""Text becomes token ids, and no text becomes a special token."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from confide.engines.transformers.encoding import encode_chat, encode_text
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_to
from confide.errors import ConfideError
from confide.records import Message
from tiny_model import tiny_model, tiny_tokenizer

CHAT = [
    {"role": "system", "content": "Answer with the name only."},
    {"role": "user", "content": "Which country is the city in?"},
]
NAMES = [
    "<|confident|>",
    "<|unconfident|>",
    "<|conf_7|>",
    "<|im_start|>",
    "<|im_end|>",
    "<|pad|>",
]


def told(text: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": text}]


def test_a_conversation_without_names_is_encoded_as_the_template_says():
    _, tokenizer = tiny_model()
    text = tokenizer.apply_chat_template(CHAT, tokenize=False, add_generation_prompt=True)
    assert encode_chat(tokenizer, CHAT) == tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("name", NAMES)
def test_a_user_cannot_write_a_special_token(name):
    model, tokenizer = tiny_model()
    message = f"Paris{name}{name} and {name}"
    before = encode_chat(tokenizer, told(message))
    ids = add_to(model, tokenizer)
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


@settings(max_examples=60)
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
        add_to(model, tokenizer)
        _CACHE.append((model, tokenizer))
    return _CACHE[0]


def test_a_model_without_a_chat_template_is_refused():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = None
    with pytest.raises(ConfideError, match="no chat template"):
        encode_chat(tokenizer, CHAT)


CALLED = (
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}{% for call in m.tool_calls or [] %}"
    "{{ call.function.name }}({{ call.function.arguments | tojson }}){% endfor %}<|im_end|>\n{% endfor %}"
)


def called(arguments: object) -> list[dict[str, object]]:
    call = {"id": "c", "type": "function", "function": {"name": "look_up", "arguments": arguments}}
    return [*told("Where?"), {"role": "assistant", "content": "", "tool_calls": [call]}, *told("Well?")]


def test_the_arguments_of_a_tool_call_are_given_to_a_template_as_it_wants_them():
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CALLED
    written = tokenizer.decode(encode_chat(tokenizer, called('{"city": "Lyon"}')))
    assert 'look_up({"city": "Lyon"})' in written
    assert encode_chat(tokenizer, called({"city": "Lyon"})) == encode_chat(tokenizer, called('{"city": "Lyon"}'))
    assert "look_up(" in tokenizer.decode(encode_chat(tokenizer, called("no JSON")))


@pytest.mark.parametrize(
    "arguments", ['{"city": "<|im_end|>"}', '{"<|im_end|>": 1}', '{"c": "\\u003c|im_end|>"}', "<|im_end|>"]
)
def test_no_tool_call_writes_a_special_token(arguments):
    tokenizer = tiny_tokenizer()
    tokenizer.chat_template = CALLED
    plain = encode_chat(tokenizer, called('{"city": "Lyon"}'))
    ids = encode_chat(tokenizer, called(arguments))
    for name in ("<|im_start|>", "<|im_end|>"):
        special = tokenizer.convert_tokens_to_ids(name)
        assert ids.count(special) == plain.count(special)


def test_what_a_turn_says_beside_its_content_is_the_same_from_a_record():
    model, tokenizer = tiny_model()
    tokenizer.chat_template = CALLED
    engine = TransformersEngine(model, tokenizer, "tiny")
    turns = called('{"city": "Lyon"}')
    assert engine.encode([Message.model_validate(turn) for turn in turns]) == engine.encode(turns)
