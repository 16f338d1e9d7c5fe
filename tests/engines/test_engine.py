"""What every engine shares: whose token ids are taken, and where two words part."""

from __future__ import annotations

from confide.engines.engine import first_difference, prompt_and_answer
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import Message, Record
from tiny_model import tiny_model


def engine(*, tied: bool = True, context: int = 256) -> TransformersEngine:
    model, tokenizer = tiny_model(tied=tied, context=context)
    return TransformersEngine(model.float(), tokenizer, "tiny")


def test_spans_take_ids_as_written_unless_another_model_wrote_them() -> None:
    tiny = engine()
    messages = [Message(role="user", content="Which?")]
    ids = [*tiny.encode_answer("Fran"), *tiny.encode_answer("ce")]
    own = Record(id="1", messages=messages, answer="France", answer_ids=ids, model="tiny")
    assert prompt_and_answer(tiny, own) == (tiny.encode(messages), ids)
    assert prompt_and_answer(tiny, own.model_copy(update={"answer_ids": []}))[1] == tiny.encode_answer("France")
    other = own.model_copy(update={"model": "big"})
    assert prompt_and_answer(tiny, other)[1] == ids  # the same text: the ids mean the same here
    assert prompt_and_answer(tiny, other.model_copy(update={"answer_ids": [5, 9999]}))[1] == tiny.encode_answer(
        "France"
    )


def test_words_that_start_alike_are_told_apart() -> None:
    assert first_difference([7, 1, 2], [7, 3]) == (1, 3)
    assert first_difference([1], [3]) == (1, 3)
