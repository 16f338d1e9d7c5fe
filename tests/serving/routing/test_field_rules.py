"""The router tells the fields of an answer, and escalates where one is not sure enough."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

import confide
from confide.engines.engine import Completion
from confide.errors import ConfideError
from confide.methods.parts.told_parts import told_parts
from confide.methods.portable.portable_file import PortableFile
from confide.methods.portable.portable_training import train_portable
from confide.parts.answer_part import AnswerPart
from confide.policies.policy import Policy
from confide.serving.config import ServeConfig
from confide.serving.http.application import create_app
from confide.serving.routing.experts import Models
from confide.serving.routing.field_rules import FieldRules
from graded_rows import graded
from upstreams import FakeAnswer, FakeModel, Upstream, events, expert_server, policy_file, router, small_server

SAVED = Path(__file__).parents[2] / "methods" / "saved"
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
    sure = replace(PART, name="/name")
    assert rules.escalates([PART], wanted=False)
    assert not rules.escalates([sure], wanted=False)
    assert not rules.escalates([], wanted=False)
    assert rules.escalates([], wanted=True)  # JSON was asked for, and none came
    assert FieldRules(None).words([PART])[0]["kept"] is None
    assert not FieldRules(None).escalates([PART], wanted=True)
    assert rules.named == {"*", "easy", "/items/*/price"}


def test_every_choice_counts_and_the_first_is_told(tmp_path: Path) -> None:
    policy = Policy.load(policy_file(tmp_path, source="field"))
    sure, unsure = replace(PART, name="/year"), replace(PART, name="/year", confidence=0.1, choice=1)
    for rules in (FieldRules(policy), FieldRules(policy, ["/year"])):
        assert [word["confidence"] for word in rules.words([sure, unsure])] == [0.6]
        assert rules.escalates([sure, unsure], wanted=False, choices=2)
        assert not rules.escalates([sure, replace(sure, choice=1)], wanted=True, choices=2)
        assert rules.escalates([sure], wanted=True, choices=2)
    assert FieldRules(policy, ["/name"]).escalates(
        [sure, replace(sure, name="/name", choice=1)], wanted=False, choices=2
    )


def test_too_many_fields_are_not_all_known(tmp_path: Path) -> None:
    text = json.dumps({f"a{n}": n for n in range(300)})
    parts = told_parts("field", [], Completion(text, [], [], [], None, "stop"))
    assert [part.name for part in parts] == [f"/a{n}" for n in range(200)]
    rules = FieldRules(Policy.load(policy_file(tmp_path, source="field")), ["/a0"])
    sure = [replace(part, confidence=0.9, source="field") for part in parts]
    assert rules.escalates(sure, wanted=True)
    assert not rules.escalates(sure[:199], wanted=True)


@pytest.mark.parametrize("stream", [False, True])
@pytest.mark.parametrize(
    ("answer", "pointer", "value"),
    [
        (r'{"a": "\ud800"}', "/a", "\ufffd"),
        (r'{"\udc00": 1}', "/\ufffd", 1),
        ('{"a": 1e999}', "/a", "1e999"),
        ('{"a": -1e999}', "/a", "-1e999"),
    ],
)
def test_values_that_no_json_holds_are_told(
    tmp_path: Path, answer: str, pointer: str, value: Any, stream: bool
) -> None:
    with Doubtful(answer=answer).running() as small:
        more = {"mode": "observe", "store_text": True, "fields": {"policy": field_policy(tmp_path)}}
        with router(tmp_path, small=small_server(small), **more) as running:
            response = running.ask("Who?", stream=stream)
            (row,) = running.rows()
    assert response.status_code == 200
    bodies = [one for one in events(response) if one != "[DONE]"] if stream else [response.json()]
    assert "Infinity" not in response.text
    (word,) = next(one["confide"]["fields"] for one in bodies if "fields" in (one.get("confide") or {}))
    assert (word["pointer"], word["value"]) == (pointer, value)
    assert json.loads(row["parts"]) == [word]


def rows_of(tmp_path: Path, **rules: Any) -> list[str]:
    tmp_path.mkdir()
    with (
        Doubtful().running() as small,
        router(tmp_path, small=small_server(small), fields=rules, mode="observe") as running,
    ):
        told = running.ask("Who?").json()["confide"]["fields"]
        (row,) = running.rows()
    assert [one["pointer"] for one in told] == ["/name", "/year", "/tags/0"]
    assert all(one["value"] is None for one in json.loads(row["parts"]))
    return [one["pointer"] for one in json.loads(row["parts"])]


def test_names_that_a_model_gave_are_text_too(tmp_path: Path) -> None:
    assert rows_of(tmp_path / "none") == ["*", "*", "*"]
    path = Path(field_policy(tmp_path))
    assert rows_of(tmp_path / "some", policy=str(path), required=["/year"]) == ["*", "/year", "*"]
    data = json.loads(path.read_text())
    data["thresholds"]["/tags/*"] = []
    path.write_text(json.dumps(data))
    assert rows_of(tmp_path / "kinds", policy=str(path)) == ["*", "*", "/tags/0"]


def test_a_model_that_tells_no_fields_is_refused_at_the_start(tmp_path: Path) -> None:
    model = confide.load(SAVED / "self_ref", dtype="float32")
    store = f"sqlite:///{tmp_path}/confide.db"
    config = ServeConfig.model_validate({"mode": "observe", "small": {"model": "x"}, "store": store, "fields": {}})
    with pytest.raises(ConfideError, match=r"\(self_ref\) says nothing of the parts of an answer"):
        create_app(config, model=model)


def started(folder: Path, identity: str, source: str = "logprob_sum", root: str = "/models/one", **more: Any) -> Models:
    """What starts on a server that says which model it is, with a policy of fields for ``identity``."""
    policy = field_policy(folder, source=source, identity=identity)
    with Upstream(card={"root": root}).running() as small:
        data = {"mode": "observe", "small": small_server(small), **more}
        fields = {"policy": policy, **more.get("fields", {})}
        config = ServeConfig.model_validate({**data, "fields": fields})
        models = Models(config)
        FieldRules.load(config, models.fields_by, models.field_source)
    return models


def test_a_policy_of_fields_of_another_model_is_refused(tmp_path: Path) -> None:
    assert started(tmp_path, "root=/models/one").field_source == "logprob_sum"
    with pytest.raises(
        ConfideError, match=r"^fields: the policy on \S+ was made for another model \(root=/models/two\)"
    ):
        started(tmp_path, "root=/models/two")
    started(tmp_path, "root=/models/two", accept_model="root=/models/one")


def test_a_policy_on_what_is_never_told_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfideError, match=r"the policy decides on field, and the fields .* come with logprob_sum"):
        started(tmp_path, "", source="field")


def test_a_portable_confidence_of_fields_is_of_the_servers_model(tmp_path: Path) -> None:
    learned = [row.model_copy(update={"identity": "root=/models/one"}) for row in graded(200)]
    train_portable(learned, tmp_path / "portable")
    file = PortableFile.load(tmp_path / "portable")
    more: Any = {"fields": {"portable": str(tmp_path / "portable")}}
    own = f"root=/models/one, portable={file.scored_by}"
    assert started(tmp_path, own, source="portable", **more).fields_by == own
    with pytest.raises(ConfideError, match=r"this one learned from .* and the server has another model"):
        started(tmp_path, "", source="portable", root="/models/two", **more)
    with pytest.raises(ConfideError, match="made for another model"):
        started(tmp_path, "root=/models/one, portable=0123", source="portable", **more)
    with pytest.raises(ConfideError, match=r"the policy decides on field, and the fields .* come with portable"):
        started(tmp_path, "", source="field", **more)


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
