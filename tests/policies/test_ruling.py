from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from confide.cli import ask as ask_module
from confide.policies import Policy
from confide.policies.calibrators import fit_calibrator
from confide.policies.policy_part import NEVER
from confide.policies.ruling import Ruling
from policy_runs import run, write
from upstreams import FakeAnswer, FakeModel, router

STEPS = {"kind": "isotonic", "parameters": {"confidence": [0.2, 0.4, 0.8, 0.9], "probability": [0.1, 0.6, 0.6, 0.95]}}
GUARANTEE = {
    "max_risk": 0.2, "level": 0.95, "method": "by hand", "n": 100, "observed_risk": 0.1, "upper_bound": 0.19,
    "coverage": 0.5,
}  # fmt: skip


def policy(below: float, calibrator: dict[str, Any] = STEPS) -> Policy:
    data = {
        "schema": 1, "source": "stack", "calibrator": calibrator, "data_sha256": "0" * 64, "guarantee": GUARANTEE,
        "thresholds": {"*": [{"below": below, "decision": "escalate"}]},
    }  # fmt: skip
    return Policy.model_validate(data)


def ruled(policy: Policy, raw: float | None) -> Ruling:
    return Ruling.of(policy, {"stack": raw})


def test_on_a_plateau_what_is_kept_never_looks_below_the_threshold() -> None:
    rule = policy(0.573)
    kept, lower = ruled(rule, 0.573), ruled(rule, 0.5)
    assert (kept.decision, kept.confidence, kept.threshold) == ("answer", 0.6, 0.6)
    assert (lower.decision, lower.confidence, lower.threshold) == ("escalate", 0.6, 0.6)
    assert kept.explain() == "confidence 0.600000, kept from 0.600000 up"
    assert lower.explain() == "confidence 0.60, as at the threshold, but stack itself says less"
    assert ruled(rule, 0.3).explain() == "confidence 0.35, kept from 0.60 up"


def test_a_confidence_that_was_taken_for_another_unit() -> None:
    """0.594 raw would look above a threshold of 0.573: both are told as probabilities."""
    wide = {"kind": "platt", "parameters": {"transform": "logit", "slope": 2.0, "intercept": -1.0}}
    told = ruled(policy(0.7, wide), 0.69)
    assert (told.decision, told.confidence < told.threshold) == ("escalate", True)
    assert "0.646, kept from 0.667" in told.explain() or "0.65, kept from 0.67" in told.explain()


@pytest.mark.parametrize("kind", ["platt", "temperature", "beta", "isotonic"])
def test_confidence_and_threshold_are_in_order_for_every_calibrator(kind: str) -> None:
    rng = np.random.default_rng(3)
    raw = rng.uniform(0.01, 0.99, 300)
    fitted = fit_calibrator(raw, rng.random(300) < raw, kind)  # type: ignore[arg-type]
    for below in rng.choice(raw, 20):
        rule = policy(float(np.nextafter(below, 1)), fitted.model_dump())
        for one in map(float, raw):
            told = ruled(rule, one)
            assert told.confidence is not None
            assert told.threshold is not None
            holds = (
                told.confidence >= told.threshold if told.decision == "answer" else told.confidence <= told.threshold
            )
            assert holds


def test_what_keeps_all_or_nothing() -> None:
    assert policy(NEVER).least_probability() == 1.0
    assert ruled(policy(NEVER), 0.99).explain() == "confidence 0.95, none is kept"
    assert policy(math.nextafter(1.0, 2)).least_probability() == 0.95  # nothing reaches it, and it has a number
    everything = policy(0.5).model_copy(update={"thresholds": {"*": []}})
    assert ruled(everything, 0.1).threshold is None
    assert "any is kept" in ruled(everything, 0.1).explain()
    assert ruled(policy(0.5), None).explain() == "no confidence"


class Stacked(FakeAnswer):
    """An answer with a stack confidence and what `confide ask` reads."""

    finish = "stop"
    familiarity = None

    @property
    def sources(self) -> dict[str, float | None]:
        return {"stack": self.confidence}


class Model(FakeModel):
    def answers(self, questions: Any, *, max_new_tokens: int, **more: Any) -> list[FakeAnswer]:
        found = super().answers(questions, max_new_tokens=max_new_tokens, **more)
        return [Stacked(one.text, one.confidence, source="stack") for one in found]

    def answer(self, question: str, *, max_new_tokens: int) -> FakeAnswer:
        return self.answers([question], max_new_tokens=max_new_tokens)[0]


@pytest.mark.parametrize("raw", [0.3, 0.5, 0.573, 0.85])
def test_ask_decide_and_the_router_tell_the_same_numbers(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, raw: float
) -> None:
    path, wanted = tmp_path / "p.json", ("confidence", "raw", "source", "threshold", "decision")
    policy(0.573).save(path)
    model = Model(lambda question: raw)

    monkeypatch.setattr(ask_module, "load_model", lambda *args, **more: model)
    import typer

    from confide.cli.flags import command

    app = typer.Typer()
    app.command()(command(ask_module.ask))
    said = CliRunner().invoke(app, ["--model", "fake", "--policy", str(path), "--json", "Where is Kyoto?"])
    assert said.exit_code == 0, said.exception
    asked = json.loads(said.stdout)

    rows = write(tmp_path / "r.jsonl", [{"id": "a", "confidence": {"stack": raw}, "answer": "x"}])
    assert run("decide", path, rows, "--out", tmp_path / "d.jsonl").exit_code == 0
    decided = json.loads((tmp_path / "d.jsonl").read_text())

    experts = [{"name": "big", "tool": "callables:always"}]
    with router(tmp_path, policy=path, small={"model": "fake"}, model=model, experts=experts) as running:
        response = running.ask("Where is Kyoto?")
        routed = response.json()["confide"]
    assert [asked[key] for key in wanted] == [decided[key] for key in wanted] == [routed[key] for key in wanted]
    assert asked["confidence"] == policy(0.573).probability(raw)
    assert float(response.headers["x-confide-confidence"]) == pytest.approx(asked["confidence"], abs=1e-6)


def test_ask_says_whose_number_it_tells_without_a_policy(monkeypatch: pytest.MonkeyPatch) -> None:
    import typer

    from confide.cli.flags import command

    monkeypatch.setattr(ask_module, "load_model", lambda *args, **more: Model(lambda question: 0.9))
    app = typer.Typer()
    app.command()(command(ask_module.ask))
    said = CliRunner().invoke(app, ["--model", "fake", "Where is Kyoto?"])
    assert "stack 0.90" in said.stdout
    assert "not calibrated" in said.stdout
    told = json.loads(CliRunner().invoke(app, ["--model", "fake", "--json", "Where is Kyoto?"]).stdout)
    assert (told["confidence"], told["calibrated"]) == (0.9, False)
