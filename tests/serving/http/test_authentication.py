"""Who may come in, and how much they may bring."""

from __future__ import annotations

import base64
import hmac
import logging
import socket
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from confide.hashing import sha256_of_text
from confide.serving.api_keys import ApiKey, hash_key
from confide.serving.config import ServeConfig
from confide.serving.http.application import create_app
from confide.serving.http.authentication import OPEN, SCOPES, Keys
from upstreams import FakeModel, Running, Upstream, policy_file, router, small_server

KEY = "0123456789abcdefghij"


@pytest.fixture
def small() -> Iterator[Upstream]:
    with Upstream().running() as server:
        yield server


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
        (f"Bearer {hash_key(KEY)}", False),
        ("Basic " + base64.b64encode(f"{KEY}:".encode()).decode(), False),
        ("Basic " + base64.b64encode(b"me:\xff").decode(), False),
        (f"Digest {KEY}", False),
    ],
)
def test_only_known_keys_are_let_in(header: str, allowed: bool) -> None:
    empty = "sha256:" + sha256_of_text("")  # what a request without a key would present
    keys = [ApiKey(name=name, hash=hash) for name, hash in (("z", hash_key("z" * 30)), ("e", empty))]
    mine = ApiKey(name="mine", hash=hash_key(KEY))
    assert Keys([*keys, mine]).holder(header) is (mine if allowed else None)


def test_every_hash_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []
    compare = hmac.compare_digest

    def counted(a: bytes, b: bytes) -> bool:
        seen.append(a)
        return compare(a, b)

    monkeypatch.setattr(hmac, "compare_digest", counted)
    keys = Keys([ApiKey(name=key[0], hash=hash_key(key)) for key in (KEY, "z" * 30, "y" * 30)])
    assert keys.holder(f"Bearer {KEY}") is not None
    assert len(seen) == 3


def bearer(name: str) -> dict[str, str]:
    """The header with the key of this name."""
    return {"Authorization": f"Bearer {name * 30}"}


def entry(name: str, *scopes: str, **more: object) -> dict[str, object]:
    """A key of one letter in ``api_keys``; its text is the letter thirty times."""
    return {"name": name, "hash": hash_key(name * 30), "scopes": scopes, **more}


def test_a_key_is_asked_for_everywhere_but_for_health(tmp_path: Path, small: Upstream) -> None:
    keys = [{"name": "all", "hash": hash_key(KEY), "scopes": ["admin"]}, hash_key("x" * 30)]
    with router(tmp_path, small=small_server(small), api_keys=keys) as running:
        for path in ("/", "/metrics", "/v1/models", "/openapi.json", "/nowhere"):
            assert running.get(path).status_code == 401, path
            assert running.get(path, {"Authorization": f"Bearer {KEY[:-1]}"}).status_code == 401
            assert running.get(path, {"authorization": f"Bearer {KEY}"}).status_code in (200, 404)
            # A key in the address would stand in logs.
            assert running.get(f"{path}?api_key={KEY}&key={KEY}").status_code == 401
            assert running.get(path, {"X-Api-Key": KEY, "Cookie": f"key={KEY}"}).status_code == 401
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


def test_two_authorizations_are_none(tmp_path: Path, small: Upstream) -> None:
    """Which of them a proxy has checked cannot be known."""
    with router(tmp_path, small=small_server(small), api_keys=[entry("a", "admin"), entry("b", "ask")]) as running:
        for names in ("ab", "ba", "aa"):
            headers = [("Authorization", f"Bearer {name * 30}") for name in names]
            assert httpx.get(f"{running.url}/metrics", headers=headers, trust_env=False).status_code == 401


_ASK = {"messages": [{"role": "user", "content": "hi"}]}
_JUDGE = {"decision_id": "dec_" + "0" * 32, "correct": True}
_NEEDS = [
    ("POST", "/v1/chat/completions", _ASK, "ask", 200),
    ("POST", "/v1/completions", {"prompt": "hi"}, "ask", 200),
    ("POST", "/v1/responses", {"input": "hi"}, "ask", 200),
    ("POST", "/v1/messages", {**_ASK, "max_tokens": 9}, "ask", 200),
    ("POST", "/v1/embeddings", {"input": "hi", "model": "m"}, "ask", 404),
    ("POST", "/v1/feedback", _JUDGE, "feedback", 404),
    ("GET", "/", None, "read", 200),
    ("GET", "/metrics", None, "read", 200),
    ("GET", "/v1/models", None, None, 200),
    ("GET", "/v1/models/confide", None, None, 200),
    ("GET", "/openapi.json", None, None, 200),
]


