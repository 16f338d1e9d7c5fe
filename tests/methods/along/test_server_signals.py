"""Signals of a server: the same as a trace of the whole answer says, token by token and at the end."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from confide.engines.openai.learned_reading import EXTRA, LearnedReading, piece_of
from confide.engines.openai.reply import Choice
from confide.methods.along.along_reading import AlongRule
from confide.methods.along.schedule import due_rows
from confide.methods.along.server_signals import ServerSignals

VOCABULARY, END, ZERO, FINGERPRINT = 500, 2, -768.0, (1, 2, 3, 200)
READING = LearnedReading(
    VOCABULARY, ("prompt_end",), (0.0,), frozenset({END}), FINGERPRINT, ("red_flag", "outcome")
)  # fmt: skip
PIECES = ["Step", " one", ".", "\n", "Then", " two", ".", "<|im_end|>"]
Z = np.random.default_rng(0).normal(size=(len(PIECES), 2)).astype(np.float32) * 2


def content(pieces: list[str] = PIECES) -> list[dict[str, Any]]:
    """What a vLLM with the plug-in tells of each token."""
    found = []
    for place, piece in enumerate(pieces):
        values = [0.0, 0.3, *Z[place].tolist(), FINGERPRINT[-1] - 128.0]
        ids = [*range(VOCABULARY, VOCABULARY + 4), VOCABULARY + EXTRA - 1]
        found.append(
            {
                "token": f"token_id:{END if piece == '<|im_end|>' else 10 + place}",
                "logprob": -0.5,
                "bytes": list(piece.encode()),
                "top_logprobs": [
                    {"token": f"token_id:{id}", "logprob": ZERO + value} for id, value in zip(ids, values, strict=True)
                ],
            }
        )
    return found


def rules(schedule: str) -> list[AlongRule]:
    return [AlongRule("red_flag", "tokens", "average:4"), AlongRule("outcome", schedule, "mean", 0.7, 0.2)]


def choice(pieces: list[str]) -> Choice:
    return Choice("", read=READING.read(content(pieces)))


@pytest.mark.parametrize("schedule", ["tokens", "every:3", "lines", "sentences"])
@pytest.mark.parametrize("cut", [False, True])
def test_the_lowest_value_is_that_of_the_whole_trace(schedule: str, cut: bool) -> None:
    pieces = PIECES[:-1] if cut else PIECES
    signals = ServerSignals(READING, rules(schedule), {})
    found = signals.lowest([choice(pieces)])
    read = len(pieces) - 1
    for place, rule in enumerate(rules(schedule)):
        due = due_rows(rule.schedule, read, PIECES[:-1])
        assert found[rule.signal] == pytest.approx(rule.trace(Z[: read + 1, place], due).lowest, abs=1e-5)


def test_an_answer_ends_when_the_token_after_the_flag_is_there() -> None:
    values = rules("tokens")[0].trace(Z[:, 0], np.arange(1, len(PIECES))).values
    limit = float(np.mean(sorted(values)[2:4]))
    first = next(at for at, value in enumerate(values, start=1) if value < limit)
    follower = ServerSignals(READING, rules("tokens"), {"red_flag": limit}).follow()
    told = content()
    for count in range(1, len(PIECES) + 1):
        assert follower.ends(told[:count], said=True) == (count > first)


def test_of_several_choices_the_lowest_counts_and_one_without_a_reading_leaves_none() -> None:
    signals = ServerSignals(READING, rules("tokens"), {})
    one, other = choice(PIECES), choice(PIECES[:4])
    lowest = signals.lowest([one, other])["red_flag"]
    assert lowest == min(signals.lowest([c])["red_flag"] or 1 for c in (one, other))
    assert signals.lowest([one, Choice("x")])["red_flag"] is None


def test_tokens_without_the_shares_say_nothing() -> None:
    told = content()
    told[3]["top_logprobs"] = []
    read = READING.read(told)
    assert read.shares is None
    assert ServerSignals(READING, rules("tokens"), {}).lowest([Choice("", read=read)])["red_flag"] is None


@pytest.mark.parametrize(("token", "piece"), [({"bytes": [195, 169]}, "é"), ({"bytes": None}, ""), ({}, ""), (7, "")])
def test_a_token_is_spelled_by_its_bytes(token: Any, piece: str) -> None:
    assert piece_of(token) == piece
