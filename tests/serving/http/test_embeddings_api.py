"""Embeddings pass through to the server that is configured for them, within the router's limits."""

from __future__ import annotations

import http.client
import json
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx
import openai
import pytest

from confide.serving.api_keys import hash_key
from upstreams import KEY, Running, Upstream, embeddings_server, router, small_server

MODEL = "BAAI/bge-small"


@pytest.fixture
def vectors() -> Iterator[Upstream]:
    with Upstream().running() as server:
        yield server


@pytest.fixture
def running(tmp_path: Path, small: Upstream, vectors: Upstream) -> Iterator[Running]:
    settings = {"embeddings": embeddings_server(vectors, retries=0), "deadline_s": 5.0}
    with router(tmp_path, small=small_server(small), **settings) as found:
        yield found


def test_the_official_client(running: Running, vectors: Upstream) -> None:
    client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0)
    found = client.embeddings.create(model=MODEL, input=["Kyoto", "Lyon"], encoding_format="float", dimensions=2)
    assert found.data[0].embedding == [0.5, -1.25]
    assert found.usage.prompt_tokens == 3
    assert vectors.requests == [
        {"model": MODEL, "input": ["Kyoto", "Lyon"], "encoding_format": "float", "dimensions": 2}
    ]
    assert [model.id for model in client.models.list()] == ["confide", MODEL]
    assert client.models.retrieve(MODEL).owned_by == "embeddings"
    with pytest.raises(openai.NotFoundError, match=f"the models here: confide, {MODEL}"):
        client.models.retrieve("other")
    with pytest.raises(openai.NotFoundError, match=f"made by {MODEL}"):
        client.embeddings.create(model="text-embedding-3-small", input="Kyoto")


@pytest.mark.parametrize("value", ["Kyoto", ["Kyoto", "Lyon"], [1, 2, 3], [[1, 2], [3]]], ids=str)
def test_body_and_reply_are_unchanged_and_no_row_is_kept(running: Running, vectors: Upstream, value: Any) -> None:
    body = {"model": MODEL, "input": value, "user": "ü"}
    response = running.post("/v1/embeddings", body)
    assert vectors.requests == [body]
    direct = httpx.post(f"{vectors.url}/embeddings", json=body, trust_env=False)
    assert response.content == direct.content
    assert response.headers["content-type"] == "application/json"
    assert running.rows() == []


@pytest.mark.parametrize(
    ("body", "param"),
    [
        ({"input": "x"}, "model"), ({"model": MODEL}, "input"), ({"model": 5, "input": "x"}, "model"),
        ({"model": MODEL, "input": ""}, "input"), ({"model": MODEL, "input": []}, "input"),
        ({"model": MODEL, "input": ["x", ""]}, "input"), ({"model": MODEL, "input": ["x", 1]}, "input"),
        ({"model": MODEL, "input": [[]]}, "input"), ({"model": MODEL, "input": [1.5]}, "input"),
        ({"model": MODEL, "input": [True]}, "input"), ({"model": MODEL, "input": {"a": 1}}, "input"),
        ({"model": MODEL, "input": "x", "dimensions": 0}, "dimensions"),
        ({"model": MODEL, "input": "x", "top_k": 1}, "top_k"),
        ({"model": MODEL, "input": "x", "messages": []}, "messages"),
    ],
    ids=str,
)  # fmt: skip
def test_bad_bodies_are_400(running: Running, vectors: Upstream, body: Any, param: str) -> None:
    response = running.post("/v1/embeddings", body)
    assert response.status_code == 400, response.text
    assert response.json()["error"]["param"] == param
    assert not vectors.requests


@pytest.mark.parametrize("bad", [b'"\\ud800"', b'["\\ud800"]', b"[" * 3000 + b"]" * 3000, b"NaN", b"[1e400]"])
def test_what_cannot_be_passed_on_is_a_clean_400(running: Running, bad: bytes) -> None:
    content = b'{"model": "%s", "input": %s}' % (MODEL.encode(), bad)
    headers = {"Content-Type": "application/json"}
    response = httpx.post(f"{running.url}/v1/embeddings", content=content, headers=headers, trust_env=False)
    assert response.status_code == 400, response.text


