"""What a client gets where no expert answers: an error, the small answer unverified, or no answer as a refusal."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import openai
import pytest
import yaml

from confide.cli.demo import SERVE
from confide.serving.routing.router import REFUSAL
from upstreams import FakeModel, Running, Upstream, events, expert_server, policy_file, router, said, small_server

TOOL = {"name": "tool", "tool": "callables:look_up"}
AGAIN = {"name": "again", "self": {"passage": "callables:passage"}}
WAYS: list[dict[str, Any]] = [{}, {"stream": True}]


def abstained(running: Running, text: str = "nothing", **more: Any) -> dict[str, Any]:
    """The field of a response that says that there is no answer."""
    response = running.ask(text, **more)
    assert response.status_code == 200, response.text
    if more.get("stream"):
        chunks = events(response)
        assert said(chunks).endswith(REFUSAL) or said(chunks).endswith(f"[{REFUSAL}]")
        field: dict[str, Any] = chunks[-2]["confide"]
    else:
        assert response.json()["choices"][0]["message"]["content"] == REFUSAL
        field = response.json()["confide"]
    assert (field["decision"], field["served"], field["verified"]) == ("escalate", "abstained", False)
    row = running.rows()[-1]
    assert (row["served"], row["decision"], row["answered_by"]) == ("abstained", "escalate", field["answered_by"])
    return field


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream_mode", ["hold", "early"])
def test_a_tool_that_has_no_answer_abstains(
    tmp_path: Path, small: Upstream, way: dict[str, Any], stream_mode: str
) -> None:
    small.probability = 0.2
    with router(tmp_path, small=small_server(small), experts=[TOOL], stream_mode=stream_mode) as running:
        assert abstained(running, **way)["answered_by"] == "small"
        assert running.rows()[-1]["error"] == "tool: no_answer"
        assert running.ask("Kyoto").json()["confide"]["served"] == "expert"
        assert running.ask("raise").status_code == 503  # that is a failure


@pytest.mark.parametrize("tool_first", [True, False])
def test_a_later_expert_may_answer_and_one_that_fails_changes_nothing(
    tmp_path: Path, small: Upstream, big: Upstream, tool_first: bool
) -> None:
    small.probability = 0.2
    experts = [TOOL, expert_server(big, retries=0)] if tool_first else [expert_server(big, retries=0), TOOL]
    with router(tmp_path, small=small_server(small), experts=experts) as running:
        assert running.ask("nothing").json()["confide"]["answered_by"] == "big"
        for word in ("500", "400", "empty"):
            big.behaviour = [word]
            abstained(running)


def test_a_passage_that_is_not_there_is_no_answer(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.2
    with router(tmp_path, small=small_server(small), experts=[AGAIN]) as running:
        abstained(running)


def test_a_tool_that_has_no_answer_abstains_also_when_the_small_model_is_down(tmp_path: Path) -> None:
    gone = {"base_url": "http://127.0.0.1:9/v1", "model": "tiny", "retries": 0}
    with router(tmp_path, small=gone, experts=[TOOL]) as running:
        assert abstained(running)["answered_by"] is None
        assert running.rows()[-1]["error"] == "small: refused; tool: no_answer"
        response = running.ask("nothing")
        assert "x-confide-answered-by" not in response.headers
        assert len(running.ask("nothing", n=1).json()["choices"]) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream_mode", ["hold", "early"])
def test_the_configuration_may_prefer_the_small_answer_where_a_tool_has_none(
    tmp_path: Path, small: Upstream, way: dict[str, Any], stream_mode: str
) -> None:
    small.probability = 0.2
    settings = {"experts": [TOOL], "stream_mode": stream_mode, "last_resort": {"no_answer": "unverified"}}
    with router(tmp_path, small=small_server(small), **settings) as running:
        response = running.ask("nothing", **way)
        told = events(response)[-2]["confide"] if way else response.json()["confide"]
        text = said(events(response)) if way else response.json()["choices"][0]["message"]["content"]
        assert (response.status_code, text) == (200, small.answer)
        assert (told["decision"], told["served"], told["verified"]) == ("escalate", "unverified", False)
        assert told["reason"] == (
            "the question was to go to an expert, and no expert has an answer: "
            "this is the small model's answer, unverified"
        )
        if not (way and stream_mode == "early"):  # an early stream sends its headers before the decision
            assert response.headers["x-confide-reason"] == told["reason"]
            assert response.headers["x-confide-served"] == "unverified"
        assert running.ask("raise").status_code == 503  # the tool is broken: the policy's word, an error
        assert running.ask("Kyoto").json()["confide"]["reason"] is None


@pytest.mark.parametrize(("failed", "status"), [("error", 503), ("abstain", 200), ("unverified", 200), (None, 200)])
def test_the_configuration_wins_where_experts_are_down(
    tmp_path: Path, small: Upstream, big: Upstream, failed: str | None, status: int
) -> None:
    small.probability, big.behaviour = 0.2, ["500"]
    policy = policy_file(tmp_path, last_resort="unverified")
    settings: dict[str, Any] = {"policy": policy, "last_resort": {"failed": failed} if failed else {}}
    with router(tmp_path, small=small_server(small), experts=[expert_server(big, retries=0)], **settings) as running:
        response = running.ask("nothing")
        assert response.status_code == status
        if status == 200:
            served = "abstained" if failed == "abstain" else "unverified"
            assert response.json()["confide"]["served"] == served
            assert "every expert failed" in response.headers["x-confide-reason"]


def test_without_experts_the_reason_says_so(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.2
    with router(tmp_path, small=small_server(small), last_resort={"failed": "unverified"}) as running:
        told = running.ask("nothing").json()["confide"]
        assert told["served"] == "unverified"
        assert "there is no expert" in told["reason"]


def test_a_small_model_that_is_down_leaves_a_refusal(tmp_path: Path) -> None:
    gone = {"base_url": "http://127.0.0.1:9/v1", "model": "tiny", "retries": 0}
    with router(tmp_path, small=gone, experts=[TOOL], last_resort={"no_answer": "unverified"}) as running:
        assert "no expert has an answer: there is no answer" in abstained(running)["reason"]


def test_the_policy_may_prefer_the_small_answer_to_none(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.2
    policy = policy_file(tmp_path, last_resort="unverified")
    with router(tmp_path, small=small_server(small), experts=[TOOL], policy=policy) as running:
        assert running.ask("nothing").json()["confide"]["served"] == "unverified"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("stream_mode", ["hold", "early"])
@pytest.mark.parametrize("word", ["500", "401", "400", "empty", "429-long"])
def test_the_last_resort_may_be_to_abstain(
    tmp_path: Path, small: Upstream, big: Upstream, word: str, stream_mode: str, way: dict[str, Any]
) -> None:
    small.probability, big.behaviour = 0.2, [word]
    settings = {"policy": policy_file(tmp_path, last_resort="abstain"), "stream_mode": stream_mode}
    experts = [expert_server(big, retries=0)]
    with router(tmp_path, small=small_server(small), experts=experts, **settings) as running:
        abstained(running, **way)
        message = running.ask(response_format={"type": "json_object"}).json()["choices"][0]["message"]
        assert (message["content"], message["refusal"]) == (None, REFUSAL)
        big.behaviour = ["ok"]
        assert running.ask("Where is Kyoto now?").json()["confide"]["served"] == "expert"


def test_abstaining_needs_no_expert(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.2
    policy = policy_file(tmp_path, last_resort="abstain")
    with router(tmp_path, small=small_server(small), policy=policy) as running:
        abstained(running)
        client = openai.OpenAI(base_url=f"{running.url}/v1", api_key="none")
        answer = client.chat.completions.create(model="any", messages=[{"role": "user", "content": "nothing"}])
        assert answer.choices[0].message.content == REFUSAL
        assert len(small.requests) == 2  # nothing was retried


def test_what_is_wrong_with_a_request_stays_an_error(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.behaviour = big.behaviour = ["400"]
    policy = policy_file(tmp_path, last_resort="abstain")
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], policy=policy) as running:
        assert running.ask().status_code == 400
        small.behaviour = ["500"]
        abstained(running)


def test_observing_never_abstains(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.2
    policy = policy_file(tmp_path, last_resort="abstain")
    with router(tmp_path, small=small_server(small), experts=[TOOL], policy=policy, mode="observe") as running:
        assert running.ask("nothing").json()["confide"]["served"] == "small"
        small.behaviour = ["500"]
        assert running.ask("nothing").status_code == 503


def test_in_this_process_too(tmp_path: Path) -> None:
    model = FakeModel(lambda question: 0.2)
    with router(tmp_path, model=model, small={"model": "x"}, experts=[TOOL]) as running:
        abstained(running)


@pytest.mark.parametrize("question", ["Lagos", "In which country is the city of Lima?", "hello", "Zorblax?"])
def test_the_router_of_the_demo_answers_whatever_is_asked(tmp_path: Path, question: str) -> None:
    settings = yaml.safe_load(SERVE.format(config="serve.yaml"))
    settings = {key: settings[key] for key in ("experts", "last_resort")}
    model = FakeModel(lambda text: 0.2)
    with router(tmp_path, model=model, small={"model": "x"}, **settings) as running:
        response = running.ask(question)
        told = response.json()["confide"]
        assert (response.status_code, told["decision"]) == (200, "escalate")
        known = question not in ("hello", "Zorblax?")
        assert (told["served"], told["verified"]) == (("expert", True) if known else ("unverified", False))
        assert known == (told["reason"] is None)
