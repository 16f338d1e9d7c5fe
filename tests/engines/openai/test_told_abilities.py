"""What a server's answer shows of an ability, in the shapes that servers have and in those that show nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from confide.engines.openai import told_abilities as told_of


def chat(token: Any = None, **more: Any) -> dict[str, Any]:
    return {"choices": [{"logprobs": {"content": [token]}, "message": {"content": "Hi"}, **more}]}


ODD: list[Any] = [
    {}, {"choices": None}, {"choices": []}, {"choices": [None, 5]}, {"choices": [{"logprobs": None, "message": None}]},
    {"choices": [{"logprobs": {"content": None}, "message": "Hi"}]}, {"choices": [{"logprobs": {"content": [None]}}]},
    {"choices": {"0": {}}}, {"data": 5, "usage": 3, "prompt_logprobs": "no"}, {"data": [None, {"id": 3}]},
]  # fmt: skip


@pytest.mark.parametrize("data", ODD, ids=json.dumps)
def test_odd_answers_show_nothing(data: dict[str, Any]) -> None:
    assert told_of.messages_in(data) == []
    assert told_of.texts_in(data) == []
    assert told_of.reasoning_in(data) is None
    assert not told_of.usage_told(data)
    assert told_of.first_token(data) is None
    assert told_of.token_ids_in(data) == frozenset()
    assert told_of.chosen_in(data) == {}
    assert not told_of.prompt_logprobs_in_chat(data)
    assert not told_of.prompt_logprobs_in_echo(data, "Hello")
    assert told_of.names_listed(data) in (None, [])
    assert told_of.card_of(data, "tiny") == {}


@pytest.mark.parametrize(
    ("token", "there"),
    [
        ({"token": "Hi", "logprob": -0.25}, True),
        ({"token": "Hi", "logprob": 0}, True),
        ({"token": "Hi", "logprob": 0.5}, False),
        ({"token": "Hi", "logprob": None}, False),
        ({"token": "Hi", "logprob": True}, False),
        ({"token": "Hi", "logprob": "-0.25"}, False),
        ({"token": "Hi", "logprob": float("nan")}, False),
        ({"token": "Hi"}, False),
        ({"token": "a", "logprob": 0.0, "top_logprobs": [{"token": t, "logprob": 0.0} for t in "ab"]}, False),
        ({"token": "a", "logprob": -0.7, "top_logprobs": [{"token": t, "logprob": -0.7} for t in "ab"]}, True),
    ],
)
def test_log_probabilities_are_numbers_that_can_be_some(token: dict[str, Any], there: bool) -> None:
    assert (told_of.first_token(chat(token)) is not None) == there


def test_token_ids_are_told_in_three_ways() -> None:
    assert told_of.token_ids_in(chat({"token": "token_id:17"})) == {"return_tokens_as_token_ids"}
    assert told_of.token_ids_in(chat({"token": "Hi", "id": 0})) == {"id"}
    assert told_of.token_ids_in(chat(token_ids=[1, 2])) == {"return_token_ids"}
    for odd in ([], ["1"], [True], [-1], "12", None):
        assert told_of.token_ids_in(chat({"token": "token_id:x", "id": "7"}, token_ids=odd)) == frozenset()


def test_chosen_ids_count_where_their_log_probabilities_come_back() -> None:
    top = [{"token": "token_id:0", "logprob": -9.0}, {"token": "token_id:1"}, {"token": "1", "logprob": -1.0}]
    assert told_of.chosen_in(chat({"token": "token_id:5", "top_logprobs": top})) == {0: -9.0}


@pytest.mark.parametrize(
    ("values", "there"),
    [
        ({936: -780.25, 937: -781.5, 995: -780.25}, True),
        ({936: -1012.5, 937: -1000.0, 995: -1012.5}, True),
        ({936: -780.25, 937: -781.5}, False),  # ids that are missing
        ({936: -780.25, 995: -780.25}, False),
        ({936: -9999.0, 937: -9999.0, 995: -9999.0}, False),  # masked
        ({936: -12.5, 937: -13.0, 995: -12.5}, False),  # rows of a plain model
        ({936: -780.25, 937: -781.5, 995: -775.0}, False),
        ({936: -780.25, 937: -1.0, 995: -780.25}, False),
        ({}, False),
    ],
)
def test_a_reading_is_a_share_beside_the_plug_ins_floor(values: dict[int, float], there: bool) -> None:
    assert told_of.is_reading(values, 936) == there


def test_the_vocabulary_is_read_from_the_refusal_alone() -> None:
    sentence = b'{"error":{"message":"token_id(s) [2147483647] in logprob_token_ids contain out-of-vocab token ids. '
    assert told_of.vocabulary_in(sentence + b'Vocabulary size: 49216"}}') == 49216
    assert told_of.vocabulary_in(b"contains out-of-vocab token id 9; vocabulary size is 1000") == 1000
    assert told_of.vocabulary_in(b"Vocabulary size: 49216") is None
    assert told_of.vocabulary_in(b"out-of-vocab") is None


def test_prompt_log_probabilities() -> None:
    for told in ([None, {"5": {"logprob": -1.0}}], [{"5": -1.0}]):
        assert told_of.prompt_logprobs_in_chat({"prompt_logprobs": told})
    for told in (None, [], [None], [{}], [{"5": None}], {"5": -1.0}):
        assert not told_of.prompt_logprobs_in_chat({"prompt_logprobs": told})


@pytest.mark.parametrize(
    ("text", "tokens", "values", "there"),
    [
        ("Hello you !", ["Hello", " you", " !"], [None, -1.0, -2.0], True),
        (" !", [" !"], [-2.0], False),  # nothing repeated
        ("Hello you !", ["Hello", " you", " !"], [None, None, -2.0], False),
        ("Hello you !", [], [], False),
        ("Hello you !", None, None, False),
    ],
)
def test_an_echo_has_log_probabilities_of_the_prompt(text: str, tokens: Any, values: Any, there: bool) -> None:
    data = {"choices": [{"text": text, "logprobs": {"tokens": tokens, "token_logprobs": values}}]}
    assert told_of.prompt_logprobs_in_echo(data, "Hello you") == there


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        (b'data: {"choices": [{"delta": {"content": "Hi"}}]}\n\ndata: [DONE]\n\n', (True, False)),
        (b'data: {"choices": [{"delta": {}}], "usage": {"prompt_tokens": 3}}\r\n\r\n', (True, True)),
        (b'{"choices": [{"message": {"content": "Hi"}}]}', (False, False)),
        (b'data: {"error": {"message": "no"}}\n\n', (False, False)),
        (b"data: {broken\n\n", (False, False)),
        (b"\xff\xfe\x00", (False, False)),
        (b"", (False, False)),
    ],
)
def test_a_stream_is_pieces(body: bytes, expected: tuple[bool, bool]) -> None:
    assert told_of.streamed(body) == expected


@pytest.mark.parametrize(
    ("message", "where"),
    [
        ({"content": "Hi", "reasoning_content": "Hm"}, "apart"),
        ({"content": None, "reasoning": "Hm"}, "apart"),
        ({"content": [{"type": "thinking", "thinking": "Hm"}]}, "apart"),
        ({"content": "\n<think>Hm"}, "in the answer"),
        ({"content": "[THINK]Hm[/THINK]Hi"}, "in the answer"),
        ({"content": "Hi", "reasoning_content": None}, None),
        ({"content": "What is <think>?"}, None),
        ({"content": "", "reasoning": ""}, None),
    ],
)
def test_where_reasoning_stands(message: dict[str, Any], where: str | None) -> None:
    assert told_of.reasoning_in({"choices": [{"message": message}]}) == where


@pytest.mark.parametrize(
    ("card", "context"),
    [
        ({"max_model_len": 2048}, 2048),
        ({"context_window": 131072}, 131072),
        ({"context_length": 8192}, 8192),
        ({"meta": {"n_ctx_train": 131072, "n_ctx": 4096}}, 4096),
        ({"meta": {"n_ctx_train": 131072}}, None),
        ({"max_model_len": None}, None),
        ({"max_model_len": 0}, None),
        ({"max_model_len": "2048"}, None),
        ({"max_model_len": True, "meta": 3}, None),
    ],
)
def test_the_context_is_listed(card: dict[str, Any], context: int | None) -> None:
    assert told_of.context_in(card) == context


@pytest.mark.parametrize(
    ("body", "version"),
    [
        (b'{"version": "0.32.0"}', "0.32.0"),
        (b'{"version": "v0.5.1-rc1+cu128"}', "v0.5.1-rc1+cu128"),
        (b'{"version": "<b>1</b>"}', ""),
        (b'{"version": 3}', ""),
        (b'"0.32.0"', ""),
        (b"<html>", ""),
        (b"", ""),
    ],
)
def test_a_version_is_a_version(body: bytes, version: str) -> None:
    assert told_of.version_in(body) == version


def test_versions_are_compared_as_numbers() -> None:
    assert [told_of.at_least(v, (0, 30)) for v in ("0.30.0", "0.32.1.dev3+g1", "v1.0", "0.100")] == [True] * 4
    assert [told_of.at_least(v, (0, 30)) for v in ("0.29.9", "0.9", "", "dev", "0")] == [False] * 5


@pytest.mark.parametrize(
    ("asked", "reported", "other"),
    [
        ("tiny", "tiny", False),
        ("tiny", "Tiny", False),
        ("tiny", "", False),
        ("tiny", "/models/tiny.gguf", False),
        ("tiny", "tiny:latest", False),
        ("tiny:latest", "tiny", False),
        ("gpt-4o", "gpt-4o-2024-08-06", False),
        ("gpt-4", "gpt-4-0613", False),
        ("gpt-4", "gpt-4.1", True),
        ("gpt-4o", "gpt-4o-mini", True),
        ("qwen3", "qwen3-8b", True),
        ("qwen3:8b", "qwen3:0.6b", True),
        ("org/tiny", "tiny", False),
        ("org/tiny", "other/tiny", True),
        ("org/tiny", "/data/org/tiny/", False),
        ("tiny", "big", True),
        ("tiny", "untiny", True),
    ],
)
def test_which_names_are_another_models(asked: str, reported: str, other: bool) -> None:
    assert told_of.is_other_model(asked, reported) == other
