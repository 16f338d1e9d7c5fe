"""What the application takes, refuses and describes, and what never comes out."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path

import httpx
import pytest

from confide.serving.api_keys import hash_key
from confide.serving.config import ServeConfig
from confide.serving.http.application import create_app
from upstreams import KEY, FakeModel, Upstream, expert_server, policy_file, router, small_server


@pytest.fixture
def small() -> Iterator[Upstream]:
    with Upstream().running() as server:
        yield server


@pytest.mark.parametrize(
    ("body", "param"),
    [
        (b"", None),
        (b"{", None),
        (b"[]", None),
        (b'{"messages": []}', "messages"),
        (b'{"messages": [{"role": "king", "content": "hi"}]}', "messages.0.role"),
        (b'{"messages": [{"role": "user", "content": 5}]}', None),
        (b'{"messages": [{"role": "user", "content": "\\ud800"}]}', None),
        (b'{"messages": [{"role": "user", "content": "hi"}], "temperature": "1"}', "temperature"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "temperature": NaN}', "temperature"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "max_tokens": 5000}', "max_tokens"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "n": 9}', "n"),
        (b'{"messages": [{"role": "user", "content": "hi"}], "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", None),
        (b"\xff\xfe", None),
    ],
)
def test_bad_bodies_are_400_in_openais_shape(tmp_path: Path, small: Upstream, body: bytes, param: str | None) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        response = httpx.post(
            f"{running.url}/v1/chat/completions",
            content=body,
            headers={"Content-Type": "application/json"},
            trust_env=False,
        )
        assert response.status_code == 400
        error = response.json()["error"]
        assert error["type"] == "invalid_request_error"
        assert set(error) == {"message", "type", "param", "code"}
        if param:
            assert error["param"] == param
        assert not small.requests


def test_paths_and_methods_that_are_not_there(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        assert running.get("/nowhere").json()["error"]["message"] == "there is no such path"
        response = running.get("/v1/chat/completions")
        assert (response.status_code, response.headers["allow"]) == (405, "POST")
        assert running.get("/?window=fortnight").status_code == 400
        assert running.get("/?window=hour&refresh=off").status_code == 200


def test_what_does_not_fit_is_turned_away_at_once(tmp_path: Path, small: Upstream) -> None:
    small.behaviour = ["hang"]
    settings = {"deadline_s": 1.0, "limits": {"concurrency": 1, "queue": 1}, "mode": "observe"}
    with router(tmp_path, small=small_server(small), **settings) as running:
        found: list[httpx.Response] = []
        threads = [threading.Thread(target=lambda: found.append(running.ask())) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert sorted(response.status_code for response in found) == [503] * 4 + [504] * 2
        assert all("retry-after" in r.headers for r in found if r.status_code == 503)
        # The one that waited was turned away, or got its place just when its time was over.
        counted = [
            line for line in running.get("/metrics").text.split("\n") if line.startswith("confide_turned_away_t")
        ]
        assert counted[0].split()[1] in ("4.0", "5.0")


def test_an_experts_key_appears_nowhere(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The stub echoes the key in its errors, as real servers have done."""
    monkeypatch.setenv("EXPERT_KEY", KEY)
    small.probability = 0.2
    caplog.set_level(logging.DEBUG)
    with Upstream(behaviour=["401", "400", "429-long", "500"]).running() as big:
        expert = expert_server(big, api_key_env="EXPERT_KEY", retries=0)
        settings = {"experts": [expert], "store_text": True, "audit_share": 1.0}
        with router(tmp_path, small=small_server(small), **settings) as running:
            seen = [running.ask(), running.ask(), running.ask(), running.ask(stream=True)]
            seen += [running.get("/"), running.get("/metrics"), running.get("/openapi.json")]
            assert big.headers[0]["Authorization"] == f"Bearer {KEY}"
            for response in seen:
                assert KEY not in response.text
                assert KEY not in str(response.headers)
            assert KEY not in str(running.rows())
            assert [row["error"] for row in running.rows()][:2] == ["big: unauthorized", "big: rejected"]
    assert KEY not in caplog.text
    assert all(KEY.encode() not in file.read_bytes() for file in tmp_path.iterdir())


def test_no_request_makes_the_router_call_another_address(tmp_path: Path, small: Upstream) -> None:
    with Upstream().running() as elsewhere, Upstream(behaviour=["redirect"]).running() as big:
        small.probability = 0.2
        fields = ["base_url", "api_base", "url"]
        servers = {"small": small_server(small, fields=fields), "experts": [expert_server(big, fields=fields)]}
        with router(tmp_path, **servers) as running:
            tempting = {"base_url": elsewhere.url, "api_base": elsewhere.url, "url": elsewhere.url}
            message = {"role": "user", "content": [{"type": "image_url", "image_url": {"url": elsewhere.url}}]}
            running.post("/v1/chat/completions", {"messages": [message], **tempting})
            running.ask(elsewhere.url, headers={"X-Forwarded-Host": elsewhere.url}, **tempting)
            assert not elsewhere.requests
            assert [row["error"] for row in running.rows()] == ["big: redirected"] * 2


