"""API keys of the router's clients: kept as hashes, compared in constant time."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
from collections.abc import Iterable

from confide.errors import ConfideError

MIN_LENGTH = 20
"""A fast hash protects keys that cannot be guessed, so a short one is not accepted."""


def hash_key(key: str) -> str:
    """The hash of a key, as it stands in ``api_keys``.

    Raises `ConfideError` for a key that could be guessed or does not fit into a header.
    """
    if len(key) < MIN_LENGTH or not key.isascii() or not key.isprintable() or " " in key:
        raise ConfideError(f"a key has {MIN_LENGTH} or more ASCII characters without spaces (openssl rand -hex 24)")
    return f"sha256:{hashlib.sha256(key.encode()).hexdigest()}"


class Keys:
    """The hashes of the keys that may use the router; without any, every request may."""

    def __init__(self, hashes: Iterable[str]):
        self._hashes = [hashed.encode() for hashed in hashes]

    def allow(self, authorization: str | None) -> bool:
        """Whether an ``Authorization`` header (Bearer, or Basic with the key as password) carries a known key.

        Every hash is compared, so the time taken does not tell which one was close.
        """
        if not self._hashes:
            return True
        presented = f"sha256:{hashlib.sha256(_key(authorization or '')).hexdigest()}".encode()
        known = False
        for hashed in self._hashes:
            known |= hmac.compare_digest(hashed, presented)
        return known


def _key(authorization: str) -> bytes:
    scheme, _, value = authorization.partition(" ")
    if scheme.lower() == "bearer":
        return value.strip().encode()
    if scheme.lower() == "basic":
        try:
            return base64.b64decode(value, validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return b""
    return b""
