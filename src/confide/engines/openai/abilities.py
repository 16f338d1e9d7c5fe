"""What an endpoint gives, found out by a few questions of one token."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confide.engines.openai.asked import Asked
from confide.engines.openai.given_answers import given_answer
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.patient_server import PatientServer
from confide.engines.openai.reply import Reply
from confide.errors import ConfideError
from confide.policies.identities import identity_parts, identity_text

CONTINUED = {"add_generation_prompt": False, "continue_final_message": True}
"""With these a given answer is read as the assistant's own, unclosed turn (vLLM, SGLang)."""

_HELLO = [{"role": "user", "content": "Say yes."}]
_GIVEN = "Yes, of course"
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

    What a server takes in silence counts only where its reply shows it. What differs among its replies, as the
    fingerprints of a service of many machines do, is no part of its identity.
    """
    asking = _Asking(server, {"chat_template_kwargs": dict(template)} if template else {})
    if await asking.taken() is None:
        asking.limit = "max_completion_tokens"
        await asking.ask()
    told, top = None, 0
    for top in (20, 5, 1, 0):
        told = await asking.taken(top_logprobs=top or None, logprobs=True)
        if told is not None:
            break
    content = (told.choices[0].logprobs or {}).get("content") if told else None
    first = content[0] if isinstance(content, list) and content and isinstance(content[0], dict) else {}
    several = await asking.taken(n=2, options={"temperature": 1.0, "n": 2})
    seeded = await asking.taken(options={"seed": 1})
    given = {"role": "assistant", "content": _GIVEN}
    read = await asking.taken(messages=[*_HELLO, given], options={"prompt_logprobs": 0, **CONTINUED})
    return Abilities(
        identity=asking.identity,
        limit=asking.limit,
        logprobs=isinstance(first.get("logprob"), int | float),
        top_logprobs=min(top, len(first.get("top_logprobs") or [])),
        several=several is not None and len(several.choices) == 2,
        seed=seeded is not None,
        prompt_logprobs=read is not None and _reads(read),
    )


class _Asking:
    """Questions of one token to a server, and what all of its replies say of the model."""

    def __init__(self, server: PatientServer, options: Mapping[str, Any]):
        self.limit = "max_tokens"
        self._server = server
        self._options = options
        self._parts: dict[str, str] | None = None

    @property
    def identity(self) -> str:
        """The parts of the identity that every reply had."""
        return identity_text(self._parts or {})

    async def ask(self, *, options: Mapping[str, Any] | None = None, **asked: Any) -> Reply:
        """The reply; raises `ModelError`."""
        sent = {"temperature": 0, self.limit: 1, **self._options, **(options or {})}
        asked = {"chat": True, "messages": _HELLO, "deadline": math.inf, **asked}
        reply = await self._server.ask(Asked(options=sent, **asked))
        parts = identity_parts(reply.identity)
        self._parts = parts if self._parts is None else dict(self._parts.items() & parts.items())
        return reply

    async def taken(self, **asked: Any) -> Reply | None:
        """The reply (None: what was asked with is not taken)."""
        try:
            return await self.ask(**asked)
        except ModelError as failure:
            if failure.kind not in _NOT_TAKEN:
                raise
            return None


def _reads(reply: Reply) -> bool:
    try:
        return bool(given_answer(reply, _GIVEN).logprobs)
    except ConfideError:
        return False
