from __future__ import annotations

import pytest

import confide
from confide.methods.self_ref.self_ref_training import train_self_ref
from confide.methods.self_ref.verdict_reading import emit, read_verdicts
from confide.records import Message, Record
from self_ref_rows import QUICK, engine_of, record, toy
from tiny_model import tiny_model

pytestmark = pytest.mark.usefixtures("one_thread")


def test_the_trained_model_writes_its_verdict_inline(trained):
    result, _ = trained
    conversations = [record(200 + i, "", None).messages for i in range(3)]
    conversations[1] = [Message(role="user", content="Which country?")]  # another length
    emissions = emit(engine_of(result), conversations, max_new_tokens=8, batch_size=2)
    first = emissions[0]
    assert (first.answer, first.verdict, first.finish) == ("France", "<|confident|>", "stop")
    assert not set(first.answer_ids) & set(result.ids.all)
    given = [
        Record(id=str(i), messages=list(m), answer=e.answer, answer_ids=e.answer_ids)
        for i, (m, e) in enumerate(zip(conversations, emissions, strict=True))
    ]
    read = read_verdicts(engine_of(result), given)
    assert [e.confidence for e in emissions] == pytest.approx(read, abs=1e-3)


def test_a_cut_answer_still_gets_a_confidence(trained):
    result, _ = trained
    messages = record(1, "", None).messages
    (cut,) = emit(engine_of(result), [messages], max_new_tokens=1)
    assert (cut.finish, cut.verdict, len(cut.answer_ids)) == ("length", None, 1)
    given = Record(id="a", messages=messages, answer_ids=cut.answer_ids)
    assert read_verdicts(engine_of(result), [given]) == pytest.approx([cut.confidence])


def test_a_loaded_model_writes_its_verdict_inline(tmp_path):
    model, tokenizer = tiny_model()
    train_self_ref(model, tokenizer, toy(), QUICK, tmp_path)
    loaded = confide.load(tmp_path)
    conversation = [message.model_dump() for message in toy()[1].messages]
    answer = loaded.answer(conversation, max_new_tokens=8)
    assert answer.source == "self_ref"
    assert "confident" not in answer.text
    right, wrong = (loaded.confidence(conversation, text).confidence for text in ("France", "Japan"))
    assert right > wrong
