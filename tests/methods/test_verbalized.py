"""Verbalised confidence: numbers and words are read as what they say, and nothing is guessed."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from confide.methods.verbalized import PROMPTS, ask_confidence, choose_prompt, parse
from scored_model import engine, records


@pytest.mark.parametrize(
    ("text", "scale", "value"),
    [
        ("I am 85% sure.", 100, 0.85),
        ("85", 100, 0.85),
        ("95.", 100, 0.95),
        ("87.5 percent", 100, 0.875),
        ("0.7", 1, 0.7),
        ("0.7", 100, 0.7),
        ("0,8", 1, 0.8),
        (".5", 1, 0.5),
        ("1", 1, 1.0),
        ("1", 100, 0.01),
        ("1.0", 100, 1.0),
        ("100", 100, 1.0),
        ("0", 100, 0.0),
        ("80", 1, 0.8),
        ("9/10", 100, 0.9),
        ("8 out of 10", 100, 0.8),
        ("ninety five percent", 100, 0.95),
        ("twenty-five", 100, 0.25),
        ("One hundred percent", 100, 1.0),
        ("eight out of ten", 100, 0.8),
        ("very likely", 100, 0.825),
        ("Very unlikely!", 100, 0.125),
        ("almost certain", 100, 0.95),
        ("fifty-fifty", 100, 0.5),
        ("It is not likely.", 100, 0.2),
        ("I am not very sure", 100, 0.225),
        ("unlikely, 30%", 100, 0.2),
        ("150", 100, None),
        ("-5", 100, None),
        ("101%", 100, None),
        ("1,000", 100, None),
        ("1 000", 100, None),
        ("1 000", 1, None),
        ("1\u202f000", 100, None),
        ("1'000", 100, None),
        ("1_000", 1, None),
        ("12 345 678", 100, None),
        ("10^2", 100, None),
        ("10**2", 100, None),
        ("9²", 100, None),
        ("x^2", 100, None),
        ("9·10", 100, None),
        ("9 x 10", 100, None),
        (r"9 \times 10", 100, None),
        ("10/10^2", 100, None),
        ("9 * 10^1", 100, None),
        ("1½", 1, None),
        ("1 1/2", 1, None),
        ("1 million", 100, None),
        ("2 hundred", 100, None),
        ("5k", 100, None),
        ("1.2.3", 100, None),
        ("9:1", 100, None),
        ("9 in 12", 100, None),
        ("9 in 10", 100, 0.9),
        ("9 times out of 10", 100, 0.9),
        ("85 of 100", 100, 0.85),
        ("50/50", 100, 0.5),
        ("**85**", 100, 0.85),
        ("85\n90", 100, 0.85),
        ("80-90", 100, 0.8),
        ("Q1: 85", 100, 0.85),
        ("½", 1, 0.5),
        ("1.000", 1, 1.0),
        ("1/0", 100, None),
        ("", 100, None),
        ("Paris", 100, None),
        ("one of them", 100, None),
        ("assured", 100, None),
    ],
)
def test_what_is_said_is_read(text: str, scale: int, value: float | None) -> None:
    assert parse(text, scale) == (None if value is None else pytest.approx(value))


@given(st.text(max_size=60), st.sampled_from([1, 100]))
def test_any_text_gives_a_confidence_or_none(text: str, scale: int) -> None:
    value = parse(text, scale)
    assert value is None or 0 <= value <= 1


@given(st.integers(min_value=0, max_value=100), st.sampled_from(["{}%", "{} percent", "I am {} % sure", "{}/100"]))
def test_percentages_come_back(percent: int, form: str) -> None:
    assert parse(form.format(percent)) == pytest.approx(percent / 100)


def test_the_prompt_that_ranks_validation_best_is_chosen() -> None:
    right = np.array([True, True, False, False] * 5)
    good = np.where(right, 0.8, 0.3)
    rare = np.where(np.arange(20) < 2, [0.9] * 20, np.nan)  # right where it speaks, but silent elsewhere
    said = np.column_stack([rare, 1 - good, good])
    assert choose_prompt(said, right) == 2
    assert choose_prompt(np.full((20, 3), np.nan), right) == 0


def test_a_model_is_asked_with_every_prompt_and_the_tokens_count() -> None:
    said, cost = ask_confidence(engine(), records(5), [0, 2])
    assert said.shape == (5, len(PROMPTS))
    assert np.isnan(said[:, 1]).all()
    assert cost.tokens > 10
    assert cost.seconds > 0


@pytest.mark.parametrize(
    ("text", "scale", "value"),
    [
        ("0,8", 1, 0.8),
        ("80,5 %", 100, 0.805),
        ("８０％", 100, 0.8),
        ("٨٠٪", 100, 0.8),
        ("0٫8", 1, 0.8),
        ("−0.5", 1, None),
        ("1e-3", 1, 0.001),
        ("8e-1", 100, 0.8),
        ("1,000", 100, None),
        ("0,875", 1, 0.875),
        ("8,5/10", 100, 0.85),
        ("100,0%", 100, 1.0),
    ],
)
def test_confidences_in_other_notations(text: str, scale: int, value: float | None) -> None:
    assert parse(text, scale) == (None if value is None else pytest.approx(value))
