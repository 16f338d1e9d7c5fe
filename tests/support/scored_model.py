"""A tiny trained checkpoint and the records that it was trained on, made once for the tests that score."""

from __future__ import annotations

from pathlib import Path

from confide.engines.transformers.transformers_engine import TransformersEngine
from confide.methods.frozen.frozen_options import FrozenOptions
from confide.methods.frozen.frozen_training import train_confidence
from confide.methods.reader.reader_config import ReaderConfig
from confide.records import Message, Record, Sample
from tiny_model import tiny_model

ANSWERS = ("France", "Germany", "Japan", "Chile")
COLOURS = ("red", "green", "blue", "yellow")


def engine() -> TransformersEngine:
    """The tiny model in float32; every call gives the same weights."""
    model, tokenizer = tiny_model()
    return TransformersEngine(model.float(), tokenizer, "tiny")


def records(count: int, *, samples: int = 0, options: bool = False) -> list[Record]:
    """France and Germany are right. Splits in turn: five train rows, then validation, calibration and test twice."""
    made = []
    splits = ["train"] * 5 + ["validation", "validation", "calibration", "test", "test"]
    for i in range(count):
        answer = ANSWERS[(i * 7 + i // 10) % 4]
        told = [ANSWERS[(i + k) % 4] for k in range(samples)]
        record = Record(
            id=str(i), model="tiny", domain="ab"[i % 2], entity=f"e{i}", split=splits[i % 10],  # type: ignore[arg-type]
            messages=[
                Message(role="system", content="Answer with the name only."),
                Message(role="user", content=f"Which country is the city in? {COLOURS[i % 4]} {i % 13}"),
            ],
            answer=answer, correct=answer in ANSWERS[:2], answered=answer, reference=[ANSWERS[i % 3]],
            logprobs=[-0.1 * (1 + i % 7)], entropies=[0.2], end_logprob=-0.1,
        )  # fmt: skip
        if samples:
            record.samples = [Sample(answer=a, answered=a, correct=a in ANSWERS[:2]) for a in told]
        if options:
            record.option_logprobs, record.choices = [-1.0 - (i + k) % 5 for k in range(4)], list(ANSWERS)
        made.append(record)
    return made


QUICK = ReaderConfig(rank=2, alpha=4, epochs=2, batch_size=8, learning_rate=2e-2, warmup_steps=0)


def trained(out: Path, rows: list[Record], reader: ReaderConfig | None = None, **how: bool) -> Path:
    """A checkpoint trained on the train rows."""
    parts = [[r for r in rows if r.split == split] for split in ("train", "validation")]
    train_confidence(engine(), *parts, FrozenOptions(**how), out, reader=reader)
    return out
