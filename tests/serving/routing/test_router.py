"""Who answers, what is told and what is kept: the router between real servers."""

from __future__ import annotations

import math
import re
import time
from pathlib import Path

import pytest

from confide.policies import Policy
from confide.policies.goals import MaxRisk
from confide.policies.policy_fitting import calibrate_policy
from confide.records import Record
from upstreams import HANG_S, Upstream, expert_server, policy_file, router, small_server


def test_a_sure_answer_is_served_with_its_decision(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        response = running.ask(headers={"X-Request-Id": "r-1", "X-Confide-Domain": "geo"})
        body, told = response.json(), response.json()["confide"]
        assert response.status_code == 200
        assert body["choices"] == [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "Japan"},
                "logprobs": None,
                "finish_reason": "stop",
            }
        ]
        assert body["model"] == "small"
        assert body["usage"]["total_tokens"] == 12
        assert told["raw"] == pytest.approx(math.log(0.9))
        assert told["confidence"] == pytest.approx(0.858, abs=1e-3)
        assert (told["decision"], told["served"], told["answered_by"]) == ("answer", "small", "small")
        assert (told["source"], told["calibrated"]) == ("logprob_sum", True)
        assert told["threshold"] == pytest.approx(1 / (1 + math.exp(-1)))  # at the raw probability of 0.5
        assert told["verified"] is True
        assert told["tokens_saved"] == 12
        assert told["cost_saved"] == pytest.approx((10 * 10 + 2 * 20 - 10 - 2 * 2) / 1e6)
        assert response.headers["x-confide-decision-id"] == told["decision_id"]
        assert response.headers["x-confide-decision"] == "answer"
        assert response.headers["x-confide-served"] == "small"
        assert response.headers["x-confide-answered-by"] == "small"
        assert float(response.headers["x-confide-confidence"]) == pytest.approx(told["confidence"], abs=1e-5)
        (row,) = running.rows()
        assert row["id"] == told["decision_id"]
        assert re.fullmatch("pol_[0-9a-f]{12}", row["policy_id"])
        assert (row["request_id"], row["domain"], row["served"]) == ("r-1", "geo", "small")
        assert row["question"] is row["small_answer"] is None
        assert not big.requests
        assert small.requests[0]["model"] == "tiny"


