"""A tiny model on disk, a toy task, and records with samples, for what trains models to state a confidence."""

from __future__ import annotations

from pathlib import Path

from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.records import Message, Record, Sample
from confide.signals import add_graded
from confide.tasks import Question, Task
from tiny_model import tiny_model

PLACES = ("France", "Germany", "Japan", "Chile")


def saved(folder: Path, *, graded: bool = False) -> str:
    """The tiny model as a folder; ``graded``: with rows for the graded tokens, as they start."""
    model, tokenizer = tiny_model(context=768)
    if graded:
        add_graded(model, tokenizer)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return str(folder)


def graded_engine() -> TransformersEngine:
    model, tokenizer = tiny_model(context=768)
    add_graded(model, tokenizer)
    return TransformersEngine(model.float(), tokenizer, "tiny")


def question(number: int) -> Question:
    return Question(
        id=f"q{number}", kind="short", question=f"Which country is city {number} in?", answer=[PLACES[number % 4]]
    )


def toy_task(count: int = 24) -> Task:
    return Task("toy", [question(i) for i in range(count)], max_new_tokens=6)


def toy_records(count: int = 24, samples: int = 6) -> list[Record]:
    """Even questions are answered alike every time, odd ones with every place in turn; the last quarter validates."""
    rows = []
    for i in range(count):
        told = [PLACES[i % 4] if i % 2 == 0 else PLACES[(i + k) % 4] for k in range(samples)]
        rows.append(
            Record(
                id=f"q{i}",
                task="toy",
                model="tiny",
                split="train" if i < count * 3 // 4 else "validation",
                messages=[Message(role="user", content=f"Which country is city {i} in?")],
                answer=told[0],
                reference=[PLACES[i % 4]],
                correct=True,
                consistency=sum(t == told[0] for t in told) / samples,
                samples=[Sample(answer=t, answered=t, correct=t == PLACES[i % 4]) for t in told],
            )
        )
    return rows
