"""Why a server cannot be checked at all, in one sentence each."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from confide.engines.openai.bare_requests import BareRequests, Told
from confide.engines.openai.model_error import ModelError
from confide.engines.openai.server_config import ServerModel
from confide.engines.openai.server_errors import failure_of, read_error
from confide.engines.openai.told_abilities import is_other_model, names_listed
from confide.errors import ConfideError

_MOST_NAMES = 8
_ABOUT_MODEL = frozenset({400, 404, 410, 422})

_FAILURES = {
    "refused": "there is no server at {url}: nothing can be reached there",
    "broken": "the server at {url} breaks off the connection",
    "timeout": "the server at {url} gave no answer in {limit:g} s",
    "rate_limited": "the server at {url} turns requests away (429): wait, or ask for a higher limit",
    "unpaid": "the server at {url} wants to be paid",
    "redirected": "the server at {url} redirects to another address: give that one, it is not followed",
    "server_error": "the server at {url} fails ({status}): is its model still being loaded?",
}


def no_answer(config: ServerModel, kind: str, status: int = 0) -> ConfideError:
    """The error for a server that gives no answer at all; ``kind`` is that of a `ModelError`."""
    sentence = _FAILURES.get(kind, "the server at {url} rejects a plain question ({status})")
    return ConfideError(sentence.format(url=config.base_url, limit=config.timeout_s, status=status))


async def refusal_of_all(
    config: ServerModel, requests: BareRequests, told: Told, names: Sequence[str] | None
) -> ConfideError:
    """The error for a server that does not answer a plain question.

    Args:
        config: the server and the model.
        requests: to look whether there is another address.
        told: what it answered.
        names: the models that it lists (None: it lists none).
    """
    if told.status in (401, 403):
        if config.api_key_env is None:
            return ConfideError(
                f"the server at {config.base_url} wants a key: put it into an environment variable, and name that with "
                "--api-key-env"
            )
        return ConfideError(f"the server at {config.base_url} refuses the key in {config.api_key_env} ({told.status})")
    if _is_about_model(config.model, told, names):
        there = f"it serves {shown_names(requests, names)}" if names else "and it does not list those that it serves"
        return ConfideError(f"the server at {config.base_url} does not serve the model {config.model}: {there}")
    if told.status in (404, 405) or told.status == 200:
        if longer := await _with_v1(config, requests):
            return ConfideError(
                f"there is no API at {config.base_url}, but there is one at {longer}: give that address"
            )
        path = f"{config.base_url}/chat/completions"
        return ConfideError(f"the server at {config.base_url} answers no chat: {path} gives {_given(told)}")
    return no_answer(config, failure_of(told.status, told.body, ()).kind, told.status)


def shown_names(requests: BareRequests, names: Sequence[str]) -> str:
    """Some of the models that a server lists."""
    more = len(names) - _MOST_NAMES
    return ", ".join(map(requests.shown, names[:_MOST_NAMES])) + (f" and {more} more" if more > 0 else "")


def _is_about_model(model: str, told: Told, names: Sequence[str] | None) -> bool:
    """Whether a refusal is one of the model that was asked for."""
    if told.status not in _ABOUT_MODEL:
        return False
    if names and all(is_other_model(model, name) for name in names):
        return True
    error: Any = read_error(told.body)
    return isinstance(error, dict) and (
        "model_not_found" in (error.get("code"), error.get("type"))
        or error.get("param") == "model"
        or (told.status == 404 and model in str(error.get("message")))
    )


async def _with_v1(config: ServerModel, requests: BareRequests) -> str:
    """The address with ``/v1`` behind it, where there is an API ("" where there is none)."""
    longer = f"{config.base_url}/v1"
    if config.base_url.endswith("/v1"):
        return ""
    try:
        told = await requests.look(f"{longer}/models")
    except ModelError:
        return ""
    return longer if names_listed(told.data) is not None or told.status in (401, 403) else ""


def _given(told: Told) -> str:
    return f"status {told.status}" if told.status != 200 else "something else"
