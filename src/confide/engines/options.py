"""Choice by likelihood: of the options of a question, the one whose text the model finds likeliest.

Log-probability of an option's tokens, divided by their number (Brown et al. 2020, section 2.4). A question's prompt
runs once.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from confide.engines.engine import Completion, Engine


@dataclass(frozen=True)
class Choice:
    """The likeliest option as if it had been written, and the mean log-probability of every option (nats per token)."""

    index: int
    completion: Completion
    option_logprobs: list[float]


def choose_options(engine: Engine, prompts: Sequence[list[int]], options: Sequence[Sequence[str]]) -> list[Choice]:
    """Answer each prompt with the likeliest of its options (the first of equals).

    The closing token is not counted: that a model would end its turn says more of an option's form than of its truth.
    """
    repeated = [prompt for prompt, texts in zip(prompts, options, strict=True) for _ in texts]
    answers = [engine.encode_answer(text) for texts in options for text in texts]
    scored = iter(engine.closed(repeated, answers, measure=True).completions)
    return [_choice([next(scored) for _ in texts], texts) for texts in options]


def _choice(scored: Sequence[Completion], texts: Sequence[str]) -> Choice:
    means = [round(sum(c.logprobs) / max(1, len(c.logprobs)), 5) for c in scored]
    index = max(range(len(means)), key=means.__getitem__)
    best = scored[index]
    completion = replace(
        best,
        text=texts[index],
        logprobs=[round(value, 5) for value in best.logprobs],
        entropies=[round(value, 5) for value in best.entropies],
        end_logprob=None if best.end_logprob is None else round(best.end_logprob, 5),
    )
    return Choice(index, completion, means)
