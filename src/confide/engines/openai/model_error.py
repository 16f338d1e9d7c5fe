"""Failures of models that are asked for an answer, as one word each."""

from __future__ import annotations

from dataclasses import KW_ONLY, dataclass


@dataclass(eq=False)
class ModelError(Exception):
    """A model, server or tool gave no usable answer.

    ``kind`` is one word for logs, rows and metrics; nothing that the other side wrote is kept, since it may echo a
    key. ``again``: asking once more may help. ``counts``: a sign of a sick server, not of a bad request.
    ``retry_after`` is what the server asked for, in seconds. ``sentence`` is what the client is told of a request that
    was refused, and ``param`` the field of it that is not taken; both are confide's own. ``abstains``: it did not fail,
    it says that it has no answer.
    """

    kind: str
    _: KW_ONLY
    again: bool = False
    counts: bool = True
    retry_after: float | None = None
    sentence: str | None = None
    param: str | None = None
    abstains: bool = False
