"""Given answers as a server has read them: the log-probabilities of their tokens among those of a prompt."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any, NoReturn

from confide.engines.engine import Completion
from confide.engines.openai.reply import Reply
from confide.errors import ConfideError, RefusedQuestionError


@dataclass(frozen=True)
class GivenAnswers:
    """A batch of given answers, as `confide.engines.engine.ClosedAnswers` describes it."""

    completions: list[Completion]

    def states(self) -> NoReturn:
        """There are none; raises `ConfideError`."""
        raise ConfideError("this endpoint gives no hidden states")


def given_answer(reply: Reply, text: str) -> Completion:
    """The answer ``text``, which the prompt ended with, with its tokens' log-probabilities (nats).

    The answer's tokens are the last ones whose texts together end with it.

    Raises:
        RefusedQuestionError: that cannot be told.
    """
    found: list[float] = []
    read = ""
    for place in reversed(reply.prompt_logprobs or []):
        if read.strip() == text.strip() and text.strip():
            break
        token, value = _chosen(place)
        read, found = token + read, [min(value, 0.0), *found]
        if len(read.strip()) > len(text.strip()):
            break
    if read.strip() != text.strip():
        raise RefusedQuestionError(f"the server's tokens of the prompt do not end with the answer {text!r}")
    return Completion(text, [], found, [], None, "stop", written=len(found))


def _chosen(place: Any) -> tuple[str, float]:
    """The token at one place of a prompt, and its log-probability.

    vLLM tells a mapping of token ids, of which the prompt's own comes first.
    """
    told = next(iter(place.values()), None) if isinstance(place, dict) else None
    value = told.get("logprob") if isinstance(told, dict) else None
    if not isinstance(told, dict) or not isinstance(value, int | float) or not math.isfinite(value):
        raise RefusedQuestionError("the server tells the log-probabilities of its prompt in a way that is not known")
    return str(told.get("decoded_token", "")), float(value)
