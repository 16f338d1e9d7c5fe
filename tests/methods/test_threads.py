"""Threads that share a model take turns: every answer is the one that is given to a thread alone."""

from __future__ import annotations

import copy
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import torch

import confide
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.turns import lock_of
from confide.methods.checkpoint import CheckpointInfo
from confide.methods.confidence_model import Answer, ConfidenceModel
from confide.methods.frozen.frozen_model import FrozenModel
from confide.methods.scoring import score
from confide.records import read_records

pytestmark = pytest.mark.usefixtures("one_thread")

SAVED = Path(__file__).parent / "saved"
QUESTIONS = [f"Which country is city {'x' * (i % 5)}{i} in?" for i in range(12)]


@pytest.fixture(autouse=True)
def _impatient() -> Iterator[None]:
    """Threads that change as often as they can."""
    before = sys.getswitchinterval()
    sys.setswitchinterval(1e-5)
    yield
    sys.setswitchinterval(before)


@pytest.fixture(scope="module", params=["reader", "self_ref", "stated"])
def model(request: Any) -> ConfidenceModel:
    return confide.load(SAVED / request.param)


def in_threads(call: Callable[[Any], Any], given: list[Any]) -> list[Any]:
    with ThreadPoolExecutor(6) as pool:
        return list(pool.map(call, given))


def told(answers: list[Answer]) -> list[Any]:
    return [[a.text, a.ids, a.confidence, a.familiarity, *a.sources.values()] for a in answers]


def alike(found: Any, expected: Any) -> bool:
    """Equal but for the last digits of numbers: what ran before decides which start of a prompt is kept."""
    if isinstance(expected, list | tuple):
        return len(found) == len(expected) and all(map(alike, found, expected))
    return found == (pytest.approx(expected, abs=2e-3) if isinstance(expected, float) else expected)


def test_answers_from_threads_are_those_of_one(model: ConfidenceModel) -> None:
    def ask(question: str) -> Answer:
        return model.answer(question, max_new_tokens=6)

    assert told(in_threads(ask, QUESTIONS * 3)) == told([ask(q) for q in QUESTIONS] * 3)


def test_answers_samples_and_confidences_do_not_meet(model: ConfidenceModel) -> None:
    calls: list[Callable[[str], Any]] = [
        lambda q: told([model.answer(q, max_new_tokens=6)]),
        lambda q: told([model.confidence(q, "France")]),
        lambda q: model.samples(q, 3, max_new_tokens=5, seed=1),
        lambda q: told(model.answers([q, q + "?"], max_new_tokens=4)),
        lambda q: (model.identity, model.engine.encode_answer(q)),
    ]
    given = [(calls[i % len(calls)], q) for i, q in enumerate(QUESTIONS * 2)]
    assert alike(in_threads(lambda pair: pair[0](pair[1]), given), [call(q) for call, q in given])


def test_models_that_share_an_engine_or_its_weights_take_turns(model: ConfidenceModel) -> None:
    twin = copy.copy(model)
    engine = model.engine
    third = FrozenModel(TransformersEngine(engine.model, engine.tokenizer, engine.name), CheckpointInfo())
    assert third.lock is twin.lock is model.lock is lock_of(engine.model)
    models = [model, twin, third]
    given = [(models[i % 3], q) for i, q in enumerate(QUESTIONS * 2)]

    def ask(pair: tuple[ConfidenceModel, str]) -> list[Any]:
        return told([pair[0].answer(pair[1], max_new_tokens=6)])

    assert alike(in_threads(ask, given), [ask(pair) for pair in given])


def test_scoring_and_asking_at_once(model: ConfidenceModel) -> None:
    source = {"reader": "stack", "self_ref": "self_ref", "stated": "graded"}[model.info.confidence.method]
    rows = read_records(SAVED / f"{model.info.confidence.method}.jsonl")
    rows = [row.model_copy(update={"split": "test", "model": "", "identity": ""}) for row in rows]

    def scored(_: Any) -> Any:
        return [row.confidence[source] for row in score(rows, [source], model=model)]

    def asked(question: str) -> Any:
        return told([model.answer(question, max_new_tokens=6)])

    calls = [(scored, None) if i % 3 == 0 else (asked, q) for i, q in enumerate(QUESTIONS)]
    assert alike(in_threads(lambda pair: pair[0](pair[1]), calls), [call(given) for call, given in calls])


def test_an_error_leaves_the_model_free_and_as_it_was(model: ConfidenceModel, monkeypatch: Any) -> None:
    before = told([model.answer(QUESTIONS[0], max_new_tokens=6)])
    run = model.engine.forward.run

    def broken(**_: Any) -> Any:
        raise RuntimeError("out of memory")

    monkeypatch.setattr(model.engine.forward, "run", broken)
    for call in (lambda: model.answer(QUESTIONS[0]), lambda: model.confidence(QUESTIONS[0], "France")):
        with pytest.raises(RuntimeError):
            call()
    monkeypatch.setattr(model.engine.forward, "run", run)
    with pytest.raises(IndexError), model.engine.forward.capture([1, 99]):
        pass
    hooks = [hook for module in model.engine.model.modules() for hook in module._forward_hooks]
    assert not hooks
    assert alike(in_threads(lambda q: told([model.answer(q, max_new_tokens=6)]), [QUESTIONS[0]]), [before])


def test_models_are_loaded_one_after_another() -> None:
    def load(name: str) -> Any:
        loaded = confide.load(SAVED / name)
        return loaded.identity, loaded.engine.model.dtype

    names = ["reader", "self_ref", "stated", "reader"]
    assert in_threads(load, names) == [load(name) for name in names]
    assert torch.get_default_dtype() is torch.float32
