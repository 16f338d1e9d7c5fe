"""Replies as completions, and the likeliest first tokens."""

from __future__ import annotations

import math
from typing import Any

import pytest

from confide.engines.openai.completions import completion_of, letter_logprobs
from confide.engines.openai.reply import Choice, Reply


def first(*top: tuple[str, float]) -> Choice:
    listed = [{"token": token, "logprob": value} for token, value in top]
    return Choice("Yes", logprobs={"content": [{"token": "Yes", "logprob": -0.1, "top_logprobs": listed}]})


def test_tokens_that_differ_in_spaces_count_together() -> None:
    found, rival = letter_logprobs(
        first((" Yes", math.log(0.3)), ("Yes", math.log(0.2)), ("No", math.log(0.4))), [" Yes", " No"]
    )
    assert found == pytest.approx([math.log(0.5), math.log(0.4)])
    assert rival == -math.inf


def test_one_that_is_not_told_counts_as_the_least_likely_that_is() -> None:
    found, rival = letter_logprobs(first(("Yes", -0.1), ("Maybe", -3.0), ("So", -4.0)), ["Yes", "No"])
    assert found == [-0.1, -4.0]
    assert rival == -3.0


@pytest.mark.parametrize(
    "choice", [first(("Maybe", -0.1)), first(), Choice("Yes"), Choice("Yes", logprobs={"content": [7]})]
)
def test_nothing_is_known_where_neither_is_told(choice: Choice) -> None:
    found, _ = letter_logprobs(choice, ["Yes", "No"])
    assert all(map(math.isnan, found))


@pytest.mark.parametrize("value", [None, "x", math.nan, 2.0, True])
def test_odd_values_are_passed_over(value: Any) -> None:
    odd = first(("Yes", -0.5), ("No", -1.0))
    assert odd.logprobs is not None
    odd.logprobs["content"][0]["top_logprobs"].append({"token": "No", "logprob": value})
    if value is not True:
        assert letter_logprobs(odd, ["Yes", "No"])[0] == pytest.approx([-0.5, -1.0])


def test_reasoning_tools_and_finish_reasons_are_kept() -> None:
    call = {"id": "c", "type": "function", "function": {"name": "look", "arguments": "{}"}}
    reply = Reply([Choice(None, "hm", "tool_calls", {"tool_calls": [call]})], 7, 5, cost=0.5)
    (found,) = completion_of(reply)
    assert (found.text, found.reasoning, found.finish, found.tokens) == ("", "hm", "stop", 5)
    assert found.more == {
        "tool_calls": [call],
        "finish_reason": "tool_calls",
        "usage": {"prompt_tokens": 7, "completion_tokens": 5, "cost": 0.5},
    }


def test_several_answers_share_what_they_cost() -> None:
    token = {"token": "a", "logprob": -0.1}
    choices = [Choice("a", logprobs={"content": [token] * n}) for n in (1, 3)]
    one, other = completion_of(Reply(choices, 4, 4, cost=2.0))
    assert (one.tokens, other.tokens) == (1, 3)
    assert one.more["usage"]["cost"] == 1.0


def test_tokens_that_cannot_come_count_together() -> None:
    found, _ = letter_logprobs(first(("Yes", -0.1), (" No", -9999.0), ("No", -9999.0)), ["Yes", "No"])
    assert found == pytest.approx([-0.1, -9999.0 + math.log(2)])


def test_the_first_token_of_reasoning_is_not_that_of_the_answer() -> None:
    choice = first(("Yes", -0.1), ("No", -3.0))
    choice.reasoning = "Yes"
    assert all(map(math.isnan, letter_logprobs(choice, ["Yes", "No"])[0]))


@pytest.mark.parametrize("finish", ["length", "max_tokens", "MAX_TOKENS", "model_length"])
def test_an_answer_was_cut_however_its_server_says_so(finish: str) -> None:
    choice = first(("Yes", -0.1))
    choice.finish = finish
    (found,) = completion_of(Reply([choice]))
    assert (found.finish, found.logprobs) == ("length", [-0.1])


@pytest.mark.parametrize("finish", ["content_filter", "unknown", "tool_calls"])
def test_an_answer_that_did_not_end_by_itself_has_no_log_probabilities(finish: str) -> None:
    choice = first(("Yes", -0.1))
    choice.finish = finish
    (found,) = completion_of(Reply([choice]))
    assert (found.finish, found.logprobs) == ("stop", [])