def test_an_unsure_answer_goes_to_the_expert(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability = 0.2
    servers = {"small": small_server(small, fields=["made_up"]), "experts": [expert_server(big, fields=["made_up"])]}
    with router(tmp_path, **servers, store_text=True) as running:
        response = running.ask(temperature=0.3, seed=5, made_up={"a": 1})
        told = response.json()["confide"]
        assert response.json()["choices"][0]["message"]["content"] == "It is Japan"
        assert (told["decision"], told["served"], told["answered_by"]) == ("escalate", "expert", "big")
        assert told["tokens_saved"] == 0
        assert told["cost_saved"] < 0
        sent = big.requests[0]
        assert (sent["model"], sent["temperature"], sent["seed"], sent["made_up"]) == ("gpt-x", 0.3, 5, {"a": 1})
        assert "logprobs" not in sent
        (row,) = running.rows()
        assert (row["question"], row["small_answer"], row["expert_answer"]) == (
            "Where is Kyoto?", "Japan", "It is Japan",
        )  # fmt: skip


def test_a_domain_has_its_own_rules(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability = 0.2
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        assert running.ask(headers={"X-Confide-Domain": "easy"}).json()["confide"]["served"] == "small"
        assert running.ask(headers={"X-Confide-Domain": "unheard of"}).json()["confide"]["served"] == "expert"
        assert running.ask(headers={"X-Confide-Domain": "x" * 65}).status_code == 400


@pytest.mark.parametrize(
    ("word", "noted"),
    [("empty", "small: empty"), ("malformed", "small: malformed"), ("500", "small: server_error"), ("tools", None)],
)
def test_a_missing_confidence_escalates(
    tmp_path: Path, small: Upstream, big: Upstream, word: str, noted: str | None
) -> None:
    small.behaviour = [word]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        told = running.ask().json()["confide"]
        assert (told["decision"], told["served"], told["confidence"], told["source"]) == (
            "escalate", "expert", None, None,
        )  # fmt: skip
        assert running.rows()[0]["error"] == noted


def test_a_server_without_log_probabilities_escalates(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.logprobs = False
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        assert running.ask().json()["confide"]["served"] == "expert"


def test_the_small_server_down_escalates_and_the_expert_answers(tmp_path: Path, big: Upstream) -> None:
    gone = {"base_url": "http://127.0.0.1:9/v1", "model": "tiny", "retries": 1}
    with router(tmp_path, small=gone, experts=[expert_server(big)]) as running:
        assert running.ask().json()["confide"]["served"] == "expert"
        assert running.rows()[0]["error"] == "small: refused"


@pytest.mark.parametrize(
    ("word", "kind", "requests"),
    [
        ("500", "server_error", 3),
        ("429", "rate_limited", 3),
        ("429-long", "rate_limited", 1),
        ("malformed", "malformed", 3),
        ("empty", "empty", 1),
        ("401", "unauthorized", 1),
        ("400", "rejected", 1),
        ("redirect", "redirected", 1),
        ("hang", "timeout", 1),
    ],
)
def test_a_failing_expert_is_replaced_by_the_next(
    tmp_path: Path, small: Upstream, big: Upstream, spare: Upstream, word: str, kind: str, requests: int
) -> None:
    small.probability, big.behaviour = 0.2, [word]
    experts = [expert_server(big, timeout_s=0.5), expert_server(spare, "spare")]
    with router(tmp_path, small=small_server(small), experts=experts) as running:
        response = running.ask()
        assert response.json()["confide"]["answered_by"] == "spare"
        assert running.rows()[0]["error"] == f"big: {kind}"
        assert len(big.requests) == requests


def test_a_passing_failure_is_asked_again(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["500", "malformed", "ok"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        assert running.ask().json()["confide"]["answered_by"] == "big"
        assert len(big.requests) == 3
        assert running.rows()[0]["error"] is None


def test_a_sick_expert_is_left_alone_for_a_while(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["500"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big, retries=0)]) as running:
        for number in range(8):
            assert running.ask(f"Where is town {number}?").status_code == 503
        assert len(big.requests) == 5
        assert running.rows()[-1]["error"] == "big: resting"
        assert 'confide_resting{model="big"} 1.0' in running.get("/metrics").text
        big.behaviour = ["ok"]
        time.sleep(2.1)
        assert running.ask().json()["confide"]["served"] == "expert"


def test_without_any_expert_the_error_is_clear_and_kept(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["500"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big, retries=0)]) as running:
        response = running.ask()
        assert response.status_code == 503
        assert response.json() == {
            "error": {
                "message": "no expert could answer", "type": "server_error", "param": None, "code": "no_answer",
            }
        }  # fmt: skip
        assert int(response.headers["retry-after"]) >= 1
        (row,) = running.rows()
        assert row["id"] == response.headers["x-confide-decision-id"]
        assert (row["served"], row["answered_by"]) == ("error", None)


def test_the_last_resort_may_be_the_small_answer_unverified(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["500"]
    policy = policy_file(tmp_path, last_resort="unverified")
    experts = [expert_server(big, retries=0)]
    with router(tmp_path, small=small_server(small), experts=experts, policy=policy) as running:
        told = running.ask().json()["confide"]
        assert (told["served"], told["verified"], told["answered_by"]) == ("unverified", False, "small")


def test_a_request_that_every_model_refuses_is_the_clients_fault(
    tmp_path: Path, small: Upstream, big: Upstream
) -> None:
    small.behaviour = big.behaviour = ["400"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        response = running.ask()
        assert (response.status_code, response.json()["error"]["code"]) == (400, "rejected")
        assert len(big.requests) == 1


def test_the_deadline_is_kept_end_to_end(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["hang"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], deadline_s=0.7) as running:
        response = running.ask()  # the expert would hang for ten minutes
        assert response.status_code == 504
        assert "deadline" in running.rows()[0]["error"]
        assert big.hung_up.wait(60)


def test_abstaining_is_said_in_words_and_marked(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability = 0.05
    policy = policy_file(tmp_path, abstain=0.1)
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], policy=policy) as running:
        body = running.ask().json()
        assert body["choices"][0]["message"]["content"].startswith("I am not sure enough")
        assert body["choices"][0]["finish_reason"] == "stop"
        assert (body["confide"]["decision"], body["confide"]["served"]) == ("abstain", "abstained")
        assert body["confide"]["verified"] is False
        message = running.ask(response_format={"type": "json_object"}).json()["choices"][0]["message"]
        assert message["content"] is None
        assert message["refusal"].startswith("I am not sure enough")
        assert not big.requests


def test_observing_decides_and_logs_but_answers_as_before(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability = 0.2
    policy = policy_file(tmp_path)
    settings = {"mode": "observe", "policy": policy, "experts": [expert_server(big)]}
    with router(tmp_path, small=small_server(small), **settings) as running:
        told = running.ask().json()["confide"]
        assert (told["decision"], told["served"], told["mode"], told["verified"]) == (
            "escalate", "small", "observe", False,
        )  # fmt: skip
        assert not big.requests
        assert running.rows()[0]["decision"] == "escalate"


def test_observing_needs_no_policy(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        told = running.ask().json()["confide"]
        assert (told["confidence"], told["calibrated"], told["policy_id"]) == (pytest.approx(0.9), False, None)
        assert (told["source"], told["served"]) == ("logprob_sum", "small")


def test_an_audit_of_a_kept_answer_asks_the_expert_afterwards(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    big.answer = "japan."
    settings = {"experts": [expert_server(big)], "audit_share": 1.0, "store_text": True}
    with router(tmp_path, small=small_server(small), **settings) as running:
        assert running.ask().json()["choices"][0]["message"]["content"] == "Japan"
        row = running.wait_for(lambda row: row["agreed"] is not None)
        assert (row["audit"], row["audit_probability"], row["agreed"]) == (1, 1.0, 1)
        assert row["expert_answer"] == "japan."
        assert row["expert_ms"] > 0
        assert row["cost"] == pytest.approx((10 + 2 * 2 + 10 * 10 + 2 * 20) / 1e6)
        big.answer = "China"
        running.ask()
        assert (
            running.wait_for(lambda row: row["agreed"] is not None and row["expert_answer"] == "China")["agreed"] == 0
        )


def test_an_audit_of_an_escalated_answer_needs_no_second_question(
    tmp_path: Path, small: Upstream, big: Upstream
) -> None:
    small.probability = 0.2
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], audit_share=1.0) as running:
        running.ask()
        (row,) = running.rows()
        assert (row["audit"], row["agreed"]) == (1, 0)
        time.sleep(0.2)
        assert len(big.requests) == 1


def test_labels_by_feedback_leave_the_expert_alone(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    settings = {"experts": [expert_server(big)], "audit_share": 1.0, "audit_label": "feedback"}
    with router(tmp_path, small=small_server(small), **settings) as running:
        id = running.ask().json()["confide"]["decision_id"]
        told = running.post("/v1/feedback", {"decision_id": id, "correct": False, "about": "small"})
        assert told.json() == {"decision_id": id, "stored": True}
        (row,) = running.rows()
        assert (row["audit"], row["agreed"]) == (1, None)
        assert not big.requests


def test_feedback_about_nothing_is_404(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        assert running.post("/v1/feedback", {"decision_id": "dec_" + "0" * 32, "correct": True}).status_code == 404
        assert running.post("/v1/feedback", {"decision_id": "1' OR 1=1", "correct": True}).status_code == 400


def test_reasoning_is_kept_apart_from_what_is_read_and_graded(tmp_path: Path, small: Upstream) -> None:
    small.behaviour, small.probability = ["think"], 0.8
    with router(tmp_path, small=small_server(small), store_text=True) as running:
        body = running.ask().json()
        assert body["choices"][0]["message"] == {
            "role": "assistant",
            "content": "Japan",
            "reasoning_content": "Kyoto, so...",
        }
        assert body["confide"]["raw"] > math.log(0.8)  # the reasoning's tokens do not count
        assert running.rows()[0]["small_answer"] == "Japan"


def test_tools_n_and_formats_pass_through(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.behaviour = big.behaviour = ["tools"]
    tools = [{"type": "function", "function": {"name": "look", "parameters": {}}}]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        message = running.ask(tools=tools, tool_choice="auto").json()["choices"][0]
        assert message["message"]["tool_calls"][0]["function"] == {"name": "look", "arguments": '{"x": 1}'}
        assert message["finish_reason"] == "tool_calls"
        assert small.requests[0]["tools"] == big.requests[0]["tools"] == tools
        small.behaviour = ["ok"]
        body = running.ask(n=3, response_format={"type": "json_object"}).json()
        assert len(body["choices"]) == 3
        assert small.requests[1]["response_format"] == {"type": "json_object"}


def test_log_probabilities_are_returned_to_those_who_ask(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        choice = running.ask(logprobs=True, top_logprobs=2).json()["choices"][0]
        assert [token["token"] for token in choice["logprobs"]["content"]] == ["Jap", "an"]
        assert small.requests[0]["top_logprobs"] == 2


def test_completions_are_conversations_of_one_turn(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small)) as running:
        body = running.post("/v1/completions", {"prompt": "Where is Kyoto?", "max_tokens": 5}).json()
        assert body["object"] == "text_completion"
        assert body["choices"][0]["text"] == "Japan"
        assert body["confide"]["served"] == "small"
        assert small.requests[0]["messages"] == [{"role": "user", "content": "Where is Kyoto?"}]
        assert running.post("/v1/completions", {"prompt": ["a", "b"]}).status_code == 400


def test_a_row_that_cannot_be_stored_is_no_answer(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    from confide.serving.store.store import Store
    from confide.serving.store.troubles import StoreError

    async def refuse(self: Store, row: object) -> None:
        raise StoreError("disk_full", "disk full")

    with router(tmp_path, small=small_server(small)) as running:
        monkeypatch.setattr(Store, "add", refuse)
        response = running.ask()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "store")


def test_a_store_that_hangs_does_not_hold_a_request_beyond_its_deadline(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    import asyncio

    from confide.serving.routing import router as module
    from confide.serving.store.store import Store

    async def hang(self: Store, row: object) -> None:
        await asyncio.sleep(HANG_S)

    monkeypatch.setattr(module, "_COMMIT_S", 0.3)
    with router(tmp_path, small=small_server(small), deadline_s=0.5) as running:
        monkeypatch.setattr(Store, "add", hang)
        response = running.ask()
        assert (response.status_code, response.json()["error"]["code"]) == (503, "store")


def test_metrics_tell_what_was_counted_while_the_store_is_away(
    tmp_path: Path, small: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    from confide.serving.store.store import Store
    from confide.serving.store.troubles import StoreError

    async def away(self: Store, query: object) -> None:
        raise StoreError("unreachable", "away")

    with router(tmp_path, small=small_server(small)) as running:
        running.ask()
        monkeypatch.setattr(Store, "run", away)
        response = running.get("/metrics")
        assert response.status_code == 200
        assert 'confide_requests_total{decision="answer",mode="act",served="small"} 1.0' in response.text
        assert "confide_coverage NaN" in response.text
        assert running.get("/").status_code == 503


def test_a_client_that_hangs_up_stops_the_work_upstream(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["hang"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        running.hang_up(lambda: big.requests)
        assert big.hung_up.wait(60)
        row = running.wait_for(lambda row: True)
        assert (row["served"], row["error"]) == ("error", "client: gone")


def test_answers_of_a_thousand_tokens_are_told_apart(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    sums = [-500.0 - i for i in range(1000)]
    rows = [Record(id=str(i), confidence={"logprob_sum": c}, correct=c > -1000) for i, c in enumerate(sums)]
    made = calibrate_policy(rows, "logprob_sum", MaxRisk(0.1))
    assert isinstance(made, Policy)
    made.save(tmp_path / "long.json")
    small.answer = "word " * 600
    settings = {"policy": tmp_path / "long.json", "experts": [expert_server(big)]}
    with router(tmp_path, small=small_server(small), **settings) as running:
        for whole, served in ((-700.0, "small"), (-1400.0, "expert")):
            small.log_probability = whole
            told = running.ask().json()["confide"]
            assert (told["raw"], told["served"]) == (pytest.approx(whole), served)
            assert 0 < told["confidence"] < 1
            assert told["threshold"] == made.probability(made.threshold())
            assert (told["confidence"] >= told["threshold"]) == (served == "small")
        small.log_probability = -1400.0
        stored = running.rows()
        assert [row["raw"] for row in stored] == [pytest.approx(-700), pytest.approx(-1400)]
        assert stored[0]["probability"] > stored[1]["probability"]


def test_without_a_policy_a_log_probability_is_told_as_a_probability(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        for whole in (math.log(0.25), -2000.0):
            small.log_probability = whole
            response = running.ask()
            told = response.json()["confide"]
            assert told["raw"] == pytest.approx(whole)
            assert told["confidence"] == pytest.approx(math.exp(whole))
            assert float(response.headers["x-confide-confidence"]) == pytest.approx(math.exp(whole))
