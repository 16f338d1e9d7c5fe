"""The Python API tells a wrong argument in one sentence that shows it."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest

import confide
from confide import ConfideError
from confide.arguments import as_path, shown, whole_number
from confide.policies.policy import Policy
from confide.records import read_records
from confide.tasks import load_task, read_questions

HERE = Path(__file__).parent
SAVED = HERE / "methods" / "saved"
POLICY = HERE / "policies" / "saved" / "max-risk.json"
ASKED = [{"role": "user", "content": "hi"}]


@pytest.fixture(scope="module", params=["reader", "self_ref", "stated"])
def model(request):
    return confide.load(SAVED / request.param)


@pytest.mark.parametrize("value", [5, None, True, b"x", ["a"], 1.5, object()])
def test_what_is_no_path_or_name(value):
    for call in (confide.load, Policy.load, read_records, read_questions, load_task):
        with pytest.raises(ConfideError) as told:
            call(value)
        assert shown(value) in str(told.value)


@pytest.mark.parametrize("call", [confide.load, Policy.load, read_records, read_questions])
@pytest.mark.parametrize("path", [HERE, HERE / "no" / "such", "/no/such/at/all", ""])
def test_a_folder_or_nothing_where_a_file_is_wanted(call, path):
    with pytest.raises(ConfideError):
        call(path)


def test_paths_may_be_text():
    assert Policy.load(str(POLICY)).id == Policy.load(POLICY).id
    assert read_records(str(SAVED / "reader.jsonl")) == read_records(SAVED / "reader.jsonl")
    assert as_path("a/b") == Path("a/b")


@pytest.mark.parametrize(
    "options",
    [
        {"dtype": "foo"},
        {"dtype": 5},
        {"dtype": "load"},
        {"device": "foo"},
        {"device": 10**6},
        {"chat_template_kwargs": 5},
    ],
)
def test_options_of_load(options):
    with pytest.raises(ConfideError) as told:
        confide.load(SAVED / "reader", **options)
    assert repr(next(iter(options.values()))) in str(told.value)


QUESTIONS = [
    None, 5, True, b"hi", [], {}, {"role": "user", "content": "x"}, [{}], ["hi"], [[]], [None], {1}, [{"role": "user"}],
    [{"role": "user", "content": None}], [{"role": 5, "content": "x"}], (m for m in ASKED), np.array(["a"]),
    "\ud800", [{"role": "user", "content": "\udfff"}], "hi " * 9000,
]  # fmt: skip


@pytest.mark.parametrize("question", QUESTIONS, ids=lambda value: repr(value)[:20].encode("ascii", "replace").decode())
def test_what_is_no_question(model, question):
    for call in (
        lambda: model.answer(question, max_new_tokens=1),
        lambda: model.confidence(question, "x"),
        lambda: model.samples(question, 1, max_new_tokens=1),
    ):
        with pytest.raises(ConfideError):
            call()


@pytest.mark.parametrize("answer", [None, 5, b"x", [], {}, "\ud800", "x " * 9000])
def test_what_is_no_answer(model, answer):
    with pytest.raises(ConfideError):
        model.confidence("hi", answer)


@pytest.mark.parametrize("questions", ["hi", None, 5, {"a": 1}, b"x", [None], [[]]])
def test_what_is_no_list_of_questions(model, questions):
    with pytest.raises(ConfideError):
        model.answers(questions, max_new_tokens=1)
    assert model.answers([], max_new_tokens=1) == []


@pytest.mark.parametrize("value", [0, -1, "x", 1.5, True, None, 2**63, float("nan")])
def test_what_is_no_count(model, value):
    with pytest.raises(ConfideError, match="max_new_tokens"):
        model.answer("hi", max_new_tokens=value)
    with pytest.raises(ConfideError, match="count"):
        model.samples("hi", value)
    if value != 0 or value is False:
        with pytest.raises(ConfideError, match="seed"):
            model.samples("hi", 1, seed=value)
    if value is not None:
        with pytest.raises(ConfideError, match="limit"):
            load_task("arithmetic", limit=value)


def test_whole_numbers_of_numpy_are_taken(model):
    two = np.int64(2)
    assert model.samples("hi", two, max_new_tokens=two, seed=two) == model.samples("hi", 2, max_new_tokens=2, seed=2)
    assert type(whole_number("n", two)) is int


@pytest.mark.parametrize("confidence", ["high", "0.9", True, False, [0.5], 1j, {}, np.bool_(True), np.array([0.5])])
def test_what_is_no_confidence(confidence):
    policy = Policy.load(POLICY)
    for call in (policy.decide, policy.probability):
        with pytest.raises(ConfideError) as told:
            call(confidence)
        assert shown(confidence) in str(told.value)


def test_numbers_of_numpy_and_missing_confidences_are_taken():
    policy = Policy.load(POLICY)
    assert policy.decide(np.float32(0.5)) == policy.decide(0.5)
    assert policy.decide(None) == policy.decide(float("nan")) == "escalate"
    assert policy.probability(None) is None


def test_a_trained_folder_may_be_moved(tmp_path, monkeypatch):
    shutil.copytree(SAVED / "reader", tmp_path / "moved")
    here = confide.load(SAVED / "reader")
    monkeypatch.chdir(tmp_path)
    moved = confide.load("moved")
    assert moved.identity == here.identity
    assert moved.answer("Where is Lyon?", max_new_tokens=2) == here.answer("Where is Lyon?", max_new_tokens=2)
