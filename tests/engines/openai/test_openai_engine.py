"""An endpoint as an engine: what it gives, what it costs, and what goes wrong."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from confide.engines.engine import Sampling
from confide.engines.openai import patient_server
from confide.engines.openai.endpoint_config import EndpointConfig
from confide.engines.openai.openai_engine import MOST_FAILURES, OpenAIEngine
from confide.errors import ConfideError
from confide.methods.sampled import ModelJudge
from endpoint_server import Endpoint

ASK = [{"role": "user", "content": "Where is Kyoto?"}]


@contextmanager
def engine_on(endpoint: Endpoint, **config: Any) -> Iterator[OpenAIEngine]:
    with endpoint.running():
        engine = OpenAIEngine(EndpointConfig(base_url=endpoint.url, **config), "tiny")
        try:
            yield engine
        finally:
            engine.close()


@pytest.fixture(autouse=True)
def no_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_server, "_FIRST_WAIT_S", 0.001)


def test_a_greedy_answer_with_its_log_probabilities_and_tokens() -> None:
    with engine_on(Endpoint(), input_price=2.0, output_price=10.0) as engine:
        (found,) = engine.answer([engine.encode(ASK)], 24)
    assert (found.text, found.finish, found.tokens, found.ids) == ("Japan", "stop", 2, [])
    assert len(found.logprobs) == 2
    assert found.more["usage"] == {"prompt_tokens": 3, "completion_tokens": 2, "cost": pytest.approx(26e-6)}


def test_a_cut_answer_keeps_the_log_probabilities_of_what_there_is() -> None:
    with engine_on(Endpoint(knows=lambda text: "Japan, of course")) as engine:
        (found,) = engine.answer([engine.encode(ASK)], 2)
    assert (found.text, found.finish, len(found.logprobs)) == ("Japan,", "length", 2)


@pytest.mark.parametrize("several", [True, False])
def test_samples_come_in_one_request_or_one_by_one(several: bool) -> None:
    endpoint = Endpoint(several=several)
    with engine_on(endpoint) as engine:
        asked = len(endpoint.requests)
        ((*found,),) = engine.sample([engine.encode(ASK)], 24, 5, temperature=0.7, seed=3)
        assert len(endpoint.requests) - asked == (1 if several else 5)
        assert not any("prompt_logprobs" in body for body in endpoint.requests)
        ((*again,),) = engine.sample([engine.encode(ASK)], 24, 5, temperature=0.7, seed=3)
    assert [c.text for c in found] == [c.text for c in again]
    assert len(found) == 5
    assert {body["temperature"] for body in endpoint.requests[asked:]} == {0.7}


@pytest.mark.parametrize("refused", ["n", "seed"])
def test_a_server_that_refuses_several_answers_or_seeds_is_asked_without(refused: str) -> None:
    class Refusing(Endpoint):
        def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
            if refused in body:
                return {"error": {"message": f"{refused} is not supported", "code": 400}}
            return super().completion(body, word)

    with engine_on(Refusing()) as engine:
        ((*found,),) = engine.sample([engine.encode(ASK)], 24, 4)
    assert len(found) == 4


def test_yes_and_no_are_read_from_the_likeliest_tokens() -> None:
    with engine_on(Endpoint()) as engine:
        ids = [engine.encode_answer(" Yes")[0], engine.encode_answer(" No")[0]]
        found = engine.next_tokens([engine.encode(ASK)], ids)
    assert found.logprobs.shape == (1, 2)
    assert math.exp(found.logprobs[0, 0]) + math.exp(found.logprobs[0, 1]) == pytest.approx(1)


def test_a_given_answer_is_read_where_the_server_tells_of_its_prompt() -> None:
    with engine_on(Endpoint(reads=True), safe_to_ask="prompt_logprobs") as engine:
        assert "given_answers" in engine.capabilities
        closed = engine.closed([engine.encode(ASK)], [engine.encode_answer("New Zealand")], measure=True)
    (found,) = closed.completions
    assert (found.text, len(found.logprobs)) == ("New Zealand", 3)
    with pytest.raises(ConfideError, match="no hidden states"):
        closed.states()


@pytest.mark.parametrize(
    ("endpoint", "lacks"),
    [
        (Endpoint(logprobs=False), {"next_tokens", "given_answers"}),
        (Endpoint(silent=False), {"given_answers"}),
        (Endpoint(top=0), {"next_tokens", "given_answers"}),
        (Endpoint(refuses=frozenset({"logprobs"})), {"given_answers"}),
    ],
    ids=["no log-probabilities", "refuses what it does not know", "no top_logprobs", "plain"],
)
def test_what_a_server_does_not_show_is_no_capability(endpoint: Endpoint, lacks: set[str]) -> None:
    with engine_on(endpoint) as engine:
        assert not engine.capabilities & lacks
        assert engine.answer([engine.encode(ASK)], 24)[0].text == "Japan"


def test_every_question_is_answered_once_although_a_fifth_of_the_requests_fails() -> None:
    endpoint = Endpoint(fails=0.2, stall_s=1.0)
    with engine_on(endpoint, timeout_s=0.3, concurrency=32) as engine:
        prompts = [engine.encode([{"role": "user", "content": f"Question {n}?"}]) for n in range(300)]
        rows = [arrival.row for arrival in engine.arrivals(prompts, 24, Sampling())]
    assert sorted(rows) == list(range(300))
    assert max(count for text, count in endpoint.answered.items() if text.startswith("Question")) == 1


def test_a_question_that_is_refused_comes_with_its_reason_and_the_others_with_answers() -> None:
    class Refusing(Endpoint):
        def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
            if "bad" in body["messages"][-1]["content"]:
                return {"error": {"message": "too long", "code": 400}}
            return super().completion(body, word)

    with engine_on(Refusing(), retries=1) as engine:
        prompts = [engine.encode([{"role": "user", "content": text}]) for text in ("good", "bad", "good too")]
        found = {arrival.row: arrival for arrival in engine.arrivals(prompts, 24, Sampling())}
    assert [found[row].greedy is None for row in range(3)] == [False, True, False]
    assert "rejects the request" in found[1].failed


def test_a_server_that_is_gone_ends_the_run() -> None:
    endpoint = Endpoint()
    with engine_on(endpoint, retries=0, concurrency=4) as engine:
        endpoint.fails = 1.0
        endpoint.stall_s = 0.0
        prompts = [engine.encode(ASK) for _ in range(10 * MOST_FAILURES)]
        with pytest.raises(ConfideError, match="the server at http"):
            list(engine.arrivals(prompts, 24, Sampling()))
    assert len(endpoint.requests) < 5 * MOST_FAILURES


def test_another_model_behind_the_name_ends_the_run() -> None:
    endpoint = Endpoint(reports={"system_fingerprint": "one"})
    with engine_on(endpoint) as engine:
        endpoint.reports = {"system_fingerprint": "two"}
        with pytest.raises(ConfideError, match="another model answers"):
            engine.answer([engine.encode(ASK)], 24)


def test_fingerprints_that_differ_among_replies_are_no_part_of_the_identity() -> None:
    class Many(Endpoint):
        def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
            return super().completion(body, word) | {"system_fingerprint": f"fp_{len(self.requests) % 3}"}

    with engine_on(Many()) as engine:
        assert engine.identity == "model=tiny"
        assert engine.answer([engine.encode(ASK)], 24)[0].text == "Japan"


def test_a_server_that_closes_the_given_turn_reads_no_given_answers() -> None:
    class Closing(Endpoint):
        def read(self, turns: list[dict[str, Any]]) -> list[Any]:
            return [*super().read(turns), {"7": {"logprob": -0.1, "decoded_token": "<|im_end|>"}}]

    with engine_on(Closing(reads=True), safe_to_ask="prompt_logprobs") as engine:
        assert "given_answers" not in engine.capabilities


def test_nobody_there_is_told_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(patient_server, "wait_s", lambda attempt, asked_for: pytest.fail("it waits"))
    with pytest.raises(ConfideError, match="cannot be reached"):
        OpenAIEngine(EndpointConfig(base_url="http://127.0.0.1:9/v1"), "tiny")


@pytest.mark.parametrize(
    ("status", "told"), [("401", "wants a key"), ("404", "does the address end in /v1"), ("402", "wants to be paid")]
)
def test_a_server_that_answers_nothing_is_told_in_one_sentence(status: str, told: str) -> None:
    class Closed(Endpoint):
        async def handle(self, request: Any) -> Any:
            from aiohttp import web

            return web.json_response({"error": {"message": "no"}}, status=int(status))

    with pytest.raises(ConfideError, match=told), engine_on(Closed(), retries=0):
        pass


def test_the_key_is_sent_and_never_logged(monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture) -> None:
    monkeypatch.setenv("MY_KEY", "sk-secret-1234567890")
    endpoint = Endpoint()
    with caplog.at_level(logging.DEBUG), engine_on(endpoint, api_key_env="MY_KEY") as engine:
        engine.answer([engine.encode(ASK)], 24)
    assert {headers["Authorization"] for headers in endpoint.headers} == {"Bearer sk-secret-1234567890"}
    assert "sk-secret" not in caplog.text


@pytest.mark.parametrize("url", ["ftp://x/v1", "http://", "http://user:pw@x/v1", "nonsense", "http://x:99999999/v1"])
def test_an_address_that_is_none_is_refused(url: str) -> None:
    with pytest.raises(ConfideError, match="--base-url"):
        OpenAIEngine(EndpointConfig(base_url=url), "tiny")


def test_a_key_that_is_not_set_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MISSING_KEY", raising=False)
    with pytest.raises(ConfideError, match="MISSING_KEY"):
        OpenAIEngine(EndpointConfig(base_url="http://127.0.0.1:9/v1", api_key_env="MISSING_KEY"), "tiny")


class Rejecting(Endpoint):
    """Rejects questions with the word "bad" in them."""

    def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
        if "bad" in body["messages"][-1]["content"]:
            return {"error": {"message": "too long", "code": 400}}
        return super().completion(body, word)


def asked(engine: OpenAIEngine, *texts: str) -> list[list[int]]:
    return [engine.encode([{"role": "user", "content": text}]) for text in texts]


def test_questions_that_are_rejected_do_not_end_the_run_however_many_they_are() -> None:
    with engine_on(Rejecting(), concurrency=1) as engine:
        prompts = asked(engine, *(f"bad {n}" for n in range(MOST_FAILURES + 5)), "good")
        found = list(engine.arrivals(prompts, 24, Sampling()))
    assert [arrival.row for arrival in found if arrival.greedy] == [MOST_FAILURES + 5]
    assert "too long" in found[0].failed


def test_a_prompt_that_is_rejected_has_no_likeliest_tokens_and_the_others_have() -> None:
    with engine_on(Rejecting()) as engine:
        found = engine.next_tokens(asked(engine, "good", "bad"), engine.encode_answer(" Yes"))
    assert [math.isnan(value) for value in found.logprobs[:, 0]] == [False, True]


def test_half_a_surrogate_pair_costs_its_question_alone() -> None:
    with engine_on(Endpoint()) as engine:
        found = {a.row: a for a in engine.arrivals(asked(engine, "\ud800", "good"), 24, Sampling())}
    assert "no text" in found[0].failed
    assert found[1].greedy is not None


def test_a_sample_may_be_empty() -> None:
    class Silent(Endpoint):
        def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
            reply = super().completion(body, word)
            if body["temperature"] and (body.get("n", 1) > 1 or body["seed"] == 1):
                reply["choices"][-1]["message"]["content"] = ""
            return reply

    with engine_on(Silent()) as engine:
        ((*found,),) = engine.sample([engine.encode(ASK)], 24, 4)
    assert [not completion.text for completion in found] == [False, True, False, False]


def test_a_conversation_has_one_number() -> None:
    with engine_on(Endpoint()) as engine:
        assert engine.encode(ASK) == engine.encode(ASK, {"enable_thinking": False})
        assert engine.encode(ASK) != asked(engine, "Where?")[0]


def test_long_answers_come_without_the_likeliest_tokens() -> None:
    endpoint = Endpoint()
    with engine_on(endpoint) as engine:
        engine.answer([engine.encode(ASK)], 24)
        engine.answer([engine.encode(ASK)], 20_000)
    assert ["top_logprobs" in body for body in endpoint.requests[-2:]] == [True, False]


def test_what_is_under_way_ends_with_the_first_that_fails() -> None:
    endpoint = Rejecting(pause_s=0.05)
    with engine_on(endpoint, concurrency=1) as engine:
        before = len(endpoint.requests)
        with pytest.raises(ConfideError):
            engine.answer(asked(engine, "bad", *(f"good {n}" for n in range(20))), 24)
        engine.answer(asked(engine, "last"), 24)
    assert len(endpoint.requests) - before <= 3


def test_likeliest_tokens_that_are_no_list_are_none() -> None:
    class Odd(Endpoint):
        def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
            reply = super().completion(body, word)
            reply["choices"][0]["logprobs"]["content"][0]["top_logprobs"] = 7
            return reply

    with engine_on(Odd()) as engine:
        assert "next_tokens" not in engine.capabilities


def test_a_question_whose_samples_are_rejected_takes_neither_seed_nor_number_from_the_others() -> None:
    class Strict(Endpoint):
        def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
            if body["temperature"] and "bad" in body["messages"][-1]["content"]:
                return {"error": {"message": "filtered", "code": 400}}
            return super().completion(body, word)

    endpoint = Strict()
    with engine_on(endpoint, concurrency=1) as engine:
        bad, good = engine.arrivals(asked(engine, "bad", "good"), 24, Sampling(4))
    assert (bad.greedy, len(good.samples)) == (None, 4)
    assert endpoint.requests[-1]["n"] == 4
    assert "seed" in endpoint.requests[-1]


def test_one_prompt_at_which_the_server_fails_costs_itself_alone_and_many_end_the_reading() -> None:
    class Failing(Endpoint):
        def completion(self, body: dict[str, Any], word: str) -> dict[str, Any]:
            if "bad" in body["messages"][-1]["content"]:
                return {"error": {"message": "oops", "code": 500}}
            return super().completion(body, word)

    with engine_on(Failing(), retries=0) as engine:
        yes = engine.encode_answer(" Yes")
        found = engine.next_tokens(asked(engine, "good", "bad", "good too"), yes).logprobs[:, 0]
        assert [math.isnan(value) for value in found] == [False, True, False]
        with pytest.raises(ConfideError, match="fails"):
            engine.next_tokens(asked(engine, *(f"bad {n}" for n in range(MOST_FAILURES))), yes)


def test_a_judge_that_gave_no_answer_is_no_judge_that_said_no() -> None:
    with engine_on(Rejecting()) as engine, pytest.raises(ConfideError, match="the judge tiny gave no answer to 2"):
        ModelJudge(engine)([("good?", "Japan", "Nippon"), ("bad?", "Peru", "Chile")])
