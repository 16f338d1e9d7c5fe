"""What a server's answers to the questions of the check say of its abilities.

A server that does not know a field may refuse it or pass over it in silence, so what comes back decides, never the
status alone.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import from_json

from confide.engines.openai.event_stream import EventReader
from confide.engines.reasoning import TAGS

Data = Mapping[str, Any]

_CONTEXT_KEYS = ("max_model_len", "context_length", "context_window", "max_context_length", "n_ctx")
"""What servers call the longest sequence in their list of models."""
_TOKEN_ID = re.compile(r"token_id:(\d{1,10})")
_VERSION = re.compile(r"v?\d[\w.+-]{0,63}")
_VOCABULARY = re.compile(rb"out-of-vocab.{0,200}?[Vv]ocabulary size:? (?:is )?(\d{1,9})", re.DOTALL)
_EDITION = re.compile(r"[-:@](?:\d{3,8}(?:-\d\d){0,2}|latest)")
"""What a server may add to the name of the model that it was asked for."""
_FLOOR = (-3000.0, -500.0)
"""Where the log-probability of an id lies that nothing is ever answered with; a masked one has −9999 or none."""
_FARTHEST, _SAME = 500.0, 0.01
_UNDERFLOW = 1.02


class Streamed(NamedTuple):
    """Whether an answer came in pieces, and whether they told how many tokens it took."""

    pieces: bool
    usage: bool


def messages_in(data: Data) -> list[dict[str, Any]]:
    """The message of every choice; none for what is no chat completion."""
    choices = data.get("choices")
    found = [choice.get("message") for choice in _dicts(choices)]
    return [message for message in found if isinstance(message, dict)]


def texts_in(data: Data) -> list[str]:
    """All that every choice says, reasoning first."""
    return [
        "".join(part for part in (_reasoning_of(message), message.get("content")) if isinstance(part, str))
        for message in messages_in(data)
    ]


def reasoning_in(data: Data) -> str | None:
    """Where reasoning stands: ``apart`` from the answer or ``in the answer`` (None: there is none)."""
    for message in messages_in(data):
        if _reasoning_of(message):
            return "apart"
        content = message.get("content")
        if isinstance(content, str) and content.lstrip().startswith(tuple(opening for opening, _ in TAGS)):
            return "in the answer"
    return None


def usage_told(data: Data) -> bool:
    """Whether the tokens of prompt and answer are counted."""
    usage = data.get("usage")
    count = usage.get("prompt_tokens") if isinstance(usage, dict) else None
    return isinstance(count, int) and count > 0


def first_token(data: Data) -> dict[str, Any] | None:
    """What is told of the first token: its log-probability, and the likeliest ones (None: nothing that can be one)."""
    tokens = _content_logprobs(data)
    if not tokens or not _is_logprob(tokens[0].get("logprob")):
        return None
    shares = {str(one.get("token")): math.exp(one["logprob"]) for one in _likeliest(tokens[0])}
    return tokens[0] if sum(shares.values()) < _UNDERFLOW else None  # some fill in zeros, each of them certainty


def top_logprobs_in(token: Data) -> int:
    """How many of the likeliest tokens are told."""
    return len(_likeliest(token))


def token_ids_in(data: Data) -> frozenset[str]:
    """The ways in which the ids of the answer's tokens are told.

    ``return_token_ids`` and ``return_tokens_as_token_ids`` are fields of vLLM; ``id`` stands beside each
    log-probability in llama.cpp's server.
    """
    token = next(iter(_content_logprobs(data)), {})
    choice = next(iter(_dicts(data.get("choices"))), {})
    ids = choice.get("token_ids")
    ways = {
        "return_token_ids": isinstance(ids, list) and bool(ids) and all(_is_id(id) for id in ids),
        "return_tokens_as_token_ids": bool(_TOKEN_ID.fullmatch(str(token.get("token")))),
        "id": _is_id(token.get("id")),
    }
    return frozenset(way for way, there in ways.items() if there)


def chosen_in(data: Data) -> dict[int, float]:
    """Token id → log-probability at the first token, where tokens are told as ids."""
    token = next(iter(_content_logprobs(data)), {})
    named = ((_TOKEN_ID.fullmatch(str(one.get("token"))), one["logprob"]) for one in _likeliest(token))
    return {int(name[1]): value for name, value in named if name}


def reading_ids(vocabulary: int) -> list[int]:
    """Of the 64 ids past a model's own ``vocabulary``: the plug-in's floor, its first share, and one more floor."""
    return [vocabulary, vocabulary + 1, vocabulary + 59]


def is_reading(logprobs: Mapping[int, float], vocabulary: int) -> bool:
    """Whether `reading_ids` hold what the plug-in puts there: twice the same floor, and a share not far from it."""
    floor, share, again = (logprobs.get(id) for id in reading_ids(vocabulary))
    if floor is None or share is None or again is None or not _FLOOR[0] < floor < _FLOOR[1]:
        return False
    return abs(again - floor) <= _SAME and abs(share - floor) <= _FARTHEST


def vocabulary_in(body: bytes) -> int | None:
    """The size of the vocabulary that vLLM names where it refuses an id past it."""
    found = _VOCABULARY.search(body)
    return int(found[1]) if found else None


def prompt_logprobs_in_chat(data: Data) -> bool:
    """Whether the tokens of a chat's prompt have log-probabilities (vLLM: one object of ids for each)."""
    told = data.get("prompt_logprobs")
    if not isinstance(told, list):
        return False
    entries = (entry for place in told if isinstance(place, dict) for entry in place.values())
    return any(_is_logprob(entry.get("logprob") if isinstance(entry, dict) else entry) for entry in entries)


