"""Agreement: an answer never supports itself, and a judge that does not judge is found out."""

from __future__ import annotations

import re
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from confide.errors import ConfideError
from confide.methods.rlmf.intrinsic_agreement import (
    SentenceJudge,
    against,
    check_resolution,
    leave_one_out,
    pairwise,
    verdict,
)
from confide.tasks.graders import agrees as graded
from confide.tasks.questions import Question
from confide.tasks.task import Task
from scored_model import engine
from speakers import Scripted

QUESTION = Question(id="q", kind="short", question="Which city?", answer=["Lyon"])
TASK = Task("t", [QUESTION])
told = st.lists(st.sampled_from(["Lyon", "lyon.", "It is Lyon", "Paris", "Nice", "I don't know", ""]), min_size=2)


# -- by the grader ---------------------------------------------------------------------------------------


def test_leave_one_out_by_hand() -> None:
    same = np.array([[1, 1, 0.5, 0], [1, 1, 1, 0], [0.5, 1, 1, 0], [0, 0, 0, 1]])
    # (1 + ½ + 0) / 3, (1 + 1 + 0) / 3, (½ + 1 + 0) / 3, 0: the diagonal plays no part
    assert leave_one_out(same) == pytest.approx([0.5, 2 / 3, 0.5, 0])
    np.fill_diagonal(same, 0)
    assert leave_one_out(same) == pytest.approx([0.5, 2 / 3, 0.5, 0])


@given(st.integers(2, 7).flatmap(lambda k: arrays(np.float64, (k, k), elements=st.sampled_from([0, 0.5, 1]))))
def test_leave_one_out_is_that_of_plain_loops(same) -> None:
    k = len(same)
    slow = [sum(same[i][j] for j in range(k) if j != i) / (k - 1) for i in range(k)]
    assert leave_one_out(same) == pytest.approx(slow)


@pytest.mark.parametrize("same", [np.ones((2, 3)), np.ones(4), np.ones((1, 1)), np.full((2, 2), 0.7), np.zeros((0, 0))])
def test_what_is_no_agreement_is_refused(same) -> None:
    with pytest.raises(ConfideError):
        leave_one_out(same)


def test_without_the_answer_itself_g_is_unbiased() -> None:
    # Two answers, each given with p = ½: counted in, an answer adds (1 − p)/K to its own agreement.
    rng = np.random.default_rng(0)
    draws = rng.integers(0, 2, (4000, 4))
    same = (draws[:, :, None] == draws[:, None, :]).astype(float)
    fair = np.mean([leave_one_out(s) for s in same])
    assert fair == pytest.approx(0.5, abs=0.01)
    assert same.mean() - fair == pytest.approx(0.5 / 4, abs=0.01)


@given(told)
def test_pairs_agree_as_the_grader_says(answers) -> None:
    found = pairwise(TASK, QUESTION, answers)
    assert found.tolist() == [[float(a == b or graded(QUESTION, a, b)) for b in answers] for a in answers]
    assert (found == found.T).all()
    assert (found.diagonal() == 1).all()
    # A greedy answer that is one of the samples agrees as often as its row says, itself left in.
    assert against(TASK, QUESTION, answers[0], answers) == pytest.approx(found[0].mean())
    assert leave_one_out(found)[0] == pytest.approx(against(TASK, QUESTION, answers[0], answers[1:]))


def test_each_pair_of_texts_is_compared_once() -> None:
    asked = []

    def agrees(question: Question, a: str, b: str) -> bool:
        asked.append({a, b})
        return {a, b} == {"Lyon", "Lugdunum"}

    task = replace(TASK, agrees=agrees)
    found = pairwise(task, QUESTION, ["Lyon", "Paris", "Lyon", "Lugdunum", "Paris"])
    assert len(asked) == 3
    assert leave_one_out(found) == pytest.approx([0.5, 0.25, 0.5, 0.5, 0.25])
    asked.clear()
    assert against(task, QUESTION, "Lyon", ["Lugdunum", "Lugdunum", "Paris", "Lyon"]) == 0.75
    assert len(asked) == 2
    with pytest.raises(ConfideError, match="none"):
        against(task, QUESTION, "Lyon", [])


@pytest.mark.parametrize(("k", "tolerance"), [(6, 0.1), (11, 0.05), (2, 0.5), (2, 1.0), (51, 0.01)])
def test_as_many_answers_as_the_tolerance_needs(k: int, tolerance: float) -> None:
    check_resolution(k, tolerance)
    steps = np.arange(k) / (k - 1)
    stated = np.linspace(0, 1, 401)
    assert (np.abs(stated[:, None] - steps).min(axis=1) <= tolerance + 1e-9).all()
    if k > 2:
        with pytest.raises(ConfideError, match=f"{k - 1} answers .* at least {k}"):
            check_resolution(k - 1, tolerance)
        steps = np.arange(k - 1) / (k - 2)
        assert (np.abs(stated[:, None] - steps).min(axis=1) > tolerance + 1e-9).any()


