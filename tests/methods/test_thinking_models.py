"""A model that thinks first, through annotation, scoring, every kind of trained model, and the router."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from peft import LoraConfig, get_peft_model

from confide.annotation import annotate
from confide.engines.closed_records import measure_options
from confide.engines.engine import encode_at_once
from confide.engines.transformers.adapter import Adapter
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_to
from confide.errors import ConfideError
from confide.methods.checkpoint import CheckpointInfo, common_chat_template_kwargs
from confide.methods.confidence_model import Answer
from confide.methods.exchanged_answers import sampled_answers, swapped
from confide.methods.frozen.frozen_model import FrozenModel, FrozenParts
from confide.methods.reader.reader import Reader, verdict_words
from confide.methods.reader.reader_training import reader_rows
from confide.methods.rlmf.stating import Tagged
from confide.methods.sampled import sampling_cost, self_consistency, semantic_entropy
from confide.methods.self_ref.self_ref_model import SelfRefModel
from confide.methods.self_ref.self_ref_training import build_rows
from confide.methods.self_ref.verdict_reading import emit, read_verdicts
from confide.records import Message, Record, Sample, read_records
from confide.report_tokens import token_ids
from confide.tasks.questions import Question
from confide.tasks.task import Task, plain_task
from thinking_model import ANSWERS, QUESTIONS, THOUGHT, thinking_model
from upstreams import router

ROOM = 40
OFF = {"enable_thinking": False}


def engine(style: str = "think") -> TransformersEngine:
    return TransformersEngine(*thinking_model(style), "thinker")


def annotated(out: Path, style: str = "think", **template: bool) -> list[Record]:
    thinker = TransformersEngine(*thinking_model(style), "thinker", template)
    questions = [
        Question(id=f"q{i}", kind="short", question=question, answer=[ANSWERS[0]])
        for i, question in enumerate(QUESTIONS)
    ]
    asked = Task("toy", questions, prompt=lambda q: [{"role": "user", "content": q.question}], max_new_tokens=ROOM)
    annotate(thinker, asked, out, samples=2, temperature=0.01)
    return read_records(out)


def drawn_adapter() -> Adapter:
    """An adapter whose weights change something."""
    adapted = get_peft_model(thinking_model("think")[0], LoraConfig(r=4, target_modules="all-linear"))
    torch.manual_seed(1)
    for name, parameter in adapted.named_parameters():
        if "lora_B" in name:
            torch.nn.init.normal_(parameter, std=0.1)
    return Adapter.of(adapted)


@pytest.mark.parametrize("style", ["think", "opened", "channel"])
def test_the_answer_is_graded_and_the_reasoning_kept_beside_it(tmp_path: Path, style: str) -> None:
    for record, answer in zip(annotated(tmp_path / "r.jsonl", style), ANSWERS, strict=True):
        assert (record.answer, record.reasoning, record.finish) == (answer, THOUGHT, "stop")
        assert (record.correct, record.consistency) == (answer == "Japan", 1.0)
        assert len(record.logprobs) == len(record.answer_ids) < len(record.reasoning_ids)
        assert [(s.answer, len(s.reasoning_ids)) for s in record.samples or []] == [
            (answer, len(record.reasoning_ids))
        ] * 2
        assert record.cost["samples"].tokens == 2 * (len(record.reasoning_ids) + len(record.answer_ids) + 1)


def test_what_the_template_was_given_stays_with_the_records_and_a_run_is_not_continued_with_another(
    tmp_path: Path,
) -> None:
    records = annotated(tmp_path / "r.jsonl", enable_thinking=False)
    assert [record.chat_template_kwargs for record in records] == [{"enable_thinking": False}] * 2
    assert [record.reasoning for record in records] == [None, None]
    assert common_chat_template_kwargs(records) == {"enable_thinking": False}
    with pytest.raises(ConfideError, match="chat template"):
        annotated(tmp_path / "r.jsonl")
    # The records say how they were asked: an engine with other settings reads the same prompt.
    (row, _) = reader_rows(engine(), records)
    prompt = engine().encode(records[0].messages, OFF)
    assert row.input_ids[: len(prompt)] == prompt


def test_training_rows_hold_the_reasoning_and_do_not_learn_it(tmp_path: Path) -> None:
    thinker, records = engine(), annotated(tmp_path / "r.jsonl")
    model, tokenizer = thinking_model("think")
    ids = add_to(model, tokenizer)
    for record, row, closed in zip(
        records, build_rows(records, tokenizer, ids), reader_rows(thinker, records), strict=True
    ):
        prompt = thinker.encode(record.messages) + record.reasoning_ids
        word = verdict_words(thinker)[0 if record.correct else 1]
        assert closed.input_ids == [*prompt, *record.answer_ids, thinker.turn_end, word]
        assert row.input_ids[: len(prompt)] == prompt
        assert set(row.labels[: len(prompt)]) == {-100}
        verdict = ids.cn if record.correct else ids.un
        assert row.input_ids[len(prompt) :] == [*record.answer_ids, verdict, thinker.turn_end]


def same(one: Answer, other: Answer) -> None:
    assert (one.text, one.reasoning) == (other.text, other.reasoning)
    for name, value in one.sources.items():
        assert other.sources[name] == pytest.approx(value, abs=2e-3), name


def test_an_answer_is_read_behind_its_reasoning_when_written_and_when_given() -> None:
    thinker = engine()
    frozen = FrozenModel(thinker, CheckpointInfo(), "thinker")
    frozen.parts = FrozenParts(reader=Reader(thinker, drawn_adapter(), verdict_words(thinker)))
    add_to(thinker.model, thinker.tokenizer)
    for model in (frozen, SelfRefModel(thinker, CheckpointInfo(), "thinker")):
        for question, answer in zip(QUESTIONS, ANSWERS, strict=True):
            turns = [Message(role="user", content=question)]
            written = model.answer(turns, max_new_tokens=ROOM)
            assert (written.text, written.reasoning) == (answer, THOUGHT)
            assert written.completion_tokens > len(written.ids) + 5
            same(written, model.confidence(turns, f"<think>\n{THOUGHT}\n</think>\n\n{answer}"))


def test_a_verdict_follows_the_answer_not_the_reasoning(tmp_path: Path) -> None:
    thinker, records = engine(), annotated(tmp_path / "r.jsonl")
    add_to(thinker.model, thinker.tokenizer)
    emitted = emit(thinker, [record.messages for record in records], max_new_tokens=ROOM)
    assert [(e.answer, e.reasoning) for e in emitted] == [(answer, THOUGHT) for answer in ANSWERS]
    np.testing.assert_allclose([e.confidence for e in emitted], read_verdicts(thinker, records), atol=2e-3)
    ids = token_ids(thinker.tokenizer)
    assert ids.cn not in records[0].answer_ids


@pytest.mark.parametrize("style", ["think", "opened"])
def test_a_question_about_an_answer_is_read_where_the_reply_starts(style: str) -> None:
    thinker = engine(style)
    asked = thinker.tokenizer.decode(encode_at_once(thinker, [Message(role="user", content="Is it Japan?")]))
    assert asked.rstrip().endswith("</think>")


def test_the_router_serves_grades_and_audits_the_answer_alone(tmp_path: Path) -> None:
    model = FrozenModel(engine(), CheckpointInfo(), "thinker")
    settings = {"small": {"model": "x", "max_tokens": ROOM}, "mode": "observe", "audit_share": 1.0}
    with router(tmp_path, model=model, experts=[{"name": "tool", "tool": "callables:japan"}], **settings) as running:
        body = running.ask(QUESTIONS[0]).json()
        message = body["choices"][0]["message"]
        assert (message["content"], message["reasoning_content"]) == ("Japan", THOUGHT)
        assert body["usage"]["completion_tokens"] > 10
        assert body["confide"]["raw"] == pytest.approx(
            np.log(model.answer(QUESTIONS[0], max_new_tokens=ROOM).confidence), abs=1e-3
        )
        assert running.wait_for(lambda row: row["agreed"] is not None)["agreed"] == 1


def test_a_questions_options_are_measured_with_thinking_switched_off(tmp_path: Path) -> None:
    asked = plain_task(
        "toy", [Question(id="c", kind="choice", question=QUESTIONS[0], choices=["Japan", "Chile"], answer=0)]
    )
    annotate(engine(), asked, tmp_path / "r.jsonl")
    (record,) = read_records(tmp_path / "r.jsonl")
    assert record.chat_template_kwargs == {"enable_thinking": False}
    (again,) = measure_options(engine(), [record])
    assert again.option_logprobs == pytest.approx(record.option_logprobs, abs=1e-4)


@pytest.mark.parametrize("style", ["think", "opened", "bracket", "channel"])
def test_a_plain_answer_is_read_as_one_given_at_once(style: str) -> None:
    frozen = FrozenModel(engine(style), CheckpointInfo(), "thinker")
    turns = [Message(role="user", content=QUESTIONS[0])]
    right, wrong = (frozen.confidence(turns, answer) for answer in ("Japan", "Chile"))
    assert (right.text, wrong.text) == ("Japan", "Chile")
    sums = [answer.sources["logprob_sum"] or 0.0 for answer in (right, wrong)]
    assert sums[0] > -0.5 > sums[1]


def test_samples_behind_different_reasoning_are_different_answers_and_cost_their_reasoning() -> None:
    samples = [
        Sample(answer="Japan", answer_ids=[5], reasoning_ids=[7, 8]),
        Sample(answer="Japan", answer_ids=[5], reasoning_ids=[9]),
        Sample(answer="", reasoning_ids=[9, 9], finish="length"),
        Sample(answer="", reasoning_ids=[8, 9], finish="length"),
    ]
    record = Record(id="a", answer="", finish="length", samples=samples)
    distinct, _ = sampled_answers([record])
    assert len(distinct) == 4
    assert sampling_cost(record).tokens == (2 + 1 + 1) + (1 + 1 + 1) + 2 + 2
    assert self_consistency(record) == 0.0  # what was cut while the model thought agrees with nothing
    (entropy,) = semantic_entropy([record])
    (judged,) = semantic_entropy([record], lambda pairs: [True] * len(pairs))
    assert entropy == judged == pytest.approx(1 - (1.5 * np.log(2)) / np.log(4))


def test_samples_that_were_cut_while_the_model_thought_do_not_agree(tmp_path: Path) -> None:
    questions = [Question(id="q", kind="short", question=QUESTIONS[0], answer=["Japan"])]
    asked = Task("toy", questions, prompt=lambda q: [{"role": "user", "content": q.question}], max_new_tokens=3)
    annotate(engine(), asked, tmp_path / "r.jsonl", samples=3)
    (record,) = read_records(tmp_path / "r.jsonl")
    assert (record.answer, record.finish, record.consistency) == ("", "length", 0.0)


def test_a_control_does_not_exchange_what_follows_reasoning(tmp_path: Path) -> None:
    records = [r.model_copy(update={"reference": [r.id]}) for r in annotated(tmp_path / "r.jsonl")]
    assert swapped(records) == [None, None]


def test_rlmf_refuses_answers_behind_reasoning(tmp_path: Path) -> None:
    stating, records = Tagged(engine()), annotated(tmp_path / "r.jsonl")
    with pytest.raises(ConfideError, match="record q0 was answered behind reasoning"):
        stating.prompt(records[0])
    at_once = annotated(tmp_path / "o" / "r.jsonl", enable_thinking=False)
    assert stating.engine.tokenizer.decode(stating.prompt(at_once[0])).rstrip().endswith("</think>")
    assert stating.engine.tokenizer.decode(stating.query).rstrip().endswith("</think>")