def test_a_key_opens_what_its_scopes_say(tmp_path: Path, small: Upstream) -> None:
    scopes = {"a": "ask", "f": "feedback", "r": "read", "x": "admin"}
    keys = [entry(name, scope) for name, scope in scopes.items()]
    with router(tmp_path, small=small_server(small), api_keys=keys) as running:
        for method, path, body, needed, status in _NEEDS:
            for name, scope in scopes.items():
                got = httpx.request(method, running.url + path, json=body, headers=bearer(name), trust_env=False)
                if needed in (None, scope) or scope == "admin":
                    assert got.status_code == status, (path, scope)
                else:
                    assert got.status_code == 403, (path, scope)
                    error = got.json()["error"]
                    assert error["type"] == "permission_error"
                    assert error.get("code", "missing_scope") == "missing_scope"
                    assert f"the key {name} lacks the scope {needed}" in error["message"]
        # Another method or spelling of a path is no way around.
        for method in ("HEAD", "OPTIONS", "PUT", "GET"):
            got = httpx.request(method, f"{running.url}/metrics", headers=bearer("a"), trust_env=False)
            assert got.status_code == 403, method
        for path in ("/metrics/", "//metrics", "/%6detrics", "/./metrics", "/METRICS", "/metrics%00", "/metrics;a"):
            assert raw(running, path, bearer("a")["Authorization"]) in (403, 404), path
    assert len(running.rows()) == 8


def test_anthropics_clients_send_their_key_in_a_field_of_its_own(tmp_path: Path, small: Upstream) -> None:
    """On their path alone, and a key counts in one field only."""
    asks = {**_ASK, "max_tokens": 9}
    with router(tmp_path, small=small_server(small), api_keys=[entry("a", "ask")]) as running:
        own = {"X-Api-Key": "a" * 30}
        for headers, status in (
            (own, 200), (bearer("a"), 200), ({"X-Api-Key": "b" * 30}, 401), ({**own, **bearer("a")}, 401),
            ({"X-Api-Key": ""}, 401), ({"X-Api-Key": f"Bearer {'a' * 30}"}, 401),
        ):  # fmt: skip
            assert running.post("/v1/messages", asks, headers).status_code == status, headers
        assert running.post("/v1/chat/completions", _ASK, own).status_code == 401
        assert running.post("/v1/responses", {"input": "hi"}, own).status_code == 401


def raw(running: Running, path: str, authorization: str) -> int:
    """The status of a path that is sent as it is written."""
    host, port = running.url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=60) as connection:
        head = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nAuthorization: {authorization}\r\n\r\n"
        connection.sendall(head.encode())
        return int(connection.recv(1000).split()[1])


def test_every_route_has_decided_what_it_needs(tmp_path: Path) -> None:
    config = {"small": {"model": "x"}, "policy": policy_file(tmp_path), "store": f"sqlite:///{tmp_path}/c.db"}
    app = create_app(ServeConfig.model_validate(config), model=FakeModel())
    needs = {path for _, path, *_ in _NEEDS} - {"/v1/models/confide", "/openapi.json"} | {"/v1/models/{model_id}"}
    assert set(app.openapi()["paths"]) == needs | OPEN
    assert set(SCOPES) == {path for _, path, _, needed, _ in _NEEDS if needed}


def test_a_hash_alone_asks_and_judges_but_does_not_read(
    tmp_path: Path, small: Upstream, caplog: pytest.LogCaptureFixture
) -> None:
    """Configurations from before scopes load; who opened the dashboard with such a key is told what to write."""
    caplog.set_level(logging.WARNING)
    with router(tmp_path, small=small_server(small), api_keys=[hash_key(KEY)]) as running:
        headers = {"Authorization": f"Bearer {KEY}"}
        id = running.ask(headers=headers).json()["confide"]["decision_id"]
        assert running.post("/v1/feedback", {"decision_id": id, "correct": True}, headers).status_code == 200
        refused = httpx.get(running.url, auth=("any", KEY), trust_env=False)
        assert refused.status_code == 403
        assert "lacks the scope read; it is given in api_keys" in refused.json()["error"]["message"]
        assert running.rows()[0]["key"] == f"key-{hash_key(KEY)[7:19]}"
    assert "no key in api_keys may open the dashboard and /metrics" in caplog.text
    caplog.clear()
    with router(tmp_path, small=small_server(small), api_keys=[entry("r", "read")]):
        assert "no key in api_keys" not in caplog.text


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
