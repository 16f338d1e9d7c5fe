from __future__ import annotations

import numpy as np
import pytest

from confide.engines.engine import Completion
from confide.errors import ConfideError
from confide.hedging.statements import Statement, write_tagged
from confide.methods.rlmf.rollouts import Environment, PolicyEvaluation, QuestionPrompt
from confide.methods.rlmf.stating import Graded, Tagged, tagged_task, untagged
from confide.tasks.questions import question_of
from stating_model import graded_engine, question, toy_records, toy_task


@pytest.fixture(scope="module")
def stating():
    return Graded(graded_engine())


def said(stating, text, grade):
    return Completion(text, [5], [], [], None, "stop" if grade is not None else "length",
                      None if grade is None else stating.ids[grade])  # fmt: skip


def test_g_leaves_the_completion_itself_out(stating):
    one = QuestionPrompt(question(2), [1])
    completions = [said(stating, *pair) for pair in (("Japan", 10), ("Japan", 2), ("japan", None), ("Chile", 0))]
    found = Environment(stating, toy_task()).grade([one], completions)
    assert found.intrinsic == [[2 / 3], [2 / 3], [2 / 3], [0.0]]
    assert found.stated == [[1.0], [0.2], [None], [0.0]]
    assert found.correct.tolist() == [1, 1, 1, 0]
    assert found.parsed.tolist() == [True, True, False, True]
    assert found.f_gold(0.1).tolist() == [0, 0, 0, 1]
    assert found.unanimous.tolist() == [False]


def test_a_frozen_g_is_agreement_with_answers_sampled_before(stating):
    one = QuestionPrompt(question(2), [1], ("Japan", "Chile", "Chile", "Peru"))
    found = Environment(stating, toy_task()).grade(
        [one], [said(stating, "Japan", 3), said(stating, "Chile", 5)], frozen=True
    )
    assert found.intrinsic == [[0.25], [0.5]]
    with pytest.raises(ConfideError, match="q2: a frozen g needs samples"):
        Environment(stating, toy_task()).grade(
            [QuestionPrompt(question(2), [1])], [said(stating, "Japan", 3)] * 2, frozen=True
        )


def test_a_judge_compares_sentences_in_the_graders_place(stating):
    class Judge:
        def left_out(self, answers, claims):
            assert answers == ["Japan", "Chile"]
            return [[0.5] for _ in claims]

    completions = [said(stating, "Japan", 3), said(stating, "Chile", 5)]
    found = Environment(stating, toy_task(), Judge()).grade([QuestionPrompt(question(2), [1])], completions)
    assert found.intrinsic == [[0.5], [0.5]]


def test_completions_that_do_not_share_out_are_refused(stating):
    with pytest.raises(ConfideError, match="3 completions do not share out to 2 questions"):
        Environment(stating, toy_task()).grade(
            [QuestionPrompt(question(i), [1]) for i in range(2)], [said(stating, "Japan", 1)] * 3
        )


def test_a_question_is_the_tasks_own_or_made_from_its_record():
    record = toy_records(4)[1]
    assert question_of(record).answer == ["Germany"]
    asked = Environment(Graded(graded_engine()), toy_task(1)).question_prompts(toy_records(2))
    assert [one.question.id for one in asked] == ["q0", "q1"]
    assert len(asked[0].reference) == 6


def test_samples_are_repeatable_and_grouped(stating):
    environment = Environment(stating, toy_task())
    asked = environment.question_prompts(toy_records(3))
    one, other, third = (environment.sample(asked, 4, temperature=1.0, seed=seed) for seed in (1, 1, 2))
    assert len(one) == 12
    assert [c.ids for c in one] == [c.ids for c in other]
    assert [c.ids for c in one] != [c.ids for c in third]


def test_what_cannot_be_read_counts_as_far_off_as_can_be():
    g = np.array([0.2, 0.9])
    empty = np.zeros(2)
    numbers = PolicyEvaluation(np.array([np.nan, np.nan]), g, np.array([1.0, 0.0]), empty, empty).numbers()
    assert numbers["parsed"] == 0
    assert numbers["distinct"] == 0
    # |1 − 0.2| and |0 − 0.9|
    assert numbers["cmfg_star"] < 0.2
    assert PolicyEvaluation(g, g, np.array([1.0, 0.0]), empty, empty).numbers()["cmfg_star"] == pytest.approx(1)


def test_evaluating_a_policy_answers_samples_and_judges(stating):
    environment = Environment(stating, toy_task(5))
    questions = environment.question_prompts(toy_records(5))
    found = environment.evaluate(questions, samples=4, judged=2, batch_size=2)
    assert found.consistency.shape == (5,)
    assert found.f_pred.shape == found.f_gold.shape == (10,)
    assert {"accuracy", "parsed", "cmfg_star", "spearman", "f_spearman"} <= set(found.numbers())


def test_tagged_statements_are_read_sentence_by_sentence():
    tagged = Tagged(graded_engine())
    text = write_tagged([Statement("It is Japan.", 0.8), Statement("Near Chile.", 0.4)])
    completion = Completion(text, [1, 2], [], [], None, "stop", tagged.engine.turn_end)
    assert tagged.answer(completion) == "It is Japan. Near Chile."
    assert tagged.state([[1]], [completion]) == pytest.approx([0.6])
    other = Completion("Japan", [1], [], [], None, "stop", tagged.engine.turn_end)
    found = Environment(tagged, toy_task()).grade([QuestionPrompt(question(2), [1])], [completion, other])
    assert found.stated == [[0.8, 0.4], []]
    assert found.intrinsic == [[1.0, 0.0], []]
    assert np.isnan(tagged.state([[1]], [other]))[0]
    scores = tagged.judge([[1, 2]], [completion])
    assert scores.shape == (1,)


def test_a_tagged_task_asks_for_tags_and_grades_without_them():
    task = tagged_task(toy_task())
    assert "<sentence>" in task.prompt(question(2))[0]["content"]
    assert task.grade(question(2), "<sentence>Japan</sentence><confidence>0.1</confidence>").correct
    assert task.agrees(question(2), "<sentence>Japan</sentence><confidence>0.1</confidence>", "Japan")
    assert task.max_new_tokens > toy_task().max_new_tokens
    assert untagged("plain") == "plain"


def test_failures_of_the_format_are_failures(monkeypatch):
    nothing = np.full(4, np.nan)
    numbers = PolicyEvaluation(nothing, np.array([0.1, 0.9, 0.5, 1.0]), np.ones(4), nothing, np.zeros(4)).numbers()
    assert numbers["parsed"] == 0
    assert numbers["cmfg_star"] < 0.5
