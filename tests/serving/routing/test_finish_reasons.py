"""How an answer ended decides whether it has a confidence and whether it is verified, whole or streamed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from upstreams import CALL, FakeModel, Running, Upstream, events, expert_server, policy_file, router, said, small_server

WAYS: list[dict[str, Any]] = [{}, {"stream": True}]


def told(running: Running, **request: Any) -> dict[str, Any]:
    """The field ``confide`` of an answer, whole or streamed."""
    response = running.ask(**request)
    assert response.status_code == 200, response.text
    found: dict[str, Any] = events(response)[-2]["confide"] if request.get("stream") else response.json()["confide"]
    return found


@pytest.mark.parametrize("stream_mode", ["hold", "early"])
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("word", ["length", "content_filter", "odd", "function"])
def test_an_answer_of_the_small_model_that_did_not_end_by_itself_has_no_confidence(
    tmp_path: Path, small: Upstream, big: Upstream, word: str, way: dict[str, Any], stream_mode: str
) -> None:
    small.behaviour = [word]
    settings = {"small": small_server(small), "experts": [expert_server(big)], "stream_mode": stream_mode}
    with router(tmp_path, **settings) as running:
        field = told(running, **way)
        assert (field["raw"], field["calibrated"], field["decision"]) == (None, False, "escalate")
        assert (field["served"], field["verified"]) == ("expert", True)
        assert running.rows()[0]["raw"] is None
        assert running.rows()[0]["error"] is None


def test_an_answer_whose_end_is_not_told_has_no_confidence(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.behaviour = ["null"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        assert (told(running)["raw"], told(running)["served"]) == (None, "expert")
        assert told(running, stream=True)["served"] == "expert"
        assert running.rows()[-1]["error"] is None
    with router(tmp_path, small=small_server(small, retries=0), stream_mode="early", mode="observe") as running:
        *_, last, done = events(running.ask(stream=True))
        assert (last["choices"][0]["finish_reason"], last["confide"]["raw"], done) == ("unknown", None, "[DONE]")
        assert running.rows()[-1]["error"] is None


@pytest.mark.parametrize("way", WAYS)
def test_an_end_in_other_words_is_an_end(tmp_path: Path, small: Upstream, way: dict[str, Any]) -> None:
    small.behaviour = ["eos"]
    with router(tmp_path, small=small_server(small)) as running:
        field = told(running, **way)
        assert (field["calibrated"], field["served"], field["verified"]) == (True, "small", True)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("word", ["error", "abort"])
def test_a_failure_under_status_200_is_a_failure_of_that_server(
    tmp_path: Path, small: Upstream, big: Upstream, spare: Upstream, word: str, way: dict[str, Any]
) -> None:
    small.behaviour = big.behaviour = [word]
    experts = [expert_server(big, retries=0), expert_server(spare, "spare")]
    with router(tmp_path, small=small_server(small, retries=1), experts=experts) as running:
        if way:  # the first piece of an expert's stream cannot be taken back
            assert events(running.ask(**way))[-1]["error"]["code"] == "broken_off"
        else:
            assert told(running)["answered_by"] == "spare"
        assert running.rows()[0]["error"] == "small: server_error; big: server_error"
        assert len(small.requests) == 2  # such a failure may pass: it is asked again


def test_a_failure_in_an_early_stream_is_superseded(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.behaviour = ["error"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], stream_mode="early") as running:
        chunks = events(running.ask(stream=True))
        assert said(chunks) == "Japan\n\n[answer by big]\n\nIt is Japan"
        assert any(chunk.get("confide", {}).get("supersedes") for chunk in chunks[:-1])
        assert running.rows()[0]["error"] == "small: server_error"


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize(
    ("word", "verified"),
    [("length", False), ("content_filter", False), ("odd", False), ("function", True), ("ok", True)],
)
def test_an_experts_answer_is_verified_only_when_it_is_whole(
    tmp_path: Path, small: Upstream, big: Upstream, word: str, verified: bool, way: dict[str, Any]
) -> None:
    small.probability, big.behaviour = 0.2, [word]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        field = told(running, **way)
        assert (field["served"], field["verified"]) == ("expert", verified)


def test_one_cut_choice_among_several_takes_the_confidence_away(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.behaviour = ["one-cut", "ok"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], mode="observe") as running:
        assert told(running, n=3)["raw"] is None
        assert told(running, n=3)["raw"] is not None
    small.probability, big.behaviour = 0.2, ["one-cut"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        assert told(running, n=3)["verified"] is False


def test_a_cut_expert_answer_is_no_label(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    big.behaviour, big.answer = ["length"], small.answer
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], audit_share=1) as running:
        running.ask()
        assert running.wait_for(lambda row: row["expert_ms"] is not None)["agreed"] is None


def test_cut_samples_have_no_vote(tmp_path: Path, small: Upstream) -> None:
    small.probability, small.behaviour = 0.2, ["ok", "length"]
    experts = [{"name": "again", "self": {"samples": 3}}]
    with router(tmp_path, small=small_server(small), experts=experts) as running:
        assert running.ask().status_code == 503
        assert running.rows()[0]["error"] == "again: no_answer"


def test_a_legacy_call_is_put_together_from_its_pieces(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    big.behaviour, small.probability = ["function"], 0.2
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)], store_text=True) as running:
        message = running.ask().json()["choices"][0]
        assert (message["message"]["function_call"], message["finish_reason"]) == (CALL, "function_call")
    small.behaviour = ["function"]  # held: the pieces become one call before they are passed on
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        chunks = events(running.ask(stream=True, functions=[{"name": "look"}]))
        calls = [c["choices"][0]["delta"].get("function_call") for c in chunks[:-1] if c["choices"]]
        assert [call for call in calls if call] == [CALL]


def test_a_cut_answer_in_this_process_escalates(tmp_path: Path, big: Upstream) -> None:
    class Cut(FakeModel):
        def answers(self, questions: Any, *, max_new_tokens: int, **more: Any) -> Any:
            found = super().answers(questions, max_new_tokens=max_new_tokens)
            for answer in found:
                answer.finish = "length"
            return found

    with router(tmp_path, model=Cut(), small={"model": "fake"}, experts=[expert_server(big)]) as running:
        assert (told(running)["raw"], told(running)["served"]) == (None, "expert")
    policy = policy_file(tmp_path, last_resort="unverified")
    with router(tmp_path, model=Cut(), small={"model": "fake"}, policy=policy) as running:
        field = told(running)
        assert (field["raw"], field["served"], field["verified"]) == (None, "unverified", False)


def test_without_a_policy_nothing_is_verified(tmp_path: Path, small: Upstream) -> None:
    with router(tmp_path, small=small_server(small), mode="observe") as running:
        field = told(running)
        assert (field["served"], field["calibrated"], field["verified"]) == ("small", False, False)