@pytest.mark.parametrize(
    ("word", "status", "code"),
    [("400", 400, "rejected"), ("401", 503, "no_answer"), ("404", 503, "no_answer"), ("500", 503, "no_answer"),
     ("429-long", 503, "no_answer"), ("malformed", 503, "no_answer"), ("redirect", 503, "no_answer")],
)  # fmt: skip
def test_failures_are_told_as_those_of_experts(
    tmp_path: Path, small: Upstream, vectors: Upstream, monkeypatch: pytest.MonkeyPatch,
    word: str, status: int, code: str,
) -> None:  # fmt: skip
    monkeypatch.setenv("VECTORS_KEY", KEY)
    vectors.behaviour = [word]
    server = embeddings_server(vectors, retries=0, api_key_env="VECTORS_KEY")
    with router(tmp_path, small=small_server(small), embeddings=server) as running:
        response = running.post("/v1/embeddings", {"model": MODEL, "input": "x"})
        assert (response.status_code, response.json()["error"]["code"]) == (status, code)
        assert ("retry-after" in response.headers) == (status == 503)
        assert vectors.headers[0]["Authorization"] == f"Bearer {KEY}"
        assert KEY not in response.text  # the stub echoes it
        counted = [line for line in running.get("/metrics").text.split("\n") if 'model="embeddings"' in line]
        assert counted


def test_what_may_pass_is_asked_again(tmp_path: Path, small: Upstream, vectors: Upstream) -> None:
    vectors.behaviour = ["500", "429", "ok"]
    with router(tmp_path, small=small_server(small), embeddings=embeddings_server(vectors)) as running:
        assert running.post("/v1/embeddings", {"model": MODEL, "input": "x"}).status_code == 200
        assert len(vectors.requests) == 3


def test_the_deadline_holds(tmp_path: Path, small: Upstream, vectors: Upstream) -> None:
    vectors.behaviour = ["hang"]
    settings = {"embeddings": embeddings_server(vectors), "deadline_s": 0.5}
    with router(tmp_path, small=small_server(small), **settings) as running:
        response = running.post("/v1/embeddings", {"model": MODEL, "input": "x"})
        assert (response.status_code, response.json()["error"]["code"]) == (504, "deadline")
        assert vectors.hung_up.wait(10)


def test_places_are_shared_with_questions(tmp_path: Path, small: Upstream, vectors: Upstream) -> None:
    """And one that its client has left is free again."""
    vectors.behaviour = ["hang"]
    settings = {"embeddings": embeddings_server(vectors), "limits": {"concurrency": 1, "queue": 0}}
    with router(tmp_path, small=small_server(small), **settings) as running:
        connection = http.client.HTTPConnection(running.url.removeprefix("http://"), timeout=60)
        body = json.dumps({"model": MODEL, "input": "x"})
        connection.request("POST", "/v1/embeddings", body, {"Content-Type": "application/json"})
        until = time.monotonic() + 60
        while not vectors.requests and time.monotonic() < until:
            time.sleep(0.02)
        refused = running.ask()
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "overloaded")
        connection.close()
        assert vectors.hung_up.wait(60)
        while running.ask().status_code != 200:
            assert time.monotonic() < until
            time.sleep(0.02)


def test_a_server_of_its_own_is_needed(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        response = running.post("/v1/embeddings", {"model": "m", "input": "x"})
        assert response.status_code == 404
        assert "embeddings in the router's configuration" in response.json()["error"]["message"]
        assert [card["id"] for card in running.get("/v1/models").json()["data"]] == ["confide"]


def test_its_fields_are_renamed_dropped_and_taken_as_configured(
    tmp_path: Path, small: Upstream, vectors: Upstream
) -> None:
    server = embeddings_server(vectors, fields=["truncate"], drop=["user"], rename={"dimensions": "size"})
    with router(tmp_path, small=small_server(small), embeddings=server) as running:
        body = {"model": MODEL, "input": "x", "truncate": True, "user": "u", "dimensions": 2}
        assert running.post("/v1/embeddings", body).status_code == 200
        assert vectors.requests == [{"model": MODEL, "input": "x", "truncate": True, "size": 2}]


def test_the_scope_is_that_of_questions(tmp_path: Path, small: Upstream, vectors: Upstream) -> None:
    keys = [
        {"name": name, "hash": hash_key(name * 30), "scopes": [scope]} for name, scope in (("a", "ask"), ("r", "read"))
    ]
    settings = {"embeddings": embeddings_server(vectors), "api_keys": keys}
    with router(tmp_path, small=small_server(small), **settings) as running:
        body = {"model": MODEL, "input": "x"}
        for headers, status in (({}, 401), (by("r"), 403), (by("a"), 200)):
            assert running.post("/v1/embeddings", body, headers).status_code == status


def by(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name * 30}"}
