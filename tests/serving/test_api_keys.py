"""Keys of clients and what they may do."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.serving.api_keys import ApiKey, KeyScope, hash_key

KEY = "0123456789abcdefghij"


def test_hashes_are_sha256_and_short_keys_are_refused() -> None:
    assert hash_key(KEY).startswith("sha256:")
    assert len(hash_key(KEY)) == 7 + 64
    for bad in ("", "short", KEY[:-1], KEY + " x", KEY + "ä", KEY + "\n"):
        with pytest.raises(ConfideError, match="20 or more"):
            hash_key(bad)


@pytest.mark.parametrize(
    ("scopes", "may"),
    [
        (["ask"], ["ask"]),
        (["read", "feedback"], ["feedback", "read"]),
        (["admin"], ["ask", "feedback", "read", "admin"]),
    ],
)
def test_admin_holds_every_scope(scopes: list[str], may: list[str]) -> None:
    key = ApiKey.model_validate({"name": "a", "hash": hash_key(KEY), "scopes": scopes})
    every: tuple[KeyScope, ...] = ("ask", "feedback", "read", "admin")
    assert [scope for scope in every if key.may(scope)] == may


def test_domains_bind_only_where_they_are_listed() -> None:
    free, bound = (
        ApiKey.model_validate({"name": "a", "hash": hash_key(KEY), "domains": domains}) for domains in (None, ["easy"])
    )
    assert free.may_name("hard")
    assert (bound.may_name("easy"), bound.may_name("hard"), bound.may_name("Easy")) == (True, False, False)
    assert bound.may_name(None)
