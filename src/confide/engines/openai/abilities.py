"""What an endpoint gives, found out by a few questions of one token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.patient_server import PatientServer
from confide.engines.openai.reply import Reply

_HELLO = [{"role": "user", "content": "Say yes."}]
_NOT_TAKEN = frozenset({"rejected", "unsupported"})


@dataclass(frozen=True)
class Abilities:
    """What a server gives.

    Attributes:
        identity: what it reports of the model that answers.
        limit: the name that it has for the longest answer.
        logprobs: whether it tells the log-probabilities of an answer's tokens.
        top_logprobs: how many of the likeliest tokens it tells at each place (0: none).
        several: whether it gives several answers to one request.
        seed: whether it takes a seed.
        prompt_logprobs: whether it tells the log-probabilities of a given answer's tokens.
    """

    identity: str
    limit: str = "max_tokens"
    logprobs: bool = False
    top_logprobs: int = 0
    several: bool = False
    seed: bool = False
    prompt_logprobs: bool = False


async def find_abilities(server: PatientServer, template: Mapping[str, Any]) -> Abilities:
    """Ask a few times for one token; raises `ModelError` where a plain question is not answered.

    What a server takes in silence counts only where its reply shows it.
    """
    given = {"chat_template_kwargs": dict(template)} if template else {}

    async def ask(limit: str, top: int | None = None, *, logprobs: bool = False, **options: Any) -> Reply:
        n = options.get("n", 1)
        options = {"temperature": 0, limit: 1, **given, **options}
        asked = Asked(
            chat=True, messages=_HELLO, options=options, deadline=math.inf, n=n, logprobs=logprobs, top_logprobs=top
        )
        return await server.ask(asked)

    async def taken(limit: str, top: int | None = None, *, logprobs: bool = False, **options: Any) -> Reply | None:
        try:
            return await ask(limit, top, logprobs=logprobs, **options)
        except ModelError as failure:
            if failure.kind not in _NOT_TAKEN:
                raise
            return None

    limit = "max_tokens"
    if await taken(limit) is None:
        limit = "max_completion_tokens"
    plain = await ask(limit)
    told: Reply | None = None
    top = 0
    for top in (20, 5, 1, 0):
        told = await taken(limit, top or None, logprobs=True)
        if told is not None:
            break
    content = (told.choices[0].logprobs or {}).get("content") if told else None
    first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
    several = await taken(limit, n=2, temperature=1.0)
    seeded = await taken(limit, seed=1)
    read = await taken(limit, prompt_logprobs=0)
    return Abilities(
        identity=plain.identity,
        limit=limit,
        logprobs=isinstance(first.get("logprob"), int | float),
        top_logprobs=min(top, len(first.get("top_logprobs") or [])),
        several=several is not None and len(several.choices) == 2,
        seed=seeded is not None,
        prompt_logprobs=bool(read and read.prompt_logprobs),
    )
