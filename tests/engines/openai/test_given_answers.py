"""The answer's tokens among those of a prompt."""

from __future__ import annotations

from typing import Any

import pytest

from confide.engines.openai.given_answers import given_answer
from confide.engines.openai.reply import Reply
from confide.errors import ConfideError


def prompt(*tokens: tuple[str, float]) -> Reply:
    places: list[Any] = [None]
    for n, (text, value) in enumerate(tokens):
        places.append({str(n): {"logprob": value, "decoded_token": text}, "9": {"logprob": -0.1, "decoded_token": "x"}})
    return Reply([], prompt_logprobs=places)


@pytest.mark.parametrize(
    ("tokens", "text", "values"),
    [
        ([("user", -9.0), ("\n", -8.0), ("New", -0.5), (" Zealand", -0.25)], "New Zealand", [-0.5, -0.25]),
        ([("a", -9.0), (" a", -0.5), (" saw", -0.25)], "a saw", [-0.5, -0.25]),
        ([("Japan", -9.0), ("Japan", -0.5)], "Japan", [-0.5]),
        ([("Japan", -9.0), ("Ja", -0.5), ("pan", 1e-7)], "Japan", [-0.5, 0.0]),
    ],
)
def test_the_last_tokens_that_make_up_the_answer_count(
    tokens: list[tuple[str, float]], text: str, values: list[float]
) -> None:
    found = given_answer(prompt(*tokens), text)
    assert (found.text, found.logprobs, found.tokens) == (text, values, len(values))


@pytest.mark.parametrize(
    "reply",
    [
        prompt(("Peru", -1.0)),
        prompt(("xJapan", -1.0)),
        prompt(),
        Reply([], prompt_logprobs=None),
        Reply([], prompt_logprobs=["x"]),
        prompt(("Japan", float("nan"))),
        Reply([], prompt_logprobs=[{"1": {"logprob": "x"}}]),
    ],
)
def test_what_does_not_end_with_the_answer_is_refused(reply: Reply) -> None:
    with pytest.raises(ConfideError):
        given_answer(reply, "Japan")
