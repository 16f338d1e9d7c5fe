"""Signals watched by the router: answers that end in the middle, refusals, escalations, notes, and what is stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from aiohttp import web

from along_rows import tiny_engine
from answer_world import served_file, served_world
from confide.engines.directions import Directions
from confide.engines.openai import reading_check
from confide.errors import ConfideError
from confide.methods.along.along_reading import AlongReading, AlongRule
from confide.methods.checkpoint import CheckpointInfo
from confide.methods.frozen.frozen_model import FrozenModel
from confide.serving.routing.watching import Flag, decided_by
from reading_server import END, FINGERPRINT, VOCABULARY, ReadingServer
from upstreams import Running, Upstream, events, expert_server, policy_file, router, until

BAD = 0.02
"""What the watched answers fall to; the threshold of a policy file is 0.5."""
ASK = "Where is Kyoto?"

pytestmark = pytest.mark.usefixtures("one_thread")


def flagged_model(seed: int = 0) -> FrozenModel:
    """A tiny model in process, with a signal that falls below 0.5 in the middle of its answer to `ASK`."""
    engine = tiny_engine()
    weight = np.random.default_rng(seed).normal(size=(1, engine.width, 1)).astype(np.float32)
    model = FrozenModel(engine, CheckpointInfo())
    zero = AlongReading.of(
        AlongRule("red_flag", "tokens", "none"), Directions((2,), weight, np.zeros(1, np.float32)), {}
    )
    model.signals = {"red_flag": zero}
    (plain,) = model.answers([ASK], max_new_tokens=20)
    values = np.array(plain.along["red_flag"].values)
    middle = len(values) // 2
    lowest = int(np.argmin(values[1:middle])) + 1
    # Shifted so that this position, and no earlier one, lies below the threshold.
    logit = float(np.log(values[lowest] / (1 - values[lowest])))
    before = values[:lowest]
    assert (before > values[lowest]).all()
    room = float(np.log(before.min() / (1 - before.min()))) - logit
    rule = AlongRule("red_flag", "tokens", "none", shift=-logit - room / 2)
    model.signals = {"red_flag": AlongReading.of(rule, zero.directions, {})}
    return model


@pytest.fixture(scope="module")
def model() -> FrozenModel:
    return flagged_model()


@pytest.fixture(autouse=True)
def looks_often(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(reading_check, "_FIRST_WAIT_S", 0.01)
    monkeypatch.setattr(reading_check, "_LEAST_S", 0.0)


def watch(folder: Path, action: str) -> dict[str, Any]:
    file = policy_file(folder, source="red_flag", easy=False, name="red_flag.json")
    return {"signal": "red_flag", "policy": str(file), "action": action}


@contextmanager
def routed(folder: Path, model: FrozenModel, action: str, big: Upstream, **more: Any) -> Iterator[Running]:
    small = {"model": "x", "max_tokens": 20}
    settings = {"small": small, "experts": [expert_server(big)], "watch": [watch(folder, action)], **more}
    with router(folder, model=model, **settings) as running:
        yield running


def whole(model: FrozenModel) -> str:
    return model.answers([ASK], max_new_tokens=20)[0].text


def part(model: FrozenModel) -> str:
    """What the model has written when the signal falls."""
    (answer,) = model.answers([ASK], max_new_tokens=20, stop={"red_flag": 0.5})
    assert answer.stopped_by == "red_flag"
    assert 0 < len(answer.ids) < len(model.answers([ASK], max_new_tokens=20)[0].ids)
    return answer.text


@pytest.mark.parametrize("stream", [False, True])
def test_stop_gives_what_was_written_so_far(tmp_path: Path, model: FrozenModel, big: Upstream, stream: bool) -> None:
    with routed(tmp_path, model, "stop", big) as running:
        response = running.ask(ASK, stream=stream)
        (row,) = running.rows()
    if stream:
        chunks = events(response)
        assert chunks[-1] == "[DONE]"
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[:-1])
        finish, field = chunks[-2]["choices"][0]["finish_reason"], chunks[-2]["confide"]
    else:
        body = response.json()
        text, finish = body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]
        field = body["confide"]
    assert (text, finish) == (part(model), "content_filter")
    assert (field["served"], field["decision"], field["verified"]) == ("stopped", "abstain", False)
    (flag,) = field["flags"]
    assert (flag["signal"], flag["action"], flag["threshold"]) == ("red_flag", "stop", 0.5)
    assert flag["value"] < 0.5
    assert json.loads(row["flags"]) == [flag]
    assert row["small_tokens"] < 20 + len(ASK)
    assert big.requests == []


def test_refuse_gives_nothing_of_it(tmp_path: Path, model: FrozenModel, big: Upstream) -> None:
    with routed(tmp_path, model, "refuse", big) as running:
        body = running.ask(ASK).json()
    assert body["choices"][0]["message"]["content"] == "I am not sure enough to answer this."
    assert (body["confide"]["served"], body["confide"]["decision"]) == ("abstained", "abstain")
    assert part(model) not in json.dumps(body["choices"])


@pytest.mark.parametrize("stream", [False, True])
def test_escalate_asks_the_expert(tmp_path: Path, model: FrozenModel, big: Upstream, stream: bool) -> None:
    with routed(tmp_path, model, "escalate", big) as running:
        response = running.ask(ASK, stream=stream)
    assert len(big.requests) == 1
    assert part(model) not in response.text
    last = events(response)[-2]["confide"] if stream else response.json()["confide"]
    assert (last["served"], last["decision"]) == ("expert", "escalate")


def test_log_changes_nothing_but_the_note(tmp_path: Path, model: FrozenModel, big: Upstream) -> None:
    with routed(tmp_path, model, "log", big, mode="observe") as running:
        body = running.ask(ASK).json()
        metrics = running.get("/metrics").text
        page = running.get("/").text
    assert body["choices"][0]["message"]["content"] == whole(model)
    assert [flag["action"] for flag in body["confide"]["flags"]] == ["log"]
    assert 'confide_flags_total{action="log",signal="red_flag"} 1.0' in metrics
    assert "red_flag" in page


def test_in_mode_observe_a_flag_is_only_told(tmp_path: Path, model: FrozenModel, big: Upstream) -> None:
    with routed(tmp_path, model, "refuse", big, mode="observe") as running:
        body = running.ask(ASK).json()
    assert body["choices"][0]["message"]["content"] == whole(model)
    assert body["confide"]["flags"][0]["action"] == "refuse"


def test_when_experts_fail_a_flagged_answer_is_not_the_last_resort(tmp_path: Path, model: FrozenModel) -> None:
    with Upstream(behaviour=["500"]).running() as broken:
        policy = policy_file(tmp_path, last_resort="unverified")
        with routed(tmp_path, model, "escalate", broken, policy=str(policy)) as running:
            body = running.ask(ASK).json()
    assert body["confide"]["served"] == "abstained"
    assert part(model) not in json.dumps(body["choices"])


@pytest.mark.parametrize("path", ["/v1/messages", "/v1/responses"])
def test_other_apis_say_why_it_ended(tmp_path: Path, model: FrozenModel, big: Upstream, path: str) -> None:
    asked = {"model": "m", "max_tokens": 20, "messages": [{"role": "user", "content": ASK}]}
    if path.endswith("responses"):
        asked = {"model": "m", "max_output_tokens": 20, "input": ASK}
    with routed(tmp_path, model, "stop", big) as running:
        told = running.post(path, asked).json()
    if path.endswith("responses"):
        assert told["incomplete_details"] == {"reason": "content_filter"}
    else:
        assert told["stop_reason"] == "refusal"


@dataclass
class WatchedServer(ReadingServer):
    """Streams token by token in vLLM's shape; a fourth share is the signal's, low from the token ``falls`` on."""

    falls: int = 3
    sent: list[str] = field(default_factory=list)

    def shares(self, text: str, place: int) -> list[float]:
        return [*super().shares(text, place), float(np.log(BAD / (1 - BAD))) if place >= self.falls else 4.0]

    async def handle(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if not body.get("stream"):
            return await super().handle(request)
        self.requests.append(body)
        answer, text = self.knows(body["messages"][-1]["content"]), body["messages"][-1]["content"]
        pieces = [answer[i : i + 3] for i in range(0, len(answer), 3)]
        told = self.tokens_of(text, pieces, body)
        response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        await response.prepare(request)
        try:
            for number, token in enumerate(told):
                over = number == len(pieces)
                delta = {} if over else {"content": pieces[number]}
                choice = {"index": 0, "delta": delta, "finish_reason": "stop" if over else None}
                usage = {"prompt_tokens": 5, "completion_tokens": number + 1}
                chunk = {"model": "tiny", "choices": [choice | {"logprobs": {"content": [token]}}], "usage": usage}
                await response.write(f"data: {json.dumps(chunk)}\n\n".encode())
                self.sent.append("" if over else pieces[number])
                await asyncio.sleep(self.pause_s)
            await response.write(b"data: [DONE]\n\n")
        except (asyncio.CancelledError, ConnectionError):
            self.hung_up.set()
            raise
        return response


@pytest.fixture(scope="module")
def export(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("served") / "reading.json"
    rules = [AlongRule("red_flag", "tokens", "none", scored_by="1")]
    return served_file(path, served_world(), VOCABULARY, END, FINGERPRINT, rules)


@contextmanager
def served(folder: Path, small: WatchedServer, export: Path, action: str, **more: Any) -> Iterator[Running]:
    with small.running(), Upstream(answer="Japan, of course").running() as big:
        settings = {
            "policy": str(policy_file(folder, source="stack_served")),
            "small": {"engine": "vllm", "base_url": small.url, "model": "tiny", "reading": str(export)},
            "experts": [expert_server(big)],
            "watch": [watch(folder, action)],
            **more,
        }
        with router(folder, **settings) as running:
            until(lambda: "there" in running.get("/readyz").json().get("reading", ""))
            yield running


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize("stream_mode", ["hold", "early"])
def test_a_server_is_left_in_the_middle_of_its_answer(
    tmp_path: Path, export: Path, stream: bool, stream_mode: str
) -> None:
    small = WatchedServer(knows=lambda text: "abcdefghi" * 20, pause_s=0.05)
    with served(tmp_path, small, export, "stop", stream_mode=stream_mode) as running:
        response = running.ask(ASK, stream=stream, max_tokens=90)
        until(small.hung_up.is_set)
        (row,) = running.rows()
    # What stands at token 3 was read at the third one: the answer has three, and the fourth is not given.
    if stream:
        chunks = events(response)
        text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[:-1])
        finish, field_ = chunks[-2]["choices"][0]["finish_reason"], chunks[-2]["confide"]
    else:
        body = response.json()
        text, finish = body["choices"][0]["message"]["content"], body["choices"][0]["finish_reason"]
        field_ = body["confide"]
    assert (text, finish) == ("abcdefghi", "content_filter")
    assert field_["served"] == "stopped"
    assert field_["flags"][0]["value"] == pytest.approx(BAD, abs=1e-4)
    assert len(small.sent) < 20
    assert 5 < row["small_tokens"] < 20
    assert "token_id" not in response.text


def test_early_pieces_are_superseded_when_it_escalates(tmp_path: Path, export: Path) -> None:
    small = WatchedServer(knows=lambda text: "abcdefghi" * 20, pause_s=0.02)
    with served(tmp_path, small, export, "escalate", stream_mode="early") as running:
        chunks = events(running.ask(ASK, stream=True, max_tokens=90))
    text = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks[:-1])
    assert text.startswith("abcdefghi\n\n[answer by big]\n\n")
    assert text.endswith("Japan, of course")
    assert any(chunk.get("confide", {}).get("supersedes") for chunk in chunks[:-1])


def test_an_answer_that_stays_fine_is_not_touched(tmp_path: Path, export: Path) -> None:
    small = WatchedServer(knows=lambda text: "abc de f", falls=99)
    with served(tmp_path, small, export, "stop") as running:
        body = running.ask(ASK).json()
    assert body["confide"]["flags"] == []
    assert "abc de f" in json.dumps(body) or body["confide"]["served"] == "expert"


def test_without_the_reading_nothing_is_known_and_the_expert_is_asked(tmp_path: Path, export: Path) -> None:
    small = WatchedServer(knows=lambda text: "abc de f", falls=99)
    with served(tmp_path, small, export, "refuse") as running:
        small.plugin = "silent"
        body = running.ask(ASK).json()
    assert body["confide"]["flags"][0]["value"] is None
    assert body["confide"]["served"] == "expert"


def test_several_choices_are_refused_when_one_should_have_been_stopped(tmp_path: Path, export: Path) -> None:
    small = WatchedServer(knows=lambda text: "abc def ghi jkl", falls=2)
    with served(tmp_path, small, export, "stop") as running:
        body = running.ask(ASK, n=2).json()
    assert body["confide"]["served"] == "abstained"
    assert "abc" not in json.dumps(body["choices"])


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"source": "stack"}, "decides on stack, not on red_flag"),
        ({"thresholds": {"*": [{"below": 0.5, "decision": "escalate"}], "easy": []}}, "has thresholds by domain"),
        ({"thresholds": {"*": []}}, "flags every answer, or none"),
        ({"identity": "red_flag=other"}, "was made for another model"),
    ],
)
def test_a_policy_that_cannot_be_watched_is_refused(
    tmp_path: Path, model: FrozenModel, big: Upstream, change: dict[str, Any], why: str
) -> None:
    entry = watch(tmp_path, "stop")
    file = Path(entry["policy"])
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(ConfideError, match=why), router(tmp_path, model=model, small={"model": "x"}, watch=[entry]):
        pass


def test_a_model_without_the_signal_is_refused(tmp_path: Path, big: Upstream) -> None:
    plain = FrozenModel(tiny_engine(), CheckpointInfo())
    with (
        pytest.raises(ConfideError, match="the signal red_flag, which the small model does not carry"),
        routed(tmp_path, plain, "stop", big),
    ):
        pass


def flag(action: str, value: float | None = 0.1) -> Flag:
    return {"signal": "red_flag", "value": value, "threshold": 0.5, "action": action}  # type: ignore[typeddict-item]


@pytest.mark.parametrize(
    ("flags", "stopped", "action"),
    [
        ([], False, None),
        ([flag("log")], False, None),
        ([flag("log", None)], False, None),
        ([flag("stop")], True, "stop"),
        ([flag("stop")], False, "refuse"),
        ([flag("stop", None)], False, "escalate"),
        ([flag("escalate"), flag("stop")], True, "stop"),
        ([flag("escalate"), flag("refuse")], True, "refuse"),
    ],
)
def test_the_strictest_action_is_taken(flags: list[Flag], stopped: bool, action: str | None) -> None:
    assert decided_by(flags, stopped=stopped) == action


@pytest.mark.parametrize("action", ["stop", "refuse"])
@pytest.mark.parametrize("plugin", ["there", "masked", "silent"])
def test_what_is_not_read_is_shown_to_nobody(tmp_path: Path, export: Path, action: str, plugin: Any) -> None:
    """A client may switch the reading off, and a server may lose it: an early stream then waits for the decision."""
    small = WatchedServer(knows=lambda text: "abcdefghi" * 20, falls=3)
    more: dict[str, Any] = {"logprobs": True, "top_logprobs": 1} if plugin == "there" else {}
    with served(tmp_path, small, export, action, stream_mode="early") as running:
        small.plugin = plugin
        response = running.ask(ASK, stream=True, max_tokens=90, **more)
    assert "abc" not in response.text
    assert "Japan, of course" in "".join(
        chunk["choices"][0]["delta"].get("content") or "" for chunk in events(response)[:-1]
    )


@pytest.mark.parametrize("stream", [False, True])
def test_tokens_of_what_was_cut_off_are_not_told(tmp_path: Path, export: Path, stream: bool) -> None:
    small = WatchedServer(knows=lambda text: "abcdefghiSECRETSECRET" * 5, falls=3)
    with served(tmp_path, small, export, "stop") as running:
        response = running.ask(ASK, stream=stream, max_tokens=90, logprobs=True)
    assert "abc" in response.text
    assert "SEC" not in response.text


def test_the_small_model_asked_again_is_no_way_out(tmp_path: Path, model: FrozenModel, big: Upstream) -> None:
    again = {"name": "again", "self": {"samples": 3}}
    with (
        pytest.raises(ValueError, match="again asks the small model again, and that answer would not be watched"),
        routed(tmp_path, model, "escalate", big, experts=[again]),
    ):
        pass


def test_a_reading_that_is_no_number_is_not_fine(tmp_path: Path, big: Upstream) -> None:
    model = flagged_model()
    whole_rule = model.signals["red_flag"]
    broken = Directions((2,), np.full_like(whole_rule.directions.weight, np.nan), whole_rule.directions.offset)
    model.signals = {"red_flag": AlongReading.of(whole_rule.rule, broken, {})}
    with routed(tmp_path, model, "refuse", big) as running:
        body = running.ask(ASK).json()
    assert body["confide"]["flags"][0]["value"] is None
    assert body["confide"]["served"] == "expert"
