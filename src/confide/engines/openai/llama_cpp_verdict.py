"""The second request in the shapes of llama.cpp's server.

Its ``/completion`` takes token ids. With ``post_sampling_probs`` it tells probabilities after the samplers, of which
there is one, temperature 1; a bias of 60 on both tokens lifts them above all others and leaves their ratio as it is.

An adapter that reads is switched on by this request; all others switch it off (`adapter_switch`).
"""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping, Sequence
from typing import Any

from confide.engines.openai.adapter_switch import switched
from confide.engines.openai.bare_requests import BareRequests
from confide.engines.openai.reply import Choice, Reply
from confide.engines.openai.second_verdict import Verdict, count_in, list_in
from confide.engines.openai.vllm_verdict import answered, token_ids
from confide.numeric import as_finite

_BIAS = 60.0
_NOT_OF_THE_PROMPT = ("stream", "stream_options", "logprobs", "top_logprobs", "n")


class LlamaCppVerdict:
    """Asks llama.cpp's server, on whose paths the model needs no name.

    Args:
        requests: to the server.
        closing_id: the token that closes an answer; ``end_ids`` are all at which the model stops.
        adapter: the number of the LoRA adapter that reads, as ``/lora-adapters`` lists it.
    """

    fields: Mapping[str, Any] = {"logprobs": True}
    """What a request for an answer has besides, so that its tokens are told."""

    def __init__(self, requests: BareRequests, closing_id: int, end_ids: Collection[int], adapter: str):
        self._requests = requests
        self._closing = closing_id
        self._ends = end_ids
        self._adapter = switched(adapter, on=True)

    async def prompt(self, messages: Sequence[Any], options: Mapping[str, Any], reply: Reply | None) -> list[int]:
        """The tokens of a conversation up to where its answer starts; raises `ModelError`."""
        more = {name: value for name, value in options.items() if name not in _NOT_OF_THE_PROMPT}
        told = answered(await self._requests.post_beside("apply-template", {**more, "messages": list(messages)}))
        # As the server does with a conversation: what opens every text of the model comes first.
        return await self._tokens(str(told.get("prompt", "")), add_special=True)

    async def written(self, choice: Choice, reply: Reply, options: Mapping[str, Any]) -> list[int]:
        """The tokens of all that was written for an answer ([]: they are not told).

        A stream does not tell the token that closed the answer; without stop strings nothing else ends one. The server
        passes over tokens that end within a character. Where some may be missing, those of the text stand for them.
        """
        content = list_in(choice.logprobs or {}, "content")
        ids = token_ids([one.get("id") for one in content if isinstance(one, dict)])
        if ids and ids[-1] not in self._ends and not options.get("stop"):
            ids.append(self._closing)
        if len(ids) == reply.completion_tokens or not ids:
            return ids
        return [*await self.answer(choice.text), ids[-1]] if choice.reasoning is None else []

    async def answer(self, text: str) -> list[int]:
        """The tokens of an answer of which the text alone is known; raises `ModelError`."""
        return await self._tokens(text, add_special=False)

    async def verdict(self, ids: Sequence[int], pair: tuple[int, int]) -> Verdict:
        """What is said of the tokens ``pair`` after ``ids``; raises `ModelError`."""
        body = verdict_body(ids, pair) | self._adapter
        told = answered(await self._requests.post_beside("completion", body))
        read, written = count_in(told, "tokens_evaluated"), count_in(told, "tokens_predicted")
        return Verdict(difference(told, pair), read, written)

    async def _tokens(self, text: str, *, add_special: bool) -> list[int]:
        body = {"content": text, "add_special": add_special, "parse_special": add_special}
        return token_ids(answered(await self._requests.post_beside("tokenize", body)).get("tokens"))


def verdict_body(ids: Sequence[int], pair: tuple[int, int]) -> dict[str, Any]:
    """A request for one token after ``ids``, with the probabilities of both tokens."""
    return {
        "prompt": list(ids),
        "n_predict": 1,
        "temperature": 1.0,
        "samplers": ["temperature"],
        "logit_bias": [[id, _BIAS] for id in pair],
        "n_probs": 2,
        "post_sampling_probs": True,
    }


def difference(told: Mapping[str, Any], pair: tuple[int, int]) -> float | None:
    """log p of the first token minus that of the second; None where a server tells something else."""
    places = told.get("completion_probabilities")
    place = places[0] if isinstance(places, list) and places else None
    likely = list_in(place, "top_probs") if isinstance(place, dict) else []
    found = {str(one.get("id")): as_finite(one.get("prob")) for one in likely if isinstance(one, dict)}
    both = [found.get(str(id)) for id in pair]
    known = [value for value in both if value is not None and 0 < value <= 1]
    return math.log(known[0]) - math.log(known[1]) if len(known) == 2 else None
