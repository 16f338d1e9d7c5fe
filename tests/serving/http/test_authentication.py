from __future__ import annotations

import base64
import hmac

import pytest

from confide.errors import ConfideError
from confide.serving.http.authentication import Keys, hash_key

KEY = "0123456789abcdefghij"


def test_hashes_are_sha256_and_short_keys_are_refused() -> None:
    assert hash_key(KEY).startswith("sha256:")
    assert len(hash_key(KEY)) == 7 + 64
    for bad in ("", "short", KEY[:-1], KEY + " x", KEY + "ä", KEY + "\n"):
        with pytest.raises(ConfideError, match="20 or more"):
            hash_key(bad)


@pytest.mark.parametrize(
    ("header", "allowed"),
    [
        (f"Bearer {KEY}", True),
        (f"bearer  {KEY} ", True),
        ("Basic " + base64.b64encode(f"me:{KEY}".encode()).decode(), True),
        ("Basic " + base64.b64encode(KEY.encode()).decode(), False),
        ("Basic ???", False),
        (KEY, False),
        (f"Bearer {KEY}x", False),
        ("Bearer ", False),
        ("", False),
        (None, False),
        (f"Bearer {hash_key(KEY)}", False),
    ],
)
def test_only_known_keys_are_let_in(header: str | None, allowed: bool) -> None:
    assert Keys([hash_key("z" * 30), hash_key(KEY)]).allow(header) is allowed
    assert Keys([]).allow(header) is True


def test_every_hash_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    compare = hmac.compare_digest

    def counted(a: bytes, b: bytes) -> bool:
        seen.append(a)
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    keys = Keys([hash_key(KEY), hash_key("z" * 30), hash_key("y" * 30)])
    assert keys.allow(f"Bearer {KEY}")
    assert len(seen) == 3
