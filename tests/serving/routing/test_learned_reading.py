"""The router in front of an engine that reads its own states: who decides, and what happens when the reading goes."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from pydantic import ValidationError

from answer_world import IDENTITY, served_file, served_world
from confide.engines.openai import reading_check
from confide.engines.openai.upstream import Server
from confide.errors import ConfideError
from confide.methods.frozen.served_file import ServedFile
from confide.methods.stack.served_stack import served_confidences
from confide.policies import MaxRisk, Policy
from confide.policies.identities import identity_parts, identity_text
from confide.policies.source_choice import calibrate_best_source
from confide.records import Message, Record
from reading_server import END, FINGERPRINT, VOCABULARY, ReadingServer
from two_sources import two_sources
from upstreams import Running, Upstream, policy_file, router, until

ASK = "Where is Kyoto?"


@pytest.fixture(scope="module")
def served(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return served_file(tmp_path_factory.mktemp("served") / "reading.json", served_world(), VOCABULARY, END, FINGERPRINT)


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_check, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(reading_check, "_LEAST_S", 0.0)


@contextmanager
def routed(folder: Path, small: ReadingServer, served: Path, **more: Any) -> Iterator[Running]:
    with small.running(), Upstream(answer="Japan, of course").running() as big:
        config = {
            "policy": str(policy_file(folder, source="stack_served")),
            "small": {"engine": "vllm", "base_url": small.url, "model": "tiny", "reading": str(served)},
            "experts": [{"name": "big", "base_url": big.url, "model": "big"}],
            **more,
        }
        with router(folder, **config) as running:
            yield running


def says(running: Running, word: str) -> bool:
    return word in running.get("/readyz").json().get("reading", "")


def confidence(served: Path, small: ReadingServer, text: str, answer: str) -> float:
    """What the mixture makes of an answer of two tokens or more."""
    told = small.tokens_of(text, [answer[i : i + 3] for i in range(0, len(answer), 3)], {"logprob_token_ids": []})
    values = [token["logprob"] for token in told]
    record = Record(
        id="", messages=[Message(role="user", content=text)], answer=answer, answer_ids=[1] * (len(told) - 1),
        logprobs=values[:-1], end_logprob=values[-1],
    )  # fmt: skip
    (found,) = served_confidences(ServedFile.load(served).mixture, [small.z(text, answer)], [record])
    assert found is not None
    return found


@pytest.mark.parametrize("stream", [False, True])
def test_one_request_gives_answer_and_learned_confidence(tmp_path: Path, served: Path, stream: bool) -> None:
    small = ReadingServer(knows=lambda text: "abc de f")
    with routed(tmp_path, small, served) as running:
        until(lambda: says(running, "there"))
        before = len(small.requests)
        response = running.ask(ASK, stream=stream)
        assert len(small.requests) == before + 1
        (row,) = running.rows()
    assert row["source"] == "stack_served"
    assert row["raw"] == pytest.approx(confidence(served, small, ASK, "abc de f"), abs=1e-6)
    assert row["decision"] == ("answer" if row["raw"] >= 0.5 else "escalate")
    assert IDENTITY in row["identity"]
    assert "token_id" not in response.text
    if not stream:
        assert response.json()["confide"]["source"] == "stack_served"


def test_log_probabilities_of_the_client_are_as_ever(tmp_path: Path, served: Path) -> None:
    with routed(tmp_path, small := ReadingServer(), served, mode="observe") as running:
        until(lambda: says(running, "there"))
        told = running.ask(ASK, logprobs=True).json()["choices"][0]["logprobs"]["content"]
        assert [(token["token"], token["top_logprobs"]) for token in told] == [
            ("Jap", []), ("an", []), ("<|im_end|>", [])
        ]  # fmt: skip
        top = running.ask(ASK, logprobs=True, top_logprobs=3).json()["choices"][0]["logprobs"]["content"]
        assert len(top[0]["top_logprobs"]) == 3
        assert "logprob_token_ids" not in small.requests[-1]
        assert [row["raw"] is None for row in running.rows()] == [False, True]


@pytest.mark.parametrize(("plugin", "why"), [
    ("none", "without confide's plug-in"), ("silent", "does not return the ids"), ("other", "another export"),
])  # fmt: skip
def test_the_wrong_server_is_known_at_the_start(tmp_path: Path, served: Path, plugin: Any, why: str) -> None:
    with routed(tmp_path, small := ReadingServer(plugin=plugin), served) as running:
        until(lambda: says(running, why))
        assert running.ask(ASK).status_code == 200
        asked = [body for body in small.requests if body["messages"][-1]["content"] == ASK]
        assert not any("logprob_token_ids" in body for body in asked)
        (row,) = running.rows()
        assert (row["raw"], row["decision"]) == (None, "escalate")
        assert "weights" not in (row["identity"] or "")
        assert 'confide_learned_reading{model="small"} 0.0' in running.get("/metrics").text
        small.plugin = "there"
        until(lambda: says(running, "there"))
        running.ask(ASK)
        assert running.rows()[-1]["raw"] is not None


@pytest.mark.parametrize(("plugin", "why"), [("none", "refuses the ids"), ("silent", "ids"), ("other", "export")])
def test_a_server_that_is_swapped_is_seen_in_its_first_reply(
    tmp_path: Path, served: Path, plugin: Any, why: str
) -> None:
    with routed(tmp_path, small := ReadingServer(), served) as running:
        until(lambda: says(running, "there"))
        running.ask(ASK)
        small.plugin = plugin
        assert running.ask(ASK).json()["choices"][0]["message"]["content"] == "Japan, of course"
        until(lambda: says(running, why))
        assert [row["raw"] is None for row in running.rows()] == [False, True]


def test_a_masked_reading_is_none_and_no_doubt_about_the_server(tmp_path: Path, served: Path) -> None:
    with routed(tmp_path, small := ReadingServer(), served) as running:
        until(lambda: says(running, "there"))
        small.plugin = "masked"
        running.ask(ASK, response_format={"type": "json_object"})
        assert running.rows()[0]["raw"] is None
        assert says(running, "there")


def test_the_least_sure_of_several_answers_counts(tmp_path: Path, served: Path) -> None:
    with routed(tmp_path, small := ReadingServer(), served, mode="observe") as running:
        until(lambda: says(running, "there"))
        running.ask(ASK, n=2, temperature=0)
        assert running.rows()[0]["raw"] == pytest.approx(confidence(served, small, ASK, "Japan"), abs=1e-6)


def test_an_adapter_on_the_exported_weights_gives_no_learned_confidence(tmp_path: Path, served: Path) -> None:
    small = ReadingServer(card={"root": "/loras/tiny", "parent": "base"})
    with routed(tmp_path, small, served) as running:
        until(lambda: says(running, "LoRA adapter"))
        running.ask(ASK)
        (row,) = running.rows()
    assert (row["raw"], row["decision"]) == (None, "escalate")
    assert "weights" not in (row["identity"] or "")


def test_a_server_that_speculates_is_never_asked_for_the_ids(tmp_path: Path, served: Path) -> None:
    small = ReadingServer(metrics='vllm:spec_decode_num_drafts_total{engine="0"} 3.0\n')
    with routed(tmp_path, small, served) as running:
        until(lambda: says(running, "speculatively"))
        running.ask(ASK)
        assert not any("logprob_token_ids" in body for body in [*small.requests, *small.checks])


@pytest.mark.parametrize("part", ["weights", "confidence"])
def test_a_policy_for_another_export_is_refused_at_the_start(tmp_path: Path, served: Path, part: str) -> None:
    (folder := tmp_path / "policies").mkdir()
    identity = identity_text(identity_parts(IDENTITY) | {part: "another"})
    policy = {"policy": str(policy_file(folder, source="stack_served", identity=identity))}
    with pytest.raises(ConfideError, match="another model"), routed(tmp_path, ReadingServer(), served, **policy):
        pass
    own = {"policy": str(policy_file(folder, source="stack_served", identity=f"{IDENTITY}, root=/models/tiny"))}
    with routed(tmp_path, ReadingServer(), served, **own) as running:
        until(lambda: says(running, "there"))
        assert running.ask(ASK).json()["confide"]["unlike"] == []


def test_a_reading_wants_vllm_and_a_file_that_is_one(tmp_path: Path, served: Path) -> None:
    (tmp_path / "other.json").write_text("{}")
    for small, why in (
        ({"reading": str(served)}, "write engine: vllm"),
        ({"engine": "vllm", "reading": str(tmp_path / "other.json")}, "is not what"),
        ({"engine": "vllm", "reading": str(tmp_path / "none")}, "none"),
        ({"engine": "vllm"}, "does not give"),
    ):
        config = {
            "policy": str(policy_file(tmp_path, source="stack_served")),
            "small": {"base_url": "http://127.0.0.1:9/v1", "model": "tiny", **small},
        }
        with pytest.raises((ConfideError, ValidationError), match=why), router(tmp_path, **config):
            pass


def test_the_free_confidence_decides_while_the_reading_is_away(tmp_path: Path, served: Path) -> None:
    rows = [
        row.model_copy(update={"confidence": {"stack_served": row.confidence["stack"], **row.confidence}})
        for row in two_sources(1500)
    ]
    _, made = calibrate_best_source(rows, ["stack_served"], MaxRisk(0.1), fallbacks=["logprob_sum"])
    assert isinstance(made, Policy)
    made.save(tmp_path / "order.json")
    with routed(tmp_path, small := ReadingServer(), served, policy=tmp_path / "order.json") as running:
        until(lambda: says(running, "there"))
        for plugin, back in (("there", "there"), ("none", "refuses"), ("there", "there"), ("masked", "there")):
            small.plugin = plugin  # type: ignore[assignment]
            running.ask(ASK)
            until(partial(says, running, back))
        sources = [(row["source"], row["raw"] is not None) for row in running.rows()]
    assert [source for source, there in sources if there] == ["stack_served", *["logprob_sum"] * 3]


def test_it_is_ready_once_the_server_was_asked_for_the_reading(
    tmp_path: Path, served: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    async def speculates(self: Server) -> bool:
        return bool(await asyncio.to_thread(go.wait, 60)) and False

    monkeypatch.setattr(Server, "_speculates", speculates)
    with routed(tmp_path, ReadingServer(), served) as running:
        told = running.get("/readyz")
        assert (told.status_code, told.json()["error"]["code"]) == (503, "not_ready")
        go.set()
        until(lambda: says(running, "there"))
        assert running.get("/readyz").status_code == 200
