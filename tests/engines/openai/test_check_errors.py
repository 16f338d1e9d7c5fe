"""Why a server cannot be checked, each in one sentence that says what to do."""

from __future__ import annotations

from typing import Any

import pytest
from aiohttp import web

from checked_endpoints import Endpoint, check, ollama, openai, vllm
from confide.engines.openai import bare_requests
from confide.errors import ConfideError


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bare_requests, "_FIRST_WAIT_S", 0.01)


def error(server: Endpoint, path: str = "/v1", **more: Any) -> str:
    """The sentence about a server, asked at ``path``."""
    with server.running(), pytest.raises(ConfideError) as raised:
        check(server, url=server.url.removesuffix("/v1") + path, **more)
    sentence = str(raised.value)
    assert "\n" not in sentence
    return sentence


@pytest.mark.parametrize("url", ["http://127.0.0.1:9/v1", "http://no-such-host.invalid/v1", "https://127.0.0.1:9"])
def test_there_is_no_server(url: str) -> None:
    with pytest.raises(ConfideError, match=f"there is no server at {url}"):
        check(vllm(), url=url)


def test_a_key_is_wanted() -> None:
    assert "wants a key" in error(vllm(key="sk-1"))
    assert "--api-key-env" in error(vllm(key="sk-1"))


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_is_refused(monkeypatch: pytest.MonkeyPatch, status: int) -> None:
    monkeypatch.setenv("MY_KEY", "sk-wrong-one")
    server = openai(key="sk-1") if status == 401 else openai(statuses={"messages": 403})
    sentence = error(server, api_key_env="MY_KEY")
    assert f"refuses the key in MY_KEY ({status})" in sentence
    assert "sk-wrong-one" not in sentence


@pytest.mark.parametrize("value", [None, "", "  "])
def test_a_key_is_not_set(monkeypatch: pytest.MonkeyPatch, value: str | None) -> None:
    monkeypatch.delenv("MY_KEY", raising=False)
    if value is not None:
        monkeypatch.setenv("MY_KEY", value)
    assert "MY_KEY" in error(vllm(), api_key_env="MY_KEY")


@pytest.mark.parametrize("value", ["sk-1\nX-Other: 1", "sk\r\n1", "sk-\x1b"])
def test_a_key_with_a_line_end_is_not_sent(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("MY_KEY", value)
    server = vllm()
    sentence = error(server, api_key_env="MY_KEY")
    assert "the key in MY_KEY holds a line end" in sentence
    assert value not in sentence
    assert server.seen == []


@pytest.mark.parametrize("path", ["", "/"])
def test_an_address_without_v1_names_the_one_with_it(path: str) -> None:
    server = vllm()
    sentence = error(server, path)
    assert f"there is one at {server.url}: give that address" in sentence


def test_an_address_without_v1_behind_a_key_names_the_one_with_it() -> None:
    class Guarded(Endpoint):
        async def page(self, request: web.Request) -> web.Response:
            return web.Response(status=401 if request.path.startswith("/v1/") else 404)

    server = Guarded()
    sentence = error(server, "")
    assert f"there is one at {server.url}: give" in sentence


@pytest.mark.parametrize("path", ["/v2", "/v1/v1", "/api"])
def test_an_address_where_nothing_is(path: str) -> None:
    assert "answers no chat" in error(vllm(), path)


def test_a_page_for_people_is_no_chat() -> None:
    class Pages(Endpoint):
        async def chat(self, request: web.Request) -> web.StreamResponse:
            return web.Response(text="<html>Welcome</html>", content_type="text/html")

    assert "gives something else" in error(Pages())


@pytest.mark.parametrize(
    "data", [{}, {"choices": []}, {"choices": [{"text": "Hi"}]}, {"choices": 5}, {"error": {"message": "x"}}]
)
def test_what_is_no_chat_completion_is_no_chat(data: Any) -> None:
    class Other(Endpoint):
        async def chat(self, request: web.Request) -> web.StreamResponse:
            return web.json_response(data)

    assert "answers no chat" in error(Other())


def test_a_model_that_is_not_served_names_those_that_are() -> None:
    cards = [{"id": "tiny"}, {"id": "big"}]
    for server in (vllm(models=cards), openai(models=cards)):
        assert "does not serve the model huge: it serves tiny, big" in error(server, model="huge")


@pytest.mark.parametrize("status", [400, 404, 422])
def test_a_refusal_in_no_words_is_about_a_model_that_is_not_listed(status: int) -> None:
    server = openai(models=[{"id": "small"}], choosy=False, statuses={"messages": status})
    assert "does not serve the model huge: it serves small" in error(server, model="huge")
    assert "does not serve" not in error(server, model="small")


def test_many_models_are_not_all_named() -> None:
    sentence = error(openai(models=[{"id": f"model-{n}"} for n in range(300)]), model="huge")
    assert "model-7 and 292 more" in sentence


@pytest.mark.parametrize(
    "told", [{"code": "model_not_found"}, {"param": "model"}, {"message": 'model "tiny" not found'}]
)
def test_a_model_that_is_not_served_where_nothing_is_listed(told: dict[str, str]) -> None:
    class Unlisted(Endpoint):
        async def chat(self, request: web.Request) -> web.StreamResponse:
            return web.json_response({"error": told}, status=404)

    assert "does not serve the model tiny" in error(Unlisted(models=None))


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (307, "redirects to another address"),
        (400, "rejects a plain question (400)"),
        (402, "wants to be paid"),
        (422, "rejects a plain question (422)"),
        (429, "turns requests away (429)"),
        (500, "fails (500)"),
        (503, "still being loaded"),
    ],
)
def test_a_server_that_answers_no_plain_question(status: int, words: str) -> None:
    server = ollama(statuses={"messages": status})
    assert words in error(server)
    assert len(server.requests) == (
        bare_requests.ATTEMPTS if status in (429, 503) else 2 if status in (400, 422) else 1
    )


def test_a_server_that_hangs() -> None:
    assert "gave no answer in 1 s" in error(vllm(hangs="messages"), timeout_s=1)


def test_a_server_that_breaks_off() -> None:
    server = vllm(dies="messages")
    assert "breaks off the connection" in error(server)