def prompt_logprobs_in_echo(data: Data, prompt: str) -> bool:
    """Whether a text completion repeats its ``prompt`` with log-probabilities."""
    choice = next(iter(_dicts(data.get("choices"))), {})
    told = choice.get("logprobs")
    if not isinstance(told, dict) or not str(choice.get("text")).lstrip().startswith(prompt):
        return False
    tokens, values = told.get("tokens"), told.get("token_logprobs")
    if not isinstance(tokens, list) or not isinstance(values, list):
        return False
    read, found = 0, 0
    for token, value in zip(tokens, values, strict=False):
        found += read < len(prompt) and _is_logprob(value)
        read += len(str(token))
    return found > 0


def streamed(body: bytes) -> Streamed:
    """How an answer that was asked for as a stream came."""
    reader = EventReader()
    try:
        events = [*reader.feed(body), *reader.end()]
    except ValueError:
        return Streamed(False, False)
    chunks = [event for event in events if isinstance(event, dict)]
    pieces = [chunk for chunk in chunks for choice in _dicts(chunk.get("choices")) if "delta" in choice]
    return Streamed(bool(pieces), any(usage_told(chunk) for chunk in chunks))


def names_listed(data: Data) -> list[str] | None:
    """The models that a server lists (None: this is no such list)."""
    if not isinstance(data.get("data"), list):
        return None
    return [card["id"] for card in _dicts(data["data"]) if isinstance(card.get("id"), str)]


def card_of(data: Data, model: str) -> dict[str, Any]:
    """What is listed of one model, or else of one whose name differs by a date or a path ({}: nothing)."""
    cards = _dicts(data.get("data"))
    alike = (card for card in cards if isinstance(card.get("id"), str) and not is_other_model(model, card["id"]))
    return next((card for card in cards if card.get("id") == model), next(alike, {}))


def context_in(card: Data) -> int | None:
    """The longest sequence, in tokens, as far as it is listed."""
    meta = card.get("meta")
    for told in (card, meta if isinstance(meta, dict) else {}):
        for key in _CONTEXT_KEYS:
            if _is_id(told.get(key)) and told[key]:
                return int(told[key])
    return None


def version_in(body: bytes) -> str:
    """The version on a page that tells nothing else ("" for another page)."""
    try:
        data = from_json(body)
    except ValueError:
        return ""
    version = data.get("version") if isinstance(data, dict) else None
    return version if isinstance(version, str) and _VERSION.fullmatch(version) else ""


def at_least(version: str, least: tuple[int, int]) -> bool:
    """Whether a version such as ``0.32.1.dev3`` is not before ``least``."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return found is not None and (int(found[1]), int(found[2])) >= least


def is_other_model(asked: str, reported: str) -> bool:
    """Whether a server names another model than it was asked for.

    A date behind the name is the same model, and so are a hub name or a path and their last part.

    >>> is_other_model("gpt-4o", "gpt-4o-2024-08-06"), is_other_model("gpt-4o", "gpt-4o-mini")
    (False, True)
    >>> is_other_model("tiny", "/models/Tiny.gguf"), is_other_model("org/tiny", "other/tiny")
    (False, True)
    """
    names = [name.strip("/").casefold().removesuffix(".gguf") for name in (asked, reported)]
    return all(names) and not any(_is_edition(*pair) for pair in (names, names[::-1]))


def _is_edition(name: str, longer: str) -> bool:
    """Whether ``longer`` is ``name`` with a path before it or a date behind it, or both."""
    tail = "/".join(longer.split("/")[-name.count("/") - 1 :])
    return tail == name or (tail.startswith(name) and _EDITION.fullmatch(tail, len(name)) is not None)


def _reasoning_of(message: Data) -> str:
    told = message.get("reasoning_content") or message.get("reasoning")
    if isinstance(told, str):
        return told
    parts = _dicts(message.get("content"))
    return "".join(str(part.get("thinking")) for part in parts if part.get("type") == "thinking")


def _content_logprobs(data: Data) -> list[dict[str, Any]]:
    choice = next(iter(_dicts(data.get("choices"))), {})
    told = choice.get("logprobs")
    return _dicts(told.get("content")) if isinstance(told, dict) else []


def _likeliest(token: Data) -> list[dict[str, Any]]:
    return [one for one in _dicts(token.get("top_logprobs")) if _is_logprob(one.get("logprob"))]


def _dicts(value: Any) -> list[dict[str, Any]]:
    return [one for one in value if isinstance(one, dict)] if isinstance(value, list) else []


def _is_logprob(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and -1e6 < value <= 1e-3


def _is_id(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and value >= 0
