"""The router in front of a stock server that runs an exported reader: a second request says how sure an answer is."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from confide.engines.openai import reading_check
from confide.errors import ConfideError
from confide.numeric import sigmoid
from confide.policies import MaxRisk, Policy
from confide.policies.source_choice import calibrate_best_source
from two_sources import two_sources
from upstreams import Running, Upstream, events, policy_file, router, until
from verdict_server import (
    ADAPTERS,
    BOTH,
    END,
    KINDS,
    AdaptedLlamaCpp,
    VerdictServer,
    encoded,
    exported_folder,
    prompt_of,
    z_of,
)

QUESTION = "Where is Kyoto?"
SECOND = ("/v1/completions", "/completion")


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_check, "_FIRST_WAIT_S", 0.01)


@contextmanager
def routed(
    folder: Path, small: VerdictServer, kind: str, *, ready: str = "there", more: Any = None, **settings: Any
) -> Iterator[Running]:
    """A router that knows whether the small server runs the reader."""
    reader = exported_folder(folder / "exported")
    with small.running(), Upstream(answer="Japan, of course").running() as big:
        price = {"input": 1e6, "output": 1e6}
        server = {"engine": kind, "base_url": small.url, "model": "tiny", "reader": str(reader), "price": price}
        server["adapter"] = ADAPTERS[kind]
        config: dict[str, Any] = {"policy": str(policy_file(folder, source="reader"))}
        config |= {"small": server | (more or {}), "experts": [{"name": "big", "base_url": big.url, "model": "big"}]}
        with router(folder, **{**config, **settings}) as running:
            until(lambda: ready in running.get("/readyz").json().get("reading", ""))
            yield running


def raw_of(answer: str) -> Any:
    z = z_of([*prompt_of([{"role": "user", "content": QUESTION}]), *encoded(answer), END])
    return pytest.approx(float(sigmoid(z)), rel=1e-9)


@BOTH
@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stream_mode", ["hold", "early"])
@pytest.mark.parametrize(("answer", "decision"), [("Japan", "answer"), ("Peru", "escalate")])
def test_a_second_request_decides(
    tmp_path: Path, kind: str, stream: bool, stream_mode: str, answer: str, decision: str
) -> None:
    with routed(tmp_path, KINDS[kind](knows=lambda text: answer), kind, stream_mode=stream_mode) as running:
        response = running.ask(QUESTION, stream=stream)
        (row,) = running.rows()
    assert response.status_code == 200
    assert (row["source"], row["raw"], row["decision"]) == ("reader", raw_of(answer), decision)
    assert "confidence=def-second" in row["identity"]
    if not stream:
        told = response.json()
        assert told["choices"][0]["message"]["content"] == ("Japan" if decision == "answer" else "Japan, of course")
        assert told["choices"][0]["logprobs"] is None
        assert told["confide"]["source"] == "reader"
    else:
        assert events(response)[-1] == "[DONE]"


@pytest.mark.parametrize("more", [{}, {"drop": ["lora"]}, {"rename": {"lora": "x"}}])
def test_llama_cpp_s_adapter_reads_and_does_not_answer(tmp_path: Path, more: dict[str, Any]) -> None:
    small = AdaptedLlamaCpp()
    with routed(tmp_path, small, "llama.cpp", more=more) as running:
        told = running.ask(QUESTION).json()
        (row,) = running.rows()
    assert told["choices"][0]["message"]["content"] == "Japan"
    assert (row["source"], row["raw"], row["decision"]) == ("reader", raw_of("Japan"), "answer")
    assert small.words_by_the_model_alone()


def test_llama_cpp_s_adapter_does_not_answer_as_an_expert_either(tmp_path: Path) -> None:
    small = AdaptedLlamaCpp(knows=lambda text: "Chile")
    experts = [{"name": "majority", "self": {"samples": 3}}]
    with routed(tmp_path, small, "llama.cpp", experts=experts) as running:
        told = running.ask(QUESTION).json()
        (row,) = running.rows()
    assert (row["decision"], told["choices"][0]["message"]["content"]) == ("escalate", "Chile")
    assert small.words_by_the_model_alone()


@BOTH
def test_what_the_second_request_takes_is_in_the_row_and_not_in_the_answer(tmp_path: Path, kind: str) -> None:
    with routed(tmp_path, KINDS[kind](), kind) as running:
        usage = running.ask(QUESTION).json()["usage"]
        (row,) = running.rows()
    length = len(prompt_of([{"role": "user", "content": QUESTION}]))
    requests = 2 if kind == "vllm" else 1
    assert usage == {"prompt_tokens": length, "completion_tokens": 6, "total_tokens": length + 6}
    assert row["small_tokens"] == length + 6 + requests * (length + 5 + 1 + 1)
    assert row["cost"] == pytest.approx(row["small_tokens"])


@BOTH
def test_one_request_answers_and_one_reads(tmp_path: Path, kind: str) -> None:
    small = KINDS[kind]()
    safe = {"safe_to_ask": ["logprob_token_ids"]} if kind == "vllm" else {}
    with routed(tmp_path, small, kind, more=safe) as running:
        before = len(small.asked)
        running.ask(QUESTION)
        paths = [path for path, _ in small.asked[before:]]
    read = [path for path in paths if path in SECOND]
    assert (paths.count("/v1/chat/completions"), len(read)) == (1, 1)


@BOTH
def test_a_client_s_own_log_probabilities_are_as_ever(tmp_path: Path, kind: str) -> None:
    with routed(tmp_path, KINDS[kind](), kind, mode="observe") as running:
        told = running.ask(QUESTION, logprobs=True).json()["choices"][0]
        assert [token["bytes"] for token in told["logprobs"]["content"]][:5] == [[byte] for byte in b"Japan"]
        refused = running.ask(QUESTION, return_token_ids=True)
    assert refused.status_code == 400


@BOTH
@pytest.mark.parametrize(
    "more",
    [{"fails": 1}, {"fails": 1, "status": 400}, {"finish": "length"}, {"silent": True}],
    ids=["500", "400", "cut", "no token ids"],
)
def test_without_a_reading_a_request_escalates(tmp_path: Path, kind: str, more: dict[str, Any]) -> None:
    with routed(tmp_path, small := KINDS[kind](), kind) as running:
        for name, value in more.items():
            setattr(small, name, value)
        response = running.ask(QUESTION)
        (row,) = running.rows()
    assert response.json()["confide"]["answered_by"] == "big"
    assert (row["source"], row["raw"], row["decision"]) == ("reader", None, "escalate")


@BOTH
def test_a_server_of_other_weights_is_seen_and_not_asked(tmp_path: Path, kind: str) -> None:
    small = KINDS[kind](z=lambda ids: 5.0)
    with routed(tmp_path, small, kind, ready="other weights") as running:
        before = len([1 for path, _ in small.asked if path in SECOND])
        running.ask(QUESTION)
        assert len([1 for path, _ in small.asked if path in SECOND]) == before
        assert 'confide_learned_reading{model="small"} 0.0' in running.get("/metrics").text
        small.z = z_of
        until(lambda: running.get("/readyz").json().get("reading", "") == "there")
        running.ask(QUESTION)
        assert [row["raw"] for row in running.rows()] == [None, raw_of("Japan")]


@BOTH
def test_without_a_policy_the_reader_is_the_confidence_and_else_the_free_one(tmp_path: Path, kind: str) -> None:
    settings = {"mode": "observe", "policy": None}
    with routed(tmp_path, small := KINDS[kind](), kind, **settings) as running:
        running.ask(QUESTION)
        small.fails = 1
        running.ask(QUESTION)
        first, second = running.rows()
    assert (first["source"], first["raw"]) == ("reader", raw_of("Japan"))
    assert second["source"] == "logprob_sum"
    assert second["raw"] == pytest.approx(-0.5, abs=1e-6)


@BOTH
def test_where_the_second_request_fails_the_next_source_of_the_policy_decides(tmp_path: Path, kind: str) -> None:
    rows = [
        row.model_copy(update={"confidence": {"reader": row.confidence["stack"], **row.confidence}})
        for row in two_sources(1500)
    ]
    _, policy = calibrate_best_source(rows, ["reader"], MaxRisk(0.1), fallbacks=["logprob_sum"], calibrator="platt")
    assert isinstance(policy, Policy)
    policy.save(tmp_path / "order.json")
    with routed(tmp_path, small := KINDS[kind](), kind, policy=str(tmp_path / "order.json")) as running:
        running.ask(QUESTION)
        small.fails = 1
        told = running.ask(QUESTION).json()["confide"]
        first, second = running.rows()
    assert (first["source"], first["raw"]) == ("reader", raw_of("Japan"))
    assert (second["source"], second["raw"]) == ("logprob_sum", pytest.approx(-0.5))
    assert told["source"] == "logprob_sum"


@BOTH
@pytest.mark.parametrize("by", ["def", "other", "other-second"])
def test_a_policy_for_another_reader_is_refused_at_the_start(tmp_path: Path, kind: str, by: str) -> None:
    (tmp_path / "other").mkdir()
    policy = policy_file(tmp_path / "other", source="reader", identity=f"weights=abc, confidence={by}")
    told = r"another model \(weights=abc, confidence=.*\) than the small model small \(confidence=def-second\)"
    with pytest.raises(ConfideError, match=told), routed(tmp_path, KINDS[kind](), kind, policy=str(policy)):
        pass
    accepted = {"policy": str(policy), "accept_model": "confidence=def-second"}
    with routed(tmp_path / "other", KINDS[kind](), kind, **accepted) as running:
        assert running.ask(QUESTION).json()["confide"]["verified"] is True


@BOTH
def test_the_least_sure_of_several_answers_counts(tmp_path: Path, kind: str) -> None:
    class Several(KINDS[kind]):  # type: ignore[misc]
        def answers(self, body: dict[str, Any]) -> list[tuple[str, list[int]]]:
            return [(text, self.written(text)) for text in ("Japan", "Peru")][: body.get("n") or 1]

    with routed(tmp_path, Several(), kind, mode="observe") as running:
        running.ask(QUESTION, n=2)
        (row,) = running.rows()
    assert row["raw"] == raw_of("Peru")


@pytest.mark.parametrize(
    ("small", "why"),
    [
        ({"reader": "exported"}, "write engine: vllm or llama.cpp"),
        ({"engine": "vllm", "reader": "exported", "reading": "served"}, "name one"),
        ({"engine": "vllm", "adapter": "a"}, "belong together"),
        ({"engine": "vllm", "reader": "exported"}, "belong together"),
        ({"engine": "llama.cpp", "reader": "exported", "adapter": "reads"}, "numbers its adapters"),
        ({"engine": "llama.cpp", "reader": "exported", "adapter": -1}, "numbers its adapters"),
        ({"engine": "sglang", "reader": "exported", "adapter": "a"}, "engine"),
    ],
)
def test_settings_that_make_no_sense(tmp_path: Path, small: dict[str, Any], why: str) -> None:
    server = {"base_url": "http://127.0.0.1:9/v1", "model": "tiny", **small}
    with pytest.raises(ValidationError, match=why), router(tmp_path, small=server):
        pass


@pytest.mark.parametrize("name", ["empty", "other.json", "none"])
def test_what_is_no_exported_reader_is_refused_at_the_start(tmp_path: Path, name: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "other.json").write_text("{}")
    server = {
        "engine": "vllm", "base_url": "http://127.0.0.1:9/v1", "model": "tiny", "adapter": "a",
        "reader": str(tmp_path / name),
    }  # fmt: skip
    with pytest.raises(ConfideError, match=name), router(tmp_path, small=server):
        pass


@BOTH
@pytest.mark.parametrize(("stream", "stream_mode"), [(False, "hold"), (True, "early")])
def test_a_stalled_second_request_costs_the_reading_not_the_answer(
    tmp_path: Path, kind: str, stream: bool, stream_mode: str
) -> None:
    settings = {"mode": "observe", "policy": None, "stream_mode": stream_mode, "more": {"timeout_s": 8.0}}
    with routed(tmp_path, small := KINDS[kind](), kind, **settings) as running:
        small.stalls = 30.0
        response = running.ask(QUESTION, stream=stream)
        (row,) = running.rows()
        assert 'confide_failures_total{kind="timeout"' not in running.get("/metrics").text
    assert response.status_code == 200
    assert (row["answered_by"], row["served"], row["error"]) == ("small", "small", None)
    assert (row["source"], row["raw"] is None) == ("logprob_sum", False)


@BOTH
def test_a_stalled_second_request_leaves_time_for_an_expert(tmp_path: Path, kind: str) -> None:
    with routed(tmp_path, small := KINDS[kind](), kind, deadline_s=12.0) as running:
        small.stalls = 30.0
        response = running.ask(QUESTION)
        (row,) = running.rows()
    assert response.json()["confide"]["answered_by"] == "big"
    assert (row["source"], row["raw"], row["error"]) == ("reader", None, None)