def test_proxies_of_the_environment_are_not_used(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:9")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with router(tmp_path, small=small_server(small)) as running:
        assert running.ask().status_code == 200


def test_stored_texts_are_escaped_on_the_dashboard(tmp_path: Path, small: Upstream) -> None:
    small.answer = "<script>alert(1)</script>"
    with router(tmp_path, small=small_server(small), store_text=True) as running:
        running.ask("<img src=x onerror=alert(2)>")
        page = running.get("/").text
        assert "<script>alert" not in page
        assert "<img src=x" not in page
        assert "&lt;img src=x" in page


def test_a_bug_is_a_plain_500(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    import confide.serving.http.routes as routes

    with router(tmp_path, model=FakeModel(), small={"model": "x"}) as running:

        def bug(*_: object) -> None:
            raise RuntimeError("secret")

        monkeypatch.setattr(routes, "check_local", bug)
        response = running.ask()
        assert response.status_code == 500
        assert response.json()["error"]["message"] == "internal error"
        assert "secret" not in response.text
        assert response.headers["x-content-type-options"] == "nosniff"


def test_bodies_limits_and_keys_are_described(tmp_path: Path) -> None:
    base = {"small": {"model": "x"}, "policy": policy_file(tmp_path), "store": f"sqlite:///{tmp_path}/c.db"}
    keys = [hash_key("k" * 30), {"name": "reader", "hash": hash_key("r" * 30), "scopes": ["read"]}]
    config = ServeConfig.model_validate({**base, "api_keys": keys, "limits": {"max_tokens": 77, "choices": 3}})
    schema = create_app(config, model=FakeModel()).openapi()
    schemas = schema["components"]["schemas"]
    assert schemas["ChatRequest"]["required"] == ["messages"]
    assert schemas["ChatRequest"]["properties"]["max_tokens"]["anyOf"][0]["maximum"] == 77
    assert schemas["CompletionRequest"]["properties"]["n"]["anyOf"][0] == {
        "type": "integer",
        "minimum": 1,
        "maximum": 3,
    }
    assert schemas["ResponsesRequest"]["properties"]["max_output_tokens"]["anyOf"][0]["maximum"] == 77
    assert schemas["MessagesRequest"]["properties"]["max_tokens"]["maximum"] == 77
    assert schema["security"] == [{"key": []}]
    assert schema["paths"]["/healthz"]["get"]["security"] == []
    assert schema["paths"]["/metrics"]["get"]["security"] == [{"key": ["read"]}]
    for path, operations in schema["paths"].items():
        for operation in operations.values():
            assert ("401" in operation["responses"]) == (operation.get("security") != []), path
            assert ("403" in operation["responses"]) == bool(operation.get("security")), path
    assert set(schema["paths"]) == {
        "/", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/{model_id}", "/v1/feedback",
        "/v1/completions", "/v1/chat/completions", "/v1/responses", "/v1/messages", "/v1/embeddings",
    }  # fmt: skip
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert {int(status) for status in operation["responses"]} <= {
                200, 400, 401, 403, 404, 408, 409, 413, 415, 421, 502, 503, 504,
            }  # fmt: skip


@pytest.mark.parametrize("stream", [b"false", b"true"])
def test_what_is_nested_too_deep_is_refused_by_every_api(tmp_path: Path, small: Upstream, stream: bytes) -> None:
    """Also where an answer, or an event, would hold it a level deeper than the request did."""
    shapes = {
        "/v1/chat/completions": b'"messages": [{"role": "user", "content": "x"}], "tools": '
        b'[{"type": "function", "function": {"name": "f", "parameters": {"a": %s}}}]',
        "/v1/responses": b'"input": "x", "text": {"format": {"type": "json_schema", "name": "f", "schema": {"a": %s}}}',
        "/v1/messages": b'"messages": [{"role": "user", "content": "x"}], "max_tokens": 9, '
        b'"tools": [{"name": "f", "input_schema": {"a": %s}}]',
    }
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        for path, shape in shapes.items():
            for depth in (100, *range(244, 258), 900, 3000):
                body = b'{"stream": ' + stream + b", " + shape % (b"[" * depth + b"]" * depth) + b"}"
                headers = {"Content-Type": "application/json"}
                response = httpx.post(f"{running.url}{path}", content=body, headers=headers, trust_env=False)
                wanted = {100: (200,), 900: (400,), 3000: (400,)}.get(depth, (200, 400))
                assert response.status_code in wanted, (path, depth)
