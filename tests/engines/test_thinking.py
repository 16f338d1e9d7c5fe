"""Models that think before they answer: the answer alone is graded, measured and read, behind its reasoning."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from confide.engines.engine import Completion, prompt_and_answer
from confide.engines.transformers.encoding import encode_chat
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import Message, Record
from thinking_model import ANSWERS, QUESTIONS, TEMPLATES, THOUGHT, thinking_model
from tiny_model import tiny_tokenizer

every_style = pytest.mark.parametrize("style", list(TEMPLATES))
ROOM = 40


def engine_of(style: str) -> TransformersEngine:
    return TransformersEngine(*thinking_model(style), "thinker")


OFF = {"enable_thinking": False}


def prompts_of(engine: TransformersEngine, how: dict[str, bool] | None = None) -> list[list[int]]:
    return [engine.encode([{"role": "user", "content": question}], how) for question in QUESTIONS]


@every_style
def test_reasoning_stands_apart_from_the_answer_however_it_is_generated(style: str) -> None:
    engine = engine_of(style)
    prompts = prompts_of(engine)
    sampled = [row[0] for row in engine.sample(prompts, ROOM, 2, temperature=0.01)]
    for completions in (engine.answer(prompts, ROOM), engine.answer_and_close(prompts, ROOM).completions, sampled):
        assert [c.text for c in completions] == list(ANSWERS)
        assert [c.reasoning for c in completions] == [THOUGHT, THOUGHT]
        for prompt, c in zip(prompts, completions, strict=True):
            assert c.finish == "stop"
            assert engine.decode(c.ids) == c.text
            assert len(c.logprobs) == len(c.entropies) == len(c.ids)
            assert c.tokens == len(c.reasoning_ids) + len(c.ids) + 1
            with torch.no_grad():
                logits = engine.model(torch.tensor([prompt + c.reasoning_ids + c.ids])).logits[0]
            start = len(prompt) + len(c.reasoning_ids) - 1
            wanted = logits.log_softmax(-1)[range(start, start + len(c.ids)), c.ids]
            np.testing.assert_allclose(c.logprobs, wanted.tolist(), atol=1e-3)


@every_style
@pytest.mark.parametrize("room", [1, 3, 9])
def test_an_answer_that_is_cut_while_the_model_thinks_is_empty(style: str, room: int) -> None:
    engine = engine_of(style)
    for completion in engine.answer(prompts_of(engine), room):
        assert (completion.text, completion.ids, completion.logprobs) == ("", [], [])
        assert (completion.finish, completion.tokens) == ("length", room)


@every_style
def test_a_record_is_read_at_its_answer(style: str) -> None:
    engine = engine_of(style)
    prompts = prompts_of(engine)
    written = engine.answer_and_close(prompts, ROOM, layers=[1, 2])
    records = [
        Record(
            id=question, model="thinker", messages=[Message(role="user", content=question)],
            answer=c.text, answer_ids=c.ids, reasoning=c.reasoning, reasoning_ids=c.reasoning_ids,
        )
        for question, c in zip(QUESTIONS, written.completions, strict=True)
    ]  # fmt: skip
    spans = [prompt_and_answer(engine, Record.model_validate_json(record.line())) for record in records]
    given = engine.closed(*map(list, zip(*spans, strict=True)), layers=[1, 2], measure=True)
    for one, other in zip(written.completions, given.completions, strict=True):
        assert one.ids == other.ids
        np.testing.assert_allclose(one.logprobs, other.logprobs, atol=1e-3)
    np.testing.assert_allclose(written.states().astype(float), given.states().astype(float), atol=2e-2, rtol=1e-2)
    another = TransformersEngine(*thinking_model(style), "another")
    assert prompt_and_answer(another, records[0]) == spans[0]  # the same tokens mean the same there


@every_style
def test_thinking_can_be_switched_off(style: str) -> None:
    engine = TransformersEngine(*thinking_model(style), "thinker", {"enable_thinking": False})
    for prompts in (prompts_of(engine), prompts_of(engine_of(style), OFF)):
        for answer, completion in zip(ANSWERS, engine.answer(prompts, ROOM), strict=True):
            assert (completion.text, completion.reasoning, completion.reasoning_ids) == (answer, None, [])


def test_a_template_that_knows_no_such_switch_is_not_given_it() -> None:
    tokenizer = tiny_tokenizer()
    turns = [{"role": "user", "content": "Which?"}]
    plain = encode_chat(tokenizer, turns)
    apply = tokenizer.apply_chat_template

    def strict(messages: object, *, tokenize: bool, add_generation_prompt: bool) -> str:
        return str(apply(messages, tokenize=tokenize, add_generation_prompt=add_generation_prompt))

    tokenizer.apply_chat_template = strict
    assert encode_chat(tokenizer, turns, OFF) == plain


@every_style
def test_an_answer_without_known_reasoning_is_read_as_one_given_at_once(style: str) -> None:
    engine = engine_of(style)
    row = Record(id="a", messages=[Message(role="user", content=QUESTIONS[0])], answer="Japan")
    for record in (row, row.model_copy(update={"model": "a server"})):
        prompt, answer = prompt_and_answer(engine, record)
        assert prompt == prompts_of(engine, OFF)[0]
        (read,) = engine.closed([prompt], [answer], measure=True).completions
        assert min(read.logprobs) > -0.5


def test_a_record_says_exactly_how_it_was_asked_whatever_the_engine_was_made_with() -> None:
    thinking, at_once = engine_of("think"), TransformersEngine(*thinking_model("think"), "thinker", OFF)
    turns = [Message(role="user", content=QUESTIONS[0])]
    (written,) = thinking.answer(prompts_of(thinking)[:1], ROOM)
    record = Record(id="a", model="thinker", messages=turns, answer=written.text, answer_ids=written.ids,
                    reasoning=written.reasoning, reasoning_ids=written.reasoning_ids)  # fmt: skip
    assert prompt_and_answer(at_once, record) == prompt_and_answer(thinking, record)
    assert prompt_and_answer(thinking, record)[0] == prompts_of(thinking)[0] + written.reasoning_ids


def test_tokens_of_another_model_that_mean_something_else_are_not_read() -> None:
    engine = engine_of("think")
    cut = Record(id="a", model="another", messages=[Message(role="user", content=QUESTIONS[0])], finish="length",
                 reasoning="so", reasoning_ids=[20, 21, 22])  # fmt: skip
    assert prompt_and_answer(engine, cut)[0] == prompts_of(engine, OFF)[0]
    spaced = cut.model_copy(update={"answer": "Japan", "answer_ids": engine.encode_answer(" Japan"),
                                    "reasoning_ids": engine.encode_answer("<think>so</think>")})  # fmt: skip
    assert prompt_and_answer(engine, spaced)[0] == prompts_of(engine)[0] + spaced.reasoning_ids


def test_a_tag_that_a_model_mentions_is_no_reasoning() -> None:
    engine = engine_of("bracket")
    mentioned = [("The tag [/THINK] closes it", "stop"), ("a </think> b", "stop")]
    for text, finish in [*mentioned, *((cut, "length") for cut in ("[", "<", "a"))]:
        said = Completion(text, engine.encode_answer(text), [], [], None, finish)
        (kept,) = engine.without_reasoning(prompts_of(engine)[:1], [said])
        assert kept == replace(said, starts=kept.starts)
