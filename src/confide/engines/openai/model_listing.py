"""What a server lists of a model under ``/v1/models``, beside what its answers report."""

from __future__ import annotations

import json
from http.client import HTTPConnection, HTTPException, HTTPSConnection
from typing import Any
from urllib.parse import urlsplit

from confide.engines.openai.server_config import ServerModel
from confide.policies.identities import identity_text

_TIMEOUT_S = 3.0
_MOST_BYTES = 1_000_000


def listed_identity(config: ServerModel) -> str:
    """The identity of the server's model as far as it is listed ("" where the server does not say so in time).

    ``root`` is where the weights were loaded from, ``owner`` who serves them: both stay hidden in answers, whose
    ``model`` is whatever name the server was given.
    """
    card = _listed_card(config)
    return identity_text({"root": card.get("root"), "owner": card.get("owned_by")})


def is_adapter(config: ServerModel) -> bool:
    """Whether a server lists its model as an adapter of another one, as vLLM does (``parent``)."""
    return bool(_listed_card(config).get("parent"))


def _listed_card(config: ServerModel) -> dict[str, Any]:
    """What is listed of the server's model ({}: nothing in time).

    As everywhere, redirects and proxies are not followed.
    """
    parts = urlsplit(config.base_url)
    assert parts.hostname is not None
    connect = HTTPSConnection if parts.scheme == "https" else HTTPConnection
    connection = connect(parts.hostname, parts.port, timeout=_TIMEOUT_S)
    key = config.api_key()
    headers = {} if key is None else {"Authorization": f"Bearer {key.get_secret_value()}"}
    try:
        connection.request("GET", f"{parts.path}/models", headers=headers)
        response = connection.getresponse()
        data = json.loads(response.read(_MOST_BYTES)) if response.status == 200 else {}
    except (OSError, HTTPException, ValueError, RecursionError):
        return {}
    finally:
        connection.close()
    return _card(data, config.model)


def _card(data: Any, model: str) -> dict[str, Any]:
    cards = data.get("data") if isinstance(data, dict) else None
    found = (card for card in cards or () if isinstance(card, dict)) if isinstance(cards, list) else ()
    return next((card for card in found if card.get("id") == model), {})
