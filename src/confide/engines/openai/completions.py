"""A server's reply as completions, and what it tells of an answer's first token."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np

from confide.engines.engine import Completion
from confide.engines.openai.answer_logprobs import (
    answer_logprobs,
    first_token,
    likeliest,
    text_logprobs,
    text_starts,
)
from confide.engines.openai.reply import Choice, Reply
from confide.engines.token_starts import moved


def completion_of(reply: Reply) -> list[Completion]:
    """The answers of a reply; what servers do not show (token ids, entropies, the closing token) is not there.

    With the learned reading come ids and the closing token, too.

    A request with several answers tells their tokens in one number: each gets those whose log-probabilities are told,
    or an equal share.
    """
    share = reply.completion_tokens / max(1, len(reply.choices))
    return [_completion(choice, share, reply) for choice in reply.choices]


def _completion(choice: Choice, share: float, reply: Reply) -> Completion:
    content = (choice.logprobs or {}).get("content")
    counted = len(content) if isinstance(content, list) and len(reply.choices) > 1 else round(share)
    more: dict[str, Any] = {key: value for key, value in choice.more.items() if value}
    if choice.finish not in ("stop", "length"):
        more["finish_reason"] = choice.finish
    more["usage"] = {
        "prompt_tokens": reply.prompt_tokens,
        "completion_tokens": counted,
        "cost": reply.cost / len(reply.choices),
    }
    read, text = choice.read, choice.text.strip()
    logprobs = read.logprobs if read else (text_logprobs(choice) if choice.cut else answer_logprobs(choice)) or []
    starts = moved(text_starts(choice), len(choice.text) - len(choice.text.lstrip()))
    if read is not None and read.by:
        more |= {"reading": read.z, "read_by": read.by}
    if reply.signals and len(reply.choices) == 1:
        more["signals"] = reply.signals
    return Completion(
        text=text,
        ids=read.ids if read else [],
        logprobs=logprobs,
        entropies=[],
        end_logprob=read.end_logprob if read else None,
        finish="length" if choice.cut else "stop",
        reasoning=choice.reasoning,
        written=counted,
        more=more,
        first=_first_tokens(choice),
        starts=starts if len(starts) == len(logprobs) else [],
    )


def letter_logprobs(choice: Choice, texts: Sequence[str]) -> tuple[list[float], float]:
    """Log-probabilities (nats) of ``texts`` as the first token of an answer, and that of the likeliest other one.

    Tokens that differ in spaces around them alone count together. One that is not told has at most the probability of
    the least likely that is; NaN throughout where none of ``texts`` is told.
    """
    told = _first_tokens(choice)
    values = [told.get(text.strip(), -math.inf) for text in texts]
    wanted = {text.strip() for text in texts}
    rival = max((value for token, value in told.items() if token not in wanted), default=-math.inf)
    if not told or max(values) == -math.inf:
        return [math.nan] * len(texts), rival
    least = min(told.values())
    return [max(value, least) if value == -math.inf else value for value in values], rival


def _first_tokens(choice: Choice) -> dict[str, float]:
    """Text of a token, without spaces around it → its log-probability as the first of the answer.

    Behind reasoning nothing is told: the first token is the reasoning's.
    """
    found: dict[str, float] = {}
    for token in likeliest(first_token(choice)) if choice.reasoning is None else ():
        value = token.get("logprob") if isinstance(token, dict) else None
        if isinstance(value, int | float) and math.isfinite(value) and value <= 1e-3:
            text = str(token.get("token", "")).strip()
            before = found.get(text)
            found[text] = float(value) if before is None else float(np.logaddexp(before, value))
    return found
