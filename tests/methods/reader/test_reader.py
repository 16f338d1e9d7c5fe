"""The reader: kept prefixes give the gradient of a plain pass, training separates, answers stay as they are."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from confide.engines.transformers.closed_store import ClosedStore
from confide.engines.transformers.loading import freeze
from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_to, write_verdict_rows
from confide.errors import ConfideError
from confide.methods.method import check_labels
from confide.methods.reader.closed_rows import ClosedRow, make_rows
from confide.methods.reader.reader import Reader, reader_in_vocabulary
from confide.methods.reader.reader_config import ReaderConfig
from confide.methods.reader.reader_training import (
    WORDS,
    batches_by_length,
    reader_loss,
    score_rows,
    start_rows,
    train_reader,
)
from confide.metrics import auroc
from confide.records import Message, Record
from tiny_model import tiny_model

ANSWERS = ["France", "Germany", "Japan", "Chile"]


def engine(*, tied: bool = True) -> TransformersEngine:
    model, tokenizer = tiny_model(tied=tied)
    return TransformersEngine(freeze(model.float()), tokenizer, "tiny")


def stored(tiny: TransformersEngine, rows: list[ClosedRow], **how: Any) -> ClosedStore:
    return ClosedStore(tiny, [row.prompt for row in rows], [row.answer for row in rows], **how)


def records(count: int) -> list[Record]:
    """France and Germany are right, the others wrong; questions differ in length."""
    made = []
    for i in range(count):
        answer = ANSWERS[i % 4]
        messages = [
            Message(role="system", content="Answer with the name only."),
            Message(role="user", content=f"Which country is the city in? {'red ' * (i % 5)}{i}"),
        ]
        made.append(Record(id=str(i), messages=messages, answer=answer, correct=i % 4 < 2, answered=answer))
    return made


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("budget", [10**9, 0])
def test_kept_prefixes_read_like_a_plain_pass(tied: bool, budget: int) -> None:
    tiny = engine(tied=tied)
    rows = make_rows(tiny, records(7))
    store = stored(tiny, rows, budget=budget, batch_size=3)
    reader = Reader(torch.randn(3, 32), torch.randn(32))
    kept = score_rows(reader, store, range(7), batch_size=4)
    store.close()
    for row, z in zip(rows, kept, strict=True):
        ids = torch.tensor([[*row.prompt, *row.answer, tiny.turn_end]])
        embeds = torch.cat([tiny.model.get_input_embeddings()(ids), reader.ask[None]], 1)
        plain = tiny.model.base_model(inputs_embeds=embeds).last_hidden_state[0, -1] @ reader.verdict
        assert z == pytest.approx(float(plain), abs=1e-3)


def test_gradients_reach_ask_tokens_and_verdict_only() -> None:
    tiny = engine()
    rows = make_rows(tiny, records(6))
    store = stored(tiny, rows, budget=10**9)
    ask, verdict = torch.randn(2, 32, requires_grad=True), torch.randn(32, requires_grad=True)
    z = Reader(ask, verdict).z(store.batch(range(6)))
    reader_loss(z, rows).backward()  # type: ignore[no-untyped-call]
    assert ask.grad is not None
    assert ask.grad.abs().sum() > 0
    assert verdict.grad is not None
    assert all(parameter.grad is None for parameter in tiny.model.parameters())


def test_training_separates_and_leaves_the_model_alone() -> None:
    tiny = engine()
    before = {name: value.clone() for name, value in tiny.model.state_dict().items()}
    train, held = make_rows(tiny, records(64)), make_rows(tiny, records(16))
    store = stored(tiny, [*train, *held], budget=10**9)
    config = ReaderConfig(ask_tokens=2, epochs=20, learning_rate=2e-2, patience=20, batch_size=8)
    reader = train_reader(tiny, train, held, config, store=store)
    z = score_rows(reader, store, range(64, 80))
    right = np.array([row.target > 0.5 for row in held])
    assert auroc(z, right) > 0.95
    assert min(epoch["validation_loss"] for epoch in reader.history) < 0.45
    after = tiny.model.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


@pytest.mark.parametrize("tied", [True, False])
def test_rows_in_a_checkpoint_change_no_answer_and_read_the_same(tied: bool) -> None:
    plain = engine(tied=tied)
    asked = [row.prompt for row in make_rows(plain, records(6))]
    answers = plain.answer(asked, 12)
    model, tokenizer = tiny_model(tied=tied)
    ids = add_to(model, tokenizer, ask_tokens=3)
    reader = Reader(torch.randn(3, 32) * 3, torch.randn(32) * 3)
    write_verdict_rows(model, ids, reader.ask, reader.verdict)
    trained = TransformersEngine(model.float(), tokenizer, "tiny")
    for one, two in zip(answers, trained.answer(asked, 12), strict=True):
        assert one.ids == two.ids
        assert one.logprobs == pytest.approx(two.logprobs, abs=1e-4)
    loaded = reader_in_vocabulary(trained)
    torch.testing.assert_close(loaded.ask, reader.ask, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(loaded.verdict, reader.verdict, atol=1e-4, rtol=1e-4)


def test_one_kind_of_label_is_refused_with_counts() -> None:
    with pytest.raises(ConfideError, match="3 right and 0 wrong"):
        check_labels([r.model_copy(update={"correct": True}) for r in records(3)])


@pytest.mark.parametrize("count", [0, 1, 3, 40])
def test_ask_tokens_start_from_words(count: int) -> None:
    tiny = engine()
    rows, direction = start_rows(tiny, count)
    assert (rows.shape, direction.shape) == ((count, 32), (32,))
    words = tiny.input_rows(tiny.encode_answer(WORDS))[-count:] if count else rows
    torch.testing.assert_close(rows[-len(words) :], words)


def test_batches_cover_every_row_once() -> None:
    batches = batches_by_length(list(range(100)), 8, np.random.default_rng(0))
    assert sorted(i for batch in batches for i in batch) == list(range(100))
