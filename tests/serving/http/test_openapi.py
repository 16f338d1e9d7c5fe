"""The description says what the routes take, with the limits and keys of this configuration."""

from __future__ import annotations

from pathlib import Path

from confide.serving.config import ServeConfig
from confide.serving.http.application import create_app
from confide.serving.http.authentication import hash_key
from upstreams import FakeModel, policy_file


def test_bodies_limits_and_keys_are_described(tmp_path: Path) -> None:
    base = {"small": {"model": "x"}, "policy": policy_file(tmp_path), "store": f"sqlite:///{tmp_path}/c.db"}
    keys = [hash_key("k" * 30)]
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
    assert schema["security"] == [{"key": []}]
    assert schema["paths"]["/healthz"]["get"]["security"] == []
    assert set(schema["paths"]) == {
        "/", "/healthz", "/readyz", "/metrics", "/v1/models", "/v1/models/{model_id}", "/v1/feedback",
        "/v1/completions", "/v1/chat/completions",
    }  # fmt: skip
    for operations in schema["paths"].values():
        for operation in operations.values():
            assert {int(status) for status in operation["responses"]} <= {
                200, 400, 401, 404, 408, 413, 415, 421, 502, 503, 504,
            }  # fmt: skip
