"""The router tells the fields of an answer, and escalates where one is not sure enough."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from confide.errors import ConfideError
from confide.parts.answer_part import AnswerPart
from confide.policies.policy import Policy
from confide.serving.config import ServeConfig
from confide.serving.routing.field_rules import FieldRules
from upstreams import FakeAnswer, FakeModel, Upstream, expert_server, policy_file, router, small_server

ANSWER = '{"name": "Ann Lee", "year": 1984, "tags": ["x"]}'
CALL = '<tool_call>{"name": "look", "arguments": {"x": 1}}</tool_call>'


@dataclass
class Doubtful(Upstream):
    """A server that is sure of every token but of those with a digit."""

    answer: str = ANSWER
    doubt: float = 0.2

    def tokens(self, text: str) -> list[dict[str, Any]]:
        told = [{"token": p, "bytes": list(p.encode()), "top_logprobs": []} for p in text]
        return [{**t, "logprob": math.log(self.doubt) if str(t["token"]).isdigit() else -0.001} for t in told]


def field_policy(folder: Path, **more: Any) -> str:
    """A policy of fields that wants a probability of 0.5."""
    (folder / "fields").mkdir(exist_ok=True)
    return str(policy_file(folder / "fields", **more))


@pytest.mark.parametrize("stream", [False, True])
def test_a_field_below_its_threshold_sends_the_request_to_an_expert(tmp_path: Path, stream: bool) -> None:
    with Doubtful(doubt=0.2).running() as small, Upstream(answer="{}").running() as big:
        more = {"policy": str(policy_file(tmp_path, abstain=0)), "store_text": True}
        rules = {"policy": field_policy(tmp_path), "required": ["/year"]}
        where = {"small": small_server(small), "experts": [expert_server(big)]}
        kept = json.loads((tmp_path / "policy.json").read_text())
        kept["thresholds"] = {"*": []}  # the answer as a whole is always kept
        (tmp_path / "policy.json").write_text(json.dumps(kept))
        with router(tmp_path, **more, **where, fields=rules) as running:
            response = running.ask("Who?", stream=stream)
            (row,) = running.rows()
        told = json.loads(row["parts"])
        assert [one["pointer"] for one in told] == ["/name", "/year", "/tags/0"]
        assert [one["value"] for one in told] == ["Ann Lee", 1984, "x"]
        assert told[1]["confidence"] == pytest.approx(0.2**4, rel=1e-2)
        assert [one["kept"] for one in told] == [True, False, True]
        assert (row["decision"], row["served"]) == ("escalate", "expert")
        if not stream:
            assert response.json()["confide"]["fields"] == told
        with router(tmp_path, **more, **where, fields={**rules, "required": ["/name", "/tags/0"]}) as running:
            assert running.ask("Who?").json()["confide"]["served"] == "small"
        with router(tmp_path, **more, **where, fields={"policy": rules["policy"]}) as running:
            assert running.ask("Who?").json()["confide"]["served"] == "expert"  # every field counts
        with router(tmp_path, **more, **where) as running:
            assert "fields" not in running.ask("Who?").json()["confide"]


def test_a_missing_field_escalates_where_json_is_wanted(tmp_path: Path) -> None:
    with Doubtful(answer='{"name": "Ann"}').running() as small, Upstream(answer="{}").running() as big:
        rules = {"policy": field_policy(tmp_path), "required": ["/year"]}
        with router(
            tmp_path, small=small_server(small), experts=[expert_server(big)], fields=rules, audit_share=0
        ) as running:
            body = running.ask("Who?", response_format={"type": "json_object"}).json()
            assert (body["confide"]["decision"], body["confide"]["answered_by"]) == ("escalate", "big")
        small.answer = "I do not know."
        with router(tmp_path, small=small_server(small), experts=[expert_server(big)], fields=rules) as running:
            assert running.ask("Who?").json()["confide"]["fields"] == []
            assert running.ask("Who?").json()["confide"]["decision"] == "answer"
            assert running.ask("Who?", response_format={"type": "json_object"}).json()["confide"]["served"] == "expert"


def test_arguments_of_a_tool_call_are_told(tmp_path: Path) -> None:
    with Doubtful(answer=CALL, behaviour=["tools"]).running() as small:
        rules = {"policy": field_policy(tmp_path)}
        with router(tmp_path, small=small_server(small), fields=rules, mode="observe") as running:
            (told,) = running.ask("Who?").json()["confide"]["fields"]
            (row,) = running.rows()
    assert (told["pointer"], told["value"], told["kept"]) == ("look/x", 1, False)
    assert told["confidence"] == pytest.approx(0.2, rel=1e-6)
    assert json.loads(row["parts"])[0]["value"] is None  # texts are not stored


@dataclass
class WithFields(FakeAnswer):
    fields: Sequence[AnswerPart] = field(default_factory=list)


class Filling(FakeModel):
    """Answers with one field, as sure as the answer."""

    def answers(self, questions: Sequence[Any], *, fields: bool = False, **more: Any) -> list[FakeAnswer]:
        found = super().answers(questions, **more)
        part = AnswerPart("/year", "1984", 1984, 0.3, "field", 0, 4)
        return [WithFields(**{**vars(one), "fields": [part] if fields else []}) for one in found]


def test_a_model_in_this_process_brings_its_own(tmp_path: Path) -> None:
    rules = {"policy": field_policy(tmp_path, source="field")}
    with (
        Upstream(answer="{}").running() as big,
        router(tmp_path, model=Filling(), small={"model": "x"}, experts=[expert_server(big)], fields=rules) as running,
    ):
        told = running.ask("Who?").json()["confide"]
    assert told["answered_by"] == "big"
    (word,) = told["fields"]
    assert (word["confidence"], word["kept"], word["source"]) == (0.3, False, "field")
    assert word["calibrated"] == pytest.approx(1 / (1 + math.exp(-0.6)))


PART = AnswerPart("/items/3/price", "9", 9, 0.6, "field", 0, 1)


def test_each_field_has_the_threshold_of_its_name(tmp_path: Path) -> None:
    path = policy_file(tmp_path, source="field")
    data = json.loads(path.read_text())
    data["thresholds"]["/items/*/price"] = [{"below": 0.7, "decision": "escalate"}]
    path.write_text(json.dumps(data))
    rules = FieldRules(Policy.load(path))
    (price, other, unknown, foreign) = rules.words(
        [PART, replace(PART, name="/name"), replace(PART, confidence=None), replace(PART, source="portable")]
    )
    assert (price["kept"], other["kept"], unknown["kept"], foreign["kept"]) == (False, True, False, False)
    assert rules.escalates([price], wanted=False)
    assert not rules.escalates([other], wanted=False)
    assert not rules.escalates([], wanted=False)
    assert FieldRules(None).words([PART])[0]["kept"] is None
    assert not FieldRules(None).escalates([price], wanted=True)


def test_a_policy_of_another_model_is_refused(tmp_path: Path) -> None:
    policy = Policy.load(policy_file(tmp_path, source="field", identity="weights=aaaa, field=bbbb"))
    FieldRules(policy, (), "weights=aaaa, field=bbbb")
    with pytest.raises(ConfideError, match="the policy of fields was made for weights=aaaa"):
        FieldRules(policy, (), "weights=cccc, field=bbbb")


@pytest.mark.parametrize(
    ("rules", "problem"),
    [
        ({"required": ["/year"]}, "give the policy of fields"),
        ({"policy": "p.json", "required": ["year"]}, "'year' is no pointer"),
        ({"portable": "p"}, "one in this process brings its own"),
        ({"pointer": "/year"}, "pointer"),
    ],
)
def test_rules_that_cannot_be_are_refused(tmp_path: Path, rules: dict[str, Any], problem: str) -> None:
    path = tmp_path / "serve.yaml"
    (tmp_path / "p.json").write_text("{}")
    (tmp_path / "p").write_text("{}")
    path.write_text(json.dumps({"mode": "observe", "small": {"model": "smollm2"}, "fields": rules}))
    with pytest.raises(ConfideError, match=problem):
        ServeConfig.load(path)