def test_too_few_answers_and_no_tolerance_are_refused() -> None:
    for k in (0, 1):
        with pytest.raises(ConfideError, match="nothing to agree with"):
            check_resolution(k, 1.0)
    for tolerance in (0.0, -1.0, 1.5, float("nan")):
        with pytest.raises(ConfideError, match="tolerance"):
            check_resolution(10, tolerance)


# -- by a judge ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("reply", "value"),
    [
        ("Yes", 1), (" yes.", 1), ("**No**", 0), ("NO, it", 0), ("Neither", 0.5), ("n/a", 0.5), ("NA", 0.5),
        ("Not applicable", 0.5), ("(Yes)", 1), ("Nobody", None), ("Not consistent", None), ("Nation", None),
        ("yesterday", None), ("The answer is yes", None), ("", None), ("0", None),
    ],
)  # fmt: skip
def test_the_first_word_is_the_verdict(reply: str, value: float | None) -> None:
    assert verdict(reply) == value


@given(st.text(max_size=20))
def test_any_reply_has_a_verdict_or_none(reply: str) -> None:
    assert verdict(reply) in (0, 0.5, 1, None)


def by_first_word(text: str) -> str:
    """Whether answer and claim start with the same word; not to say where one is empty."""
    match = re.search(r"Answer: (.*)\nClaim: (.*)\n", text)
    assert match
    words = [part.split()[0] if part.split() else None for part in match.groups()]
    return "Neither" if None in words else "Yes." if words[0] == words[1] else "No."


def test_claims_are_judged_against_the_other_answers() -> None:
    speaker = Scripted(by_first_word)
    judge = SentenceJudge(speaker)
    answers = ["Lyon it is. Large.", "Lyon I think", "Paris", ""]
    claims = [["Lyon it is.", "Large."], ["Lyon I think"], ["Paris"], []]
    # Of the other three: "Lyon" yes, no, neither; "Large" no, no, neither; "Lyon" yes, no, neither; no, no, neither.
    found = judge.left_out(answers, claims)
    assert found == [pytest.approx([0.5, 1 / 6]), pytest.approx([0.5]), pytest.approx([1 / 6]), []]
    assert (judge.asked, judge.unclear) == (12, 0)
    assert max(speaker.batches_run) == speaker.batch_size
    assert judge.left_out(["a", "b"], [[], []]) == [[], []]


def test_equal_pairs_are_asked_once() -> None:
    speaker = Scripted(by_first_word)
    found = SentenceJudge(speaker).left_out(["Lyon", "Lyon", "Lyon"], [["Lyon"], ["Lyon"], ["Lyon"]])
    assert found == [[1.0], [1.0], [1.0]]
    assert len(speaker.prompts) == 1


def test_a_judge_that_does_not_judge_is_counted_and_then_refused() -> None:
    judge = SentenceJudge(Scripted(lambda text: "Well, perhaps" if "odd" in text else "No"))
    assert judge([("odd", "a"), ("even", "a")]).tolist() == [0.5, 0]
    assert (judge.asked, judge.unclear) == (2, 1)
    judge([("even", str(i)) for i in range(18)])  # 1 of 20
    judge([("odd", str(i)) for i in range(4)] + [("even", "b")])  # 5 of 25: as many as may be
    with pytest.raises(ConfideError, match=r"neither yes nor no to 6 of 26 pairs \(23%.*'Well, perhaps'"):
        judge([("odd", "c")])


def test_claims_and_answers_have_to_match() -> None:
    judge = SentenceJudge(Scripted(by_first_word))
    with pytest.raises(ConfideError, match="2 answers, but the claims of 1"):
        judge.left_out(["a", "b"], [["a"]])
    with pytest.raises(ConfideError, match="there is 1"):
        judge.left_out(["a"], [["a"]])


def test_a_model_judges() -> None:
    judge = SentenceJudge(engine(), most_unclear=1.0)
    found = judge([("It is red.", "It is red."), ("It is red.", "It is blue.")])
    assert found.shape == (2,)
    assert judge.unclear == 2  # a random model says nothing that can be read
    assert judge.seconds > 0


def test_pairs_that_do_not_fit_the_context_are_named() -> None:
    with pytest.raises(ConfideError, match=r"1 rows do not fit .* number 3"):
        SentenceJudge(engine())([("a", "b"), ("a", "b"), ("red " * 300, "b")])
