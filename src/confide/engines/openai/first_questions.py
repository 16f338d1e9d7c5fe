"""The first questions to an endpoint: does it answer, as which model, and with which log-probabilities?"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from confide.engines.openai.answer_logprobs import first_token, likeliest
from confide.engines.openai.asked import Asked
from confide.engines.openai.given_answers import given_answer
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.patient_server import PatientServer
from confide.engines.openai.reply import Reply
from confide.errors import ConfideError
from confide.policies.identities import identity_parts, identity_text

CONTINUED = {"add_generation_prompt": False, "continue_final_message": True}
"""With these a given answer is read as the assistant's own, unclosed turn (vLLM, SGLang)."""

NOT_TAKEN = frozenset({"rejected", "unsupported"})
"""Failures that may be about a field of the request."""

_HELLO = [{"role": "user", "content": "Say yes."}]
_GIVEN = "Yes, of course"
_MOST_TOP = (20, 5, 1, 0)
_TIMES = 3


@dataclass(frozen=True)
class FirstAnswer:
    """What the first questions found out.

    Attributes:
        identity: what every reply told of the model that answers.
        limit: the name that the server has for the longest answer.
        logprobs: whether it tells the log-probabilities of an answer's tokens.
        top_logprobs: how many of the likeliest tokens it tells at each place (0: none).
    """

    identity: str
    limit: str
    logprobs: bool
    top_logprobs: int


async def ask_first(server: PatientServer, template: Mapping[str, Any]) -> FirstAnswer:
    """Ask for one token with as much as the server takes; raises `ModelError` where it answers not even that.

    What it takes in silence counts only where its reply shows it. What differs among its replies, as the fingerprints
    of a service of many machines do, is no part of its identity.
    """
    forms = [(limit, top, True) for limit in ("max_tokens", "max_completion_tokens") for top in _MOST_TOP]
    forms += [(limit, 0, False) for limit in ("max_tokens", "max_completion_tokens")]
    for form in forms:
        try:
            reply = await _ask(server, template, *form)
            break
        except ModelError as failure:
            if failure.kind not in NOT_TAKEN or form == forms[-1]:
                raise
    parts = identity_parts(reply.identity)
    for _ in range(_TIMES - 1):
        parts = dict(parts.items() & identity_parts((await _ask(server, template, *form)).identity).items())
    first = first_token(reply.choices[0])
    return FirstAnswer(
        identity=identity_text(parts),
        limit=form[0],
        logprobs=isinstance(first.get("logprob"), int | float),
        top_logprobs=min(form[1], len(likeliest(first))),
    )


async def reads_given_answers(server: PatientServer, limit: str, template: Mapping[str, Any]) -> bool:
    """Whether the server tells the log-probabilities of an answer that it is given.

    Only for a server of which its operator says that it bears the question: ``prompt_logprobs`` has killed vLLM with
    LoRA (issues 16668, 29955) and with speculative decoding (issue 7742).
    """
    turns = [*_HELLO, {"role": "assistant", "content": _GIVEN}]
    options = {"temperature": 0, limit: 1, **template_field(template), "prompt_logprobs": 0, **CONTINUED}
    try:
        reply = await server.ask(Asked(chat=True, messages=turns, options=options, deadline=math.inf))
        return bool(given_answer(reply, _GIVEN).logprobs)
    except ConfideError:
        return False
    except ModelError as failure:
        if failure.kind not in NOT_TAKEN:
            raise
        return False


async def _ask(server: PatientServer, template: Mapping[str, Any], limit: str, top: int, logprobs: bool) -> Reply:
    options = {"temperature": 0, limit: 1, **template_field(template)}
    asked = Asked(
        chat=True, messages=_HELLO, options=options, deadline=math.inf, logprobs=logprobs, top_logprobs=top or None
    )
    return await server.ask(asked)


def template_field(template: Mapping[str, Any]) -> dict[str, Any]:
    """The field of a request that a chat template is given, where it is given something."""
    return {"chat_template_kwargs": dict(template)} if template else {}
