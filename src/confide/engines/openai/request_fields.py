"""Which fields of a request's body there are, and which of them a server is sent under which name."""

from __future__ import annotations

import functools
from collections.abc import Collection, Mapping
from typing import Any

from confide.engines.openai.server_config import ServerModel

# https://platform.openai.com/docs/api-reference/chat/create
CHAT_FIELDS = frozenset(
    {"audio", "frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "max_completion_tokens",
     "max_tokens", "messages", "metadata", "modalities", "model", "moderation", "n", "parallel_tool_calls",
     "prediction", "presence_penalty", "prompt_cache_key", "prompt_cache_options", "prompt_cache_retention",
     "reasoning_effort", "response_format", "safety_identifier", "seed", "service_tier", "stop", "store", "stream",
     "stream_options", "temperature", "tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity",
     "web_search_options"}
)  # fmt: skip
# https://platform.openai.com/docs/api-reference/completions/create
TEXT_FIELDS = frozenset(
    {"best_of", "echo", "frequency_penalty", "logit_bias", "logprobs", "max_tokens", "model", "n", "presence_penalty",
     "prompt", "seed", "stop", "stream", "stream_options", "suffix", "temperature", "top_p", "user"}
)  # fmt: skip


@functools.cache
def allowed(own: frozenset[str], configured: frozenset[str]) -> frozenset[str]:
    """The fields of a request whose path has ``own``; what is checked in chats comes in by no other path."""
    return own | (configured - CHAT_FIELDS)


def beyond(options: Collection[str]) -> list[str]:
    """The fields among a request's that are not OpenAI's."""
    return [name for name in options if name not in CHAT_FIELDS]


def not_taken(config: ServerModel, options: Collection[str]) -> str | None:
    """The first field among a request's that this server does not take, is not renamed for it nor dropped."""
    known = (config.fields, config.rename, config.drop)
    return next((name for name in beyond(options) if not any(name in names for names in known)), None)


def as_sent(config: ServerModel, body: Mapping[str, Any]) -> dict[str, Any]:
    """``body`` with the fields that this server gets, under the names it has for them.

    Where a client gave a field under both names, the smaller number counts: both are limits on the answer. Servers
    refuse ``top_logprobs`` without ``logprobs``.
    """
    if not config.rename and not config.drop:
        return dict(body)
    sent: dict[str, Any] = {}
    for name, value in body.items():
        if name in config.drop or (name == "top_logprobs" and "logprobs" in config.drop):
            continue
        name = config.rename.get(name, name)
        other = sent.get(name)
        both = isinstance(other, int | float) and isinstance(value, int | float)
        sent[name] = min(other, value) if both else value
    return sent
