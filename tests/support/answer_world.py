"""A made-up world of answers: a prior each, and states that know a part of what the log-probabilities do not."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from confide.methods.along.along_reading import AlongRule
from confide.methods.portable.answer_signals import fit_signals
from confide.methods.stack.linear_reading import POSITIONS_BEFORE_CLOSING
from confide.methods.stack.probe import View
from confide.methods.stack.served_stack import ServedStack
from confide.methods.stack.states import States
from confide.records import Message, Record

WIDTH = 24
ASKED = ("Which letter does city {} begin with?", "What is the first sign in the name of river {}?")
"""How questions are asked: two kinds, in which the same letters are right alike."""
NAMES = "abcdefuvwxyz"
IDENTITY = "weights=0123456789abcdef, confidence=fedcba9876543210"


def world(n: int, seed: int, answers: str = "abcdef") -> tuple[list[Record], States]:
    """Answers with a prior each; the states of their tokens know a part of what the log-probabilities do not."""
    rng = np.random.default_rng(seed)
    records, values = [], rng.normal(size=(n, 2, 4, WIDTH)).astype(np.float32)
    for i in range(n):
        name = answers[rng.integers(len(answers))]
        hidden, known = rng.normal(size=2)
        chance = 1 / (1 + np.exp(-(1.5 * hidden + known + (NAMES.index(name) % 6 - 2.5) / 2)))
        records.append(
            Record(
                id=f"{seed}-{i}", entity=f"{seed}-{i // 2}", answer=name, answered=name, answer_ids=[1, 2],
                correct=bool(rng.random() < chance), messages=[asked(i)],
                logprobs=[min(-0.01, known - 2), -0.1], entropies=[0.3, 0.4], end_logprob=-0.1,
            )
        )  # fmt: skip
        values[i, 0, 1, 0] = values[i, 1, 2, 1] = 2 * hidden
    return records, States((1, 2), values)


def asked(i: int) -> Message:
    """The question of row ``i``."""
    return Message(role="user", content=ASKED[i % len(ASKED)].format(i))


def served_world(seed: int = 0) -> ServedStack:
    """A served stack that was fitted on 1,500 of these answers."""
    records, states = world(1500, seed)
    return ServedStack.fit(View((1, 2), POSITIONS_BEFORE_CLOSING, 0.01), states, records, fit_signals(records))


def served_file(
    path: Path,
    served: ServedStack,
    vocabulary: int,
    end: int,
    fingerprint: list[int],
    signals: Sequence[AlongRule] = (),
) -> Path:
    """Its ``reading.json``, as `confide export --for vllm` writes it."""
    reading = {
        "vocabulary": vocabulary,
        "positions": served.reading.positions,
        "offset": served.reading.offset.tolist(),
        "end_ids": [end],
        "fingerprint": fingerprint,
        "signals": [rule.to_json() for rule in signals],
    }
    about = {"schema": 1, "model": "small", "identity": IDENTITY, "reading": reading}
    path.write_text(json.dumps(about | {"mixture": served.mixture.to_json()}), encoding="utf-8")
    return path
