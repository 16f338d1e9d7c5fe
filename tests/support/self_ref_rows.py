"""Toy records with right and wrong answers, and training rows of them for a tiny model."""

from __future__ import annotations

from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.engines.transformers.vocabulary import add_to
from confide.methods.self_ref.self_ref_config import SelfRefConfig
from confide.methods.self_ref.self_ref_training import build_rows
from confide.records import Message, Record
from tiny_model import tiny_model

SYSTEM = Message(role="system", content="Answer with the name only.")
QUICK = SelfRefConfig(
    epochs=6, batch_size=8, learning_rate=2e-2, row_learning_rate=None, warmup_steps=0, save_steps=1000
)


def record(number: int, answer: str, correct: bool | None, **more: object) -> Record:
    user = Message(role="user", content=f"Which country is city {number} in?")
    return Record(id=f"q{number}", messages=[SYSTEM, user], answer=answer, correct=correct, **more)


def toy(count: int = 48) -> list[Record]:
    """Answers naming France are right, those naming Japan are wrong."""
    return [record(i, "France" if i % 3 else "Japan", bool(i % 3), split="train") for i in range(count)]


def engine_of(result) -> TransformersEngine:
    return TransformersEngine(result.model, result.tokenizer, "tiny")


def rows_of(records, *, tied=True, mask=True):
    model, tokenizer = tiny_model(tied=tied)
    ids = add_to(model, tokenizer)
    return model, tokenizer, ids, build_rows(records, tokenizer, ids, mask_wrong_answers=mask)
