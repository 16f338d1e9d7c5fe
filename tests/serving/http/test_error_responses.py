"""Every path's errors in the shape of its API, wherever they arise."""

from __future__ import annotations

import json
from pathlib import Path

import httpx
import pytest

from confide.serving.api_errors import ApiError
from confide.serving.api_keys import hash_key
from confide.serving.http.error_responses import anthropic_error, error_response
from upstreams import Upstream, router, small_server


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, None, "invalid_request_error"), (401, None, "authentication_error"), (403, None, "permission_error"),
        (404, None, "not_found_error"), (408, None, "invalid_request_error"), (413, None, "request_too_large"),
        (415, None, "invalid_request_error"), (500, None, "api_error"), (502, "broken_off", "api_error"),
        (503, "overloaded", "overloaded_error"), (503, "store", "api_error"), (504, "deadline", "timeout_error"),
    ],
)  # fmt: skip
def test_types_of_errors(status: int, code: str | None, kind: str) -> None:
    error = ApiError(status, "why", code=code)
    assert anthropic_error(error) == {"type": "error", "error": {"type": kind, "message": "why"}}


def test_the_path_decides() -> None:
    error = ApiError(503, "why", retry_after=2)
    for path, key in (("/v1/messages", "type"), ("/v1/messages/count_tokens", "type"), ("/v1/messagesx", "error")):
        response = error_response(error, path)
        assert next(iter(json.loads(bytes(response.body)))) == key, path
        assert response.headers["retry-after"] == "2"


def test_names_of_fields_are_those_of_the_path() -> None:
    error = ApiError(400, "max_tokens is 9, at most 8 max_tokens_more", param="max_tokens")
    renamed = error.renamed({"max_tokens": "max_output_tokens"})
    assert renamed.message == "max_output_tokens is 9, at most 8 max_tokens_more"
    assert renamed.param == "max_output_tokens"
    assert error.renamed({"n": "m"}) is error
    assert ApiError(400, "no").renamed({"n": "m"}).message == "no"


def test_errors_in_front_of_the_application_have_the_shape_too(tmp_path: Path, small: Upstream) -> None:
    settings = {"api_keys": [hash_key("k" * 30)], "limits": {"body_bytes": 1000}}
    key = {"x-api-key": "k" * 30}
    with router(tmp_path, small=small_server(small), **settings) as running:
        url = f"{running.url}/v1/messages"
        found = [
            httpx.post(url, json={}, trust_env=False),
            httpx.post(url, content=b"{}", headers={**key, "Content-Type": "text/plain"}, trust_env=False),
            httpx.post(url, json={"x": "y" * 2000}, headers=key, trust_env=False),
            httpx.post(url, json={}, headers=key, trust_env=False),
            httpx.post(url, content=b"{", headers={**key, "Content-Type": "application/json"}, trust_env=False),
            httpx.get(url, headers=key, trust_env=False),
            httpx.post(f"{url}/count_tokens", json={}, headers=key, trust_env=False),
        ]
        assert [response.status_code for response in found] == [401, 415, 413, 400, 400, 405, 404]
        for response in found:
            body = response.json()
            assert (body["type"], set(body["error"])) == ("error", {"type", "message"}), body
        elsewhere = httpx.post(f"{running.url}/v1/responses", json={}, trust_env=False).json()
        assert elsewhere["error"]["code"] == "invalid_api_key"
