"""Whose fault a server's error is: the request's, the server's, or that of how the server was configured.

Of what a server writes only its kind is kept, never its words: they may repeat a key.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Any

from pydantic_core import from_json

from confide.engines.openai.model_error import ModelError

_OF_CONTENT = frozenset({400, 413, 422})
"""Statuses about what a request holds; every other 4xx is about the server or how it is addressed."""
_MAY_PASS = frozenset({408, 409, 423, 424, 425, 499})
_ABOUT_FIELDS = frozenset(
    {"unsupported_parameter", "unknown_parameter", "unrecognized_parameter", "unsupported_value", "extra_forbidden"}
)
_NOT_TAKEN = re.compile(
    r"unrecogni[sz]ed|unsupported|unknown|unexpected|\bextra\b"
    r"|\bnot (yet |currently )?(supported|permitted|allowed|accepted|enabled|available|implemented|recogni[sz]ed)"
    r"|(does not|doesn't|do not|don't|cannot|can't|cannot be) (support|accept|take|allow|use)",
    re.IGNORECASE,
)
_OURS = frozenset({"messages", "model"})


def failure_of(status: int, body: bytes, sent: Collection[str], retry_after: float | None = None) -> ModelError:
    """What an answer other than 200 means; docs/reference/http.md has the table.

    Args:
        status: its status.
        body: its beginning.
        sent: the fields of the request's body, as the server was sent them.
        retry_after: what it asked for, in seconds.
    """
    if status in _OF_CONTENT:
        return _of_content(read_error(body), sent)
    if 300 <= status < 400:
        return ModelError("redirected")
    if status in (401, 403):
        return ModelError("unauthorized")
    if status == 402:
        return ModelError("unpaid")
    if status == 429:
        if "insufficient_quota" in _words(read_error(body)):
            return ModelError("unpaid")
        return ModelError("rate_limited", again=True, retry_after=retry_after)
    if status >= 500 or status in _MAY_PASS:
        return ModelError("server_error", again=True, retry_after=retry_after)
    return ModelError("misconfigured" if status >= 400 else "malformed")


def failure_told(error: Any) -> ModelError:
    """What an ``error`` in an answer of status 200 means; many servers give the status as its ``code``."""
    code = error.get("code") if isinstance(error, dict) else None
    if not isinstance(code, int) or isinstance(code, bool) or not 400 <= code < 600:
        return ModelError("server_error", again=True)
    return _of_content(error, ()) if code in _OF_CONTENT else failure_of(code, b"", ())


def read_error(body: bytes) -> Any:
    """The error in a body: the object ``error``, a list of problems under ``detail``, or the body itself."""
    try:
        data = from_json(body)
    except ValueError:
        return body.decode(errors="replace")
    if not isinstance(data, dict):
        return data
    return data.get("error") or data.get("detail") or data


def _of_content(error: Any, sent: Collection[str]) -> ModelError:
    if "model_not_found" in _words(error) or (isinstance(error, dict) and error.get("param") == "model"):
        return ModelError("misconfigured")
    if field_not_taken(error, sent):
        return ModelError("unsupported", counts=False)
    return ModelError("rejected", counts=False)


def field_not_taken(error: Any, sent: Collection[str]) -> bool:
    """Whether an error says that a field of the request is none that the server takes."""
    if isinstance(error, list):
        return any(field_not_taken(problem, sent) for problem in error)
    if _ABOUT_FIELDS & _words(error):
        return True
    text = error if isinstance(error, str) else str(error) if isinstance(error, dict) else ""
    fields = "|".join(re.escape(name) for name in sent if name not in _OURS)
    return bool(fields and _NOT_TAKEN.search(text) and re.search(rf"\b({fields})\b", text))


def _words(error: Any) -> set[str]:
    """The words by which programs tell errors apart."""
    found = [error.get(key) for key in ("code", "type")] if isinstance(error, dict) else []
    return {word for word in found if isinstance(word, str)}
