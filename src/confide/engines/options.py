"""Choice by likelihood: of the options of a question, the one whose text the model finds likeliest.

Log p of an option's tokens, divided by their number (Brown et al. 2020, section 2.4). A question's prompt runs once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from confide.engines.transformers.token_scores import Completion
from confide.engines.transformers.transformers_engine import TransformersEngine


@dataclass(frozen=True)
class Choice:
    """The likeliest option as if it had been written, and the mean log p of every option (nats a token)."""

    index: int
    completion: Completion
    option_logprobs: list[float]


def choose(engine: TransformersEngine, prompts: Sequence[list[int]], options: Sequence[Sequence[str]]) -> list[Choice]:
    """Answer each prompt with the likeliest of its options (the first of equals).

    The closing token is not counted: that a model would end its turn says more of an option's form than of its truth.
    """
    return [_choice(found, texts) for found, texts in zip(_measured(engine, prompts, options), options, strict=True)]


def option_logprobs(
    engine: TransformersEngine, prompts: Sequence[list[int]], options: Sequence[Sequence[str]]
) -> list[list[float]]:
    """Mean log p (nats a token) of every option of every prompt, as `choose` compares them."""
    return [_means(found) for found in _measured(engine, prompts, options)]


def _measured(
    engine: TransformersEngine, prompts: Sequence[list[int]], options: Sequence[Sequence[str]]
) -> list[list[Completion]]:
    repeated = [prompt for prompt, texts in zip(prompts, options, strict=True) for _ in texts]
    answers = [engine.encode_answer(text) for texts in options for text in texts]
    rest = iter(engine.forced(repeated, answers, measure=True)[1])
    return [[next(rest) for _ in texts] for texts in options]


def _means(measured: Sequence[Completion]) -> list[float]:
    return [round(sum(c.logprobs) / max(1, len(c.logprobs)), 5) for c in measured]


def _choice(measured: Sequence[Completion], texts: Sequence[str]) -> Choice:
    means = _means(measured)
    index = max(range(len(means)), key=means.__getitem__)
    best = measured[index]
    completion = replace(
        best,
        text=texts[index],
        logprobs=[round(value, 5) for value in best.logprobs],
        entropies=[round(value, 5) for value in best.entropies],
        end_logprob=None if best.end_logprob is None else round(best.end_logprob, 5),
    )
    return Choice(index, completion, means)
