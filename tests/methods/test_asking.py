"""What a model is shown of a question when it is asked about an answer: the earlier turns and passages too."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.asking import question_about, question_shown
from confide.methods.checkpoint import leading_messages
from confide.methods.exchanged_answers import swapped
from confide.methods.p_true import PROMPTS, yes_shares
from confide.methods.rlmf.selection import rate
from confide.methods.rlmf.stating import Tagged, tagged_task
from confide.methods.verbalized import ask_confidence
from confide.records import Message, Record
from confide.tasks import Question, Task
from question_turns import CONVERSATIONS, FIVE, LONG, TOOL
from tiny_model import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def record(turns: list[dict[str, Any]], **more: Any) -> Record:
    data = {"id": "r", "task": "t", "messages": turns, "answer": "France", "own_turns": len(turns)}
    return Record.model_validate(data | more)


def test_a_bare_question_is_shown_as_before() -> None:
    (turn,) = question_about(record([{"role": "user", "content": "Where is Lyon?"}]), "Is it right?")
    assert (turn.role, turn.content) == ("user", "Question: Where is Lyon?\nProposed answer: France\nIs it right?")
    examples = [{"role": "system", "content": "Name it."}, *FIVE[1:]]
    (turn,) = question_about(record(examples, own_turns=None), "Is it right?")
    assert turn.content == "Question: Where is it?\nProposed answer: France\nIs it right?"


def test_earlier_turns_and_passages_are_shown_in_front() -> None:
    assert question_shown(record(FIVE)) == (
        "What was said before the question:\n\n"
        "System: Passage: Lyon lies where two rivers meet.\n\nUser: Do you know Lyon?\n\nAssistant: I do.\n\n"
        "User: And its rivers?\n\nAssistant: Two of them.\n\nQuestion: Where is it?"
    )
    shown = question_shown(record(TOOL))
    assert '"name": "look_up"' in shown
    assert "Tool: France" in shown
    assert shown.endswith("\n\nQuestion: In one word?")
    assert len(question_shown(record(LONG))) > 50_000
    # The system line of the task is none of the question's.
    with_line = [{"role": "system", "content": "Name it."}, *FIVE[1:]]
    assert "Name it." not in question_shown(record(with_line, own_turns=5))


@pytest.mark.parametrize("name", CONVERSATIONS)
def test_p_true_verbalized_and_ratings_read_what_is_shown(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    model, tokenizer = tiny_model(context=1024)
    engine = TransformersEngine(model.float(), tokenizer, "tiny")
    read: list[str] = []
    encode = engine.encode

    def noted(messages: Any, given: Any = None) -> list[int]:
        read.extend(message.content for message in messages)
        return encode(messages, given)

    monkeypatch.setattr(engine, "encode", noted)
    asked = record(CONVERSATIONS[name])
    shares, _ = yes_shares(engine, [asked], range(len(PROMPTS)))
    assert np.isfinite(shares).all()
    ask_confidence(engine, [asked], [0])
    rate(engine, [asked])
    assert len(read) == len(PROMPTS) + 2
    assert all(question_shown(asked) in text for text in read)


def test_bare_questions_are_not_put_behind_the_turns_of_others() -> None:
    line = {"role": "system", "content": "Name it."}
    rows = [record([line, *FIVE[1:]], own_turns=5), record(LONG), record([line, *FIVE[1:]], own_turns=None)]
    leading = leading_messages(rows)
    assert leading == [[line], [line, *FIVE[1:-1]]]


def test_an_exchanged_question_brings_its_own_turns() -> None:
    rows = [
        record(FIVE, id="a", reference=["France"], domain="d"),
        record(
            [line := {"role": "system", "content": "x"}, *TOOL], id="b", reference=["Japan"], domain="d", own_turns=4
        ),
    ]
    one, other = swapped(rows)
    assert one is not None
    assert other is not None
    assert (one.question, one.own_turns, one.messages[0].content) == ("In one word?", 4, line["content"])
    assert (other.question, other.own_turns) == ("Where is it?", 6)


def test_a_model_that_writes_tagged_text_sees_the_conversation() -> None:
    question = Question.model_validate({"id": "q", "kind": "short", "messages": FIVE, "answer": ["France"]})
    format_line, *turns = tagged_task(Task("t", [question])).prompt(question)
    assert (format_line["role"], turns) == ("system", FIVE)
    messages = [Message.model_validate(turn) for turn in FIVE]
    assert [m.content for m in Tagged.messages(object.__new__(Tagged), messages, 6)[1:]] == [t["content"] for t in FIVE]
    assert len(Tagged.messages(object.__new__(Tagged), messages)) == 2
