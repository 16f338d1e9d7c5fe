"""Embeddings of a server that the configuration names: a request and its reply pass as they are, and no row is kept."""

from __future__ import annotations

from typing import Any

from pydantic_core import from_json

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.reply import Choice, Reply
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.upstream import MOST_BYTES, Http, Server

_MOST_BYTES = 4 * MOST_BYTES
"""The longest reply that is read: vectors of many texts are longer than any answer."""


class EmbeddingsServer(Server):
    """The path for embeddings of an OpenAI-compatible server."""

    def __init__(self, config: ServerModel, http: Http):
        super().__init__(config, http)
        self._url = f"{config.base_url}/embeddings"

    async def ask(self, asked: Asked) -> Reply:
        """The reply as its one text, to the body that stands in the options; raises `ModelError`."""
        async with self._post(asked.options) as response:
            body = bytearray()
            async for data in response.content.iter_any():
                body += data
                if len(body) > _MOST_BYTES:
                    raise ModelError("malformed")
            text = body.decode()
            tokens = _tokens(from_json(text))
        return Reply([Choice(text)], tokens)


def _tokens(reply: Any) -> int:
    """The tokens that were read, of a list of embeddings; raises ValueError for what is none."""
    if not isinstance(reply, dict) or not isinstance(reply.get("data"), list):
        raise ValueError("no list of embeddings")
    usage = reply.get("usage")
    tokens = usage.get("prompt_tokens") if isinstance(usage, dict) else 0
    return tokens if isinstance(tokens, int) and tokens > 0 else 0
