"""Prompts of choices, and rejection: the right option goes from a seeded share, and nothing else changes."""

from __future__ import annotations

import pytest

from confide.errors import ConfideError
from confide.tasks.questions import Question
from confide.tasks.task import CLOZE_EXAMPLES, Task, cloze_prompt, without_right_options


def task(count: int = 10, choices: int = 4) -> Task:
    texts = [f"option {i}" for i in range(choices)]
    return Task(
        "t",
        [Question(id=f"q{i}", kind="choice", question="?", choices=texts, answer=i % choices) for i in range(count)],
    )


def test_half_of_the_questions_lose_their_right_option() -> None:
    before = task()
    after = without_right_options(before, 0.5, seed=1)
    assert after.name == "t-reject"
    lost = [q for q in after.questions if not (q.model_extra or {})["has_answer"]]
    assert len(lost) == 5
    for old, new in zip(before.questions, after.questions, strict=True):
        assert old.id == new.id
        if new in lost:
            assert new.answer is None
            assert sorted([*(new.choices or []), (new.model_extra or {})["removed"]]) == sorted(old.choices or [])
            assert all(after.grade(new, letter).correct is False for letter in ("A", "B", "C", "None of these"))
            assert after.grade(new, "B").answered == "B"
        else:
            assert new.choices == old.choices
            assert isinstance(new.answer, int)
            assert after.grade(new, "ABCD"[new.answer]).correct is True


def test_the_draw_is_seeded_and_does_not_depend_on_order() -> None:
    def lost(t: Task, seed: int) -> set[str]:
        return {q.id for q in without_right_options(t, 0.5, seed).questions if not (q.model_extra or {})["has_answer"]}

    whole = task()
    turned = Task("t", whole.questions[::-1])
    assert lost(whole, 1) == lost(turned, 1)
    assert lost(whole, 1) != lost(whole, 2)


def test_what_has_no_third_option_or_is_no_share_is_refused() -> None:
    with pytest.raises(ConfideError, match="none to reject"):
        without_right_options(task(choices=2), 0.5)
    for share in (0, -1, 1.5):
        with pytest.raises(ConfideError, match="between 0 and 1"):
            without_right_options(task(), share)


def test_in_a_cloze_prompt_the_question_comes_last_and_its_options_are_not_shown() -> None:
    question = Question(id="q", kind="choice", question="What is wet?", choices=["the sea", "a desert"], answer=0)
    messages = cloze_prompt(question)
    assert [m["role"] for m in messages] == ["system", *["user", "assistant"] * len(CLOZE_EXAMPLES), "user"]
    assert messages[-1]["content"] == "Question: What is wet?\nAnswer:"
    assert not any("sea" in m["content"] for m in messages)
