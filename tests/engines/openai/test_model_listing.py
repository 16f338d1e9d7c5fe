"""What is read of a server's list of models, and of lists that are none."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer

import pytest

from confide.engines.openai.model_listing import is_adapter, listed_identity
from confide.serving.config import SmallServer


@contextmanager
def listing(
    status: int, body: bytes, headers: dict[str, str] | None = None
) -> Iterator[tuple[str, list[tuple[str, str]]]]:
    """A server that gives this answer to every GET; its address, and what was asked of it."""
    asked: list[tuple[str, str]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append((self.path, self.headers.get("Authorization", "")))
            self.send_response(status)
            for name, value in (headers or {}).items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}/v1", asked
        finally:
            server.shutdown()
            thread.join()


CARDS = b'{"data": [{"id": "big", "root": "/b"}, {"id": "tiny", "root": "/m, x=y", "owned_by": "vllm", "created": 5}]}'


def test_the_models_own_card_is_read_with_the_key(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SMALL_KEY", "sk-1")
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")  # proxies of the environment are not used
    with listing(200, CARDS) as (url, asked):
        config = SmallServer(base_url=url, model="tiny", api_key_env="SMALL_KEY")
        assert listed_identity(config) == "root=/m__x=y, owner=vllm"
        assert listed_identity(SmallServer(base_url=url, model="other")) == ""
    assert asked == [("/v1/models", "Bearer sk-1"), ("/v1/models", "")]


@pytest.mark.parametrize(
    ("status", "body", "headers"),
    [
        (404, b"", {}),
        (401, CARDS, {}),
        (302, b"", {"Location": "/v1/elsewhere"}),
        (200, b"not json", {}),
        (200, b"[" * 100_000, {}),
        (200, b"\xff\xfe", {}),
        *((200, body, {}) for body in (b"[]", b"null", b'{"data": 5}', b'{"data": [5, null, {}]}')),
        (200, b'{"data": [{"id": "tiny", "root": 5, "owned_by": null}]}', {}),
    ],
)
def test_what_is_no_list_says_nothing(status: int, body: bytes, headers: dict[str, str]) -> None:
    with listing(status, body, headers) as (url, asked):
        assert listed_identity(SmallServer(base_url=url, model="tiny")) == ""
    assert len(asked) == 1


def test_a_server_that_is_not_there_says_nothing() -> None:
    assert listed_identity(SmallServer(base_url="http://127.0.0.1:9/v1", model="tiny")) == ""


@pytest.mark.parametrize(
    ("card", "adapter"),
    [
        ('{"id": "tiny", "root": "/lora", "parent": "base"}', True),
        ('{"id": "tiny", "root": "/m", "parent": null}', False),
        ('{"id": "tiny"}', False),
        ('{"id": "other", "parent": "base"}', False),
    ],
)
def test_an_adapter_names_its_parent(card: str, adapter: bool) -> None:
    with listing(200, f'{{"data": [{card}]}}'.encode()) as (url, _):
        assert is_adapter(SmallServer(base_url=url, model="tiny")) is adapter
