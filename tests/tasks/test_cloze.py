"""The prompt of a choice that is decided by likelihood shows no options and ends with the question."""

from __future__ import annotations

from confide.tasks.cloze import EXAMPLES, cloze_prompt
from confide.tasks.questions import Question


def test_the_question_comes_last_and_its_options_are_not_shown() -> None:
    question = Question(id="q", kind="choice", question="What is wet?", choices=["the sea", "a desert"], answer=0)
    messages = cloze_prompt(question)
    assert [m["role"] for m in messages] == ["system", *["user", "assistant"] * len(EXAMPLES), "user"]
    assert messages[-1]["content"] == "Question: What is wet?\nAnswer:"
    assert not any("sea" in m["content"] for m in messages)
