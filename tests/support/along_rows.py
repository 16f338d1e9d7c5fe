"""Records of a made-up signal: answers of a tiny model, flagged where a word comes up in them."""

from __future__ import annotations

import random

from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import Message, Record
from tiny_model import tiny_model

WORDS = ("France", "Germany", "Japan", "Chile")
FLAGGED = "red"


def tiny_engine(seed: int = 1) -> TransformersEngine:
    return TransformersEngine(*tiny_model(seed=seed), "tiny")


def along_rows(engine: TransformersEngine, n: int, signal: str = "red_flag", seed: int = 0) -> list[Record]:
    """n records, every second one flagged: the word stands somewhere in the middle of its answer."""
    draw = random.Random(seed)
    rows = []
    for number in range(n):
        words = draw.choices(WORDS, k=draw.randint(3, 8))
        if flagged := number % 2 == 1:
            words[draw.randrange(1, len(words))] = FLAGGED
        text = " ".join(words)
        rows.append(
            Record(
                id=f"{signal}-{seed}-{number}",
                messages=[Message(role="user", content=f"Which country? {number % 7}")],
                answer=text,
                answer_ids=engine.encode_answer(text),
                correct=not flagged,
                signal=signal,
                split=("train", "train", "validation", "validation", "test", "test")[number % 6],
                model=engine.name,
                identity=engine.identity,
            )
        )
    return rows


def of_split(rows: list[Record], split: str) -> list[Record]:
    return [row for row in rows if row.split == split]
