"""Log-probabilities of a server, matched to the answer."""

from __future__ import annotations

from typing import Any

import pytest

from confide.engines.openai.answer_logprobs import answer_logprobs, plain_tokens, tokens_before
from confide.engines.openai.reply import Choice


def tokens(*pairs: tuple[str, float]) -> dict[str, Any]:
    return {"content": [{"token": text, "logprob": value} for text, value in pairs]}


def test_only_the_answers_tokens_count() -> None:
    logprobs = tokens(
        ("<think>", -3), ("hm", -2), ("</think>", -1), ("\n", -5), ("Ja", -0.1), ("pan", -0.2), ("<e>", -4)
    )
    assert answer_logprobs(Choice("Japan", "hm", logprobs=logprobs)) == [-0.1, -0.2]
    assert answer_logprobs(Choice("Japan", logprobs=tokens(("Ja", -0.1), ("pan", -0.2), ("<end>", -4)))) == [-0.1, -0.2]


def test_a_short_answer_is_not_looked_for_in_the_closing_token() -> None:
    assert answer_logprobs(Choice("d", logprobs=tokens(("d", -2.0), ("<|im_end|>", -0.01)))) == [-2.0]


@pytest.mark.parametrize("closing", ["<|im_end|>", "<end>", "<|end_of_turn|>", "</s>"])
@pytest.mark.parametrize("answer", ["end", "im", "d", "s", "Kyoto"])
def test_behind_reasoning_the_answers_tokens_count_and_not_the_closing_ones(answer: str, closing: str) -> None:
    thought = [("<think>", -3.0), (f"Kyoto {answer}", -2.0), ("</think>", -1.0), ("\n\n", -5.0)]
    tagged = tokens(*thought, (answer, -0.7), (closing, -0.01))
    assert answer_logprobs(Choice(answer, "Kyoto", logprobs=tagged)) == [-0.7]
    parsed = tokens((f"Kyoto {answer}", -2.0), ("\n\n", -5.0), (answer, -0.7), (closing, -0.01))  # tags are not told
    assert answer_logprobs(Choice(answer, "Kyoto", logprobs=parsed)) == [-0.7]
    cut = tokens(*thought, (answer, -0.7))
    assert answer_logprobs(Choice(answer, "Kyoto", logprobs=cut)) == [-0.7]


def test_characters_that_are_split_over_tokens_are_matched_by_their_bytes() -> None:
    raw = "Çorum".encode()
    halves = [{"token": "\ufffd", "logprob": -0.5, "bytes": list(part)} for part in (raw[:1], raw[1:])]
    assert answer_logprobs(Choice("Çorum", "hm", logprobs={"content": halves})) == [-0.5, -0.5]


def test_tokens_that_cannot_be_matched_count_only_without_reasoning() -> None:
    strange = tokens(("▁New", -0.1), ("▁York", -0.2))
    assert answer_logprobs(Choice("New York", logprobs=strange)) == [-0.1, -0.2]
    assert answer_logprobs(Choice("New York", "hm", logprobs=strange)) is None


@pytest.mark.parametrize(
    "logprobs",
    [None, {}, {"content": None}, {"content": []}, {"content": [{}]}, {"content": ["a"]}, tokens(("Japan", 2.0)),
     {"content": [{"token": "Japan", "logprob": "x"}]}, tokens(("Japan", float("nan")))],
)  # fmt: skip
def test_odd_log_probabilities_are_none(logprobs: Any) -> None:
    assert answer_logprobs(Choice("Japan", logprobs=logprobs)) is None


def test_how_many_tokens_come_before_the_answer() -> None:
    logprobs = tokens(
        ("<think>", -3), ("hm", -2), ("</think>", -1), ("\n", -5), ("Ja", -0.1), ("pan", -0.2), ("<e>", -4)
    )
    assert tokens_before(Choice("Japan", "hm", logprobs=logprobs)) == 4
    assert tokens_before(Choice("Japan", logprobs=tokens(("Japan", -0.1)))) == 0
    assert tokens_before(Choice("Chad", "hm", logprobs=logprobs)) is None


def test_tokens_that_were_told_by_id_get_their_texts_back() -> None:
    told = [
        {"token": "token_id:7", "bytes": list(b"Ja"), "logprob": -0.1, "top_logprobs": [{"token": "token_id:9"}]},
        {"token": "token_id:8", "bytes": [300], "logprob": -0.2},
        "odd",
    ]
    plain = [(token["token"], token["top_logprobs"]) for token in plain_tokens(told)]
    assert plain == [("Ja", []), ("token_id:8", [])]
