"""The second request in vLLM's shapes: which tokens there are, and how likely the two verdict tokens are after them.

vLLM tells log-probabilities as they are before biases and masks (``--logprobs-mode raw_logprobs``), and those of the
token that was written always. So the ratio of two tokens comes exactly from two requests of one token, each of which
allows one of them (``allowed_token_ids``), or from one with ``logprob_token_ids``, where the operator says that the
server bears that: with speculative decoding it ends vLLM (issue 42592).
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any

from confide.engines.openai.bare_requests import BareRequests, Told
from confide.engines.openai.learned_reading import MASKED
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import Choice, Reply
from confide.engines.openai.second_verdict import Verdict, choice_in, count_in, list_in
from confide.numeric import as_finite


class VllmVerdict:
    """Asks a vLLM.

    Args:
        requests: to the server.
        adapter: the LoRA adapter that reads; ``answering`` is the model that answers.
        chosen_ids: whether the server bears ``logprob_token_ids``.
    """

    fields: Mapping[str, Any] = {"return_token_ids": True}
    """What a request for an answer has besides, so that its tokens are told."""

    def __init__(self, requests: BareRequests, adapter: str, answering: str, *, chosen_ids: bool = False):
        self._requests = requests
        self._adapter = adapter
        self._answering = answering
        self._chosen_ids = chosen_ids

    async def prompt(self, messages: Sequence[Any], options: Mapping[str, Any], reply: Reply | None) -> list[int]:
        """The tokens of a conversation up to where its answer starts; raises `ModelError`."""
        if reply is not None:
            return reply.prompt_token_ids or []
        body = {"model": self._answering, "messages": list(messages), "add_generation_prompt": True}
        template = options.get("chat_template_kwargs")
        return await self._tokens(body | ({"chat_template_kwargs": template} if template else {}))

    async def written(self, choice: Choice, reply: Reply, options: Mapping[str, Any]) -> list[int]:
        """The tokens of all that was written for an answer ([]: they are not told)."""
        return choice.token_ids or []

    async def answer(self, text: str) -> list[int]:
        """The tokens of an answer of which the text alone is known; raises `ModelError`."""
        return await self._tokens({"model": self._answering, "prompt": text, "add_special_tokens": False})

    async def verdict(self, ids: Sequence[int], pair: tuple[int, int]) -> Verdict:
        """What is said of the tokens ``pair`` after ``ids``; raises `ModelError`."""
        if self._chosen_ids:
            told = [await self._requests.post("completions", chosen_body(self._adapter, ids, pair))]
        else:
            bodies = [allowed_body(self._adapter, ids, id) for id in pair]
            told = await asyncio.gather(*(self._requests.post("completions", body) for body in bodies))
        usage = [answered(one).get("usage") for one in told]
        return Verdict(
            difference([one.data for one in told], pair),
            sum(count_in(one, "prompt_tokens") for one in usage),
            sum(count_in(one, "completion_tokens") for one in usage),
        )

    async def _tokens(self, body: dict[str, Any]) -> list[int]:
        ids = answered(await self._requests.post_beside("tokenize", body)).get("tokens")
        return token_ids(ids)


def allowed_body(model: str, ids: Sequence[int], allowed: int) -> dict[str, Any]:
    """A request for the one token ``allowed`` after ``ids``, with its log-probability."""
    return _body(model, ids) | {"allowed_token_ids": [allowed], "logprobs": 0}


def chosen_body(model: str, ids: Sequence[int], pair: tuple[int, int]) -> dict[str, Any]:
    """A request for one token after ``ids``, with the log-probabilities of both tokens."""
    return _body(model, ids) | {"logprob_token_ids": list(pair), "logprobs": 1}


def _body(model: str, ids: Sequence[int]) -> dict[str, Any]:
    asked = {"max_tokens": 1, "temperature": 0, "return_tokens_as_token_ids": True}
    return {"model": model, "prompt": list(ids), **asked}


def difference(told: Sequence[Mapping[str, Any]], pair: tuple[int, int]) -> float | None:
    """log p of the first token minus that of the second; None where a server tells something else.

    Two certainties are what a server says that tells log-probabilities after the mask.
    """
    found: dict[str, Any] = {}
    for data in told:
        logprobs = choice_in(data).get("logprobs")
        logprobs = logprobs if isinstance(logprobs, dict) else {}
        names, values = list_in(logprobs, "tokens"), list_in(logprobs, "token_logprobs")
        found |= {name: value for name, value in zip(names, values, strict=False) if isinstance(name, str)}
        for likely in list_in(logprobs, "top_logprobs"):
            found |= likely if isinstance(likely, dict) else {}
    both = [as_finite(found.get(f"token_id:{id}")) for id in pair]
    known = [value for value in both if value is not None and value > MASKED]
    if len(known) < 2 or known == [0.0, 0.0]:
        return None
    return known[0] - known[1]


def answered(told: Told) -> Mapping[str, Any]:
    """The body of an answer; raises `ModelError` where the server gave none."""
    if told.status == 429 or told.status >= 500:
        raise ModelError("server_error", again=True, retry_after=told.retry_after)
    if not told.taken:
        raise ModelError("unauthorized" if told.status in (401, 403) else "rejected", counts=False)
    return told.data


def token_ids(told: Any) -> list[int]:
    """Token ids as a server tells them ([]: it tells something else)."""
    wanted = told if isinstance(told, list) else []
    found = [id for id in wanted if type(id) is int and id >= 0]
    return found if len(found) == len(wanted) else []
