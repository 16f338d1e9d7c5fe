"""Who may come in, and how much they may bring."""

from __future__ import annotations

import base64
import hmac
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from confide.errors import ConfideError
from confide.serving.http.authentication import Keys, hash_key
from upstreams import Upstream, router, small_server

KEY = "0123456789abcdefghij"


@pytest.fixture
def small() -> Iterator[Upstream]:
    with Upstream().running() as server:
        yield server


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


def test_a_key_is_asked_for_everywhere_but_for_health(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small), api_keys=[hash_key(KEY), hash_key("x" * 30)]) as running:
        for path in ("/", "/metrics", "/v1/models", "/openapi.json", "/nowhere"):
            assert running.get(path).status_code == 401, path
            assert running.get(path, {"Authorization": f"Bearer {KEY[:-1]}"}).status_code == 401
            assert running.get(path, {"Authorization": f"Bearer {KEY}"}).status_code in (200, 404)
        assert running.get("/healthz").status_code == running.get("/readyz").status_code == 200
        response = running.ask()
        assert response.status_code == 401
        assert response.json()["error"]["code"] == "invalid_api_key"
        assert response.headers["www-authenticate"] == "Bearer"
        assert running.ask(headers={"Authorization": f"Bearer {KEY}"}).status_code == 200
        # A browser gives the key of the dashboard as a password.
        assert running.get("/").headers["www-authenticate"].startswith("Basic")
        dashboard = httpx.get(running.url, auth=("any", KEY), trust_env=False)
        assert dashboard.status_code == 200
        # With keys, any name of the server will do: a proxy passes its own on.
        named = running.get("/", {"Authorization": f"Bearer {KEY}", "Host": "router.example.org"})
        assert named.status_code == 200


def test_without_keys_only_local_names_are_answered(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        for host, status in (("evil.example", 421), ("127.0.0.1:1", 200), ("localhost", 200), ("[::1]:8", 200)):
            assert running.get("/v1/models", {"Host": host}).status_code == status, host


def test_a_page_of_another_site_cannot_post_without_asking(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        for kind in ("text/plain", "application/x-www-form-urlencoded", ""):
            response = httpx.post(
                f"{running.url}/v1/chat/completions",
                content=b'{"messages": [{"role": "user", "content": "hi"}]}',
                headers={"Content-Type": kind},
                trust_env=False,
            )
            assert response.status_code == 415
        asked = httpx.options(
            f"{running.url}/v1/chat/completions", headers={"Origin": "https://evil.example"}, trust_env=False
        )
        assert not any(name.startswith("access-control") for name in asked.headers)
        assert not small.requests


def test_every_response_carries_security_headers(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        stream = running.ask(stream=True)
        for response in (running.get("/"), running.get("/nowhere"), running.ask(), stream, running.ask(n=0)):
            assert response.headers["x-content-type-options"] == "nosniff"
            assert response.headers["referrer-policy"] == "no-referrer"
            assert response.headers["x-frame-options"] == "DENY"
            assert "frame-ancestors 'none'" in response.headers["content-security-policy"]
            assert "default-src 'none'" in response.headers["content-security-policy"]
        assert "style-src 'sha256-" in running.get("/").headers["content-security-policy"]
        assert len(running.get("/").headers.get_list("content-security-policy")) == 1


def test_large_bodies_are_refused_with_and_without_a_length(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small), limits={"body_bytes": 2000}) as running:
        assert running.ask("x" * 3000).status_code == 413

        def pieces() -> Iterator[bytes]:
            yield b'{"messages": [{"role": "user", "content": "'
            for _ in range(100):
                yield b"x" * 100

        response = httpx.post(
            f"{running.url}/v1/chat/completions",
            content=pieces(),
            headers={"Content-Type": "application/json"},
            trust_env=False,
        )
        assert response.status_code == 413
        assert response.json()["error"]["code"] == "too_large"


def test_a_slow_body_is_given_up(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small), deadline_s=0.5) as running:
        host, port = running.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=60) as connection:
            connection.sendall(
                b"POST /v1/chat/completions HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
                b"Content-Length: 100\r\n\r\n{"
            )
            assert b"408" in connection.recv(1000).split(b"\r\n")[0]
