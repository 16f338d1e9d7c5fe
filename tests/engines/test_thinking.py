"""Models that think before they answer: the answer alone is graded, measured and read, behind its reasoning."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from confide.engines.engine import prompt_and_answer
from confide.engines.transformers.encoding import encode_chat
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import Message, Record
from thinking_model import ANSWERS, QUESTIONS, TEMPLATES, THOUGHT, thinking_model

every_style = pytest.mark.parametrize("style", list(TEMPLATES))
ROOM = 40


def engine_of(style: str) -> TransformersEngine:
    return TransformersEngine(*thinking_model(style), "thinker")


def prompts_of(engine: TransformersEngine, **how: bool) -> list[list[int]]:
    return [engine.encode([{"role": "user", "content": question}], **how) for question in QUESTIONS]


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
    rows = torch.randn(2, 32)
    torch.testing.assert_close(written.feed(rows), given.feed(rows), atol=1e-3, rtol=1e-3)
    np.testing.assert_allclose(written.states().astype(float), given.states().astype(float), atol=2e-2, rtol=1e-2)
    another = TransformersEngine(*thinking_model(style), "another")
    assert prompt_and_answer(another, records[0]) == spans[0]  # the same tokens mean the same there


@pytest.mark.parametrize("style", ["think", "opened"])
def test_thinking_can_be_switched_off(style: str) -> None:
    engine = TransformersEngine(*thinking_model(style), "thinker", {"enable_thinking": False})
    for prompts in (prompts_of(engine), prompts_of(engine_of(style), enable_thinking=False)):
        for answer, completion in zip(ANSWERS, engine.answer(prompts, ROOM), strict=True):
            assert (completion.text, completion.reasoning, completion.reasoning_ids) == (answer, None, [])


def test_a_template_that_knows_no_such_switch_is_not_given_it() -> None:
    _, tokenizer = thinking_model("bracket")
    turns = [{"role": "user", "content": "Which?"}]
    plain = encode_chat(tokenizer, turns)
    apply = tokenizer.apply_chat_template

    def strict(messages: object, *, tokenize: bool, add_generation_prompt: bool) -> str:
        return str(apply(messages, tokenize=tokenize, add_generation_prompt=add_generation_prompt))

    tokenizer.apply_chat_template = strict
    try:
        assert encode_chat(tokenizer, turns, enable_thinking=False) == plain
    finally:
        del tokenizer.apply_chat_template
