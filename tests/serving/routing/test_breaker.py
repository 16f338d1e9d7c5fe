"""When a model rests and for whom: what one client, one question or one late answer can and cannot do."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from confide.engines.openai.asked import Asked
from confide.engines.openai.model_error import ModelError
from confide.serving.api_keys import hash_key
from confide.serving.routing import breaker as module
from confide.serving.routing.breaker import FIRST_REST_S, MOST_QUESTIONS, MOST_REST_S, WINDOW_S, Breaker, Visit
from upstreams import FakeAnswer, FakeModel, Running, Upstream, expert_server, router, small_server

ASKED = Asked(chat=True, messages=[], options={}, deadline=float("inf"))
SICK = ModelError("server_error", again=True)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def breaker(clock: Clock) -> Breaker:
    return Breaker("big", clock=clock)


def enter(breaker: Breaker, question: str, client: str | None = None) -> Visit:
    return breaker.enter(replace(ASKED, question_hash=question, key=client))


def ask(breaker: Breaker, question: str, failure: ModelError | None = None, client: str | None = None) -> None:
    enter(breaker, question, client).leave(failure)


def fail(breaker: Breaker, questions: Iterable[object], client: str | None = None) -> None:
    """Ask these questions, which fail, until the model rests."""
    for question in questions:
        try:
            ask(breaker, str(question), SICK, client)
        except ModelError:
            return


def test_different_questions_that_fail_open_it_and_one_that_is_answered_closes_it(
    breaker: Breaker, clock: Clock
) -> None:
    for number in range(5):
        assert breaker.state == "closed"
        ask(breaker, str(number), SICK)
    assert breaker.state == "open"
    with pytest.raises(ModelError, match="resting") as refused:
        enter(breaker, "other")
    assert refused.value.retry_after == FIRST_REST_S
    assert not refused.value.counts
    clock.now += FIRST_REST_S
    assert breaker.state == "half_open"
    ask(breaker, "other")
    assert breaker.state == "closed"


def test_one_question_asked_again_and_again_is_one_failure(breaker: Breaker) -> None:
    for _ in range(500):
        ask(breaker, "poison", SICK)
    assert breaker.state == "closed"


def test_variations_are_outweighed_by_what_goes_well(breaker: Breaker, clock: Clock) -> None:
    for number in range(400):
        clock.now += 0.25
        ask(breaker, f"well {number}")
        ask(breaker, f"well too {number}")
        ask(breaker, f"poison {number}", SICK)
    assert breaker.state == "closed"


def test_a_client_with_a_key_rests_a_model_for_itself_alone(breaker: Breaker, clock: Clock) -> None:
    """Whatever it varies, however often it comes, and whether or not others ask meanwhile."""
    for number in range(600):
        clock.now += 0.1
        fail(breaker, [f"poison {number}"], "evil")
        if number % 50 == 0:
            ask(breaker, f"fine {number}", None, "app")
            ask(breaker, f"odd {number}", SICK if number % 100 else None, "other app")
    with pytest.raises(ModelError, match="resting"):
        ask(breaker, "more", None, "evil")
    ask(breaker, "fine", None, "app")


def test_most_clients_that_see_it_fail_rest_it_for_all(breaker: Breaker) -> None:
    for number in range(5):
        ask(breaker, f"q{number}", SICK, f"client {number}")
    with pytest.raises(ModelError, match="resting"):
        enter(breaker, "q", "a client that has not asked yet")
    assert breaker.state == "open"


def test_an_only_client_is_told_at_once(breaker: Breaker) -> None:
    fail(breaker, range(5), "app")
    assert breaker.state == "open"
    with pytest.raises(ModelError, match="resting"):
        enter(breaker, "q", "app")


def test_a_few_clients_do_not_speak_for_many(breaker: Breaker) -> None:
    for client in ("a", "b", "c"):
        ask(breaker, "fine", None, client)
    for client in ("evil", "evil twin"):
        fail(breaker, (f"{client} {number}" for number in range(20)), client)
    ask(breaker, "fine too", None, "a")


def test_an_easy_question_does_not_make_a_sick_server_well(breaker: Breaker) -> None:
    """Neither does a hundred times the same one."""
    for number in range(5):
        assert breaker.state == "closed"
        for _ in range(20):
            ask(breaker, "ping")
        ask(breaker, f"q{number}", SICK)
    assert breaker.state == "open"


def test_what_failed_long_ago_is_forgotten(breaker: Breaker, clock: Clock) -> None:
    for number in range(50):
        ask(breaker, str(number), SICK)
        clock.now += WINDOW_S / 3
    assert breaker.state == "closed"


def test_a_question_that_went_well_at_last_went_well(breaker: Breaker) -> None:
    for number in range(20):
        ask(breaker, str(number), SICK)
        ask(breaker, str(number))
    assert breaker.state == "closed"


@pytest.mark.parametrize("late", [None, SICK, ModelError("rejected", counts=False)])
def test_a_late_answer_from_before_the_break_changes_nothing(
    breaker: Breaker, clock: Clock, late: ModelError | None
) -> None:
    slow = [enter(breaker, f"slow {number}") for number in range(50)]
    fail(breaker, range(5))
    slow[0].leave(late)
    assert breaker.state == "open"
    clock.now += FIRST_REST_S
    trial = enter(breaker, "trial")
    for visit in slow[1:20]:
        visit.leave(late)
    for visit in slow[20:30]:
        visit.abandon()
    assert breaker.state == "half_open"
    with pytest.raises(ModelError, match="resting"):  # the trial is still the only one
        enter(breaker, "second trial")
    trial.leave(None)
    for visit in slow[30:]:
        visit.leave(late)
    assert breaker.state == "closed"


def test_a_trial_from_before_another_break_changes_nothing(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, range(5))
    clock.now += FIRST_REST_S
    lost = enter(breaker, "lost")
    lost_copy = Visit(lost.client, lost.question, list(lost.circuits))
    lost.leave(SICK)
    assert breaker.state == "open"
    lost_copy.leave(None)
    assert breaker.state == "open"


def test_a_trial_whose_client_hung_up_lets_another_try(breaker: Breaker, clock: Clock) -> None:
    fail(breaker, range(5))
    clock.now += FIRST_REST_S
    for number in range(20):
        enter(breaker, f"gone {number}").abandon()
        assert breaker.state == "half_open"
    ask(breaker, "stays")
    assert breaker.state == "closed"


def test_rests_double_and_start_over_once_it_was_well(breaker: Breaker, clock: Clock) -> None:
    rests = []
    fail(breaker, range(5))
    for number in range(8):
        before = clock.now
        while breaker.state == "open":
            clock.now += 0.5
        rests.append(clock.now - before)
        ask(breaker, f"trial {number}", SICK)
    assert rests == [2, 4, 8, 16, 32, MOST_REST_S, MOST_REST_S, MOST_REST_S]
    clock.now += MOST_REST_S
    ask(breaker, "well")
    fail(breaker, range(5))  # well for a moment only
    clock.now += MOST_REST_S - 1
    assert breaker.state == "open"
    clock.now += 1
    ask(breaker, "well")
    clock.now += WINDOW_S + 1
    fail(breaker, range(5))
    clock.now += FIRST_REST_S
    assert breaker.state == "half_open"


def test_what_failed_before_does_not_keep_it_away(breaker: Breaker, clock: Clock) -> None:
    """A trial with a question that broke it says nothing new, and leaves the place to another."""
    fail(breaker, range(5))
    clock.now += FIRST_REST_S
    for _ in range(10):
        ask(breaker, "3", SICK)
        assert breaker.state == "half_open"
    ask(breaker, "well")
    assert breaker.state == "closed"


def test_one_client_does_not_keep_it_away_from_the_others(breaker: Breaker, clock: Clock) -> None:
    for number in range(10):
        fail(breaker, [f"q{number}"], f"client {number}")
    assert breaker.state == "open"
    for number in range(300):
        clock.now += 1
        fail(breaker, [f"poison {number}"], "evil")
    ask(breaker, "fine", None, "client 1")
    assert breaker.state == "closed"


def test_one_clients_retry_after_rests_nobody_and_lengthens_a_rest(breaker: Breaker, clock: Clock) -> None:
    asked_for = ModelError("rate_limited", again=True, retry_after=1000)
    ask(breaker, "long", asked_for)
    assert breaker.state == "closed"
    for number in range(4):
        ask(breaker, str(number), asked_for)
    clock.now += MOST_REST_S - 1
    assert breaker.state == "open"
    clock.now += 1
    assert breaker.state == "half_open"


@pytest.mark.parametrize("kind", ["rejected", "empty", "no_answer", "unsupported", "timeout"])
def test_failures_that_say_nothing_of_the_model_do_not_open_it(breaker: Breaker, kind: str) -> None:
    for number in range(50):
        ask(breaker, str(number), ModelError(kind, counts=False))
    assert breaker.state == "closed"


@pytest.mark.parametrize(
    ("kind", "state"),
    [("rejected", "closed"), ("empty", "closed"), ("unsupported", "half_open"), ("timeout", "half_open")],
)
def test_a_trial_that_is_answered_at_all_closes_it(breaker: Breaker, clock: Clock, kind: str, state: str) -> None:
    fail(breaker, range(5))
    clock.now += FIRST_REST_S
    ask(breaker, "trial", ModelError(kind, counts=False))
    assert breaker.state == state


def test_memory_does_not_grow_with_the_traffic(breaker: Breaker) -> None:
    for number in range(10_000):
        ask(breaker, str(number))
    (kept,) = breaker._everyone._outcomes._of.values()
    assert len(kept) == MOST_QUESTIONS


# -- through the router ----------------------------------------------------------------------------------------------

KEYS = [{"name": name, "hash": hash_key(name * 10), "scopes": ["ask", "read"]} for name in ("app-one", "app-two")]


def by(name: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {name * 10}"}


class Poisoned(Upstream):
    """Fails for questions with poison in them."""

    async def handle(self, request: Any) -> Any:
        body = await request.json()
        self.behaviour = ["500" if "poison" in body["messages"][-1]["content"] else "ok"]
        return await super().handle(request)


def served(running: Running, text: str, name: str | None = None, **more: Any) -> Any:
    response = running.ask(text, headers=by(name) if name else None, **more)
    return response.json()["confide"]["served"] if response.status_code == 200 else response.status_code


@pytest.mark.parametrize("stream", [False, True])
def test_one_poisoned_request_rests_no_expert(tmp_path: Path, small: Upstream, stream: bool) -> None:
    small.probability = 0.2
    with (
        Poisoned(answer="Japan").running() as big,
        router(tmp_path, small=small_server(small), experts=[expert_server(big, retries=1)]) as running,
    ):
        for _ in range(12):
            assert running.ask("poison", stream=stream).status_code == 503
        assert served(running, "Where is Kyoto?") == "expert"


def test_a_key_that_varies_its_poison_is_refused_alone(tmp_path: Path, small: Upstream) -> None:
    small.probability = 0.2
    settings = {"small": small_server(small), "api_keys": KEYS}
    with (
        Poisoned(answer="Japan").running() as big,
        router(tmp_path, **settings, experts=[expert_server(big, retries=0)]) as running,
    ):
        for number in range(20):
            assert served(running, f"poison {number}", "app-one") == 503
        assert sum("poison" in body["messages"][0]["content"] for body in big.requests) == 5
        assert running.rows()[-1]["error"] == "big: resting"
        for number in range(3):
            assert served(running, f"Where is town {number}?", "app-two") == "expert"


def test_the_small_models_breaker_is_the_same(tmp_path: Path, big: Upstream) -> None:
    class Crashing(FakeModel):
        def answers(self, questions: Any, *, max_new_tokens: int, **more: Any) -> list[FakeAnswer]:
            if any("poison" in question for question in questions):
                raise RuntimeError("out of memory")
            return super().answers(questions, max_new_tokens=max_new_tokens, **more)

    settings = {"model": Crashing(), "small": {"model": "x"}, "experts": [expert_server(big)], "api_keys": KEYS}
    with router(tmp_path, **settings) as running:
        for number in range(8):
            assert served(running, "poison", "app-two") == "expert"
            assert served(running, f"poison {number}", "app-one") == "expert"
        assert [row["error"] for row in running.rows()[-2:]] == ["small: broken", "small: resting"]
        assert served(running, "Where is Kyoto?", "app-two") == "small"


def test_one_long_retry_after_sends_one_request_on(tmp_path: Path, small: Upstream, big: Upstream) -> None:
    small.probability, big.behaviour = 0.2, ["429-long", "ok"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big)]) as running:
        assert served(running, "Where is Kyoto?") == 503
        assert served(running, "Where is Kyoto now?") == "expert"


def test_a_sick_server_is_tried_by_one_request_and_asked_again(
    tmp_path: Path, small: Upstream, big: Upstream, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "FIRST_REST_S", 0.5)
    small.probability, big.behaviour = 0.2, ["500"]
    with router(tmp_path, small=small_server(small), experts=[expert_server(big, retries=0)]) as running:
        for number in range(8):
            assert served(running, f"Where is town {number}?") == 503
        assert len(big.requests) == 5
        big.behaviour = ["ok"]
        time.sleep(0.6)
        assert served(running, "Where is Kyoto?") == "expert"
        assert 'confide_resting{model="big"} 0.0' in running.get("/metrics").text
