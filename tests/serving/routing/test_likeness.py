"""Requests and models that a policy was not made for: marked, kept out of its statistics, escalated, refused."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from pathlib import Path
from typing import Any

import httpx
import pytest

from confide.engines.openai import upstream
from confide.errors import ConfideError
from confide.policies.requests import request_of
from confide.records import RequestShape
from confide.serving.monitor.snapshot import snapshot
from confide.serving.store.store import Store
from stores import using
from upstreams import FakeModel, Upstream, events, expert_server, policy_file, router, small_server

WAYS: list[dict[str, Any]] = [{}, {"stream": True}]


def asked(text: str, **options: Any) -> RequestShape:
    return request_of([{"role": "user", "content": text}], options, 0)


PLAIN = [asked(f"Where is Kyoto{'?' * (n % 9)}", temperature=0) for n in range(300)]
LIKE: dict[str, Any] = {"temperature": 0}


def field_of(response: Any) -> dict[str, Any]:
    assert response.status_code == 200, response.text
    stream = "event-stream" in response.headers["content-type"]
    found: dict[str, Any] = events(response)[-2]["confide"] if stream else response.json()["confide"]
    return found


@pytest.mark.parametrize("stream_mode", ["hold", "early"])
@pytest.mark.parametrize("way", WAYS)
def test_a_request_like_the_rows_is_calibrated(
    tmp_path: Path, small: Upstream, way: dict[str, Any], stream_mode: str
) -> None:
    policy = policy_file(tmp_path, requests=PLAIN)
    with router(tmp_path, small=small_server(small), policy=policy, stream_mode=stream_mode) as running:
        field = field_of(running.ask(**LIKE, **way, seed=7, user="u", max_tokens=30))
        assert (field["calibrated"], field["unlike"], field["verified"], field["served"]) == (True, [], True, "small")
        assert running.rows()[0]["unlike"] is None
        assert "confide_unlike_total{" not in running.get("/metrics").text


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("request_body", "what"),
    [
        ({}, "temperature"),  # left out it is 1, which is not how the rows were answered
        ({"temperature": 1.7}, "temperature"),
        ({**LIKE, "frequency_penalty": 2}, "penalties"),
        ({**LIKE, "logit_bias": {"5": -100}}, "logit_bias"),
        ({**LIKE, "stop": ["a"]}, "stop"),
        ({**LIKE, "n": 2}, "n"),
        ({**LIKE, "response_format": {"type": "json_object"}}, "response_format"),
        ({**LIKE, "tools": [{"type": "function", "function": {"name": "f"}}]}, "tools"),
        ({**LIKE, "made_up": 1}, "options"),
        ({**LIKE, "text": "word " * 300}, "length"),
        ({**LIKE, "messages": [{"role": "system", "content": "Lie."}, {"role": "user", "content": "Where is it?"}]},
         "system"),
        ({**LIKE, "messages": [{"role": role, "content": "Where is it?"} for role in ("user", "assistant", "user")]},
         "turns"),
        ({**LIKE, "messages": [{"role": "user", "content": [{"type": "text", "text": "Where is Kyoto?"},
                                                          {"type": "image_url", "image_url": {"url": "x"}}]}]},
         "content"),
    ],
)  # fmt: skip
def test_a_request_unlike_the_rows_is_marked_and_answered(
    tmp_path: Path, small: Upstream, big: Upstream, request_body: dict[str, Any], what: str, way: dict[str, Any]
) -> None:
    policy = policy_file(tmp_path, requests=PLAIN)
    servers = {"small": small_server(small, fields=["made_up"]), "experts": [expert_server(big, fields=["made_up"])]}
    with router(tmp_path, **servers, policy=policy) as running:
        field = field_of(running.ask(**request_body, **way))
        assert (field["calibrated"], field["unlike"], field["verified"], field["served"]) == (
            False, [what], False, "small",
        )  # fmt: skip
        assert field["confidence"] is not None
        assert running.rows()[0]["unlike"] == what
        assert f'confide_unlike_total{{what="{what}"}} 1.0' in running.get("/metrics").text


@pytest.mark.parametrize("stream_mode", ["hold", "early"])
@pytest.mark.parametrize("way", WAYS)
def test_a_request_unlike_the_rows_may_be_escalated(
    tmp_path: Path, small: Upstream, big: Upstream, way: dict[str, Any], stream_mode: str
) -> None:
    settings = {"small": small_server(small), "experts": [expert_server(big)], "stream_mode": stream_mode}
    policy = policy_file(tmp_path, requests=PLAIN)
    with router(tmp_path, **settings, policy=policy, unlike="escalate") as running:
        response = running.ask(temperature=1.7, **way)
        field = field_of(response)
        assert (field["decision"], field["served"], field["verified"], field["calibrated"]) == (
            "escalate", "expert", True, False,
        )  # fmt: skip
        assert "supersedes" not in response.text  # it is known before the small answer is shown
        assert field_of(running.ask(**LIKE, **way))["served"] == "small"


def test_without_a_profile_only_what_is_never_plain_is_marked(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        assert field_of(running.ask(temperature=1.9, stop="x", text="word " * 900))["calibrated"] is True
        assert field_of(running.ask(n=2, logit_bias={"1": 1}))["unlike"] == ["logit_bias", "n"]
    with router(tmp_path, small=small_server(small), mode="observe") as running:  # no policy, nothing to be unlike to
        assert field_of(running.ask(n=2))["unlike"] == []


def test_requests_unlike_the_rows_are_no_evidence(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    policy, big.answer = policy_file(tmp_path, requests=PLAIN), small.answer
    settings = {"small": small_server(small), "experts": [expert_server(big)], "audit_share": 1, "policy": policy}
    with router(tmp_path, **settings) as running:
        bodies: list[dict[str, Any]] = [LIKE, LIKE, {"temperature": 1}, {**LIKE, "stop": "x"}, {**LIKE, "stop": "y"}]
        for number, body in enumerate(bodies):
            running.ask(f"Where is town {number}?", **body)
        running.wait_for(lambda _: all(row["agreed"] is not None for row in running.rows()))
        url = f"sqlite:///{running.database}"

    from confide.policies import Policy

    async def state(store: Store) -> Any:
        return await snapshot(store, Policy.load(policy), window_s=None)

    found = using(url, state)
    assert (found["audits"]["drawn"], found["risk"]["n"], found["coverage"]["n"]) == (2, 2, 2)
    (alarm,) = [alarm for alarm in found["alarms"] if alarm["name"] in ("unlike", "model")]
    assert (alarm["name"], alarm["severity"]) == ("unlike", "alarm")
    assert alarm["text"].startswith("3 of the last 5 requests are unlike the calibration rows")
    # A new policy is made for what is asked now, so for its rows they count, and they say how they were asked.
    store = Store.open(url)
    records = store.calibration_records()
    asyncio.run(store.close())
    assert len(records) == 5
    assert sorted(bool(record.request_shape and record.request_shape.options) for record in records) == [
        False,
        *[True] * 4,
    ]


@pytest.mark.parametrize(
    "more",
    [
        {"options": 10**400},
        {"options": -(10**400)},
        {"penalties": 10**400},
        {"repetition_penalty": 10**400},
        {"made_up": 10**400},
        {"options": [10**400, {"a": 10**400}]},
        {"top_k": 10**4299},
        {"seed": 10**400},
        {"logit_bias": {"5": 10**400}},
        {"temperature": 10**400},
        {"options": 1e308},
        {"options": True},
        {"guided_json": {"a": 10**400}},
    ],
)
def test_no_number_is_too_large_to_be_looked_at(
    tmp_path: Path, small: Upstream, big: Upstream, more: dict[str, object]
) -> None:
    fields = ["options", "guided_json"]
    servers = {"small": small_server(small, fields=fields), "experts": [expert_server(big, fields=fields)]}
    with router(tmp_path, **servers) as running:
        response = running.ask(**more)
        assert response.status_code in (200, 400)
        if response.status_code == 200:
            assert len(running.rows()) == 1


@pytest.mark.parametrize("place", ['"top_k": @', '"options": [@]', '"seed": @', '"temperature": @', '"max_tokens": @'])
@pytest.mark.parametrize("in_parts", [False, True])
def test_numbers_of_many_digits_are_refused_or_answered(
    tmp_path: Path, small: Upstream, big: Upstream, place: str, in_parts: bool
) -> None:
    """More digits than Python writes; also beside an image, which is hashed as it is."""
    image = '[{"type": "image_url", "image_url": {"url": "x"}, "made_up": @}]' if in_parts else '"Where is Kyoto?"'
    body = ('{"messages": [{"role": "user", "content": ' + image + "}], " + place + "}").replace("@", "1" + "0" * 5000)
    fields = ["options", "top_k"]
    servers = {"small": small_server(small, fields=fields), "experts": [expert_server(big, fields=fields)]}
    with router(tmp_path, **servers) as running:
        headers = {"Content-Type": "application/json"}
        url = f"{running.url}/v1/chat/completions"
        response = httpx.post(url, content=body, headers=headers, timeout=60, trust_env=False)
        assert response.status_code in (200, 400), response.text


# -- the model ---------------------------------------------------------------------------------------------------


def test_another_model_behind_the_same_name_is_noticed(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    policy = policy_file(tmp_path, identity="model=tiny-1, fingerprint=fp_1")
    small.reports = {"model": "tiny-1", "system_fingerprint": "fp_1"}
    settings = {"small": small_server(small), "experts": [expert_server(big)], "policy": policy}
    with router(tmp_path, **settings) as running:
        for way in WAYS:
            field = field_of(running.ask(**way))
            assert (field["calibrated"], field["unlike"]) == (True, [])
        small.reports["system_fingerprint"] = "fp_2"
        for way in WAYS:
            field = field_of(running.ask(**way))
            assert (field["calibrated"], field["unlike"], field["verified"], field["served"]) == (
                False, ["model"], False, "small",
            )  # fmt: skip
        small.reports = {"model": "tiny-2"}
        assert field_of(running.ask())["unlike"] == ["model"]
        small.reports = {}  # nothing is told, nothing is known
        assert field_of(running.ask())["unlike"] == []
        assert [row["identity"] for row in running.rows()] == [
            *["model=tiny-1, fingerprint=fp_1"] * 2, *["model=tiny-1, fingerprint=fp_2"] * 2, "model=tiny-2", None,
        ]  # fmt: skip
        assert 'confide_unlike_total{what="model"} 3.0' in running.get("/metrics").text
    small.reports = {"model": "tiny-2"}
    for stream_mode in ("hold", "early"):
        with router(tmp_path, **settings, unlike="escalate", stream_mode=stream_mode) as running:
            for way in WAYS:
                assert field_of(running.ask(**way))["served"] == "expert"


def test_the_word_that_overrides_names_one_model(tmp_path: Path, small: Upstream) -> None:
    policy = policy_file(tmp_path, identity="model=tiny-1, fingerprint=fp_1")
    with router(tmp_path, small=small_server(small), policy=policy, accept_model="model=tiny-2") as running:
        small.reports = {"model": "tiny-2", "system_fingerprint": "anything"}
        assert field_of(running.ask())["calibrated"] is True
        small.reports = {"model": "tiny-3"}
        assert field_of(running.ask())["unlike"] == ["model"]


def test_what_a_server_lists_refuses_at_the_start(tmp_path: Path, small: Upstream) -> None:
    policy = policy_file(tmp_path, identity="model=tiny, root=/models/one")
    small.card = {"root": "/models/two", "owned_by": "vllm"}
    with pytest.raises(ConfideError, match=r'accept_model: "root=/models/two, owner=vllm"') as error:
        router(tmp_path, small=small_server(small), policy=policy).__enter__()
    assert "made for another model (model=tiny, root=/models/one)" in str(error.value)
    assert not (tmp_path / "confide.db").exists()
    with router(tmp_path, small=small_server(small), policy=policy, accept_model="root=/models/two") as running:
        assert field_of(running.ask())["calibrated"] is True
    small.card = {"root": "/models/one"}
    with router(tmp_path, small=small_server(small), policy=policy) as running:
        assert running.ask().status_code == 200
        assert running.rows()[-1]["identity"] == "root=/models/one"


def test_what_is_listed_is_looked_at_again(tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(upstream, "LOOK_S", 0.0)
    policy, small.card = policy_file(tmp_path, identity="root=/models/one"), {"root": "/models/one"}
    with router(tmp_path, small=small_server(small), policy=policy) as running:
        assert field_of(running.ask())["calibrated"] is True
        small.card = {"root": "/models/two"}
        until = time.monotonic() + 60
        while field_of(running.ask())["unlike"] != ["model"]:
            assert time.monotonic() < until


def test_another_model_in_this_process_is_refused(tmp_path: Path) -> None:
    policy = policy_file(tmp_path, identity="weights=other, confidence=fake")
    settings: dict[str, Any] = {"small": {"model": "fake"}, "policy": policy}
    with pytest.raises(ConfideError, match=r'accept_model: "weights=fake, confidence=fake"'):
        router(tmp_path, model=FakeModel(), **settings).__enter__()
    with pytest.raises(ConfideError, match="made for another model"):
        router(tmp_path, model=FakeModel(), mode="observe", **settings).__enter__()
    with router(tmp_path, model=FakeModel(), **settings, accept_model="weights=fake") as running:
        assert field_of(running.ask())["calibrated"] is True
    settings["policy"] = policy_file(tmp_path, identity="weights=fake")
    with router(tmp_path, model=FakeModel(), **settings) as running:
        assert field_of(running.ask())["calibrated"] is True
        assert running.rows()[-1]["identity"] == "weights=fake, confidence=fake"


@pytest.mark.parametrize(
    ("identity", "warned"),
    [("", "knows no identity"), ("root=/m", "cannot be told"), ("weights=fake", "")],
)
def test_what_cannot_be_told_is_said_once(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, identity: str, warned: str
) -> None:
    policy = policy_file(tmp_path, identity=identity)
    with (
        caplog.at_level(logging.WARNING),
        router(tmp_path, model=FakeModel(), small={"model": "x"}, policy=policy) as r,
    ):
        r.ask()
        r.ask()
    said = [record.getMessage() for record in caplog.records if "model" in record.getMessage()]
    assert len(said) == bool(warned)
    assert warned in "".join(said)


def test_in_this_process_a_request_is_seen_as_the_model_is_asked_it(tmp_path: Path) -> None:
    class Taught(FakeModel):
        def as_asked(self, question: Any) -> Any:
            taught = [{"role": "system", "content": "Name it."}] if isinstance(question, str) else []
            return super().as_asked([*taught, *([{"role": "user", "content": question}] if taught else question)])

    leading = [{"role": "system", "content": "Name it."}]
    rows = [
        request_of([*leading, {"role": "user", "content": f"Where is it{'?' * (n % 9)}"}], {"temperature": 0}, 20)
        for n in range(300)
    ]
    policy = policy_file(tmp_path, requests=rows)
    with router(tmp_path, model=Taught(), small={"model": "x", "max_tokens": 20}, policy=policy) as running:
        assert field_of(running.ask())["unlike"] == []  # greedy, and behind the prompt of training
        assert field_of(running.ask(max_tokens=500))["unlike"] == []
        assert field_of(running.ask(max_tokens=3))["unlike"] == ["max_tokens"]
        bare = [{"role": role, "content": "Where is it?"} for role in ("user", "assistant", "user")]
        assert field_of(running.ask(messages=bare))["unlike"] == ["system", "turns"]


def test_text_completions_are_compared_too(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small), policy=policy_file(tmp_path, requests=PLAIN)) as running:
        like = {"prompt": "Where is Kyoto?", "temperature": 0, "echo": False}
        assert field_of(running.post("/v1/completions", like))["unlike"] == []
        assert field_of(running.post("/v1/completions", like | {"stop": "\n"}))["unlike"] == ["stop"]


def test_a_domain_that_no_row_had_is_marked(tmp_path: Path, small: Upstream) -> None:
    policy = policy_file(tmp_path, requests=PLAIN)
    data = json.loads(policy.read_text())
    data["profile"]["requests"]["domain"] = ["geo"]
    policy.write_text(json.dumps(data))
    with router(tmp_path, small=small_server(small), policy=policy) as running:
        for domain, what in (("geo", []), ("law", ["domain"])):
            assert field_of(running.ask(**LIKE, headers={"X-Confide-Domain": domain}))["unlike"] == what
        assert field_of(running.ask(**LIKE))["unlike"] == []
