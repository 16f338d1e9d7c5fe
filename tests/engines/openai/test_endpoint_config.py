"""An endpoint's flags as a server."""

from __future__ import annotations

import pytest

from confide.engines.openai.endpoint_config import KEY, EndpointConfig
from confide.errors import ConfideError


def test_the_key_is_looked_for_by_name_and_else_where_everyone_keeps_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(KEY, "one")
    monkeypatch.setenv("OTHER", "two")
    config = EndpointConfig(base_url="http://x/v1")
    key = config.server("m").api_key()
    assert key is not None
    assert key.get_secret_value() == "one"
    other = EndpointConfig(base_url="http://x/v1", api_key_env="OTHER").server("m").api_key()
    assert other is not None
    assert other.get_secret_value() == "two"
    monkeypatch.delenv(KEY)
    assert config.server("m").api_key() is None


@pytest.mark.parametrize("url", ["http://x/v1/", "http://x/v1/chat/completions", " http://x/v1"])
def test_addresses_are_taken_as_people_paste_them(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv(KEY, raising=False)
    assert EndpointConfig(base_url=url).server("m").base_url == "http://x/v1"


@pytest.mark.parametrize(
    ("config", "told"),
    [
        (EndpointConfig(), "--base-url http"),
        (EndpointConfig(base_url="x"), "--base-url"),
        (EndpointConfig(base_url="http://x/v1", timeout_s=1e9), "--timeout-s"),
        (EndpointConfig(base_url="http://x/v1", input_price=float("inf")), "--input-price"),
    ],
)
def test_what_cannot_be_is_named(config: EndpointConfig, told: str) -> None:
    with pytest.raises(ConfideError, match=told):
        config.server("m")


def test_a_key_with_a_line_end_inside_is_refused_without_being_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-one\nsk-two")
    with pytest.raises(ConfideError, match="MY_KEY holds a line end") as told:
        EndpointConfig(base_url="http://127.0.0.1:8000/v1", api_key_env="MY_KEY").server("tiny")
    assert "sk-" not in str(told.value)
