"""Whose fault an error is, status by status, and that nothing of what a server wrote is told."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from confide.engines.openai.model_error import ModelError
from confide.engines.openai.server_errors import failure_of, failure_told
from confide.engines.openai.server_replies import StreamReader, read_reply
from upstreams import KEY, Upstream, expert_server, router, small_server

SENT = ("model", "messages", "logprobs", "top_k", "tools", "stream_options", "max_tokens", "n")


def body_of(error: Any) -> bytes:
    return json.dumps({"error": error}).encode()


@pytest.mark.parametrize(
    ("statuses", "kind", "again", "counts"),
    [
        ([400, 413, 422], "rejected", False, False),
        ([401, 403], "unauthorized", False, True),
        ([402], "unpaid", False, True),
        ([404, 405, 406, 407, 410, 411, 412, 414, 415, 418, 421, 426, 428, 431, 451], "misconfigured", False, True),
        ([429], "rate_limited", True, True),
        ([408, 409, 423, 424, 425, 499, 500, 501, 502, 503, 504, 520, 529], "server_error", True, True),
        ([301, 302, 303, 307, 308], "redirected", False, True),
        ([201, 202, 204], "malformed", False, True),
    ],
)  # fmt: skip
def test_every_status_has_its_kind(statuses: list[int], kind: str, again: bool, counts: bool) -> None:
    for status in statuses:
        failure = failure_of(status, b"", SENT)
        assert (failure.kind, failure.again, failure.counts) == (kind, again, counts), status


@pytest.mark.parametrize(
    "body",
    [
        # OpenAI
        body_of({"message": "Unrecognized request argument supplied: top_k", "type": "invalid_request_error"}),
        body_of({"message": "Unsupported parameter: 'max_tokens' is not supported with this model.",
                 "param": "max_tokens", "code": "unsupported_parameter"}),
        body_of({"message": "x", "param": "n", "code": "unsupported_value"}),
        body_of({"message": "x", "code": "unknown_parameter"}),
        # vLLM
        json.dumps({"object": "error", "code": 400, "type": "BadRequestError", "message":
                    "[{'type': 'extra_forbidden', 'loc': ('body', 'top_k'), 'msg': 'Extra inputs are not permitted'}]"
                    }).encode(),
        body_of({"message": "`stream_options` is not yet supported by this engine", "code": 400}),
        # FastAPI, Mistral
        json.dumps({"detail": [{"type": "extra_forbidden", "loc": ["body", "logprobs"], "msg": "Extra"}]}).encode(),
        json.dumps({"detail": [{"type": "value_error", "loc": ["body", "tools"], "msg": "not supported"}]}).encode(),
        # llama.cpp and others in words
        b'{"error": "this server does not support tools"}',
        b"logprobs cannot be used with this model",
    ],
)  # fmt: skip
def test_a_field_that_a_server_does_not_take_is_not_the_clients_fault(body: bytes) -> None:
    for status in (400, 422):
        failure = failure_of(status, body, SENT)
        assert (failure.kind, failure.counts) == ("unsupported", False)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"\xff\xfe",
        b"null",
        b"[1, null, []]",
        b'{"error": 7}',
        body_of({"message": "This model's maximum context length is 8192 tokens", "code": "context_length_exceeded"}),
        body_of({"message": "max_tokens is too large: 9999", "param": "max_tokens", "code": "invalid_value"}),
        body_of({"message": "Invalid schema for function 'f'", "param": "tools[0].function.parameters"}),
        body_of({"message": "unknown role", "param": "messages[0].role"}),
        body_of({"message": "unsupported image", "param": "messages"}),
    ],
)
def test_other_requests_are_rejected_as_they_are(body: bytes) -> None:
    assert failure_of(400, body, SENT).kind == "rejected"


@pytest.mark.parametrize(
    ("status", "error", "kind"),
    [
        (400, {"code": "model_not_found", "message": "no such model"}, "misconfigured"),
        (400, {"param": "model", "message": "invalid model ID"}, "misconfigured"),
        (429, {"code": "insufficient_quota", "message": "You exceeded your current quota"}, "unpaid"),
        (429, {"code": "rate_limit_exceeded"}, "rate_limited"),
    ],
)
def test_some_codes_say_more_than_the_status(status: int, error: Any, kind: str) -> None:
    failure = failure_of(status, body_of(error), SENT)
    assert (failure.kind, failure.counts) == (kind, True)


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        ({"code": 402, "message": "Insufficient credits"}, "unpaid"),
        ({"code": 429, "message": "slow down"}, "rate_limited"),
        ({"code": 400, "message": "bad"}, "rejected"),
        ({"code": 404}, "misconfigured"),
        ({"code": "server_error"}, "server_error"),
        ({"code": True}, "server_error"),
        ({"code": 200}, "server_error"),
        ("overloaded", "server_error"),
    ],
)
def test_an_error_under_status_200_is_one(error: Any, kind: str) -> None:
    assert failure_told(error).kind == kind
    for read in (read_reply, StreamReader().add):
        with pytest.raises(ModelError, match=kind):
            read({"error": error})


# -- through the router ----------------------------------------------------------------------------------------------

NOT_TAKEN = {"error": {"message": f"Unrecognized request argument supplied: seed ({KEY})", "param": None}}


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("word", "kind"),
    [
        ("401", "unauthorized"), ("402", "unpaid"), ("403", "unauthorized"), ("404", "misconfigured"),
        ("405", "misconfigured"), ("410", "misconfigured"), ("415", "misconfigured"), ("409", "server_error"),
        ("400", "rejected"), ("422", "rejected"),
    ],
)  # fmt: skip
def test_what_only_the_expert_refuses_is_not_the_clients_fault(
    tmp_path: Path, small: Upstream, big: Upstream, spare: Upstream, word: str, kind: str, stream: bool
) -> None:
    small.probability, big.behaviour = 0.2, [word]
    experts = [expert_server(big, retries=0), expert_server(spare, "spare")]
    with router(tmp_path, small=small_server(small), experts=experts) as running:
        response = running.ask(stream=stream)
        assert response.status_code == 200
        assert running.rows()[-1]["answered_by"] == "spare"
        spare.behaviour = [word]
        response = running.ask(stream=stream)
        assert (response.status_code, response.json()["error"]["code"]) == (503, "no_answer")
        assert "retry-after" in response.headers
        assert running.rows()[-1]["error"] == f"big: {kind}; spare: {'server_error' if word == '409' else kind}"


def test_a_field_that_an_expert_does_not_take_sends_the_request_on(
    tmp_path: Path, small: Upstream, big: Upstream, spare: Upstream
) -> None:
    small.probability, big.behaviour, big.error = 0.2, ["400"], NOT_TAKEN
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        refused = running.ask(seed=5)
        assert (refused.status_code, refused.json()["error"]["code"]) == (503, "no_answer")
        assert running.rows()[-1]["error"] == "big: unsupported"
    experts = [expert_server(big), expert_server(spare, "spare")]
    with router(tmp_path, small=small_server(small), experts=experts) as running:
        assert running.ask(seed=5).json()["confide"]["answered_by"] == "spare"


def test_no_model_takes_what_every_model_refuses(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.behaviour = big.behaviour = ["400"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        assert (running.ask().status_code, running.rows()[-1]["error"]) == (400, "small: rejected; big: rejected")
        big.error = NOT_TAKEN  # the small server calls it wrong, the expert could not be asked
        assert running.ask(seed=5).status_code == 400
        small.error = NOT_TAKEN
        assert running.ask(seed=5).status_code == 503
        small.error, small.behaviour = None, ["402"]
        assert running.ask().status_code == 503


@pytest.mark.parametrize("word", ["401", "402", "404", "410"])
def test_a_server_that_is_addressed_wrongly_rests(tmp_path: Path, small: Upstream, big: Upstream, word: str) -> None:
    small.probability, big.behaviour = 0.2, [word]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        for number in range(7):
            assert running.ask(f"Where is town {number}?").status_code == 503
        assert len(big.requests) == 5
        assert running.rows()[-1]["error"] == "big: resting"


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("word", ["400", "401", "402", "404", "429", "500"])
def test_no_word_of_a_server_and_no_address_is_told(
    tmp_path: Path, small: Upstream, big: Upstream, monkeypatch: pytest.MonkeyPatch, word: str, stream: bool
) -> None:
    monkeypatch.setenv("EXPERT_KEY", KEY)
    small.behaviour = big.behaviour = [word]
    servers = {
        "small": small_server(small, api_key_env="EXPERT_KEY", retries=0),
        "experts": [expert_server(big, api_key_env="EXPERT_KEY", retries=0)],
    }
    with router(tmp_path, **servers) as running:
        for error in (
            None,
            {"error": {"message": f"Unrecognized request argument supplied: seed {KEY}", "param": KEY}},
        ):
            small.error = big.error = error
            response = running.ask(seed=5, stream=stream)
            told = response.text + str(response.headers) + json.dumps(running.rows()) + running.get("/metrics").text
            assert response.status_code in (400, 503)
            assert KEY not in told
            assert big.url not in told
            assert big.url.split(":")[2].split("/")[0] not in response.text
