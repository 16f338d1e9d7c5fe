"""Keys of clients: what each is called, and what it may do."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from confide.errors import ConfideError
from confide.hashing import sha256_of_text

MIN_LENGTH = 20  # of a key: a fast hash protects only what cannot be guessed

KeyScope = Literal["ask", "feedback", "read", "admin"]
"""``ask`` questions; give ``feedback`` on what the key itself asked; ``read`` dashboard and metrics; ``admin``: all of
these, and feedback on what any key asked."""

_HASH = r"^sha256:[0-9a-f]{64}$"


class ApiKey(BaseModel):
    """A key by its hash; a hash alone is a key that asks and gives feedback, named after its hash."""

    model_config = ConfigDict(extra="forbid", frozen=True, use_attribute_docstrings=True)

    name: Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,63}$")]
    """Who asks, as the store keeps it: under a new name, earlier requests are another key's."""
    hash: Annotated[str, Field(pattern=_HASH)]
    """What ``confide serve --hash-key`` makes of the key."""
    scopes: Annotated[tuple[KeyScope, ...], Field(min_length=1)] = ("ask", "feedback")
    """What it may do: ask questions, give feedback on its own, read dashboard and metrics, or all of it."""
    domains: tuple[Annotated[str, Field(pattern=r"^[\x20-\x7e]{1,64}$")], ...] | None = None
    """The domains that its requests may name in ``X-Confide-Domain``; left out: any."""

    @model_validator(mode="before")
    @classmethod
    def _from_hash(cls, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return {"name": _name_of(value) if re.match(_HASH, value) else "key", "hash": value}

    def may(self, scope: KeyScope) -> bool:
        """Whether this key has a scope."""
        return scope in self.scopes or "admin" in self.scopes

    def may_name(self, domain: str | None) -> bool:
        """Whether a request with this key may say that it is of ``domain`` (None: it says nothing)."""
        return self.domains is None or domain is None or domain in self.domains


def hash_key(key: str) -> str:
    """The hash of a key, as it stands in ``api_keys``; raises `ConfideError` for one that could be guessed."""
    if len(key) < MIN_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfideError(f"a key has {MIN_LENGTH} or more ASCII characters without spaces (openssl rand -hex 24)")
    return f"sha256:{sha256_of_text(key)}"


def entry_of(key: str) -> str:
    """A line for ``api_keys`` in the configuration; raises `ConfideError` for a key that could be guessed.

    >>> entry_of("0123456789abcdefghij")[:40]
    '- {name: key-6bc14bdc4517, hash: "sha256'
    """
    hashed = hash_key(key)
    return f'- {{name: {_name_of(hashed)}, hash: "{hashed}", scopes: [ask, feedback]}}'


def _name_of(hashed: str) -> str:
    return f"key-{hashed.removeprefix('sha256:')[:12]}"
