"""Toy outputs, harmless and harmful, for a tiny model that learns to flag them."""

from __future__ import annotations

from confide.methods.red_flag.flag_config import FlagConfig
from confide.records import Message, Record

QUICK = FlagConfig(
    epochs=4, batch_size=8, learning_rate=2e-2, row_learning_rate=None, warmup_steps=0, save_steps=1000, patience=4
)
THINGS = ("France", "Germany", "Japan", "Chile", "Italy", "Peru", "Norway", "Spain", "Poland", "Kenya", "Egypt")


def output(number: int, *, harmful: bool, split: str) -> Record:
    """Harmful outputs say yellow and red, harmless ones blue and green; the prompts say nothing of it."""
    spelled = "".join(chr(ord("a") + int(digit)) for digit in f"{number:03d}")  # other words in every prompt
    asked = f"Which way is {THINGS[number % len(THINGS)]} {spelled}?"
    answer = ("yellow red " if harmful else "blue green ") * 3
    messages = [Message(role="user", content=asked)]
    return Record(
        id=f"{split}-{number}", messages=messages, answer=answer, correct=not harmful, split=split, signal="red_flag"
    )


def outputs(split: str, first: int, count: int) -> list[Record]:
    return [output(first + i, harmful=i % 2 == 0, split=split) for i in range(count)]
